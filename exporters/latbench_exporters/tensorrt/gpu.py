"""The NVIDIA GPU during export: detection, description and memory.

Uses ctypes on the driver's library, which exists wherever a GPU is usable. Run as a program, it
prints a description of the GPU, so that a crash of a broken driver does not end latbench.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from latbench.api import Array, StageError

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
PROBE_S = 60.0
"""A sleeping GPU takes seconds to wake up."""
MAJOR, MINOR = 75, 76
"""Device attributes for the compute capability."""
OUT_OF_MEMORY = 2


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """The first GPU visible to CUDA."""

    name: str
    compute_capability: str


def find_gpu() -> Gpu | None:
    """The GPU, detected in a subprocess; ``None`` if no driver responds."""
    try:
        load_driver()
    except OSError:
        return None
    try:
        done = subprocess.run(
            # -P: do not import modules from the working directory.
            [sys.executable, "-P", "-m", __name__],
            capture_output=True,
            text=True,
            timeout=PROBE_S,
            check=False,
        )
        return Gpu(**json.loads(done.stdout)) if done.returncode == 0 else None
    except (OSError, ValueError, TypeError, subprocess.TimeoutExpired):
        return None


def load_driver() -> Any:
    """Load the driver's library. Raises :class:`OSError` if there is none."""
    return ctypes.CDLL(LIBRARY)


class Memory:
    """Buffers on the GPU, in the context that TensorRT uses."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._addresses: list[int] = []

    def put(self, array: Array) -> int:
        """Copy ``array`` to the GPU; return the address."""
        import numpy as np

        plain = np.ascontiguousarray(array)
        address = self.reserve(plain.nbytes)
        size = ctypes.c_size_t(plain.nbytes)
        source = ctypes.c_void_p(plain.ctypes.data)
        self._call("cuMemcpyHtoD_v2", ctypes.c_uint64(address), source, size)
        return address

    def reserve(self, size_bytes: int) -> int:
        """Allocate ``size_bytes`` bytes; return the address."""
        pointer = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(max(size_bytes, 1)))
        self._addresses.append(pointer.value)
        return pointer.value

    def get(self, address: int, into: Array) -> None:
        """Copy from ``address`` to ``into``, after pending work has finished."""
        target, size = ctypes.c_void_p(into.ctypes.data), ctypes.c_size_t(into.nbytes)
        self._call("cuMemcpyDtoH_v2", target, ctypes.c_uint64(address), size)

    def free(self) -> None:
        """Free all buffers. Errors are ignored: after a fault they add no information."""
        for address in self._addresses:
            self._driver.cuMemFree_v2(ctypes.c_uint64(address))

    def _call(self, function: str, *arguments: Any) -> None:
        _call(self._driver, function, *arguments)


@contextmanager
def memory(driver: Any) -> Iterator[Memory]:
    """Memory on the first GPU, freed at the end. The context stays alive for the process, since
    objects of TensorRT may outlive this block."""
    device = _first(driver)
    context = ctypes.c_void_p()
    _call(driver, "cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    held = Memory(driver)
    try:
        _call(driver, "cuCtxSetCurrent", context)
        yield held
    finally:
        held.free()


def describe(driver: Any) -> Gpu:
    """Describe the first GPU. Raises :class:`StageError`."""
    device, name = _first(driver), ctypes.create_string_buffer(256)
    _call(driver, "cuDeviceGetName", name, ctypes.c_int(len(name)), device)
    numbers = []
    for attribute in (MAJOR, MINOR):
        value = ctypes.c_int()
        _call(driver, "cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(attribute), device)
        numbers.append(str(value.value))
    return Gpu(name=name.value.decode(errors="replace"), compute_capability=".".join(numbers))


def _first(driver: Any) -> ctypes.c_int:
    device = ctypes.c_int()
    _call(driver, "cuInit", ctypes.c_uint(0))
    _call(driver, "cuDeviceGet", ctypes.byref(device), ctypes.c_int(0))
    return device


def _call(driver: Any, function: str, *arguments: Any) -> None:
    code = getattr(driver, function)(*arguments)
    if code:
        raise StageError(
            "export",
            f"{function} of the NVIDIA driver failed with error {code}",
            hint="check the GPU and its free memory with `nvidia-smi`",
            kind="out_of_memory" if code == OUT_OF_MEMORY else "error",
        )


if __name__ == "__main__":
    found = describe(load_driver())
    sys.stdout.write(
        json.dumps({"name": found.name, "compute_capability": found.compute_capability})
    )
