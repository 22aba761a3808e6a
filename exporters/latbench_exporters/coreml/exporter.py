"""Core ML, through coremltools, on Linux as on macOS.

``torch.jit.trace`` comes first, as in the published conversions; ``torch.export`` where that fails.
What is written is read back and executed, so that parity is proven without any of Apple's devices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from latbench.api import (
    FORM,
    Array,
    Counts,
    Exported,
    Exporter,
    ExportSpec,
    Model,
    StageError,
    UsageError,
    make_inputs,
)
from latbench_exporters.coreml import network
from latbench_exporters.coreml.convert import (
    INPUTS,
    IO,
    ROUTES,
    TARGETS,
    TYPES,
    Wanted,
    convert,
    temporary_files_beside,
    wanted,
)
from latbench_exporters.coreml.mil import Program
from latbench_exporters.coreml.package import (
    IMAGENET,
    Package,
    describe,
    image_inputs,
    image_mapping,
    note_image_mapping,
    read,
    write,
)
from latbench_exporters.packages import installed
from latbench_exporters.ready import check_fixed


class CoreMLExporter:
    """Writes ``.mlpackage`` folders."""

    format = "coreml"
    suffix = ".mlpackage"
    reads = (".mlpackage", ".mlmodel")
    precisions = ("fp32", "fp16", "int8-weights")
    options: Mapping[str, str] = {
        "type": f"{', '.join(TYPES)}: what the model is made of (default {next(iter(TYPES))})",
        "input": f"{', '.join(INPUTS)}: an array, or an image with scale and bias (default tensor)",
        "io": f"{', '.join(IO)}: type of input and output arrays (default fp16 where it is "
        "computed in fp16 and the target can, else fp32)",
        "target": f"oldest system that it must run on, {TARGETS[0]} to {TARGETS[-1]} (default "
        + ", ".join(f"{target} for {kind}" for kind, target in TYPES.items())
        + ")",
        "route": f"{', '.join(ROUTES)}: torch.jit.trace or torch.export (default the first that "
        "works)",
        **FORM,
    }

    def toolchain(self) -> Mapping[str, str]:
        return installed("torch", "coremltools")

    def export(self, model: Model, spec: ExportSpec, out: Path) -> Exported:
        """Convert, write, and read back what was written."""
        # Building comes first: where torch is missing it says so in words.
        specs = model.inputs()
        if spec.precision not in self.precisions:
            raise UsageError(
                f"{spec.precision} cannot be made for Core ML here: its activations would need "
                "calibration on a device",
                hint=f"one of: {', '.join(self.precisions)}; int8-weights is computed in fp16",
            )
        want = wanted(spec.precision, spec.options)
        _require_coremltools()
        with temporary_files_beside(out):
            made = convert(model.module(), make_inputs(specs, seed=0), specs, want)
            raw, weights = made.model.get_spec(), made.model.weights_dir
            if want.input == "image":
                note_image_mapping(raw, IMAGENET)
            write(raw, Path(weights) if weights else None, out)
        package = read(out)
        inputs, outputs = describe(package.spec)
        if package.kind == "mlProgram":
            counts, more = _program_facts(Program(package, out.name))
        else:
            counts, more = network.count(package.spec, made.shapes), {}
        return Exported(
            inputs=inputs,
            outputs=outputs,
            counts=counts,
            details={**_details(package), **more, **_asked(want, made.route)},
        )

    def adopt(self, path: Path, spec: ExportSpec, out: Path) -> Exported:
        """Check a ready package or bare specification and write it as a package.

        A neural network of layers is refused: nothing here executes one, so a ready one would have
        no reference.
        """
        _require_coremltools()
        package = read(path)
        if package.kind != "mlProgram":
            raise StageError(
                "export",
                f"{path.name} holds a neuralnetwork, which nothing here executes: a ready one has "
                "no outputs to be compared with",
                hint="convert it again as an mlprogram, or start from the PyTorch model with "
                "--option type=neuralnetwork",
            )
        inputs, outputs = describe(package.spec)
        check_fixed(inputs, spec)
        program = Program(package, path.name)
        counts, more = _program_facts(program)
        write(package.spec, package.weights, out)
        return Exported(
            inputs=inputs,
            outputs=outputs,
            counts=counts,
            details={**_details(package), **more, "route": "ready"},
            precision=_precision_of(program),
        )

    def evaluate(self, path: Path, inputs: Sequence[Array]) -> tuple[Array, ...] | None:
        """One inference of the MIL program on torch's kernels; ``None`` for a neural network of
        layers, which nothing here executes.

        An image is given as the network sees it; it is turned back into pixels without rounding
        them to 8 bits, so that scale and bias of the package are proven to the last digit.
        """
        _require_coremltools()
        package = read(path)
        if package.kind != "mlProgram":
            return None
        if find_spec("torch") is None:
            raise StageError(
                "export",
                "executing a Core ML package without Core ML needs torch, which is not installed",
                hint="pip install 'latbench[coreml]'",
                kind="unavailable",
            )
        specs, outputs = describe(package.spec)
        images = image_inputs(package.spec)
        fed = {
            spec.name: _pixels(array, package.spec) if spec.name in images else array
            for spec, array in zip(specs, inputs, strict=True)
        }
        program = Program(package, path.name)
        given = dict(zip((o.name for o in program.outputs), program.execute(fed), strict=True))
        return tuple(given[spec.name].astype(spec.dtype) for spec in outputs)


def exporter() -> Exporter:
    """Entry point."""
    return CoreMLExporter()


def _require_coremltools() -> None:
    if find_spec("coremltools") is None:
        raise StageError(
            "export",
            "reading and writing Core ML packages needs coremltools, which is not installed",
            hint="pip install 'latbench[coreml]' (Linux on x86-64, or macOS)",
            kind="unavailable",
        )


def _program_facts(program: Program) -> tuple[Counts | None, dict[str, str]]:
    facts = {"operations": str(program.computed())}
    if program.compressed():
        facts["compressed"] = ", ".join(program.compressed())
    return program.counts(), facts


def _precision_of(program: Program) -> str:
    """The lowest precision that the program computes in, or has its weights in; ``unknown`` where
    weights are compressed otherwise than exporting does it."""
    if "quantize" in program.kinds():
        return "int8"
    stored = program.stored()
    for lowest in ("unknown", "int4-weights", "int8-weights", "fp16"):
        if lowest in stored:
            return lowest
    halves = any(variable.val.dtype == "float16" for variable in program.constants())
    return "fp16" if halves else "fp32"


def _details(package: Package) -> dict[str, str]:
    """As read from the file."""
    found = {
        "type": package.kind.lower(),
        "specification_version": str(package.spec.specificationVersion),
    }
    if images := image_inputs(package.spec):
        mapping = image_mapping(package.spec)
        found |= {
            "input": "image",
            "images": ",".join(images),
            "image_scale": repr(mapping.scale),
            "image_bias": ",".join(map(repr, mapping.bias)),
        }
    return found


def _asked(want: Wanted, route: str) -> dict[str, str]:
    """The settings that it was made with."""
    return {
        "route": route,
        "input": want.input,
        "io": want.io,
        "target": want.target,
        "computed": want.computed if want.type == "mlprogram" else "as the device chooses",
    }


def _pixels(array: Array, spec: Any) -> Array:
    """The picture, 0 to 255, of which the network sees ``array``."""
    import numpy as np

    mapping = image_mapping(spec)
    bias = np.asarray(mapping.bias[: array.shape[1]], dtype=np.float64).reshape(1, -1, 1, 1)
    return ((array.astype(np.float64) - bias) / mapping.scale).astype(np.float32)
