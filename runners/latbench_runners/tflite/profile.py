"""Time by operator, from the profiler in LiteRT's compiled model.

The wheel contains the profiler in its shared library but not in its Python interface, so this uses
the C interface (``litert/c`` of google-ai-edge/LiteRT, 2.3). That interface is not versioned: the
calls and the layout of an event are valid for 2.3 only, and other versions are not profiled.
"""

from __future__ import annotations

import ctypes
import importlib.util
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from latbench.api import Array, OperatorTime, Profile, StageError
from latbench_runners.tflite.layers import Executed, Node, layers_of

KNOWN_VERSION = "2.3."
CPU = 1
"""Hardware accelerators."""
WRITE = 1
"""Modes of locking a buffer."""
EVENT_BYTES = 104
"""Tag, kind, start and length in microseconds, memory before and after (3 x 64 bits each), two
numbers and the source."""
PLACE_AT = 80
"""Bytes before the first of the two numbers."""
RUN, NODE, DELEGATED, WITHIN = 1, 2, 4, 8
"""Kinds of events: the whole inference is one of the first; the others are operators of the graph,
of a delegate, and of a delegate that replaces the operators."""
INVOKE = "Invoke"
ELEMENTS = {
    "float32": 1,
    "int32": 2,
    "uint8": 3,
    "int64": 4,
    "bool": 6,
    "int16": 7,
    "int8": 9,
    "float16": 10,
}
"""Numbers of element types in TFLite's C interface."""
RANK_LIMIT = 8


def profile_file(
    path: Path, inputs: Sequence[Array], outputs: Sequence[Array], threads: int, calls: int
) -> Profile | None:
    """Compile the file at ``path`` again, run it ``calls`` times, and return operator times.

    ``None`` with another version of the runtime. Raises :class:`StageError`.
    """
    if not version("ai-edge-litert").startswith(KNOWN_VERSION):
        return None
    if not all(array.dtype.name in ELEMENTS for array in (*inputs, *outputs)):
        return None
    with _Compiled.opened(path, threads) as compiled:
        events = compiled.profiled(inputs, outputs, calls)
    totals = [each.us for each in events if each.kind == RUN and each.tag == INVOKE]
    operators = [event for event in events if event.kind in (NODE, DELEGATED, WITHIN)]
    if len(totals) != calls or len(operators) % calls:
        return None
    each = len(operators) // calls
    rounds = [operators[i : i + each] for i in range(0, len(operators), each)]
    layers = _layers(path, rounds[0]) if rounds else []
    return Profile(
        source=f"LiteRT {version('ai-edge-litert')} profiler",
        calls=calls,
        total_ns=round(sum(totals) * 1000 / calls),
        operators=tuple(
            OperatorTime(
                name=layer or f"{i}",
                kind=rounds[0][i].tag,
                time_ns=round(sum(one[i].us for one in rounds) * 1000 / calls),
            )
            for i, layer in enumerate(layers)
        ),
    )


@dataclass(frozen=True, kw_only=True)
class _Event:
    """One event of the profiler."""

    tag: str
    kind: int
    us: int
    place: int
    """Of an operator of the graph: its place in the file."""


def _layers(path: Path, events: Sequence[_Event]) -> list[str | None]:
    """The name of the layer of each operator, where it is certain."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = Interpreter(
        str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    nodes = []
    for node in plain._get_ops_details():
        # A node without outputs has index -1 or none.
        outputs = [index for index in node["outputs"] if index >= 0]
        name = plain._get_tensor_details(outputs[0], 0)["name"] if outputs else ""
        nodes.append(Node(operator=node["op_name"], layer=name))
    return layers_of(
        nodes,
        [Executed(tag=e.tag, node=e.place if e.kind == NODE else None) for e in events],
    )


class _Layout(ctypes.Structure):
    """Rank in the low 7 bits of the first word, then whether there are strides."""

    _fields_ = (
        ("head", ctypes.c_uint32),
        ("dimensions", ctypes.c_int32 * RANK_LIMIT),
        ("strides", ctypes.c_uint32 * RANK_LIMIT),
    )


class _TensorType(ctypes.Structure):
    """Element type and layout."""

    _fields_ = (("element", ctypes.c_int), ("layout", _Layout))


class _Compiled:
    """A compiled model with profiling enabled. Handles are freed in reverse order."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._free: list[tuple[str, ctypes.c_void_p]] = []
        self._kept: list[Any] = []
        self._environment = self._model = ctypes.c_void_p()

    @classmethod
    @contextmanager
    def opened(cls, path: Path, threads: int) -> Iterator[_Compiled]:
        spec = importlib.util.find_spec("ai_edge_litert")
        assert spec is not None
        assert spec.submodule_search_locations is not None
        folder = Path(next(iter(spec.submodule_search_locations)))
        names = ("libLiteRt.so", "libLiteRt.dylib", "libLiteRt.dll")
        found = next((folder / name for name in names if (folder / name).exists()), None)
        if found is None:
            raise StageError("time", "this ai-edge-litert has no libLiteRt, required to profile")
        compiled = cls(ctypes.CDLL(str(found)))
        try:
            compiled._compile(path, threads)
            yield compiled
        finally:
            compiled._close()

    def profiled(
        self, inputs: Sequence[Array], outputs: Sequence[Array], calls: int
    ) -> list[_Event]:
        """The events of ``calls`` inferences, in order."""
        given = [self._buffer("Input", i, array) for i, array in enumerate(inputs)]
        taken = [self._buffer("Output", i, array) for i, array in enumerate(outputs)]
        for buffer, array in zip(given, inputs, strict=True):
            self._fill(buffer, array)
        profiler = self._got("CompiledModelGetProfiler", self._model)
        for _ in range(3):
            self._run(given, taken)
        self._call("ResetProfiler", profiler)
        self._call("StartProfiler", profiler)
        for _ in range(calls):
            self._run(given, taken)
        self._call("StopProfiler", profiler)
        number = ctypes.c_int()
        self._call("GetNumProfilerEvents", profiler, ctypes.byref(number))
        events = (ctypes.c_uint8 * (number.value * EVENT_BYTES))()
        self._call("GetProfilerEvents", profiler, number, ctypes.byref(events))
        return [_event(bytes(events), at * EVENT_BYTES) for at in range(number.value)]

    def _compile(self, path: Path, threads: int) -> None:
        none = ctypes.c_void_p()
        self._environment = self._made("Environment", ctypes.c_int(0), none)
        model = self._made("Model", self._environment, str(path).encode(), create="ModelFromFile")
        options = self._made("Options")
        self._call("SetOptionsHardwareAccelerators", options, ctypes.c_int(CPU))
        for name, text in (
            ("runtime_options_string", "enable_profiling = true\n"),
            ("xnnpack", f"num_threads = {threads}\n"),
        ):
            self._opaque(options, name, text)
        self._model = self._made("CompiledModel", self._environment, model, options)

    def _opaque(self, options: ctypes.c_void_p, name: str, text: str) -> None:
        """Add options in text form. The library frees them by a callback, which is unused here."""
        payload = ctypes.create_string_buffer(text.encode())
        free = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: None)
        self._kept += [payload, free]
        made = self._got("CreateOpaqueOptions", name.encode(), payload, free)
        self._call("AddOpaqueOptions", options, made)

    def _buffer(self, side: str, index: int, array: Array) -> ctypes.c_void_p:
        first, place = ctypes.c_size_t(0), ctypes.c_size_t(index)
        needs = self._got(f"GetCompiledModel{side}BufferRequirements", self._model, first, place)
        layout = _Layout(head=array.ndim)
        layout.dimensions[: array.ndim] = array.shape
        kind = _TensorType(element=ELEMENTS[array.dtype.name], layout=layout)
        return self._made(
            "TensorBuffer",
            *(self._environment, ctypes.byref(kind), needs),
            create="ManagedTensorBufferFromRequirements",
        )

    def _fill(self, buffer: ctypes.c_void_p, array: Array) -> None:
        address = ctypes.c_void_p()
        self._call("LockTensorBuffer", buffer, ctypes.byref(address), ctypes.c_int(WRITE))
        ctypes.memmove(address, array.tobytes(), array.nbytes)
        self._call("UnlockTensorBuffer", buffer)

    def _run(self, given: Sequence[ctypes.c_void_p], taken: Sequence[ctypes.c_void_p]) -> None:
        self._call(
            "RunCompiledModel",
            *(self._model, ctypes.c_size_t(0)),
            *(ctypes.c_size_t(len(given)), _handles(given)),
            *(ctypes.c_size_t(len(taken)), _handles(taken)),
        )

    def _made(self, what: str, *arguments: Any, create: str | None = None) -> ctypes.c_void_p:
        """Create a handle that is destroyed at the end."""
        handle = self._got(f"Create{create or what}", *arguments)
        self._free.append((f"LiteRtDestroy{what}", handle))
        return handle

    def _got(self, function: str, *arguments: Any) -> ctypes.c_void_p:
        """A handle that the function returns through its last argument."""
        handle = ctypes.c_void_p()
        self._call(function, *arguments, ctypes.byref(handle))
        return handle

    def _call(self, function: str, *arguments: Any) -> None:
        status = getattr(self._library, f"LiteRt{function}")(*arguments)
        if status:
            raise StageError(
                "time", f"LiteRT's profiler: LiteRt{function} returned status {status}"
            )

    def _close(self) -> None:
        for destroy, handle in reversed(self._free):
            getattr(self._library, destroy)(handle)
        self._free.clear()


def _handles(buffers: Sequence[ctypes.c_void_p]) -> Any:
    return (ctypes.c_void_p * len(buffers))(*(buffer.value for buffer in buffers))


def _event(content: bytes, at: int) -> _Event:
    tag, kind, _, elapsed_us = struct.unpack_from("<QQQQ", content, at)
    (place,) = struct.unpack_from("<Q", content, at + PLACE_AT)
    return _Event(
        tag=ctypes.string_at(tag).decode(), kind=kind & 0xFFFFFFFF, us=elapsed_us, place=place
    )
