"""Phones of the test bed: a real adbd that can be cut off, and has the programs it is given."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from support.hosts import Bed, Host

pytestmark = pytest.mark.slow


def adb(port: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["adb", "-P", str(port), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_two_phones(ssh_bed: Bed, phone: Host, adbd_files: Path, adb_port: int) -> None:
    with ssh_bed.started(
        name="galaxy",
        adbd=adbd_files,
        files={"/system/bin/getprop": "#!/bin/sh\necho galaxy $1\n"},
    ) as other:
        subprocess.run(["adb", "-P", str(adb_port), "start-server"], check=True)
        for each in (phone, other):
            assert "connected to" in adb(adb_port, "connect", each.serial).stdout
        told = adb(adb_port, "-s", other.serial, "shell", "-T", "getprop ro.x; exit 7")
        assert (told.stdout, told.returncode) == ("galaxy ro.x\n", 7)
        told = adb(adb_port, "-s", phone.serial, "shell", "-T", "hostname; command -v python3")
        assert told.stdout == "pixel\n"
        assert (phone.processes(), other.processes()) == ((), ())
        # A phone keeps /data over a reboot, and has no other network than its own.
        adb(adb_port, "-s", other.serial, "shell", "-T", "echo kept > /data/local/tmp/file")
        other.reboot()
        assert other.path("/data/local/tmp/file").read_text() == "kept\n"
