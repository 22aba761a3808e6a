"""ncnn on the CPU: executes a folder with ``model.param`` and ``model.bin``.

ncnn's tensors have no batch axis: a larger batch is one image after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
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
    UsageError,
)

ARITHMETIC = ("fp32", "fp16", "bf16")
LIGHT_MODE = ("on", "off")
NEEDS = {
    "fp16": ("cpu_support_arm_asimdhp",),
    "bf16": ("cpu_support_arm_neon", "cpu_support_x86_avx"),
}
"""Arithmetic -> questions about the CPU of which one must be answered with yes. Elsewhere ncnn
takes the option, stores at most its weights so, and computes in fp32."""


class NcnnRunner:
    """Executes what the exporter of the same name wrote."""

    name = "ncnn"
    formats = ("ncnn",)
    options: Mapping[str, str] = {
        "arithmetic": f"{', '.join(ARITHMETIC)}: what it stores and computes in (default fp32)",
        "light_mode": "on or off: whether intermediate tensors are freed at once (default on)",
    }

    def probe(self) -> Capability:
        try:
            return Capability(available=True, version=version("ncnn"), units=("CPU",))
        except PackageNotFoundError:
            return Capability(
                available=False, reason="ncnn is not installed", hint="pip install 'latbench[ncnn]'"
            )

    def prepare(self) -> None:
        import ncnn  # noqa: F401

    @contextmanager
    def open(
        self, artifact: Artifact, path: Path, inputs: Sequence[Array], options: RunOptions
    ) -> Iterator[Session]:
        """Load the network. Each image is a tensor of its own over the seeded inputs' memory."""
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
                hint="truncated, corrupt, or with a layer that this version does not have",
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
            note="layers; Vulkan is not asked for",
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
        """An extractor remembers what it computed, so each inference has its own."""
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
        if asked[name] not in values:
            raise UsageError(
                f"{name} cannot be {asked[name]!r}", hint=f"one of: {', '.join(values)}"
            )
    return asked


def _require(ncnn: Any, arithmetic: str) -> None:
    """Raise :class:`StageError` where the CPU does not compute so."""
    questions = [getattr(ncnn, name, None) for name in NEEDS.get(arithmetic, ())]
    if questions and not any(ask() for ask in questions if ask is not None):
        raise StageError(
            "open",
            f"ncnn does not compute in {arithmetic} on this CPU",
            hint="fp16 needs an Arm CPU with half-precision arithmetic; leave arithmetic out for "
            "fp32",
            kind="unavailable",
        )


def _set_up(option: Any, asked: Mapping[str, str], threads: int) -> None:
    """By default ncnn stores in fp16 wherever the CPU can, with errors up to 4e-4."""
    option.num_threads = threads
    option.lightmode = asked["light_mode"] == "on"
    for name in ("packed", "storage", "arithmetic"):
        setattr(option, f"use_fp16_{name}", asked["arithmetic"] == "fp16")
    for name in ("packed", "storage"):
        setattr(option, f"use_bf16_{name}", asked["arithmetic"] == "bf16")
