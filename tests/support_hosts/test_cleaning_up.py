"""Nothing stays of a test run, however it ended."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from support.environment import child_environment
from support.hosts import Bed, until
from support.hosts.bed import PREFIX, remove_leftovers
from support.hosts.control_group import stale
from support.hosts.processes import namespace

CHILD = """
import sys
from support.hosts import Bed, HostSpec
bed = Bed()
host = bed.host(HostSpec(name="left", cpus=0.5, cpu=0))
host.start()
host.compete(True)
assert host.ssh("sleep 1000 > /dev/null 2>&1 & true").returncode == 0
print(host._init, bed.network.uplink, bed.folder, flush=True)
sys.stdin.read()
"""


def leftovers(pid: int) -> list[Path]:
    prefix = f"{PREFIX}{pid}-"
    return [*Path(tempfile.gettempdir()).glob(f"{prefix}*"), *stale(prefix)]


def test_a_killed_run_leaves_nothing_behind(ssh_bed: Bed) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(),
    )
    init, uplink, folder = run.stdout.readline().split()
    inside = namespace(init, "pid")
    assert inside is not None
    assert Path("/sys/class/net", uplink).exists()
    assert uplink != ssh_bed.network.uplink
    remove_leftovers()  # of others, while it runs
    assert Path(folder).exists()
    run.kill()
    run.communicate()
    until(
        lambda: all(namespace(each.name, "pid") != inside for each in Path("/proc").glob("[0-9]*"))
    )
    until(lambda: not Path("/sys/class/net", uplink).exists())
    assert Path(folder) in leftovers(run.pid)
    until(lambda: remove_leftovers() or leftovers(run.pid) == [])


def test_a_device_that_does_not_start_says_why_and_leaves_nothing(ssh_bed: Bed) -> None:
    files = {"/proc/does-not-exist": ""}
    before = leftovers(os.getpid())
    with (
        pytest.raises(RuntimeError, match=r"broken did not start: .*does-not-exist"),
        ssh_bed.started(name="broken", files=files),
    ):
        pass
    after = [each for each in leftovers(os.getpid()) if each not in before]
    assert after == []
