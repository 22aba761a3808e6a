"""Export ExecuTorch programs: ``torch.export``, edge dialect, then lowering to a delegate."""

from __future__ import annotations

import copy
import io
import logging
import re
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from latbench.api import (
    Array,
    Exported,
    Exporter,
    ExportSpec,
    FileContent,
    Model,
    OpenTensor,
    StageError,
    TensorSpec,
    UsageError,
    choice_option,
    first_line,
)
from latbench_exporters.executorch.program import read
from latbench_exporters.packages import installed, require
from latbench_exporters.pre_exported import check_fixed
from latbench_exporters.torch import count

if TYPE_CHECKING:
    import torch

DELEGATES = {
    "xnnpack": ("fp32", "fp16", "int8"),
    "portable": ("fp32", "fp16"),
    "coreml": ("fp32", "fp16"),
}
"""Delegate -> precisions that it supports."""
UUID = re.compile(rb"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
MANIFEST = re.compile(rb'"itemInfoEntries": \{.*?\}\s*\}', re.DOTALL)
ENTRY = re.compile(rb'"' + UUID.pattern + rb'": \{[^{}]*\}')


class ExecutorchExporter:
    """Export ``.pte`` programs with one method, ``forward``."""

    format = "executorch"
    suffix = ".pte"
    reads = (".pte",)
    precisions = ("fp32", "fp16", "int8")
    options: Mapping[str, str] = {
        "delegate": f"{', '.join(DELEGATES)}: where supported operators run (default xnnpack)"
    }

    def toolchain(self) -> Mapping[str, str]:
        return installed("torch", "executorch", "torchao", "coremltools")

    def export(self, model: Model, spec: ExportSpec, out: Path) -> Exported:
        """Trace, lower and serialize the deploy form. Raises :class:`StageError`."""
        examples = model.example_inputs()
        delegate = _delegate(spec)
        require("executorch", "exporting to ExecuTorch", "executorch")
        if delegate == "coreml":
            require("coremltools", "delegate=coreml", "coreml")
        import torch

        arguments = tuple(torch.from_numpy(array) for array in examples)
        # Copy: the deploy form may be in use elsewhere, and quantization modifies its graph.
        module = copy.deepcopy(model.module())
        if spec.precision == "fp16" and delegate != "coreml":
            module = module.half()
            arguments = tuple(tensor.half() for tensor in arguments)
        with _as_stage_error("ExecuTorch cannot lower the model"), _quiet():
            traced = torch.export.export(module, arguments)
            counted = count(traced)
            if spec.precision == "int8":
                traced = _quantized(traced, arguments, spec.calibration)
            lowered = _lowered(traced, delegate, spec.precision)
        out.write_bytes(lowered)
        found = read(out)
        details = {"route": "torch.export", "delegate": delegate, **found.details}
        if found.counts is None:
            # Core ML executes a package embedded in the file.
            details["counts"] = "from the traced graph: the delegate's part is not read back"
            if counted is not None and spec.precision == "fp16":
                # The traced graph is fp32; Core ML's converter narrows the weights.
                details["counts"] += ", weight bytes halved"
                counted = msgspec.structs.replace(
                    counted, parameter_bytes=counted.parameter_bytes // 2
                )
        if spec.precision == "int8":
            details["quantisation"] = "static PT2E, weights per channel"
            details["calibration_sets"] = str(len(spec.calibration))
        return Exported(
            inputs=found.inputs,
            outputs=found.outputs,
            counts=counted if found.counts is None else found.counts,
            details=details,
        )

    def adopt(self, path: Path, spec: ExportSpec, out: Path) -> Exported:
        """Check a pre-exported program and copy it unchanged."""
        found = read(path)
        check_fixed(found.inputs, spec)
        out.write_bytes(path.read_bytes())
        return Exported(
            inputs=found.inputs,
            outputs=found.outputs,
            counts=found.counts,
            details={"route": "pre-exported", **found.details},
            precision=found.precision,
        )

    def inspect(self, path: Path) -> FileContent:
        found = read(path)
        names = found.details.get("kernel_names", "")
        operators = dict(each.split(" ", 1)[::-1] for each in names.split(", ") if each)
        counts = found.counts
        return FileContent(
            inputs=tuple(map(_as_stored, found.inputs)),
            outputs=tuple(map(_as_stored, found.outputs)),
            operators={name: int(number) for name, number in operators.items()},
            details={k: v for k, v in found.details.items() if k != "kernel_names"},
            parameters=None if counts is None else counts.parameters,
            parameter_bytes=None if counts is None else counts.parameter_bytes,
            macs=None if counts is None else counts.macs,
            precision=found.precision,
        )

    def evaluate(self, path: Path, inputs: Sequence[Array]) -> tuple[Array, ...] | None:
        """Run one inference; ``None`` if a required delegate is not in this installation."""
        import torch
        from executorch.extension.pybindings import portable_lib

        needed = set(read(path).details["delegates"].split(", ")) - {"none"}
        if not needed <= set(portable_lib._get_registered_backend_names()):
            return None
        with _as_stage_error("ExecuTorch cannot execute the file"):
            program = portable_lib._load_program(str(path))
            method = program.load_method("forward")
            method.set_inputs([torch.from_numpy(array) for array in inputs])
            method.execute()
            return tuple(tensor.numpy() for tensor in method.get_outputs(True))


def exporter() -> Exporter:
    """Entry point."""
    return ExecutorchExporter()


def _as_stored(spec: TensorSpec) -> OpenTensor:
    return OpenTensor(name=spec.name, shape=spec.shape, dtype=spec.dtype)


def _delegate(spec: ExportSpec) -> str:
    delegate = choice_option("delegate", spec.options.get("delegate", "xnnpack"), DELEGATES)
    if spec.precision not in DELEGATES[delegate]:
        able = [name for name, those in DELEGATES.items() if spec.precision in those]
        raise UsageError(
            f"delegate {delegate} does not support --precision {spec.precision}",
            hint=f"use one of: {', '.join(able)}",
        )
    return delegate


def _quantized(
    traced: torch.export.ExportedProgram,
    arguments: tuple[torch.Tensor, ...],
    calibration: Sequence[tuple[Array, ...]],
) -> torch.export.ExportedProgram:
    """Quantize statically: symmetric weights per output channel, activations per tensor with the
    ranges seen on ``calibration``. Raises :class:`StageError`."""
    import torch
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    if not calibration:
        raise StageError("export", "static int8 requires calibration inputs; none were given")
    quantizer = XNNPACKQuantizer()
    quantizer.set_global(get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(traced.module(), quantizer)
    with torch.no_grad():
        for arrays in calibration:
            prepared(*(torch.from_numpy(array) for array in arrays))
    return torch.export.export(convert_pt2e(prepared), arguments)


def _lowered(traced: torch.export.ExportedProgram, delegate: str, precision: str) -> bytes:
    """Bytes of the lowered program."""
    from executorch.exir import to_edge_transform_and_lower

    partitioners: list[Any] = []
    if delegate == "xnnpack":
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

        partitioners = [XnnpackPartitioner()]
    elif delegate == "coreml":
        partitioners = [_coreml_partitioner(precision)]
    edge = to_edge_transform_and_lower(traced, partitioner=partitioners)
    made = bytes(edge.to_executorch().buffer)
    return _without_chance(made) if delegate == "coreml" else made


def _coreml_partitioner(precision: str) -> Any:
    import coremltools
    from executorch.backends.apple.coreml.compiler import CoreMLBackend
    from executorch.backends.apple.coreml.partition import CoreMLPartitioner

    width = coremltools.precision.FLOAT16 if precision == "fp16" else coremltools.precision.FLOAT32
    specs = CoreMLBackend.generate_compile_specs(
        compute_precision=width, minimum_deployment_target=coremltools.target.iOS17
    )
    return CoreMLPartitioner(compile_specs=specs)


def _without_chance(program: bytes) -> bytes:
    """Replace the random UUIDs of Core ML packages by ones derived from the other bytes.

    They also name a compiled package in the device's cache, so they must differ between models.
    """
    program = MANIFEST.sub(_sorted_entries, program)
    seed = sha256(UUID.sub(b"", program)).hexdigest()
    order: dict[bytes, bytes] = {}

    def replace(found: re.Match[bytes]) -> bytes:
        text = found.group().lower()
        if text not in order:
            made = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{seed}/{len(order)}"))
            order[text] = made.encode()
        new = order[text]
        return new if found.group() == text else new.upper()

    return UUID.sub(replace, program)


def _sorted_entries(manifest: re.Match[bytes]) -> bytes:
    """Order the entries of a package manifest by content instead of UUID. The length is
    unchanged."""
    entries = ENTRY.findall(manifest.group())
    ordered = iter(sorted(entries, key=lambda entry: UUID.sub(b"", entry)))
    return ENTRY.sub(lambda _: next(ordered), manifest.group())


@contextmanager
def _as_stage_error(what: str) -> Iterator[None]:
    """Turn any exception of ExecuTorch into a failure of the export."""
    try:
        yield
    except Exception as error:
        if isinstance(error, MemoryError | StageError):
            raise
        first = first_line(error)
        raise StageError(
            "export",
            f"{what}: {first}",
            hint="unsupported operator, or control flow that depends on data; try another delegate",
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress ExecuTorch's warnings about itself: deprecations, progress, optional libraries."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
