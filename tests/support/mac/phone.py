"""A Mac with a phone, as stand-ins: programs for PATH, and the folder that is the phone."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latbench.devices.connections import Connection, Installed, store_connection
from latbench.worker.apple import bundle_of, sources_sha256
from support.environment import python_path

TEAM = "ABCDE12345"
UDID = "00008110-001959E22178801E"
PROGRAM = Path(__file__).with_name("devicectl")
VARIABLE = "LATBENCH_STAND_IN_PHONE"


@dataclass(frozen=True)
class StandInPhone:
    """A phone and its Mac."""

    folder: Path
    tools: Path

    def environment(self) -> dict[str, str]:
        """What a program needs to find them."""
        return {
            "PATH": os.pathsep.join([str(self.tools), os.environ.get("PATH", "")]),
            VARIABLE: str(self.folder),
            "PYTHONPATH": python_path(),
        }

    def change(self, **changes: Any) -> None:
        """Change the state of the phone, or let something go wrong."""
        (self.folder / "phone.json").write_text(json.dumps({**self.state(), **changes}))

    def state(self) -> dict[str, Any]:
        """Its state."""
        found: dict[str, Any] = json.loads((self.folder / "phone.json").read_text())
        return found

    def documents(self) -> Path:
        """The data of the app."""
        return self.folder / "apps" / bundle_of(TEAM) / "data" / "Documents"

    def has_app(
        self, id: str = "my-iphone", *backends: str, same_as: str | None = None, mac: str = "local"
    ) -> None:
        """Add the phone to the user's devices, with the app installed and launched once."""
        self.documents().mkdir(parents=True, exist_ok=True)
        store_connection(
            Connection(
                id=id,
                address=f"apple://{mac}/{UDID}",
                same_as=same_as,
                installed=Installed(
                    worker="apple",
                    sha256=sources_sha256(),
                    latbench=sources_sha256(),
                    folder="/tmp/none",
                    backends=backends or ("coreml",),
                    variables={"bundle": bundle_of(TEAM), "team": TEAM},
                ),
            )
        )


def make_phone(folder: Path) -> StandInPhone:
    """A phone that is ready: paired, unlocked, in developer mode, without the app."""
    tools = folder / "xcode"
    tools.mkdir(parents=True)
    for name, words in (("xcrun", '"$@"'), ("xcodebuild", 'xcodebuild "$@"')):
        program = tools / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{PROGRAM}" {words}\n')
        program.chmod(0o755)
    phone = StandInPhone(folder / "phone", tools)
    phone.folder.mkdir()
    state = {
        "identifier": "26975EF1-D3E3-53AE-8AC5-D581B8AADC89",
        "udid": UDID,
        "name": "A phone",
        "product": "iPhone14,4",
        "marketing_name": "iPhone 13 mini",
        "pairing": "paired",
        "connection": "disconnected",
        "developer_mode": "enabled",
        "disk_image": True,
        "locked": False,
        "teams": [TEAM],
    }
    (phone.folder / "phone.json").write_text(json.dumps(state))
    return phone
