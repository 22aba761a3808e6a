"""Export Core ML packages with coremltools, on Linux or macOS.

``torch.jit.trace`` is tried first, as in published conversions, then ``torch.export``. The written
package is read back and executed, so parity is checked without an Apple device.
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
    FileContent,
    Model,
    StageError,
    TensorSpec,
    UsageError,
)
from latbench_exporters.coreml import native, network
from latbench_exporters.coreml.content import inspect_file
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
from latbench_exporters.coreml.interface import Interface, interface, select_function, unsupported
from latbench_exporters.coreml.mil import Program
from latbench_exporters.coreml.package import (
    IMAGENET,
    Package,
    image_mapping,
    note_image_mapping,
    read,
    write,
)
from latbench_exporters.coreml.sizes import choose_sizes
from latbench_exporters.packages import installed
from latbench_exporters.pre_exported import check_plain

HALF_IMAGE = "GRAYSCALE_FLOAT16"
"""The color space whose pixels are fp16."""


class CoreMLExporter:
    """Export ``.mlpackage`` folders."""

    format = "coreml"
    suffix = ".mlpackage"
    reads = (".mlpackage", ".mlmodel")
    precisions = ("fp32", "fp16", "int8-weights")
    options: Mapping[str, str] = {
        "type": f"{', '.join(TYPES)}: model type (default {next(iter(TYPES))})",
        "input": f"{', '.join(INPUTS)}: an array, or an image with scale and bias (default tensor)",
        "io": f"{', '.join(IO)}: element type of input and output arrays (default fp16 if the "
        "model computes in fp16 and the target supports it, else fp32)",
        "target": f"oldest supported system, {TARGETS[0]} to {TARGETS[-1]} (default "
        + ", ".join(f"{target} for {kind}" for kind, target in TYPES.items())
        + ")",
        "route": f"{', '.join(ROUTES)}: torch.jit.trace or torch.export (default the first that "
        "works)",
        **FORM,
    }

    def toolchain(self) -> Mapping[str, str]:
        return installed("torch", "coremltools")

    def export(self, model: Model, spec: ExportSpec, out: Path) -> Exported:
        """Convert and write the model, then read the package back."""
        # Build first: if torch is missing, this raises an error that says so.
        specs = model.inputs()
        if spec.precision not in self.precisions:
            raise UsageError(
                f"Core ML export does not support precision {spec.precision}: quantized "
                "activations need calibration on a device",
                hint=f"one of: {', '.join(self.precisions)}; int8-weights computes in fp16",
            )
        want = wanted(spec.precision, spec.options)
        _require_coremltools()
        with temporary_files_beside(out):
            made = convert(model.module(), model.example_inputs(), specs, want)
            raw, weights = made.model.get_spec(), made.model.weights_dir
            if want.input == "image":
                note_image_mapping(raw, IMAGENET)
            write(raw, Path(weights) if weights else None, out)
        package = read(out)
        found = interface(package.spec)
        if package.kind == "mlProgram":
            counts, more = _program_facts(Program(package, out.name))
        else:
            counts, more = network.count(package.spec, made.shapes), {}
        return Exported(
            inputs=found.inputs,
            outputs=found.outputs,
            counts=counts,
            details={**_details(package, found), **more, **_asked(want, made.route)},
        )

    def adopt(self, path: Path, spec: ExportSpec, out: Path) -> Exported:
        """Check a pre-exported package or bare specification and write it as a package.

        A flexible package stays flexible. A neuralnetwork is rejected: nothing here can execute it,
        so it would have no reference outputs.
        """
        _require_coremltools()
        package = read(path)
        if package.kind != "mlProgram":
            raise unsupported(
                f"{path.name} is a neuralnetwork; without its PyTorch model there are no "
                "reference outputs to compare it with",
                hint="convert it again as an mlprogram, or start from the PyTorch model with "
                "--option type=neuralnetwork",
            )
        selected = select_function(package.spec, spec.signature)
        check_plain(spec, signatures=True)
        found = interface(package.spec)
        inputs = choose_sizes(found.inputs, found.sizes, spec)
        shapes = {tensor.name: tensor.shape for tensor in inputs}
        program = Program(package, path.name, found.function, shapes)
        counts, more = _program_facts(program)
        write(package.spec, package.weights, out)
        return Exported(
            inputs=inputs,
            outputs=found.outputs,
            counts=counts,
            details={**_details(package, found), **selected, **more, "route": "pre-exported"},
            precision=_precision_of(program),
        )

    def inspect(self, path: Path) -> FileContent:
        _require_coremltools()
        return inspect_file(path)

    def evaluate(self, path: Path, inputs: Sequence[Array]) -> tuple[Array, ...] | None:
        """Run one inference of the MIL program with torch kernels; ``None`` for a neuralnetwork,
        which nothing here can execute.

        An image input takes normalized values. They are mapped back to pixels without rounding to
        8 bits, so the comparison covers the scale and bias of the package exactly. An image output
        is not rounded either. GRAYSCALE_FLOAT16 images hold fp16. On a Mac, Core ML executes what
        has no kernels here.
        """
        _require_coremltools()
        package = read(path)
        if package.kind != "mlProgram":
            return None
        if find_spec("torch") is None:
            raise StageError(
                "export",
                "executing a package without Core ML requires torch, which is not installed",
                hint="pip install 'latbench[coreml]'",
                kind="unavailable",
            )
        found = interface(package.spec)
        fed = {
            spec.name: _pixels(array, spec.name, package.spec, found)
            if spec.name in found.images
            else array
            for spec, array in zip(found.inputs, inputs, strict=True)
        }
        shapes = {name: array.shape for name, array in fed.items()}
        program = Program(package, path.name, found.function, shapes)
        if program.missing_kernels() is not None and native.available():
            given = native.execute(path, fed, found)
        else:
            given = program.execute(fed)
        return tuple(_levels(given[spec.name], spec, found) for spec in found.outputs)


def exporter() -> Exporter:
    """Entry point."""
    return CoreMLExporter()


def _require_coremltools() -> None:
    if find_spec("coremltools") is None:
        raise StageError(
            "export",
            "Core ML export requires coremltools, which is not installed",
            hint="pip install 'latbench[coreml]' (Linux on x86-64, or macOS)",
            kind="unavailable",
        )


def _program_facts(program: Program) -> tuple[Counts | None, dict[str, str]]:
    facts = {"operations": str(program.computed())}
    if program.missing_kernels() is not None and native.available():
        facts["executed_by"] = native.NAME
    if program.compressed():
        facts["compressed"] = ", ".join(program.compressed())
    counts = program.counts()
    if counts is None:
        facts["not_counted"] = "a size in the program is known only when it runs"
    return counts, facts


def _precision_of(program: Program) -> str:
    """The lowest precision of the program's arithmetic or weights; ``unknown`` if weights are
    compressed in a way that this exporter does not use."""
    if "quantize" in program.kinds():
        return "int8"
    stored = program.stored()
    for lowest in ("unknown", "int4-weights", "int8-weights", "fp16"):
        if lowest in stored:
            return lowest
    halves = any(variable.val.dtype == "float16" for variable in program.constants())
    return "fp16" if halves else "fp32"


def _details(package: Package, found: Interface) -> dict[str, str]:
    """Details read from the file."""
    details = {
        "type": package.kind.lower(),
        "specification_version": str(package.spec.specificationVersion),
    }
    if images := found.image_inputs():
        mapping = image_mapping(package.spec)
        details |= {
            "input": "image",
            "images": ",".join(images),
            "image_scale": repr(mapping.scale),
            "image_bias": ",".join(map(repr, mapping.bias)),
        }
    if unusual := [f"{name} {space}" for name, space in found.images.items() if space != "RGB"]:
        details["color_spaces"] = ", ".join(unusual)
    if outputs := [spec.name for spec in found.outputs if spec.name in found.images]:
        details["image_outputs"] = ",".join(outputs)
        if any(found.images[name] == HALF_IMAGE for name in outputs):
            details["output_bits"] = "16"
    if found.sizes:
        details["flexible"] = ", ".join(f"{name} {sizes}" for name, sizes in found.sizes.items())
    if found.states:
        details["states"] = ", ".join(found.states)
    if found.labels:
        details["not_compared"] = ", ".join(f"label {name}" for name in found.labels)
    return details


def _asked(want: Wanted, route: str) -> dict[str, str]:
    """The settings of the conversion."""
    return {
        "route": route,
        "input": want.input,
        "io": want.io,
        "target": want.target,
        "computed": want.computed if want.type == "mlprogram" else "as the device chooses",
    }


def _pixels(array: Array, name: str, spec: Any, found: Interface) -> Array:
    """Pixel values (0 to 255) that the package maps to ``array``."""
    import numpy as np

    mapping = image_mapping(spec)
    bias = np.asarray(mapping.bias[: array.shape[1]], dtype=np.float64).reshape(1, -1, 1, 1)
    return _held(
        ((array.astype(np.float64) - bias) / mapping.scale).astype(np.float32), name, found
    )


def _levels(array: Array, spec: TensorSpec, found: Interface) -> Array:
    """An output in the declared type; of an 8-bit image, within the range of its pixels."""
    import numpy as np

    if spec.name in found.images:
        array = _held(array, spec.name, found)
        if found.images[spec.name] != HALF_IMAGE:
            array = np.clip(array, 0, 255)
    return array.astype(spec.dtype)


def _held(pixels: Array, name: str, found: Interface) -> Array:
    """Pixels as an image holds them. Those of 8 bits are not rounded: the comparison of a timed
    session allows for it."""
    import numpy as np

    half = found.images[name] == HALF_IMAGE
    return pixels.astype(np.float16).astype(np.float32) if half else pixels
