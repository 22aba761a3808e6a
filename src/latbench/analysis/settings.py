"""Read the settings that a record really ran with."""

from __future__ import annotations

from latbench.schema.artifact import Artifact, TensorSpec, shape_text
from latbench.schema.record import Record

UNITS: dict[str, tuple[str, ...]] = {
    "npu": ("npu", "neural", "hexagon", "htp", "dsp", "edgetpu", "qnn"),
    "gpu": (
        *("gpu", "cuda", "tensorrt", "nvidia", "geforce", "radeon", "mps", "metal", "rocm"),
        *("dml", "vulkan", "opencl", "webgpu"),
    ),
    "cpu": ("cpu", "xnnpack", "kernels"),
}
"""Compute unit -> words that occur in the names that runtimes and drivers give it."""


def settings(record: Record) -> dict[str, str]:
    """Return the settings of the session, or the requested options if no session was open."""
    return record.runtime.settings if record.runtime else record.request.options


def own_options(record: Record) -> dict[str, str]:
    """Return the requested options of the backend and its exporter, sorted, without defaults, and
    the chosen CPUs as ``cpus``.

    After a fallback, which supports few options, return only those that its artifact confirms.
    """
    asked = sorted(record.request.options.items())
    given = {key: value for key, value in asked if (key, value) != ("form", "deploy")}
    cpus = {} if record.request.cpus is None else {"cpus": record.request.cpus}
    if record.fallback is None:
        return {**given, **cpus}
    details = record.artifact.details if record.artifact else {}
    return {**{key: value for key, value in given.items() if details.get(key) == value}, **cpus}


def threads(record: Record) -> str | None:
    """Return the number of threads; ``None`` if it is unknown or the runtime has no such
    setting."""
    if record.runtime is not None:
        return record.runtime.settings.get("threads")
    return str(record.request.threads) if record.request.threads else None


def precision_of(record: Record) -> str:
    """Return the precision of the computation."""
    exported = record.artifact.precision if record.artifact else record.request.precision
    return settings(record).get("precision", exported) if record.runtime else exported


def input_texts(artifact: Artifact | None) -> list[str]:
    """Return the shape of each input, with its content if that was given: ``length 1 = 1000``."""
    return [_input_text(tensor) for tensor in (artifact.inputs if artifact else ())]


def _input_text(tensor: TensorSpec) -> str:
    shape = shape_text(tensor.shape)
    # Of a digest, the start tells files apart.
    return shape if tensor.content is None else f"{tensor.name} {shape} = {tensor.content[:19]}"


def shape_of(record: Record) -> tuple[int, ...]:
    """Return the shape of the first input; empty if there was no artifact."""
    return record.artifact.inputs[0].shape if record.artifact and record.artifact.inputs else ()


def batch(record: Record) -> int:
    """Return the number of images per inference."""
    shape = shape_of(record)
    return shape[0] if shape else record.model.batch or 1


def resolution(record: Record) -> tuple[int, int] | None:
    """Return height and width for either channel order; ``None`` if the input is not an image."""
    shape = shape_of(record)
    if len(shape) != 4:
        return record.request.resolution if not shape else None
    height, width = shape[1:3] if shape[1] > 4 >= shape[3] else shape[2:]
    return height, width


def unit_of(name: str) -> str | None:
    """Return ``cpu``, ``gpu`` or ``npu``; ``None`` if the name does not match any."""
    return next(
        (unit for unit, words in UNITS.items() if any(word in name.lower() for word in words)), None
    )
