"""Fixtures of remote devices; a test that cannot have one is skipped with the reason."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from support.hosts import adbd, arm_root
from support.hosts.bed import Bed, why_unavailable
from support.hosts.host import Host
from support.hosts.spec import BACK, LAB


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Mark tests that start a device as slow."""
    for item in items:
        if "ssh_bed" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def ssh_bed() -> Iterator[Bed]:
    """The network of this test process, to make devices of a test's own."""
    reason = why_unavailable()
    if reason is not None:
        pytest.skip(reason)
    bed = Bed()
    yield bed
    bed.close()


@pytest.fixture
def board(ssh_bed: Bed) -> Iterator[Host]:
    """A plain Debian board: x86-64, Python 3, OpenSSH with SFTP, all CPUs."""
    with ssh_bed.started(name="board") as host:
        yield host


@pytest.fixture
def slow(ssh_bed: Bed) -> Iterator[Host]:
    """A board with half a CPU, by a quota that it can read."""
    with ssh_bed.started(name="slow", cpus=0.5) as host:
        yield host


@pytest.fixture
def bare(ssh_bed: Bed) -> Iterator[Host]:
    """A board without Python."""
    with ssh_bed.started(name="bare", python=False) as host:
        yield host


@pytest.fixture(scope="session")
def arm_files(ssh_bed: Bed) -> Path:
    """The root folder of an arm64 Debian; kept in the cache that LATBENCH_TEST_CACHE names."""
    reason = arm_root.why_unavailable()
    if reason is not None:
        pytest.skip(reason)
    # Beside the cache of artifacts, whose folder holds nothing else.
    return arm_root.arm_root(Path(f"{os.environ['LATBENCH_CACHE']}-devices"))


@pytest.fixture
def arm(ssh_bed: Bed, arm_files: Path) -> Iterator[Host]:
    """An arm64 board with Python 3.11, whose programs run in QEMU."""
    files = {"/proc/cpuinfo": arm_root.CPUINFO}
    with ssh_bed.started(name="arm", root=arm_files, files=files) as host:
        yield host


@pytest.fixture
def gone(ssh_bed: Bed) -> Iterator[Host]:
    """An address where nothing answers, not even with an error."""
    with ssh_bed.silent("gone") as host:
        yield host


@pytest.fixture
def gate(ssh_bed: Bed) -> Iterator[Host]:
    """A board with a second network behind it."""
    with ssh_bed.started(name="gate", networks=(LAB, BACK)) as host:
        yield host


@pytest.fixture
def inner(ssh_bed: Bed, gate: Host) -> Iterator[Host]:
    """A board that is reachable only through ``gate``."""
    with ssh_bed.started(name="inner", networks=(BACK,), jump="gate") as host:
        yield host


@pytest.fixture(scope="session")
def adbd_files(ssh_bed: Bed) -> Path:
    """The unpacked adbd of Debian; kept in the cache that LATBENCH_TEST_CACHE names."""
    reason = adbd.why_unavailable()
    if reason is not None:
        pytest.skip(reason)
    try:
        return adbd.unpacked(Path(f"{os.environ['LATBENCH_CACHE']}-devices"))
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"adbd cannot be fetched: {error}")


@pytest.fixture
def adb_port(adbd_files: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of an adb server for this test alone, which latbench uses too."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    monkeypatch.setenv("LATBENCH_ADB_PORT", str(port))
    yield port
    subprocess.run(["adb", "-P", str(port), "kill-server"], capture_output=True, check=False)
    Path(tempfile.gettempdir(), f"latbench-adb-{os.getuid()}-{port}.lock").unlink(missing_ok=True)


@pytest.fixture
def phone(ssh_bed: Bed, adbd_files: Path, adb_port: int) -> Iterator[Host]:
    """A real adbd on x86-64 Debian, not Android: no Python, and no program of Android's."""
    with ssh_bed.started(name="pixel", adbd=adbd_files) as host:
        yield host
