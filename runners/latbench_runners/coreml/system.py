"""What macOS says about itself. Each reading is ``None`` if it cannot be had."""

from __future__ import annotations

import ctypes
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

THERMAL_STATES = ("nominal", "fair", "serious", "critical")
"""Names of ``NSProcessInfoThermalState`` values, from 0."""
RUNTIME = "/usr/lib/libobjc.A.dylib"
FOUNDATION = "/System/Library/Frameworks/Foundation.framework/Foundation"
TOOL_TIMEOUT_S = 5.0


def runtime_version() -> str:
    """Versions of macOS and coremltools."""
    try:
        return f"macOS {platform.mac_ver()[0]}, coremltools {version('coremltools')}"
    except PackageNotFoundError:
        return f"macOS {platform.mac_ver()[0]}"


def build() -> str | None:
    """The build of macOS, such as ``24F74``."""
    try:
        done = subprocess.run(
            ("sw_vers", "-buildVersion"),
            capture_output=True,
            text=True,
            timeout=TOOL_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def thermal_state() -> str | None:
    """``NSProcessInfo.thermalState``, asked through the Objective-C runtime.

    ``pmset -g therm`` tells nothing on Apple silicon, and pyobjc is a large package for one number.
    """
    try:
        runtime = ctypes.CDLL(RUNTIME)
        ctypes.CDLL(FOUNDATION)
        named = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p)
        class_of = named(("objc_getClass", runtime))
        selector = named(("sel_registerName", runtime))
        # objc_msgSend has the type of the method that it calls.
        object_of = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)(
            ("objc_msgSend", runtime)
        )
        number_of = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)(
            ("objc_msgSend", runtime)
        )
    except (OSError, AttributeError):
        return None
    process = object_of(class_of(b"NSProcessInfo"), selector(b"processInfo"))
    state: int = number_of(process, selector(b"thermalState"))
    return THERMAL_STATES[state] if 0 <= state < len(THERMAL_STATES) else f"state {state}"
