"""Counts for Core ML's older neuralnetwork format, which nothing here can execute."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from latbench.api import Counts

PRODUCTS = ("innerProduct", "batchedMatmul")


def count(spec: Any, shapes: Mapping[str, tuple[int, ...]]) -> Counts | None:
    """Count layers and weights of the file. ``shapes`` holds the shape of each layer's output by
    name, since the file does not; ``None`` if a required one is missing."""
    macs, operators = 0, {"conv": 0, "linear": 0}
    weights: list[tuple[int, int]] = []
    for layer in layers(spec):
        kind = layer.WhichOneof("layer")
        parameters = getattr(layer, kind)
        weights += [sizes for field in _blobs(parameters) if (sizes := _sizes(field))[0] > 1]
        if kind != "convolution" and kind not in PRODUCTS:
            continue
        elements, _ = _sizes(parameters.weights)
        if elements == 0:
            continue  # product of two activations
        transposed = kind == "convolution" and parameters.isDeconvolution
        shape = shapes.get(layer.input[0] if transposed else layer.output[0])
        if not shape:
            return None
        if kind == "convolution":
            operators["conv"] += 1
            # Channels are third from the end; every other element uses all weights once.
            channels = shape[-3]
        else:
            operators["linear"] += 1
            channels = shape[-1]
        macs += math.prod(shape) // channels * elements
    return Counts(
        macs=macs,
        parameters=sum(elements for elements, _ in weights),
        parameter_bytes=sum(size for _, size in weights),
        operators=operators,
    )


def layers(spec: Any) -> list[Any]:
    """The layers, in execution order."""
    return list(spec.neuralNetwork.layers)


def _blobs(parameters: Any) -> Iterator[Any]:
    """The weight fields of a layer."""
    for field, value in parameters.ListFields():
        message = field.message_type
        if message is not None and message.name == "WeightParams":
            yield value


def _sizes(blob: Any) -> tuple[int, int]:
    """Elements and bytes of a weight blob, in whichever encoding it uses."""
    if blob.float16Value:
        return len(blob.float16Value) // 2, len(blob.float16Value)
    if blob.rawValue:
        bits = blob.quantization.numberOfBits or 8
        return len(blob.rawValue) * 8 // bits, len(blob.rawValue)
    if blob.int8RawValue:
        return len(blob.int8RawValue), len(blob.int8RawValue)
    return len(blob.floatValue), 4 * len(blob.floatValue)
