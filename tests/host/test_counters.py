"""Readings around a block: from kept trees, from this machine, and where they vanish."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.host.counters import Snapshot, between, snapshot
from latbench.schema.trace import Readings

LINUX = sys.platform == "linux"


def tree(root: Path, stat: str, waits: dict[str, str]) -> Path:
    (root / "proc/self/task").mkdir(parents=True, exist_ok=True)
    (root / "proc/stat").write_text(stat)
    for thread, text in waits.items():
        (root / "proc/self/task" / thread).mkdir(exist_ok=True)
        (root / "proc/self/task" / thread / "schedstat").write_text(text)
    return root


@pytest.mark.skipif(not LINUX, reason="reads /proc")
def test_what_happened_between_two_moments(tmp_path: Path) -> None:
    first = "cpu  100 0 50 1000 7 1 2 3 0 0\ncpu0 1 1 1 1\n"
    root = tree(tmp_path, first, {"1": "500 20 3", "2": "100 5 1"})
    before = snapshot(root)
    tree(tmp_path, "cpu  103 1 52 1009 9 1 2 5 0 0\n", {"1": "900 120 4", "2": "100 6 1"})
    after = snapshot(root)
    found = between(changed(before, cpu_ns=0), changed(after, cpu_ns=20_000_000), root)
    assert found.wait_ns == 101
    # 6 ticks of 10 ms busy, 20 ms of them the worker's own.
    assert found.others_ns == 40_000_000
    assert found.steal_ns == 20_000_000


def changed(state: Snapshot, **changes: int) -> Snapshot:
    values = {name: getattr(state, name) for name in Snapshot.__dataclass_fields__}
    return Snapshot(**{**values, **changes})


def test_what_vanishes_is_unknown(tmp_path: Path) -> None:
    whole, nothing = snapshot(), snapshot(tmp_path)
    for pair in ((whole, nothing), (nothing, whole), (nothing, nothing)):
        found = between(*pair, tmp_path)
        if LINUX:
            assert found.wait_ns is found.others_ns is found.steal_ns is None


@pytest.mark.skipif(not LINUX, reason="reads /proc")
def test_counters_that_shrink_are_unknown(tmp_path: Path) -> None:
    """A thread that ended took its waiting with it."""
    root = tree(tmp_path, "cpu  9 0 0 0 0 0 0 0 0 0\n", {"1": "1 90 1", "2": "1 90 1"})
    before = snapshot(root)
    (root / "proc/self/task/2/schedstat").unlink()
    assert between(before, snapshot(root), root).wait_ns is None


@pytest.mark.skipif(not LINUX, reason="reads /proc")
@given(st.binary(max_size=200))
def test_garbage_is_unknown(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "proc/self/task/7").mkdir(parents=True)
        (root / "proc/stat").write_bytes(content)
        (root / "proc/self/task/7/schedstat").write_bytes(content)
        found = between(snapshot(root), snapshot(root), root)
        assert msgspec.json.decode(msgspec.json.encode(found), type=Readings) == found


def test_on_this_machine_a_busy_loop_is_seen() -> None:
    before = snapshot()
    until = time.perf_counter() + 0.05
    while time.perf_counter() < until:
        pass
    found = between(before, snapshot())
    assert found.wall_ns >= 50_000_000
    assert found.cpu_ns is not None
    assert found.cpu_ns > 1_000_000


def test_a_pair_of_readings_is_quick() -> None:
    """Not a time that a machine must keep: a hundred times what it takes here."""
    begun = time.perf_counter()
    for _ in range(20):
        between(snapshot(), snapshot())
    assert time.perf_counter() - begun < 20 * 0.1
