"""GPU state from the driver's management library (NVML), if it is present."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

LIBRARY = "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"
SM_CLOCK, MEMORY_CLOCK = 1, 2


def load_nvml() -> Any | None:
    """Load the library; ``None`` if there is none (as on a Jetson)."""
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError:
        return None


def read_clocks(nvml: Any | None, bus: str) -> dict[str, str]:
    """Driver version, current and maximum clocks in MHz, and the power limit in mW."""
    if nvml is None or nvml.nvmlInit_v2():
        return {}
    try:
        return _read(nvml, bus)
    finally:
        nvml.nvmlShutdown()


def _read(nvml: Any, bus: str) -> dict[str, str]:
    found: dict[str, str] = {}
    driver = ctypes.create_string_buffer(96)
    if not nvml.nvmlSystemGetDriverVersion(driver, ctypes.c_uint(len(driver))):
        found["nvidia_driver"] = driver.value.decode(errors="replace")
    handle = ctypes.c_void_p()
    if nvml.nvmlDeviceGetHandleByPciBusId_v2(ctypes.c_char_p(bus.encode()), ctypes.byref(handle)):
        return found
    numbers = {
        "sm_clock_at_open_mhz": ("nvmlDeviceGetClockInfo", SM_CLOCK),
        "memory_clock_at_open_mhz": ("nvmlDeviceGetClockInfo", MEMORY_CLOCK),
        "sm_clock_max_mhz": ("nvmlDeviceGetMaxClockInfo", SM_CLOCK),
        "power_limit_mw": ("nvmlDeviceGetEnforcedPowerLimit", None),
    }
    for name, (function, kind) in numbers.items():
        value = ctypes.c_uint()
        which = () if kind is None else (ctypes.c_int(kind),)
        if not getattr(nvml, function)(handle, *which, ctypes.byref(value)):
            found[name] = str(value.value)
    return found
