"""The part of the CUDA driver interface that timing inferences needs.

Uses ctypes on the driver's library: it exists wherever a GPU is usable, and TensorRT uses the same
context. Run as a program, it prints facts about the GPU, so that a crash of a broken driver does
not end latbench.
"""

from __future__ import annotations

import ctypes
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from latbench.api import Array, Stage, StageError

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
PROBE_S = 60.0
"""A sleeping GPU takes seconds to wake up."""
MAJOR, MINOR = 75, 76
"""Device attributes for the compute capability."""
OWN_STREAM = 1
"""Flag of a stream that does not wait for the default stream."""
THIS_THREAD = 1
"""Capture mode in which calls of other threads do not interfere."""
OUT_OF_MEMORY = 2
NS_PER_MS = 1e6


@dataclass(frozen=True, kw_only=True)
class GpuFacts:
    """The first GPU visible to CUDA."""

    name: str
    compute_capability: str
    cuda: str
    """Newest CUDA version that the driver supports."""
    bus: str
    """PCI bus address, which identifies it in the driver's other libraries."""


def ask_gpu() -> tuple[GpuFacts | None, str]:
    """The GPU, or the reason why there is none, from a subprocess."""
    try:
        load_driver()
    except OSError:
        return None, f"no NVIDIA driver ({LIBRARY}) found on this machine"
    try:
        done = subprocess.run(
            # -P: do not import modules from the working directory.
            [sys.executable, "-P", "-m", __name__],
            capture_output=True,
            text=True,
            timeout=PROBE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None, "the NVIDIA driver does not respond"
    if done.returncode:
        said = done.stderr.strip().splitlines()
        return None, f"the NVIDIA driver reports no GPU ({said[-1] if said else done.returncode})"
    try:
        return GpuFacts(**json.loads(done.stdout)), ""
    except (ValueError, TypeError):
        return None, "the response of the NVIDIA driver is invalid"


def load_driver() -> Any:
    """Load the driver's library. Raises :class:`OSError` if there is none."""
    return ctypes.CDLL(LIBRARY)


def wake(driver: Any) -> None:
    """Create the context that TensorRT uses. It stays alive for the process: TensorRT crashes if
    one of its objects outlives the context, and a propagating exception holds such objects."""
    device = _first(driver, "open")
    context = ctypes.c_void_p()
    call(driver, "open", "cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    call(driver, "open", "cuCtxSetCurrent", context)


@contextmanager
def open_gpu(driver: Any) -> Iterator[Gpu]:
    """The first GPU with its own stream; all resources are released at the end."""
    wake(driver)
    with ExitStack() as exits:
        stream, flags = ctypes.c_void_p(), ctypes.c_uint(OWN_STREAM)
        call(driver, "open", "cuStreamCreate", ctypes.byref(stream), flags)
        exits.callback(driver.cuStreamDestroy_v2, stream)
        yield Gpu(driver, stream, read_facts(driver), exits)


class Gpu:
    """Memory, events and graphs of one GPU, on one stream.

    ``stage`` is the stage that errors of the driver are reported under.
    """

    def __init__(
        self, driver: Any, stream: ctypes.c_void_p, facts: GpuFacts, exits: ExitStack
    ) -> None:
        self._driver = driver
        self._stream = stream
        self._exits = exits
        self.facts = facts
        self.stage: Stage = "open"

    @property
    def stream(self) -> int:
        """Handle of the stream, as TensorRT takes it."""
        return self._stream.value or 0

    def device_memory(self, size_bytes: int) -> int:
        """Allocate ``size_bytes`` bytes on the GPU; return the address."""
        pointer = ctypes.c_uint64()
        size = ctypes.c_size_t(max(size_bytes, 1))
        self._call("cuMemAlloc_v2", ctypes.byref(pointer), size)
        self._exits.callback(self._driver.cuMemFree_v2, ctypes.c_uint64(pointer.value))
        return pointer.value

    def host_array(self, shape: tuple[int, ...], dtype: str) -> Array:
        """An array in pinned memory, which the GPU can copy from and to directly."""
        import numpy as np

        pointer = ctypes.c_void_p()
        size = ctypes.c_size_t(max(math.prod(shape) * np.dtype(dtype).itemsize, 1))
        self._call("cuMemHostAlloc", ctypes.byref(pointer), size, ctypes.c_uint(0))
        self._exits.callback(self._driver.cuMemFreeHost, ctypes.c_void_p(pointer.value))
        assert pointer.value is not None
        raw = (ctypes.c_char * size.value).from_address(pointer.value)
        return np.ndarray(shape, dtype, buffer=memoryview(raw).cast("B"))

    def copy_in(self, address: int, source: Array) -> None:
        """Start copying from a pinned array to the GPU."""
        data, size = ctypes.c_void_p(source.ctypes.data), ctypes.c_size_t(source.nbytes)
        self._call("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(address), data, size, self._stream)

    def copy_out(self, target: Array, address: int) -> None:
        """Start copying from the GPU to a pinned array."""
        data, size = ctypes.c_void_p(target.ctypes.data), ctypes.c_size_t(target.nbytes)
        self._call("cuMemcpyDtoHAsync_v2", data, ctypes.c_uint64(address), size, self._stream)

    def synchronize(self) -> None:
        """Wait until the stream is empty. Faults on the GPU are raised here."""
        self._call("cuStreamSynchronize", self._stream)

    def event(self) -> ctypes.c_void_p:
        """An event that can be recorded repeatedly."""
        event = ctypes.c_void_p()
        self._call("cuEventCreate", ctypes.byref(event), ctypes.c_uint(0))
        self._exits.callback(self._driver.cuEventDestroy_v2, event)
        return event

    def record(self, event: ctypes.c_void_p) -> None:
        """Enqueue ``event`` on the stream."""
        self._call("cuEventRecord", event, self._stream)

    def between_ns(self, start: ctypes.c_void_p, end: ctypes.c_void_p) -> int:
        """Nanoseconds between two completed events. The resolution is about 0.5 us."""
        elapsed_ms = ctypes.c_float()
        self._call("cuEventElapsedTime", ctypes.byref(elapsed_ms), start, end)
        return round(elapsed_ms.value * NS_PER_MS)

    def capture(self, enqueue: Callable[[], None]) -> Callable[[], None]:
        """Capture what ``enqueue`` puts on the stream as a graph; return a function to launch
        it."""
        graph, ready = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuStreamBeginCapture_v2", self._stream, ctypes.c_int(THIS_THREAD))
        try:
            enqueue()
        finally:
            # Also after an error: a stream in capture mode allows nothing else.
            code = self._driver.cuStreamEndCapture(self._stream, ctypes.byref(graph))
        if code:
            raise _fault(self._driver, self.stage, "cuStreamEndCapture", code)
        self._exits.callback(self._driver.cuGraphDestroy, graph)
        flags = ctypes.c_uint64(0)
        self._call("cuGraphInstantiateWithFlags", ctypes.byref(ready), graph, flags)
        self._exits.callback(self._driver.cuGraphExecDestroy, ready)
        return lambda: self._call("cuGraphLaunch", ready, self._stream)

    def _call(self, function: str, *arguments: Any) -> None:
        call(self._driver, self.stage, function, *arguments)


def read_facts(driver: Any) -> GpuFacts:
    """Facts about the first GPU. Raises :class:`StageError`."""
    device = _first(driver, "probe")
    name, bus = ctypes.create_string_buffer(256), ctypes.create_string_buffer(32)
    newest = ctypes.c_int()
    call(driver, "probe", "cuDeviceGetName", name, ctypes.c_int(len(name)), device)
    call(driver, "probe", "cuDeviceGetPCIBusId", bus, ctypes.c_int(len(bus)), device)
    call(driver, "probe", "cuDriverGetVersion", ctypes.byref(newest))
    numbers = []
    for attribute in (MAJOR, MINOR):
        value, wanted = ctypes.c_int(), ctypes.c_int(attribute)
        call(driver, "probe", "cuDeviceGetAttribute", ctypes.byref(value), wanted, device)
        numbers.append(str(value.value))
    return GpuFacts(
        name=name.value.decode(errors="replace"),
        compute_capability=".".join(numbers),
        cuda=f"{newest.value // 1000}.{newest.value % 1000 // 10}",
        bus=bus.value.decode(errors="replace"),
    )


def call(driver: Any, stage: Stage, function: str, *arguments: Any) -> None:
    """Call a driver function. Raises :class:`StageError` with the driver's name for the error."""
    code = getattr(driver, function)(*arguments)
    if code:
        raise _fault(driver, stage, function, code)


def _first(driver: Any, stage: Stage) -> ctypes.c_int:
    device = ctypes.c_int()
    call(driver, stage, "cuInit", ctypes.c_uint(0))
    call(driver, stage, "cuDeviceGet", ctypes.byref(device), ctypes.c_int(0))
    return device


def _fault(driver: Any, stage: Stage, function: str, code: int) -> StageError:
    name = ctypes.c_char_p()
    driver.cuGetErrorName(ctypes.c_int(code), ctypes.byref(name))
    word = name.value.decode() if name.value else f"error {code}"
    return StageError(
        stage,
        f"the GPU failed: {word} from {function}",
        hint="use a smaller batch, or a GPU that nothing else uses"
        if code == OUT_OF_MEMORY
        else "check the GPU with `nvidia-smi` and the system log (Xid)",
        kind="out_of_memory" if code == OUT_OF_MEMORY else "error",
    )


if __name__ == "__main__":
    try:
        sys.stdout.write(json.dumps(asdict(read_facts(load_driver()))))
    except StageError as error:
        sys.exit(error.message)
