"""A Mac for coremltools, in the process of a test. See :mod:`support.mac`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest

from support.mac.facts import FACTS, FOLDER, MAC, MACOS, Mac, seen, tools

BINDINGS = {
    "model": ("_MLModelProxy", "_MLModelAssetProxy"),
    "_compiled_model": ("_MLModelProxy",),
    "compute_plan": ("_MLModelProxy", "_MLComputePlanProxy"),
    "compute_device": (
        "_MLModelProxy",
        "_MLCPUComputeDeviceProxy",
        "_MLGPUComputeDeviceProxy",
        "_MLNeuralEngineComputeDeviceProxy",
    ),
}
"""Module of ``coremltools.models`` -> what it imports from the bindings."""


@contextmanager
def on_a_mac(folder: Path, macos: str = MACOS) -> Iterator[Mac]:
    """The bindings and the facts of a Mac in this process."""
    pytest.importorskip("coremltools", reason="needs the `coreml` extra")
    utils = import_module("coremltools.models.utils")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "PATH", f"{tools(folder / 'mac-tools', macos)}{os.pathsep}{os.environ['PATH']}"
        )
        bindings = import_module("support.mac.libcoremlpython")
        patch.setitem(sys.modules, "coremltools.libcoremlpython", bindings)
        patch.setattr(sys.modules["coremltools"], "__path__", _path())
        for module, names in BINDINGS.items():
            for name in names:
                found = import_module(f"coremltools.models.{module}")
                patch.setattr(found, name, getattr(bindings, name))
        for module, names in FACTS.items():
            for name in names:
                patch.setattr(import_module(module), name, seen(name))
        patch.setattr(MAC, "macos", macos)
        patch.setattr(MAC, "fails", {})
        utils._macos_version.cache_clear()
        try:
            yield MAC
        finally:
            utils._macos_version.cache_clear()


def _path() -> list[str]:
    return [*sys.modules["coremltools"].__path__, str(FOLDER)]
