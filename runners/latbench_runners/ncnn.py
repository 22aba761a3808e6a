"""Run ncnn models on the CPU: folders that contain ``model.param`` and ``model.bin``.

ncnn tensors have no batch axis: a larger batch is executed image by image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from latbench.api import (
    Array,
    Artifact,
    Capability,
    Placement,
    Runner,
    RunOptions,
    Session,
    StageError,
    choice_option,
)
from latbench_runners.packages import package_capability

ARITHMETIC = ("fp32", "fp16", "bf16")
LIGHT_MODE = ("on", "off")
NEEDS = {
    "fp16": ("cpu_support_arm_asimdhp",),
    "bf16": ("cpu_support_arm_neon", "cpu_support_x86_avx"),
}
"""Arithmetic -> CPU features, one of which must be present. On other CPUs ncnn accepts the option
but computes in fp32, at most storing weights in that precision."""


class NcnnRunner:
    """Run models written by the ncnn exporter."""

    name = "ncnn"
    formats = ("ncnn",)
    needs: tuple[str, ...] = ("ncnn",)
    options: Mapping[str, str] = {
        "arithmetic": f"{', '.join(ARITHMETIC)}: storage and compute precision (default fp32)",
        "light_mode": "on, off: free intermediate tensors immediately (default on)",
    }

    units: Mapping[str, tuple[str, ...]] = {"CPU": ()}

    def probe(self) -> Capability:
        return package_capability("ncnn", extra="ncnn", unit="CPU")

    def prepare(self) -> None:
        import ncnn  # noqa: F401

    @contextmanager
    def open(
        self, artifact: Artifact, path: Path, inputs: Sequence[Array], options: RunOptions
    ) -> Iterator[Session]:
        """Load the network. Each image is a tensor that shares the memory of the seeded input."""
        asked = _asked(options)
        import ncnn
        import numpy as np

        _require(ncnn, asked["arithmetic"])
        net = ncnn.Net()
        _set_up(net.opt, asked, options.threads)
        if net.load_param(str(path / "model.param")) or net.load_model(str(path / "model.bin")):
            raise StageError(
                "open",
                f"ncnn cannot load {path.name}",
                hint="truncated, corrupt, or with a layer unknown to this version",
            )
        held = [np.ascontiguousarray(array) for array in inputs]
        images = [[ncnn.Mat(array[i]) for array in held] for i in range(len(held[0]))]
        names = [spec.name for spec in artifact.inputs], [spec.name for spec in artifact.outputs]
        try:
            yield NcnnSession(net, images, names, asked, held, artifact.precision)
        finally:
            net.clear()


class NcnnSession:
    """A loaded network and its images."""

    def __init__(
        self,
        net: Any,
        images: list[list[Any]],
        names: tuple[list[str], list[str]],
        asked: Mapping[str, str],
        held: list[Array],
        precision: str,
    ) -> None:
        self._net = net
        self._images = images
        self._inputs, self._outputs = names
        self._asked = asked
        self._held = held
        self._precision = precision
        self._found: list[list[Any]] = []

    def run(self) -> None:
        self._found = [self._one(image) for image in self._images]

    def outputs(self) -> tuple[Array, ...]:
        import numpy as np

        return tuple(
            np.stack([np.array(found[k]) for found in self._found])
            for k in range(len(self._outputs))
        )

    def placement(self) -> Placement:
        return Placement(
            units={"CPU": len(self._net.layers())},
            known="proven",
            note="layers; Vulkan is not used",
        )

    def settings(self) -> Mapping[str, str]:
        option = self._net.opt
        settings = {
            **self._asked,
            "threads": str(option.num_threads),
            "openmp_blocktime_ms": str(option.openmp_blocktime),
            "winograd": "on" if option.use_winograd_convolution else "off",
            "batch": "one image at a time",
        }
        computed = self._asked["arithmetic"]
        return settings if computed == self._precision else {**settings, "precision": computed}

    def _one(self, image: list[Any]) -> list[Any]:
        """Run one image. An extractor caches results, so each inference creates a new one."""
        extractor = self._net.create_extractor()
        for name, mat in zip(self._inputs, image, strict=True):
            extractor.input(name, mat)
        found = []
        for name in self._outputs:
            status, mat = extractor.extract(name)
            if status:
                raise StageError("time", f"ncnn cannot compute {name!r} (status {status})")
            found.append(mat)
        return found


def runner() -> Runner:
    """Entry point."""
    return NcnnRunner()


def _asked(options: RunOptions) -> dict[str, str]:
    asked = {"arithmetic": "fp32", "light_mode": "on", **options.extra}
    for name, values in (("arithmetic", ARITHMETIC), ("light_mode", LIGHT_MODE)):
        choice_option(name, asked[name], values)
    return asked


def _require(ncnn: Any, arithmetic: str) -> None:
    """Raise :class:`StageError` if the CPU does not support the arithmetic."""
    questions = [getattr(ncnn, name, None) for name in NEEDS.get(arithmetic, ())]
    if questions and not any(ask() for ask in questions if ask is not None):
        raise StageError(
            "open",
            f"this CPU does not support arithmetic {arithmetic} in ncnn",
            hint="fp16 requires an Arm CPU with half-precision arithmetic; omit arithmetic for "
            "fp32",
            kind="unavailable",
        )


def _set_up(option: Any, asked: Mapping[str, str], threads: int) -> None:
    """Set ncnn's options. By default it stores fp16 where the CPU can, with errors up to 4e-4."""
    option.num_threads = threads
    option.lightmode = asked["light_mode"] == "on"
    for name in ("packed", "storage", "arithmetic"):
        setattr(option, f"use_fp16_{name}", asked["arithmetic"] == "fp16")
    for name in ("packed", "storage"):
        setattr(option, f"use_bf16_{name}", asked["arithmetic"] == "bf16")
