"""Run exported chains of layers with numpy."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from math import erf
from pathlib import Path

from latbench.api import (
    Array,
    Artifact,
    Capability,
    Placement,
    Runner,
    RunOptions,
    Session,
    StageError,
)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One step; ``weight`` and ``bias`` are ``None`` for layers without them."""

    kind: str
    stride: int = 1
    padding: int = 0
    weight: Array | None = None
    bias: Array | None = None


class ToyRunner:
    """Always runs on one thread, and reports that in its settings."""

    name = "toy"
    formats = ("toy",)
    options: Mapping[str, str] = {}

    def probe(self) -> Capability:
        return Capability(available=True, version=version("latbench-toy"), units=("numpy",))

    def prepare(self) -> None:
        import numpy  # noqa: F401

    @contextmanager
    def open(
        self, artifact: Artifact, path: Path, inputs: Sequence[Array], options: RunOptions
    ) -> Iterator[Session]:
        yield ToySession(load(path), inputs[0])


class ToySession:
    """A loaded chain of layers and its input."""

    def __init__(self, layers: Sequence[Layer], image: Array) -> None:
        self._layers = layers
        self._image = image
        self._output = image

    def run(self) -> None:
        self._output = execute(self._layers, self._image)

    def outputs(self) -> tuple[Array, ...]:
        return (self._output,)

    def placement(self) -> Placement:
        return Placement(units={"numpy": len(self._layers)}, known="proven")

    def settings(self) -> Mapping[str, str]:
        return {"threads": "1"}


def runner() -> Runner:
    """Entry point."""
    return ToyRunner()


def load(path: Path) -> tuple[Layer, ...]:
    """Read a file without executing anything in it. Raises :class:`StageError` if damaged."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            return tuple(
                Layer(
                    **layer,
                    weight=file.get(f"{i}.weight"),
                    bias=file.get(f"{i}.bias"),
                )
                for i, layer in enumerate(json.loads(str(file["layers"])))
            )
    except (zipfile.BadZipFile, ValueError, KeyError, OSError, EOFError) as error:
        raise StageError("open", f"{path.name} is not a valid toy file: {error}") from error


def execute(layers: Sequence[Layer], value: Array) -> Array:
    """Apply ``layers`` to ``value``; images are NCHW."""
    import numpy as np

    for layer in layers:
        match layer.kind:
            case "conv":
                value = _conv(layer, value)
            case "linear":
                value = value @ layer.weight.T + layer.bias  # type: ignore[union-attr]
            case "gelu":
                value = (value * (1 + np.vectorize(erf)(value / 2**0.5)) / 2).astype(value.dtype)
            case "pool":
                value = value.mean(axis=(2, 3), keepdims=True, dtype=value.dtype)
            case "flatten":
                value = value.reshape(len(value), -1)
    return value


def _conv(layer: Layer, value: Array) -> Array:
    import numpy as np

    assert layer.weight is not None
    assert layer.bias is not None
    edge = (layer.padding, layer.padding)
    padded = np.pad(value, ((0, 0), (0, 0), edge, edge))
    windows = np.lib.stride_tricks.sliding_window_view(padded, layer.weight.shape[2:], axis=(2, 3))
    strided = windows[:, :, :: layer.stride, :: layer.stride]
    summed = np.einsum("nchwij,ocij->nohw", strided, layer.weight, optimize=True)
    return (summed + layer.bias[:, None, None]).astype(value.dtype)
