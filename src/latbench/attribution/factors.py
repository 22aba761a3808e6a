"""Collect the known conditions of a latency by factor, from a record or a claim."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from latbench.analysis.comparability import same_memory
from latbench.analysis.estimators import regime_of, statistic_name
from latbench.analysis.settings import (
    precision_of,
    resolution,
    shape_of,
    unit_of,
)
from latbench.attribution.shapley import Difference
from latbench.claims.conditions import PLACING
from latbench.claims.model import Claim
from latbench.schema.artifact import shape_text
from latbench.schema.protocol import TimingProtocol, protocol_sha256
from latbench.schema.protocol_catalog import shipped
from latbench.schema.record import Record
from latbench.schema.value import Value

Facts = Mapping[str, str | None]
"""Factor -> value. ``None``: the factor applies but is unknown. A missing factor does not apply."""
OPTION = "option "
FORM = "model form"
ON_HOST, ON_DEVICE = "tensor on the host", "tensor on the device"
UNKNOWN = ("backend version", "compute unit")
"""Factors that every record has, even if their value is unknown."""
PRESENT_STATE = (
    *("device", "os", "kernel", "hypervisor", "memory", "backend version", "exporter", "latbench"),
    "model source",
)
"""Factors that are not settings: a new measurement has their present values."""

BYTES = " bytes"


class FactorComparison(Value, frozen=True, kw_only=True):
    """The factors in which two sides differ or agree."""

    differ: tuple[Difference, ...]
    alike: dict[str, str]


def facts_of(record: Record) -> Facts:
    """Return the factors of a measured record."""
    shape, machine, size = shape_of(record), record.environment.machine, resolution(record)
    settings = record.runtime.settings if record.runtime else {}
    found: dict[str, str | None] = {
        "device": record.device.id,
        "os": machine.os,
        "kernel": machine.kernel,
        "hypervisor": machine.hypervisor,
        "memory": None if machine.memory_bytes is None else f"{machine.memory_bytes}{BYTES}",
        "backend": record.backend,
        "backend version": record.runtime.version if record.runtime else None,
        "compute unit": _unit(record),
        "precision": precision_of(record),
        "calibration": _calibration(record),
        "threads": settings.get("threads"),
        "batch": str(shape[0]) if shape else None,
        "resolution": "x".join(map(str, size)) if size else None,
        "input shape": _input_shape(record),
        "input": _input(record),
        "weights": _weights(record),
        "model source": record.model.architecture,
        "exporter": ", ".join(f"{k} {v}" for k, v in record.artifact.toolchain.items())
        if record.artifact is not None
        else None,
        "latbench": record.environment.software.latbench,
        "timed": "interleaved with another model" if record.interleaved else "alone",
        "protocol": protocol_name(record.protocol),
        "regime": regime_of(record.protocol.statistic),
        "statistic": statistic_name(record.protocol.statistic),
    }
    if record.model.source != "file":
        found[FORM] = record.request.options.get("form", "deploy")
    for name, value in record.request.options.items():
        if name != "form":
            found[OPTION + name] = value
    return {n: value for n, value in found.items() if value is not None or n in UNKNOWN}


def facts_of_claim(claim: Claim) -> Facts:
    """Return the factors of a published value."""
    had = claim.conditions
    found: dict[str, str | None] = {
        "device": had.device,
        "os": had.os,
        "backend": had.backend,
        "backend version": had.backend_version,
        "compute unit": had.compute_unit,
        "precision": had.precision,
        "threads": None if had.threads is None else str(had.threads),
        "batch": None if had.batch is None else str(had.batch),
        "resolution": None if had.resolution is None else f"{had.resolution}x{had.resolution}",
        "input": had.input,
        "protocol": had.protocol,
        "statistic": had.statistic,
    }
    known = {name: value for name, value in found.items() if value is not None}
    open = {each.replace("_", " ") for each in claim.open} & found.keys()
    facts: dict[str, str | None] = {**dict.fromkeys(sorted(open)), **known}
    if (protocol := shipped(had.protocol)) is not None:
        facts["protocol"] = protocol_name(protocol)
        facts["regime"] = regime_of(protocol.statistic)
        facts["statistic"] = statistic_name(protocol.statistic)
    elif had.statistic == "median":
        facts["statistic"] = "median over processes"
    return facts


def protocol_name(protocol: TimingProtocol) -> str:
    """Return the label, with a hash if the protocol was changed; stopping rules are ignored."""
    ours = shipped(protocol.label)
    if ours is not None and without_stopping(ours) == without_stopping(protocol):
        return protocol.label
    return f"{protocol.label} {protocol_sha256(without_stopping(protocol))[:8]}"


def without_stopping(protocol: TimingProtocol) -> TimingProtocol:
    """Return the protocol without stopping rules, because more processes only repeat the
    measurement.
    """
    return msgspec.structs.replace(
        protocol, processes=1, max_processes=1, target_ppm=None, budget_ns=None
    )


def compare_factors(a: Facts, b: Facts, *, options: bool) -> FactorComparison:
    """Return factors that differ or may differ, and those that agree.

    Factors that differ only as a consequence of another difference are omitted.
    With ``options``, an option that one side does not name has its default there.
    """
    names = [*b, *(name for name in a if name not in b)]
    pairs = {
        name: (_value(a, name), _value(b, name))
        for name in names
        if (name in a and name in b) or (options and name.startswith(OPTION))
    }
    unequal = {name for name, pair in pairs.items() if not _equal(name, *pair)}
    return FactorComparison(
        differ=tuple(
            Difference(name=name, a=pairs[name][0], b=pairs[name][1])
            for name in names
            if name in unequal and unequal.isdisjoint(_causes(name, pairs[name], options))
        ),
        alike={name: one for name, (one, other) in pairs.items() if one == other and one},
    )


def _value(facts: Facts, name: str) -> str | None:
    return facts.get(name, "default" if name.startswith(OPTION) else None)


def _equal(name: str, one: str | None, other: str | None) -> bool:
    if name == "memory" and one is not None and other is not None:
        return same_memory(int(one.removesuffix(BYTES)), int(other.removesuffix(BYTES)))
    return one == other


def _causes(name: str, pair: tuple[str | None, str | None], records: bool) -> Iterator[str]:
    """Yield factors whose difference explains a difference in ``name``.

    ``records``: both sides are records, in which the compute unit follows from the backend.
    """
    if name in ("backend version", "exporter"):
        yield "backend"
    if name in ("kernel", "hypervisor", "memory"):
        yield "device"
    if name == "compute unit":
        yield from (f"{OPTION}{each}" for each in (*PLACING, "compute_units"))
        if records:
            yield "backend"
    if name == "input":
        yield f"{OPTION}input"
        if set(pair) == {ON_HOST, ON_DEVICE}:
            yield from ("compute unit", "backend")


def _unit(record: Record) -> str | None:
    placement = record.runtime.placement if record.runtime else None
    if placement is None or placement.known == "unknown":
        return None
    used = {unit_of(name) or name for name, count in placement.units.items() if count != 0}
    return ", ".join(sorted(used)) or None


def _input(record: Record) -> str:
    """Return the kind of input. Sessions move inputs to the runtime's memory before timing."""
    settings = record.runtime.settings if record.runtime else {}
    if settings.get("input_bits") == "8":
        return "picture"
    return ON_HOST if _unit(record) in (None, "cpu") else ON_DEVICE


def _input_shape(record: Record) -> str | None:
    """Return the input shapes without the batch, and contents that were given; ``None`` for one
    image of noise, see ``resolution``."""
    inputs = record.artifact.inputs if record.artifact else ()
    if len(inputs) == 1 and len(inputs[0].shape) == 4 and inputs[0].content is None:
        return None
    texts = (shape_text(each.shape[1:]) for each in inputs)
    contents = ("" if each.content is None else f" = {each.content}" for each in inputs)
    return ", ".join(map("".join, zip(texts, contents, strict=True))) or None


def _calibration(record: Record) -> str | None:
    """Return the recorded content of the calibration folder, which may have changed since."""
    folder = record.request.calibration
    if record.request.precision != "int8":
        return None
    if folder is None:
        return "seeded noise"
    return record.artifact.details.get("calibration", folder) if record.artifact else folder


def _weights(record: Record) -> str:
    weights, seed = record.model.weights, f"seed:{record.request.seed}"
    return weights if weights == seed else f"{weights[:15]}, inputs of {seed}"
