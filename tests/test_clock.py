"""The loop that is timed."""

from __future__ import annotations

import gc
import time

import pytest

from latbench.clock import time_calls


def test_one_time_for_each_call_in_order() -> None:
    pauses = iter([0.03, 0.0, 0.03, 0.0])
    elapsed = time_calls(lambda: time.sleep(next(pauses)), 4)
    assert len(elapsed) == 4
    assert all(isinstance(ns, int) and ns > 0 for ns in elapsed)
    assert min(elapsed[0], elapsed[2]) >= 30_000_000 > max(elapsed[1], elapsed[3])


def test_no_collection_while_timing() -> None:
    assert gc.isenabled()
    seen = []
    time_calls(lambda: seen.append(gc.isenabled()), 3)
    assert seen == [False] * 3
    assert gc.isenabled()


def test_collection_comes_back_after_an_error() -> None:
    def fail() -> None:
        raise ValueError

    with pytest.raises(ValueError):
        time_calls(fail, 1)
    assert gc.isenabled()
