"""The settings that a record really ran with."""

from __future__ import annotations

from latbench.schema.record import Record

UNITS: dict[str, tuple[str, ...]] = {
    "npu": ("npu", "neural", "hexagon", "htp", "dsp", "edgetpu", "qnn"),
    "gpu": (
        *("gpu", "cuda", "tensorrt", "nvidia", "geforce", "radeon", "mps", "metal", "rocm"),
        *("dml", "vulkan", "opencl", "webgpu"),
    ),
    "cpu": ("cpu", "xnnpack", "kernels"),
}
"""What runtimes and drivers call a unit contains one of these words."""


def settings(record: Record) -> dict[str, str]:
    """As they really were; as they were asked for where no session was open."""
    return record.runtime.settings if record.runtime else record.request.options


def own_options(record: Record) -> dict[str, str]:
    """Of the backend and its exporter, as they were asked for, in order, without those that say no
    more than the default; after a fallback, which takes few of them, those that its artifact
    tells."""
    asked = sorted(record.request.options.items())
    given = {key: value for key, value in asked if (key, value) != ("form", "deploy")}
    if record.fallback is None:
        return given
    told = record.artifact.details if record.artifact else {}
    return {key: value for key, value in given.items() if told.get(key) == value}


def threads(record: Record) -> str | None:
    """``None`` where the runtime has no such setting, or nobody asked and nothing was open."""
    if record.runtime is not None:
        return record.runtime.settings.get("threads")
    return str(record.request.threads) if record.request.threads else None


def precision_of(record: Record) -> str:
    """In which it was computed."""
    made = record.artifact.precision if record.artifact else record.request.precision
    return settings(record).get("precision", made) if record.runtime else made


def shape_of(record: Record) -> tuple[int, ...]:
    """Of its input; empty where there was no artifact."""
    return record.artifact.inputs[0].shape if record.artifact and record.artifact.inputs else ()


def batch(record: Record) -> int:
    """How many images an inference takes."""
    shape = shape_of(record)
    return shape[0] if shape else record.model.batch or 1


def resolution(record: Record) -> tuple[int, int] | None:
    """Height and width, whichever axis the channels are on; ``None`` where it is no image."""
    shape = shape_of(record)
    if len(shape) != 4:
        return record.request.resolution if not shape else None
    height, width = shape[1:3] if shape[1] > 4 >= shape[3] else shape[2:]
    return height, width


def unit_of(name: str) -> str | None:
    """``cpu``, ``gpu`` or ``npu``; ``None`` for a name that tells neither."""
    return next(
        (unit for unit, words in UNITS.items() if any(word in name.lower() for word in words)), None
    )
