"""Counts are found again for the same network and code, and for nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from latbench.audit import count_cache, model_counts
from latbench.audit.count_cache import CountCache
from latbench.audit.model_counts import PROGRAM, CountingProgram
from latbench.worker import messages

FOUND = messages.ModelCounted(trained=3, deployed=2, macs=1, growth=None)
NAMED = messages.CountModel(model="mobilevig_ti", resolution=192)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LATBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def found(request: messages.CountModel = NAMED) -> messages.ModelCounted | None:
    return CountCache(PROGRAM).find(request, messages.ModelCounted)


def test_a_second_count_starts_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    CountCache(PROGRAM).keep(NAMED, FOUND)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the counting program was started")

    monkeypatch.setattr(model_counts.WorkerClient, "with_module", refuse)
    with CountingProgram() as program:
        assert program.ask(NAMED, messages.ModelCounted) == FOUND
        with pytest.raises(AssertionError, match="was started"):
            program.ask(messages.CountModel(model="mobilevig_s"), messages.ModelCounted)


def test_another_size_network_or_code_is_another_count(monkeypatch: pytest.MonkeyPatch) -> None:
    CountCache(PROGRAM).keep(NAMED, FOUND)
    assert found() == FOUND
    assert found(messages.CountModel(model="mobilevig_ti", resolution=224)) is None
    assert found(messages.CountModel(model="mobilevig_s", resolution=192)) is None
    monkeypatch.setattr(count_cache, "exporter_sources", lambda _: {"edited": b""})
    assert found() is None
    monkeypatch.undo()
    monkeypatch.setattr(count_cache, "version", lambda _: "0.0")
    assert found() is None


def test_a_users_model_is_not_kept(tmp_path: Path, own_cache: Path) -> None:
    (tmp_path / "net.py").write_text("def make(): ...\n")
    request = messages.CountModel(model=f"{tmp_path / 'net.py'}:make")
    CountCache(PROGRAM).keep(request, FOUND)
    assert found(request) is None
    assert not own_cache.exists()


def test_a_damaged_or_unwritable_cache_only_costs_time(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CountCache(PROGRAM).keep(NAMED, FOUND)
    (file,) = (own_cache / "counts").iterdir()
    file.write_text('{"trained"')
    assert found() is None
    monkeypatch.setenv("LATBENCH_CACHE", "/dev/null/cache")
    CountCache(PROGRAM).keep(NAMED, FOUND)
    assert found() is None
