"""Bind the inputs and outputs of ONNX Runtime sessions."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from latbench.api import Array, Artifact
from latbench.schema.bfloat16 import from_bfloat16, to_bfloat16
from latbench_runners.onnxruntime.providers import CPU

if TYPE_CHECKING:
    import onnxruntime as ort

GRAPH = "model.onnx"
"""The ONNX file in the folder of a model whose weights exceed the size limit of a file."""
BFLOAT16, BFLOAT16_TYPE = "tensor(bfloat16)", 16
"""ONNX Runtime's name of the type, and ONNX's number of it."""


def main_file(path: Path) -> Path:
    """The ONNX file of an artifact, which may be a folder."""
    return path / GRAPH if path.is_dir() else path


def binder(
    session: ort.InferenceSession,
    artifact: Artifact,
    inputs: Sequence[Array],
    place: tuple[str, int],
) -> Callable[[ort.InferenceSession], ort.IOBinding]:
    """A function that binds a session of the same file to the inputs, copied once to ``place``
    (kind of memory and device index), and to outputs that the session allocates."""
    import onnxruntime as ort

    kind, device = place
    types = {each.name: each.type for each in session.get_inputs()}

    def on_device(array: Array, name: str) -> ort.OrtValue:
        if types.get(name) != BFLOAT16:
            return ort.OrtValue.ortvalue_from_numpy(array, kind, device)
        # In the memory of the CPU: these values cannot be created on another device.
        bits = to_bfloat16(array)
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, BFLOAT16_TYPE)

    values = [
        (spec.name, on_device(array, spec.name))
        for spec, array in zip(artifact.inputs, inputs, strict=True)
    ]

    def bind(bound: ort.InferenceSession) -> ort.IOBinding:
        binding = bound.io_binding()
        for name, value in values:
            binding.bind_ortvalue_input(name, value)
        for output in bound.get_outputs():
            where = (kind, device) if _is_plain(output.type) else ("cpu", 0)
            binding.bind_output(output.name, *where)
        return binding

    return bind


def inference(
    session: ort.InferenceSession, binding: ort.IOBinding, provider: str
) -> Callable[[], None]:
    """A function that executes one inference and waits for the device at its end.

    On the CPU it is the runtime's own function, as the native worker calls it. What the Python
    method around it does is for providers that capture graphs, and took 3 to 9 us of each call of
    0.6 to 1.4 ms: between two inferences nothing of it stays in a cache.
    """
    inner = getattr(session, "_sess", None)
    bound = getattr(binding, "_iobinding", None)
    if provider != CPU or inner is None or bound is None:
        return lambda: session.run_with_iobinding(binding)
    return partial(inner.run_with_iobinding, bound, None)


def outputs_of(
    session: ort.InferenceSession, binding: ort.IOBinding, names: Sequence[str]
) -> tuple[Array, ...]:
    """The latest values of the outputs ``names``; those of bfloat16 are float32."""
    values = {
        output.name: value
        for output, value in zip(session.get_outputs(), binding.get_outputs(), strict=True)
    }
    return tuple(_array(values[name]) for name in names)


def _array(value: ort.OrtValue) -> Array:
    import numpy as np

    if value.data_type() != BFLOAT16:
        array: Array = value.numpy()
        return array
    raw = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return from_bfloat16(np.frombuffer(raw, dtype=np.uint16).reshape(value.shape()))


def _is_plain(kind: str) -> bool:
    """Whether a type is a tensor that can stay in the memory of a device until it is read."""
    return kind.startswith("tensor(") and kind not in ("tensor(string)", BFLOAT16)
