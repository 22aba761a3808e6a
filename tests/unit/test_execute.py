"""Executing a protocol with real workers on the fake backend: what is asked for, how often."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from builders import make_artifact
from latbench.api import ExportSpec, make_inputs
from latbench.core.protocols import FIXED, calls_that_fit
from latbench.core.records import Outcome
from latbench.measure.execute import Execution, Job
from latbench_exporters.fake import exporter
from tiny import TinyModel

MS = 1_000_000
SMALL = msgspec.structs.replace(FIXED, processes=2, warmup_calls=4, blocks=3, block_calls=5)


def execute(
    folder: Path, latency_ns: int, **changes: object
) -> tuple[Outcome, list[tuple[int, int]]]:
    path = folder / "model.fake.json"
    exported = exporter().export(TinyModel(), ExportSpec(), path)
    path.write_text(f'{{"latency_ns": {latency_ns}, "outputs": [1, 1000]}}')
    np.savez(folder / "reference.npz", *make_inputs(exported.outputs, 0))
    progress: list[tuple[int, int]] = []
    job = Job(
        backend="fake",
        artifact=make_artifact(path, exported, "fake"),
        path=path,
        reference=folder / "reference.npz",
        threads=1,
        seed=0,
        extra={"warmup": "0", "noise": "0", "between": "0"},
        protocol=msgspec.structs.replace(SMALL, **changes),
        deadline_s=60,
    )
    return Execution(job, lambda done, total: progress.append((done, total))).run(), progress


def test_all_that_is_asked_for_and_nothing_more(tmp_path: Path) -> None:
    outcome, progress = execute(tmp_path, 3 * MS)
    assert outcome.status == "measured"
    assert [trace.process for trace in outcome.traces] == [0, 1]
    for trace in outcome.traces:
        assert trace.first_ns == 3 * MS
        assert trace.warmup_ns == (3 * MS,) * 4
        assert [block.sample_ns for block in trace.blocks] == [(3 * MS,) * 5] * 3
        assert trace.peak_rss_bytes is None or trace.peak_rss_bytes > 10**6
    assert progress == [(i, 6) for i in range(1, 7)]
    assert [check.max_rel_error for check in outcome.checks] == [0, 0]


def test_a_slow_model_gets_fewer_calls_not_an_hour(tmp_path: Path) -> None:
    outcome, _ = execute(tmp_path, 100 * MS, process_budget_ns=1000 * MS)
    for trace in outcome.traces:
        assert len(trace.warmup_ns) == 2  # a quarter of the budget
        assert [len(block.sample_ns) for block in trace.blocks] == [5, 3]


def test_a_very_slow_model_still_gets_one_sample(tmp_path: Path) -> None:
    outcome, _ = execute(tmp_path, 5000 * MS, process_budget_ns=1000 * MS)
    for trace in outcome.traces:
        assert len(trace.warmup_ns) == 1
        assert [len(block.sample_ns) for block in trace.blocks] == [1]


def test_another_reference_is_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "other"
    path.mkdir()
    outcome, _ = execute(path, MS)
    assert outcome.status == "measured"
    np.savez(path / "reference.npz", np.zeros((1, 999), np.float32))
    job_path = path / "model.fake.json"
    exported = exporter().export(TinyModel(), ExportSpec(), job_path)
    job = Job(
        backend="fake",
        artifact=make_artifact(job_path, exported, "fake"),
        path=job_path,
        reference=path / "reference.npz",
        threads=1,
        seed=0,
        extra={},
        protocol=SMALL,
        deadline_s=60,
    )
    outcome = Execution(job, lambda done, total: None).run()
    assert outcome.status == "failed"
    assert outcome.failure is not None
    assert (outcome.failure.stage, outcome.failure.kind) == ("outputs", "mismatch")
    assert len(outcome.traces[0].blocks) == 3
    assert outcome.checks[0].max_rel_error is None


@pytest.mark.parametrize(
    ("calls", "call_ns", "left_ns", "fit"),
    [
        (20, 10, 1000, 20),
        (20, 100, 1000, 10),
        (20, 5000, 1000, 1),
        (20, 0, 1000, 20),
        (5, 1, -3, 1),
    ],
)
def test_calls_that_fit(calls: int, call_ns: int, left_ns: int, fit: int) -> None:
    assert calls_that_fit(calls, call_ns, left_ns) == fit
