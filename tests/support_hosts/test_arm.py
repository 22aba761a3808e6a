"""The emulated device runs programs of its architecture, and only those."""

from __future__ import annotations

from pathlib import Path

from latbench.host import linux
from support.hosts import Bed, Host, until

MACHINE = "import os, platform, sys; print(*os.uname()[1::3], platform.libc_ver()[0], *sys.version_info[:2])"


def test_an_arm_board_is_one_for_its_programs(arm: Host) -> None:
    done = arm.ssh(f'python3 -c "{MACHINE}"; uname -m; id -un; exit 7')
    assert done.stdout.split() == [*("arm", "aarch64", "glibc", "3", "11"), "aarch64", "bench"]
    assert done.returncode == 7
    assert linux.cpu_model(arm.path("/")) == "ARM implementer 0x41 part 0xd08"
    for program in ("/bin/sh", "/usr/bin/env", "/usr/bin/python3"):
        header = arm.ssh(f"head -c 20 {program} | od -An -tx1 -j18 -N1").stdout
        assert header.strip() == "b7", program  # EM_AARCH64


def test_the_emulator_is_no_part_of_this_machine(arm: Host) -> None:
    table = Path("/proc/sys/fs/binfmt_misc")
    assert not (table / "aarch64").exists()
    assert "aarch64" in arm.ssh(f"ls {table}").stdout


def test_an_arm_board_loses_power_like_others(arm: Host) -> None:
    arm.ssh("sleep 1000 > /dev/null 2>&1 & touch kept")
    until(lambda: len(arm.processes("sleep 1000")) == 1)
    arm.stop()
    assert arm.processes() == ()
    arm.start()
    until(lambda: arm.connections() == 0)
    assert arm.processes() == ()
    assert arm.ssh("ls").stdout == "kept\n"


def test_root_can_log_in_to_an_arm_board(ssh_bed: Bed, arm: Host) -> None:
    assert arm.spec.root is not None
    with ssh_bed.started(name="rooted", user="root", root=arm.spec.root) as host:
        assert host.ssh("id -u").stdout == "0\n"
