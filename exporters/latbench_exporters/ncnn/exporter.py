"""Export ncnn models with pnnx: ``torch.jit.trace``, then the converter in its own process.

ncnn tensors have no batch axis. The runner executes a larger batch image by image.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from latbench.api import (
    FORM,
    Array,
    Exported,
    Exporter,
    ExportSpec,
    Model,
    StageError,
    TensorSpec,
    first_line,
)
from latbench_exporters.ncnn.graph import (
    count,
    execute,
    load,
    read,
)
from latbench_exporters.packages import installed, require

LIMIT_S = 600
PRECISIONS = {"fp32": "fp16=0", "fp16": "fp16=1"}


class NcnnExporter:
    """Export folders that contain ``model.param`` and ``model.bin``."""

    format = "ncnn"
    suffix = ".ncnn"
    reads = ()
    precisions = tuple(PRECISIONS)
    options: Mapping[str, str] = FORM

    def toolchain(self) -> Mapping[str, str]:
        return installed("torch", "pnnx", "ncnn")

    def export(self, model: Model, spec: ExportSpec, out: Path) -> Exported:
        """Trace one image and convert. fp16 applies to stored weights only.

        Raises :class:`StageError`.
        """
        specs = model.inputs()
        for package in ("pnnx", "ncnn"):
            require(package, "converting to ncnn", "ncnn")
        inputs = model.example_inputs()
        batch = specs[0].shape[0]
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            _trace(model, [array[:1] for array in inputs], place / "model.pt")
            _convert(place, [array[:1].shape for array in inputs], PRECISIONS[spec.precision])
            out.mkdir()
            shutil.copyfile(place / "model.ncnn.param", out / "model.param")
            shutil.copyfile(place / "model.ncnn.bin", out / "model.bin")
        graph = read(out)
        net = load(out, threads=1)
        image = [array[0] for array in inputs]
        outputs = execute(net, graph, image, graph.outputs)
        return Exported(
            inputs=tuple(
                TensorSpec(name=name, shape=spec.shape, dtype="float32")
                for name, spec in zip(graph.inputs, specs, strict=True)
            ),
            outputs=tuple(
                TensorSpec(name=name, shape=(batch, *array.shape), dtype="float32")
                for name, array in outputs.items()
            ),
            counts=count(out, graph, net, image, batch),
            details={
                "route": "torch.jit.trace, pnnx",
                "layers": str(len(graph.layers)),
                "batch": "one image at a time",
                "counts": "layers of model.param, blob sizes from one execution",
            },
        )

    def adopt(self, path: Path, spec: ExportSpec, out: Path) -> Exported:
        raise StageError(
            "export",
            f"{path.name}: pre-exported ncnn files are not accepted: they do not state their "
            "input shape",
            hint="pass the Python factory of the model instead",
        )

    def evaluate(self, path: Path, inputs: Sequence[Array]) -> tuple[Array, ...] | None:
        """Run each image separately, in fp32."""
        import numpy as np

        graph = read(path)
        net = load(path, threads=1)
        images = [
            execute(net, graph, [array[i] for array in inputs], graph.outputs)
            for i in range(len(inputs[0]))
        ]
        return tuple(np.stack([image[name] for image in images]) for name in graph.outputs)


def exporter() -> Exporter:
    """Entry point."""
    return NcnnExporter()


def _trace(model: Model, inputs: Sequence[Array], path: Path) -> None:
    import torch

    arguments = tuple(torch.from_numpy(array) for array in inputs)
    try:
        with warnings.catch_warnings(), torch.no_grad(), _plainer():
            warnings.simplefilter("ignore")
            torch.jit.trace(model.module(), arguments, check_trace=False).save(str(path))
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        first = first_line(error)
        raise StageError(
            "export",
            f"torch.jit.trace cannot trace the model: {first}",
            hint="make its control flow independent of the data",
        ) from error


def _plainer() -> AbstractContextManager[object]:
    """While active, express calls that pnnx does not know by calls that it knows."""
    import torch
    from torch.overrides import TorchFunctionMode

    class Plainer(TorchFunctionMode):
        """Replaces ``chunk`` and similar by slices, and symbolic sizes by numbers."""

        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func in (torch.narrow, torch.Tensor.narrow) and not kwargs:
                tensor, axis, start, length = args
                window = [slice(None)] * tensor.ndim
                window[axis] = slice(int(start), int(start) + int(length))
                return tensor[tuple(window)]
            if func is torch.Tensor.expand_as and not kwargs:
                return args[0].expand([int(size) for size in args[1].shape])
            return func(*args, **(kwargs or {}))

    return Plainer()


def _convert(folder: Path, shapes: Sequence[tuple[int, ...]], precision: str) -> None:
    """Run pnnx, which writes ``model.ncnn.param`` and ``.bin`` (and other files) to ``folder``."""
    from pnnx import EXEC_PATH

    listed = ",".join(f"[{','.join(map(str, shape))}]f32" for shape in shapes)
    try:
        done = subprocess.run(
            [EXEC_PATH, "model.pt", f"inputshape={listed}", precision],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StageError(
            "export",
            f"pnnx did not finish within {LIMIT_S} s",
            hint="try a smaller model",
            kind="timeout",
        ) from error
    if done.returncode or not (folder / "model.ncnn.param").exists():
        crashed = done.returncode < 0
        raise StageError(
            "export",
            f"pnnx {'crashed' if crashed else 'failed'} (exit status {done.returncode})",
            hint="probably an unsupported operator; the detail has the end of its output",
            kind="crash" if crashed else "error",
            detail=(done.stdout + done.stderr)[-2000:],
        )
