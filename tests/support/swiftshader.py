"""A GPU in software: the Vulkan driver SwiftShader, of Debian's package chromium."""

from __future__ import annotations

from pathlib import Path

import pytest

FOLDER = Path("/usr/lib/chromium")
DRIVER = FOLDER / "vk_swiftshader_icd.json"


def swiftshader() -> dict[str, str]:
    """Variables with which a program finds it, and Vulkan's loader; skips where it is absent."""
    if not (DRIVER.exists() and (FOLDER / "libvulkan.so.1").exists()):
        pytest.skip(f"needs {DRIVER}: apt install chromium")
    return {"VK_ICD_FILENAMES": str(DRIVER), "LD_LIBRARY_PATH": str(FOLDER)}
