"""Fixtures of remote devices; a test that cannot have one is skipped with the reason."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from support.hosts import arm_root
from support.hosts.bed import Bed, why_unavailable
from support.hosts.host import Host
from support.hosts.spec import BACK, LAB


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Mark tests on the emulated device as slow."""
    for item in items:
        if "arm" in getattr(item, "fixturenames", ()):
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
