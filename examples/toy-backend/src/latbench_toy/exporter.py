"""Export a chain of layers as ``.npz``: for each layer its kind, its numbers and its arrays."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from latbench.api import (
    Array,
    Counts,
    Exported,
    Exporter,
    ExportSpec,
    Model,
    StageError,
    TensorSpec,
    make_inputs,
)


class ToyExporter:
    """Exporter for chains of five kinds of layers."""

    format = "toy"
    suffix = ".npz"
    reads: tuple[str, ...] = ()
    precisions = ("fp32",)
    options: Mapping[str, str] = {}

    def toolchain(self) -> Mapping[str, str]:
        return {"latbench-toy": version("latbench-toy"), "numpy": version("numpy")}

    def export(self, model: Model, spec: ExportSpec, out: Path) -> Exported:
        import numpy as np
        import torch

        layers: list[dict[str, object]] = []
        arrays: dict[str, Array] = {}
        for i, layer in enumerate(model.module().children()):
            match layer:
                case torch.nn.Conv2d(groups=1):
                    layers.append(
                        {"kind": "conv", "stride": layer.stride[0], "padding": layer.padding[0]}
                    )
                case torch.nn.Linear():
                    layers.append({"kind": "linear"})
                case torch.nn.GELU():
                    layers.append({"kind": "gelu"})
                case torch.nn.AdaptiveAvgPool2d(output_size=1):
                    layers.append({"kind": "pool"})
                case torch.nn.Flatten():
                    layers.append({"kind": "flatten"})
                case _:
                    raise StageError(
                        "export",
                        f"the toy format does not support layer {type(layer).__name__}",
                        hint="use a chain of Conv2d, GELU, AdaptiveAvgPool2d, Flatten, Linear",
                    )
            for name, parameter in layer.named_parameters():
                arrays[f"{i}.{name}"] = parameter.detach().numpy()
        (image,) = model.inputs()
        with out.open("wb") as file:
            np.savez(file, layers=np.array(json.dumps(layers)), **arrays)
        # Read everything back from the file, so that it describes what was written.
        outputs = self.evaluate(out, make_inputs((image,), 0))
        return Exported(
            inputs=(image,),
            outputs=tuple(
                TensorSpec(name="output", shape=a.shape, dtype=a.dtype.name) for a in outputs
            ),
            counts=_count(out, image),
            details={"layers": str(len(layers))},
        )

    def adopt(self, path: Path, spec: ExportSpec, out: Path) -> Exported:
        raise StageError("export", "the toy backend does not accept pre-exported files")

    def evaluate(self, path: Path, inputs: Sequence[Array]) -> tuple[Array, ...]:
        from latbench_toy.runner import execute, load

        return (execute(load(path), inputs[0]),)


def exporter() -> Exporter:
    """Entry point."""
    return ToyExporter()


def _count(path: Path, image: TensorSpec) -> Counts:
    from latbench_toy.runner import execute, load

    macs, operators, value = 0, {"conv": 0, "linear": 0}, make_inputs((image,), 0)[0]
    layers = load(path)
    for layer in layers:
        value = execute((layer,), value)
        if layer.weight is not None:
            operators[layer.kind] += 1
            macs += value.size * math.prod(layer.weight.shape[1:])
    parameters = sum(
        array.size for layer in layers for array in (layer.weight, layer.bias) if array is not None
    )
    return Counts(
        macs=macs, parameters=parameters, parameter_bytes=4 * parameters, operators=operators
    )
