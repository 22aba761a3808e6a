"""What a claim must not say: missing, contradictory and impossible fields."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from latbench.core.claims import (
    COUNTED,
    TIMED,
    Claim,
    ClaimConditions,
    ClaimedModel,
    StatedBound,
    StatedDifference,
    StatedParity,
    StatedRatio,
    StatedSize,
    StatedValue,
    applicable,
)
from latbench.core.figures import FAILED, UNITS, parse_count, parse_figure, stated_figure
from latbench.core.records import Device
from latbench.core.values import Value

Path = tuple[str | int, ...]

ID = re.compile(r"[a-z0-9]+([-_.][a-z0-9]+)*")
PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8", "int8-weights", "amp")
MOST_BATCH = {"phone": 64, "tablet": 64, "board": 256}
"""No published figure is near these; a larger one is a row meant for another device."""
MOST_PIXELS = 8192
SANE: dict[str, tuple[float, float]] = {
    "latency": (1e3, 3.6e12),
    "throughput": (1e-3, 1e8),
    "parameters": (1.0, 1e13),
    "macs": (1.0, 1e15),
    "memory": (1.0, 1e13),
    "accuracy": (0.0, 100.0),
}
"""1 µs to an hour, and so on: outside of these a unit or a digit is wrong."""


class Problem(Value, frozen=True, kw_only=True):
    """One mistake, and where in the entry it stands."""

    path: Path
    message: str
    hint: str | None = None


class Known(Value, frozen=True, kw_only=True):
    """What a claim may refer to."""

    models: Mapping[str, ClaimedModel]
    devices: Mapping[str, Device]
    sources: frozenset[str]


def claim_problems(claim: Claim, known: Known) -> list[Problem]:
    """Everything that is wrong with a claim; none for a good one."""
    return [
        *_of_the_names(claim, known),
        *_of_the_figure(claim),
        *_of_the_conditions(claim),
        *_of_the_device(claim, known),
    ]


def model_problems(model: ClaimedModel) -> list[Problem]:
    """Everything that is wrong with a row of a model."""
    found = []
    if not ID.fullmatch(model.id):
        found.append(_no_id(model.id))
    if model.build is None and model.absent is None:
        found.append(Problem(path=("absent",), message="missing: without `build` it says why"))
    if model.build is not None and model.absent is not None:
        found.append(Problem(path=("absent",), message="contradicts `build`"))
    if model.build is not None and model.unreleased:
        found.append(Problem(path=("unreleased",), message="contradicts `build`"))
    for name in ("parameters", "macs"):
        text = getattr(model.counts, name) if model.counts else None
        if text is not None and parse_count(text) is None:
            found.append(
                Problem(
                    path=("counts", name), message=f"{text!r} is no count", hint='as in "4.8 M"'
                )
            )
    return found


def _of_the_names(claim: Claim, known: Known) -> Iterator[Problem]:
    if not ID.fullmatch(claim.id):
        yield _no_id(claim.id)
    for path, id in ((("model",), claim.model), (("says", "against"), claim.against)):
        if id is not None and id not in known.models:
            yield _unknown(path, "model", id, known.models)
    if claim.against == claim.model:
        yield Problem(path=("says", "against"), message="a model compared with itself")
    if claim.source.id not in known.sources:
        yield _unknown(("source", "id"), "source", claim.source.id, known.sources)
    if claim.id in claim.conflicts:
        yield Problem(path=("conflicts",), message="a claim in conflict with itself")


def _of_the_figure(claim: Claim) -> Iterator[Problem]:
    says = claim.says
    if isinstance(says, StatedRatio):
        yield from _of_the_ratio(says)
        return
    if isinstance(says, StatedParity) and not 0 < says.tolerance_percent <= 50:
        yield Problem(path=("says", "tolerance_percent"), message="must be above 0 and at most 50")
    if not isinstance(says, StatedValue | StatedDifference | StatedBound | StatedSize):
        return
    units = UNITS.get(says.metric)
    if units is None:
        yield Problem(
            path=("says", "metric"), message=f"a {claim.kind} of {says.metric} has no unit here"
        )
        return
    if says.unit not in units:
        yield Problem(
            path=("says", "unit"),
            message=f"{says.unit!r} is no unit of {says.metric}",
            hint=f"known: {', '.join(unit or '(empty)' for unit in units)}",
        )
        return
    if says.figure == FAILED and isinstance(says, StatedValue):
        return
    figure = stated_figure(claim)
    if figure is None:
        yield _no_figure(("says", "figure"), says.figure)
        return
    low, high = SANE[says.metric]
    # A difference may be as small as it likes.
    least = 0.0 if isinstance(says, StatedDifference) else low
    if figure.high < least or figure.low > high or figure.value == 0:
        yield Problem(
            path=("says", "figure"),
            message=f"{says.metric} of {says.figure} {says.unit} is impossible",
        )
    if claim.correction is not None and parse_figure(claim.correction.figure) is None:
        yield _no_figure(("correction", "figure"), claim.correction.figure)
    if claim.correction is not None and claim.correction.figure == says.figure:
        yield Problem(path=("correction", "figure"), message="is the printed figure")


def _of_the_ratio(says: StatedRatio) -> Iterator[Problem]:
    figure = parse_figure(says.figure)
    if figure is None:
        yield _no_figure(("says", "figure"), says.figure)
        return
    ambiguous = says.metric == "latency" and says.unit == "%" and says.sense != "of"
    if ambiguous and says.reading is None:
        yield Problem(
            path=("says", "reading"),
            message="a percentage of speed is of time or of rate",
            hint="`time`, `rate`, or `open` where the source does not say",
        )
    if not ambiguous and says.reading is not None:
        yield Problem(
            path=("says", "reading"),
            message="only a percentage of latency has one",
            hint='"1.5x faster" is the same of time and of rate',
        )
    if says.unit == "%" and says.sense == "less" and figure.high > 100 and says.reading != "rate":
        yield Problem(path=("says", "figure"), message="more than 100 % less is impossible")
    if says.unit == "x" and says.sense != "of" and figure.high < 1:
        yield Problem(
            path=("says", "figure"),
            message=f"{says.figure}x {says.sense} contradicts itself",
            hint="`sense: of` for a fraction",
        )
    if figure.value == 0:
        yield Problem(path=("says", "figure"), message=f"{says.figure}{says.unit} is impossible")


def _of_the_conditions(claim: Claim) -> Iterator[Problem]:
    conditions = claim.conditions
    for i, name in enumerate(claim.open):
        if name not in ClaimConditions.__struct_fields__:
            yield _unknown(("open", i), "condition", name, ClaimConditions.__struct_fields__)
        elif getattr(conditions, name) is not None:
            yield Problem(
                path=("open", i), message=f"{name} is open here and known in `conditions`"
            )
    for name in applicable(claim):
        if getattr(conditions, name) is None and name not in claim.open:
            yield Problem(
                path=("conditions",),
                message=f"missing {name}",
                hint=f"give it, or name it in `open` if the source leaves it open: open: [{name}]",
            )
    for name in ("batch", "resolution", "against_resolution", "threads", "calls"):
        value = getattr(conditions, name)
        if value is not None and value < 1:
            yield Problem(path=("conditions", name), message="must be at least 1")
    if conditions.warmup_calls is not None and conditions.warmup_calls < 0:
        yield Problem(path=("conditions", "warmup_calls"), message="must not be negative")
    for name in ("resolution", "against_resolution"):
        if (getattr(conditions, name) or 0) > MOST_PIXELS:
            yield Problem(path=("conditions", name), message=f"more than {MOST_PIXELS} pixels")
    if conditions.precision is not None and conditions.precision not in PRECISIONS:
        yield _unknown(("conditions", "precision"), "precision", conditions.precision, PRECISIONS)
    if conditions.against_resolution is not None and claim.against is None:
        yield Problem(
            path=("conditions", "against_resolution"), message="nothing is compared with it"
        )
    if claim.says.metric in COUNTED and conditions.device is not None:
        yield Problem(
            path=("conditions", "device"), message=f"{claim.says.metric} depend on no device"
        )
    if claim.margin_percent is not None:
        if claim.says.metric not in TIMED:
            yield Problem(
                path=("margin_percent",), message="counts are held to their printed digits"
            )
        elif not 0 < claim.margin_percent <= 50:
            yield Problem(path=("margin_percent",), message="must be above 0 and at most 50")


def _of_the_device(claim: Claim, known: Known) -> Iterator[Problem]:
    conditions, path = claim.conditions, ("conditions", "device")
    if conditions.device is None:
        return
    device = known.devices.get(conditions.device)
    if device is None:
        yield _unknown(path, "device", conditions.device, known.devices)
        return
    most = MOST_BATCH.get(device.kind)
    if most is not None and (conditions.batch or 0) > most:
        yield Problem(
            path=("conditions", "batch"),
            message=f"batch {conditions.batch} on a {device.kind} ({device.id}) is impossible",
            hint=f"at most {most}: is it a figure of another device?",
        )
    if device.kind == "gpu" and conditions.compute_unit == "npu":
        yield Problem(
            path=("conditions", "compute_unit"), message=f"{device.id} is a GPU and has no NPU"
        )
    if device.os is not None and conditions.os is not None:
        family = str(device.os.value).split()[0]
        if conditions.os.split()[0] != family:
            yield Problem(
                path=("conditions", "os"), message=f"{device.id} runs {family}, not {conditions.os}"
            )
    if device.transport == "apple" and conditions.os is not None and "iOS" not in conditions.os:
        yield Problem(
            path=("conditions", "os"), message=f"{device.id} runs iOS, not {conditions.os}"
        )


def _no_id(id: str) -> Problem:
    return Problem(
        path=("id",),
        message=f"{id!r} is no id",
        hint="small letters and digits, in parts joined by - _ or .",
    )


def _no_figure(path: Path, text: str) -> Problem:
    return Problem(
        path=path,
        message=f"{text!r} is no figure",
        hint='as printed, as in "2.30" or "5-2500"; "failed" for a value where it did not run',
    )


def _unknown(path: Path, what: str, name: str, known: Iterable[Any]) -> Problem:
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3)
    hint = f"did you mean {', '.join(close)}?" if close else f"known: {', '.join(names[:8])}, …"
    return Problem(path=path, message=f"unknown {what} {name!r}", hint=hint)
