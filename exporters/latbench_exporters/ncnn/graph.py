"""Read ncnn files back: layers from the text of ``model.param``, sizes from one execution.

``model.param`` contains no shapes, so the network is run once to observe the blob sizes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from latbench.api import Array, Counts, StageError

if TYPE_CHECKING:
    import ncnn

MAGIC = "7767517"
CONVOLUTIONS = ("Convolution", "Convolution1D", "Convolution3D")
DEPTHWISE = ("ConvolutionDepthWise", "ConvolutionDepthWise1D", "ConvolutionDepthWise3D")
TRANSPOSED = (
    "Deconvolution",
    "Deconvolution1D",
    "Deconvolution3D",
    "DeconvolutionDepthWise",
    "DeconvolutionDepthWise1D",
    "DeconvolutionDepthWise3D",
)
TAG_BYTES = 4
"""Each weight starts with a word that states its encoding; biases and norms do not."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One line of ``model.param``."""

    kind: str
    name: str
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    numbers: Mapping[int, str]

    def number(self, key: int, otherwise: int = 0) -> int:
        """The integer parameter ``key``."""
        return int(float(self.numbers.get(key, otherwise)))


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Contents of ``model.param``, in order."""

    layers: tuple[Layer, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(top for layer in self.layers if layer.kind == "Input" for top in layer.gives)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Blobs that no layer consumes, sorted by name: ``out0``, ``out1``, …"""
        taken = {blob for layer in self.layers for blob in layer.takes}
        free = [blob for layer in self.layers for blob in layer.gives if blob not in taken]
        return tuple(sorted(free, key=lambda blob: (len(blob), blob)))


def read(folder: Path) -> Graph:
    """Read ``model.param`` in ``folder``.

    Raises :class:`StageError` if it is not valid or names layers that ncnn does not have.
    """
    try:
        lines = (folder / "model.param").read_text().split("\n")
        if lines[0].strip() != MAGIC:
            raise ValueError("it does not start with ncnn's magic number")
        graph = Graph(layers=tuple(_layer(line) for line in lines[2:] if line.strip()))
        if len(graph.layers) != int(lines[1].split()[0]):
            raise ValueError(f"{lines[1].split()[0]} layers declared, {len(graph.layers)} found")
    except (OSError, ValueError, IndexError) as error:
        raise StageError(
            "export",
            f"{folder.name} is not a valid ncnn model: {error}",
            hint="truncated, corrupt, or another kind of file",
        ) from error
    # Operators that pnnx could not convert keep PyTorch's name, which always contains a dot.
    if strange := sorted({layer.kind for layer in graph.layers if "." in layer.kind}):
        raise StageError(
            "export",
            f"ncnn has no layer for {', '.join(strange)}",
            hint="ncnn tensors have at most 4 axes, without the batch; windowed attention, for "
            "example, needs more",
        )
    return graph


def load(folder: Path, threads: int) -> ncnn.Net:
    """Load the network, computing in fp32 and keeping every blob. Raises :class:`StageError`."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.lightmode = False
    for name in ("packed", "storage", "arithmetic"):
        setattr(net.opt, f"use_fp16_{name}", False)
    if net.load_param(str(folder / "model.param")) or net.load_model(str(folder / "model.bin")):
        raise StageError(
            "export",
            f"ncnn cannot load {folder.name}",
            hint="a layer unknown to this ncnn version, or truncated weights",
        )
    return net


def execute(
    net: ncnn.Net, graph: Graph, inputs: Sequence[Array], wanted: Sequence[str]
) -> dict[str, Array]:
    """Compute the blobs named ``wanted`` for one image; ``inputs`` have no batch axis."""
    import ncnn
    import numpy as np

    extractor = net.create_extractor()
    given = [np.ascontiguousarray(array, dtype=np.float32) for array in inputs]
    for name, array in zip(graph.inputs, given, strict=True):
        extractor.input(name, ncnn.Mat(array))
    found = {}
    for name in wanted:
        status, mat = extractor.extract(name)
        if status:
            raise StageError("export", f"ncnn cannot compute {name!r} (status {status})")
        found[name] = np.array(mat)
    return found


def count(folder: Path, graph: Graph, net: ncnn.Net, image: Sequence[Array], batch: int) -> Counts:
    """Count the work of ``batch`` images; ``image`` is one set of inputs without a batch axis."""
    counted = [layer for layer in graph.layers if _weights(layer)]
    wanted = [blob for layer in counted for blob in (*layer.takes, *layer.gives)]
    blobs = execute(net, graph, image, list(dict.fromkeys(wanted)))
    shapes = {name: blob.shape for name, blob in blobs.items()}
    macs, operators = 0, {"conv": 0, "linear": 0}
    for layer in counted:
        convolves = layer.kind in (*CONVOLUTIONS, *DEPTHWISE, *TRANSPOSED)
        operators["conv" if convolves else "linear"] += 4 if _attends(layer) else 1
        macs += _macs(layer, shapes)
    elements = [size for layer in counted for size in _weights(layer)]
    parameters, parameter_bytes = _parameters(folder / "model.bin", elements)
    return Counts(
        macs=macs * batch,
        parameters=parameters,
        parameter_bytes=parameter_bytes,
        operators=operators,
    )


def _layer(line: str) -> Layer:
    kind, name, takes, gives, *rest = line.split()
    first, last = int(takes), int(takes) + int(gives)
    pairs = (word.split("=", 1) for word in rest[last:])
    return Layer(
        kind=kind,
        name=name,
        takes=tuple(rest[:first]),
        gives=tuple(rest[first:last]),
        numbers={int(key): value for key, value in pairs if int(key) >= 0},
    )


def _attends(layer: Layer) -> bool:
    """Whether the layer is attention with four products: query, key, value and output."""
    return layer.kind == "MultiHeadAttention"


def _weights(layer: Layer) -> list[int]:
    """Element counts of the weight tensors, from the layer's parameters as defined by ncnn."""
    match layer.kind:
        case kind if kind in (*CONVOLUTIONS, *DEPTHWISE, *TRANSPOSED):
            return [layer.number(6)]
        case "InnerProduct":
            return [layer.number(2)]
        case "Gemm":
            m, n, k = (layer.number(key) for key in (7, 8, 9))
            return [size for key, size in ((4, m * k), (5, n * k)) if layer.number(key)]
        case "MultiHeadAttention":
            size, width = layer.number(2), layer.number(0)
            return [size, layer.number(3, width) * width, layer.number(4, width) * width, size]
        case _:
            return []


def _macs(layer: Layer, shapes: Mapping[str, tuple[int, ...]]) -> int:
    given, taken = shapes[layer.gives[0]], shapes[layer.takes[0]]
    total = sum(_weights(layer))
    if layer.kind in TRANSPOSED:
        # Channels come first: each input element is multiplied by the kernels of its channel.
        return math.prod(taken) * total // taken[0]
    if layer.kind in (*CONVOLUTIONS, *DEPTHWISE):
        return math.prod(given) * total // layer.number(0)
    if layer.kind == "InnerProduct":
        return math.prod(given) * total // layer.number(0)
    if layer.kind == "Gemm":
        return math.prod(given) * layer.number(9)
    # Each token is multiplied by all four.
    return taken[0] * total


def _parameters(path: Path, weights: Sequence[int]) -> tuple[int, int]:
    """Number and bytes of the parameters, from the size of ``model.bin`` and the tagged weights.

    The remaining bytes are biases, norms and constants, always in fp32.
    """
    size = path.stat().st_size
    for itemsize in (4, 2):
        tagged = sum(TAG_BYTES + -(-elements * itemsize // 4) * 4 for elements in weights)
        # With all weights in fp32, the file would be larger than it is.
        if tagged <= size:
            rest = (size - tagged) // 4
            return sum(weights) + rest, sum(weights) * itemsize + rest * 4
    raise StageError(
        "export", f"{path.name} is shorter than its layers require", hint="truncated or corrupt"
    )
