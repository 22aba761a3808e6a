"""Validate claims: find missing, contradictory and impossible fields."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from latbench.claims.completeness import applicable
from latbench.claims.model import Claim, ClaimConditions, ClaimedModel
from latbench.claims.quantities import parse_count
from latbench.claims.quantity_validation import Path, Problem, figure_problems
from latbench.claims.statements import COUNTED, TIMED
from latbench.schema.environment import Device
from latbench.schema.value import Value

ID = re.compile(r"[a-z0-9]+([-_.][a-z0-9]+)*")
CLAIMED_PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8", "int8-weights", "amp")
MOST_BATCH = {"phone": 64, "tablet": 64, "board": 256}
"""Published batches are far below these limits; a larger one belongs to another device."""
MOST_PIXELS = 8192
OWN_DEVICE = "a device of your own needs a row in your devices.yaml, named by LATBENCH_DEVICES"


class Known(Value, frozen=True, kw_only=True):
    """Models, devices and sources that a claim can refer to."""

    models: Mapping[str, ClaimedModel]
    devices: Mapping[str, Device]
    sources: frozenset[str]


def claim_problems(claim: Claim, known: Known) -> list[Problem]:
    """Return every problem of a claim; empty if it is valid."""
    return [
        *_name_problems(claim, known),
        *figure_problems(claim),
        *_conditions_problems(claim),
        *_device_problems(claim, known),
    ]


def model_problems(model: ClaimedModel) -> list[Problem]:
    """Return every problem of a model's row; empty if it is valid."""
    found = []
    if not ID.fullmatch(model.id):
        found.append(_invalid_id(model.id))
    if model.build is None and model.absent is None:
        found.append(
            Problem(path=("absent",), message="missing: a model without `build` needs a reason")
        )
    if model.build is not None and model.absent is not None:
        found.append(Problem(path=("absent",), message="contradicts `build`"))
    if model.build is not None and model.unreleased:
        found.append(Problem(path=("unreleased",), message="contradicts `build`"))
    for name in ("parameters", "deployed_parameters"):
        pinned = getattr(model, name)
        if pinned is not None and pinned < 1:
            found.append(Problem(path=(name,), message="must be at least 1"))
        if pinned is not None and model.build is None:
            found.append(
                Problem(
                    path=(name,),
                    message="needs `build`: it is the count of the network that `build` names",
                    hint="put published counts in `counts`",
                )
            )
    for name in ("parameters", "macs"):
        text = getattr(model.counts, name) if model.counts else None
        if text is not None and parse_count(text) is None:
            found.append(
                Problem(
                    path=("counts", name),
                    message=f"{text!r} is not a count",
                    hint='example: "4.8 M"',
                )
            )
    return found


def _name_problems(claim: Claim, known: Known) -> Iterator[Problem]:
    if not ID.fullmatch(claim.id):
        yield _invalid_id(claim.id)
    for path, id in ((("model",), claim.model), (("says", "against"), claim.against)):
        if id is not None and id not in known.models:
            yield _unknown(path, "model", id, known.models)
    if claim.against == claim.model:
        yield Problem(path=("says", "against"), message="the model is compared with itself")
    if claim.source.id not in known.sources:
        yield _unknown(("source", "id"), "source", claim.source.id, known.sources)
    if claim.id in claim.conflicts:
        yield Problem(path=("conflicts",), message="the claim lists itself as a conflict")


def _conditions_problems(claim: Claim) -> Iterator[Problem]:
    conditions = claim.conditions
    for i, name in enumerate(claim.open):
        if name not in ClaimConditions.__struct_fields__:
            yield _unknown(("open", i), "condition", name, ClaimConditions.__struct_fields__)
        elif getattr(conditions, name) is not None:
            yield Problem(
                path=("open", i), message=f"{name} is open, but `conditions` gives a value"
            )
    for name in applicable(claim):
        if getattr(conditions, name) is None and name not in claim.open:
            yield Problem(
                path=("conditions",),
                message=f"missing {name}",
                hint=f"add it, or list it in `open` if the source does not give it: open: [{name}]",
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
    if conditions.precision is not None and conditions.precision not in CLAIMED_PRECISIONS:
        yield _unknown(
            ("conditions", "precision"), "precision", conditions.precision, CLAIMED_PRECISIONS
        )
    if conditions.against_resolution is not None and claim.against is None:
        yield Problem(
            path=("conditions", "against_resolution"), message="the claim does not compare models"
        )
    if claim.says.metric in COUNTED and conditions.device is not None:
        yield Problem(
            path=("conditions", "device"),
            message=f"{claim.says.metric} do not depend on the device",
        )
    if claim.margin_percent is not None:
        if claim.says.metric not in TIMED:
            yield Problem(
                path=("margin_percent",),
                message="invalid for counts, which are compared with the printed digits",
            )
        elif not 0 < claim.margin_percent <= 50:
            yield Problem(path=("margin_percent",), message="must be above 0 and at most 50")


def _device_problems(claim: Claim, known: Known) -> Iterator[Problem]:
    conditions, path = claim.conditions, ("conditions", "device")
    if conditions.device is None:
        return
    device = known.devices.get(conditions.device)
    if device is None:
        problem = _unknown(path, "device", conditions.device, known.devices)
        yield msgspec.structs.replace(problem, hint=f"{problem.hint}; {OWN_DEVICE}")
        return
    most = MOST_BATCH.get(device.kind)
    if most is not None and (conditions.batch or 0) > most:
        yield Problem(
            path=("conditions", "batch"),
            message=f"batch {conditions.batch} on a {device.kind} ({device.id}) is impossible",
            hint=f"the limit is {most}; check whether the value belongs to another device",
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


def _invalid_id(id: str) -> Problem:
    return Problem(
        path=("id",),
        message=f"{id!r} is not a valid id",
        hint="use lowercase letters and digits, in parts joined by - _ or .",
    )


def _unknown(path: Path, what: str, name: str, known: Iterable[Any]) -> Problem:
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3)
    hint = f"did you mean {', '.join(close)}?" if close else f"known: {', '.join(names[:8])}, …"
    return Problem(path=path, message=f"unknown {what} {name!r}", hint=hint)
