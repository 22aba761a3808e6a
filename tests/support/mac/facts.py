"""What a Mac says about itself, to coremltools and to the modules that look for Core ML."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from support.environment import python_path

FOLDER = Path(__file__).parent
MACOS = "15.5"
VARIABLE = "LATBENCH_STAND_IN_MACOS"
FACTS = {
    "coremltools.models.utils": ("_sys",),
    "latbench_runners.coreml.runner": ("sys", "platform"),
    "latbench_runners.coreml.system": ("platform",),
    "latbench_exporters.coreml.native": ("sys",),
}
"""Module -> the names under which it asks for the system."""


class Seen:
    """A module of which some members are replaced."""

    def __init__(self, module: ModuleType, **members: Any) -> None:
        self._module = module
        self.__dict__.update(members)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def seen(name: str) -> Seen:
    """``sys`` or ``platform`` as on a Mac."""
    if name.strip("_") == "sys":
        return Seen(sys, platform="darwin")
    return Seen(
        platform,
        # In records, as the version of macOS: no Mac says this.
        mac_ver=lambda: (f"{MAC.macos} (stand-in)", ("", "", ""), "arm64"),
        machine=lambda: "arm64",
        system=lambda: "Darwin",
    )


@dataclass
class Mac:
    """What the bindings do in this process. A test changes it, or a program's environment."""

    macos: str = MACOS
    fails: dict[str, str] = field(default_factory=dict)
    """Name of a function of the bindings -> the description of the NSError that it ends in."""

    def version(self) -> tuple[int, ...]:
        return tuple(map(int, self.macos.split(".")))


MAC = Mac(macos=os.environ.get(VARIABLE, MACOS))


def tools(folder: Path, macos: str = MACOS) -> Path:
    """A folder for PATH with ``sw_vers``, from which coremltools reads the version of macOS."""
    folder.mkdir(exist_ok=True)
    program = folder / "sw_vers"
    program.write_text(f'#!/bin/sh\n[ "$1" = -productVersion ] && echo {macos} || echo stand-in\n')
    program.chmod(0o755)
    return folder


def mac_environment(folder: Path, macos: str = MACOS) -> dict[str, str]:
    """Changes to the environment of a program that is to find the bindings."""
    path = os.pathsep.join([str(tools(folder / "mac-tools", macos)), os.environ.get("PATH", "")])
    return {"PYTHONPATH": python_path(FOLDER), "PATH": path, VARIABLE: macos}
