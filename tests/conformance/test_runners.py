"""What every installed runner must do, first-party or not; those that cannot run here are named."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from latbench.api import ProfiledSession, RunOptions, Session, StageError, make_inputs
from latbench.bench.required_units import names_of
from latbench.plugins import (
    exporter_for,
    load_exporter,
    load_runner,
    runner_names,
    unit_names,
)
from latbench.worker import messages
from latbench.worker.client import WorkerClient

if TYPE_CHECKING:
    from support.artifacts import ExportedFile

HEAVY = {
    *(
        "torch",
        "onnx",
        "onnxruntime",
        "timm",
        "coremltools",
        "tensorrt",
        "tensorrt_rtx",
        "openvino",
    ),
    *("executorch", "ncnn", "pnnx", "torchao", "ai_edge_litert", "litert_torch", "jax", "numpy"),
}
RUNNERS = runner_names()


def able(name: str) -> str:
    """The format that the runner takes, or a skip that says why it cannot run here."""
    runner = load_runner(name)
    capability = runner.probe()
    if not capability.available:
        pytest.skip(f"{name} cannot run here: {capability.reason}")
    return exporter_for(runner).format


@pytest.mark.parametrize("name", RUNNERS)
def test_is_called_as_it_is_registered(name: str) -> None:
    runner = load_runner(name)
    assert runner.name == name
    assert runner.formats
    assert all(runner.options.values())


@pytest.mark.parametrize("name", RUNNERS)
def test_probing_tells_why_not(name: str) -> None:
    capability = load_runner(name).probe()
    if capability.available:
        assert capability.version
        assert capability.units
    else:
        assert capability.reason
        assert capability.hint


@pytest.mark.parametrize("name", RUNNERS)
def test_finding_the_runner_loads_nothing_heavy(name: str) -> None:
    (entry,) = entry_points(group="latbench.runners", name=name)
    code = (
        "import sys; from importlib.metadata import EntryPoint;"
        f"runner = EntryPoint({entry.name!r}, {entry.value!r}, {entry.group!r}).load()();"
        "runner.name, runner.formats, runner.options;"
        f"sys.exit(', '.join(sorted(set(sys.modules) & {HEAVY!r})) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.torch
@pytest.mark.parametrize("name", RUNNERS)
def test_a_session_keeps_its_promises(name: str, made: dict[str, ExportedFile]) -> None:
    file = made[able(name)]
    options = RunOptions(threads=1, seed=5)
    inputs = make_inputs(file.artifact.inputs, 5)
    with load_runner(name).open(file.artifact, file.path, inputs, options) as session:
        assert isinstance(session, Session)
        assert session.run() is None  # type: ignore[func-returns-value]
        first = session.outputs()
        session.run()
        second = session.outputs()
        for once, again, spec in zip(first, second, file.artifact.outputs, strict=True):
            assert once.shape == spec.shape
            assert once.dtype.name == spec.dtype
            np.testing.assert_array_equal(once, again)
        settings = session.settings()
        assert settings["threads"] in ("1", "unknown")
        assert all(isinstance(value, str) for value in settings.values())
        placement = session.placement()
        assert placement.units
        assert placement.known in ("proven", "planned", "unknown")
        # Every unit can be required by a name that the runner declares.
        declared = unit_names(load_runner(name))
        known = {each for unit in declared for each in names_of(unit, declared)}
        assert all(known & names_of(unit, declared) for unit in placement.units)


@pytest.mark.torch
@pytest.mark.parametrize("name", RUNNERS)
def test_outputs_are_those_of_the_file(name: str, made: dict[str, ExportedFile]) -> None:
    format = able(name)
    file = made[format]
    inputs = make_inputs(file.artifact.inputs, 9)
    options = RunOptions(threads=2, seed=9)
    with load_runner(name).open(file.artifact, file.path, inputs, options) as session:
        session.run()
        actual = session.outputs()
    expected = load_exporter(format).evaluate(file.path, make_inputs(file.artifact.inputs, 9))
    if expected is None:
        pytest.skip(f"nothing else here can execute {format}")
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.torch
@pytest.mark.parametrize("name", RUNNERS)
def test_times_blocks_in_a_worker(name: str, made: dict[str, ExportedFile]) -> None:
    file = made[able(name)]
    with WorkerClient.with_module("latbench.worker.inference") as worker:
        request = messages.Open(
            backend=name,
            artifact=file.artifact,
            path=str(file.path),
            threads=1,
            seed=0,
            process=0,
            extra={},
        )
        opened = worker.ask(request, messages.SessionOpened, stage="open", timeout_s=120)
        assert opened.load_ns > 0
        starts = []
        for calls in (1, 5, 3):
            timed = worker.ask(
                messages.Time(calls=calls), messages.BlockTimed, stage="time", timeout_s=120
            )
            assert len(timed.sample_ns) == calls
            assert all(ns > 0 for ns in timed.sample_ns)
            starts.append(timed.start_ns)
        assert starts == sorted(starts)
        given = worker.ask(messages.Outputs(), messages.OutputsGiven, stage="outputs", timeout_s=60)
        assert [t.shape for t in given.tensors] == [t.shape for t in file.artifact.outputs]
        worker.ask(messages.Close(), messages.Closed, stage="outputs", timeout_s=60)


@pytest.mark.torch
@pytest.mark.parametrize("name", RUNNERS)
def test_a_worker_loads_it_anew_and_keeps_to_a_rate(
    name: str, made: dict[str, ExportedFile]
) -> None:
    """What protocols ask for that reload the model, pin the process or leave gaps."""
    file = made[able(name)]
    pinned = hasattr(os, "sched_setaffinity")
    request = messages.Open(
        backend=name,
        artifact=file.artifact,
        path=str(file.path),
        threads=1,
        seed=0,
        process=0,
        extra={},
        pinned=pinned,
    )
    with WorkerClient.with_module("latbench.worker.inference") as worker:
        outputs = []
        for _ in range(3):
            worker.ask(request, messages.SessionOpened, stage="open", timeout_s=120)
            begun = time.perf_counter()
            rate = messages.Time(calls=4, period_ns=50_000_000)
            timed = worker.ask(rate, messages.BlockTimed, stage="time", timeout_s=120)
            assert time.perf_counter() - begun >= 3 * 0.05
            assert len(timed.sample_ns) == 4
            if pinned:
                assert len(os.sched_getaffinity(worker.hello.pid)) == 1
            given = worker.ask(
                messages.Outputs(), messages.OutputsGiven, stage="outputs", timeout_s=60
            )
            outputs.append([tensor.data for tensor in given.tensors])
        assert outputs[0] == outputs[1] == outputs[2]


def _cut_in_half(source: Path, target: Path) -> None:
    """Every file of it."""
    for part in [source, *source.rglob("*")]:
        cut = target / part.relative_to(source)
        if part.is_dir():
            cut.mkdir()
        else:
            cut.write_bytes(part.read_bytes()[: part.stat().st_size // 2])


@pytest.mark.torch
@pytest.mark.parametrize("name", RUNNERS)
def test_profiles_what_it_says_that_it_can(name: str, made: dict[str, ExportedFile]) -> None:
    file = made[able(name)]
    inputs = make_inputs(file.artifact.inputs, 0)
    with load_runner(name).open(file.artifact, file.path, inputs, RunOptions(threads=1)) as session:
        session.run()
        if not isinstance(session, ProfiledSession):
            pytest.skip(f"{name} does not tell times by operator")
        before = session.outputs()
        profile = session.profile(5)
        if profile is None:
            pytest.skip(f"{name} cannot tell times by operator in this version")
        assert profile.source
        assert profile.calls == 5
        assert profile.operators
        assert all(operator.time_ns >= 0 for operator in profile.operators)
        assert 0 < sum(operator.time_ns for operator in profile.operators) < 3 * profile.total_ns
        for once, again in zip(before, session.outputs(), strict=True):
            np.testing.assert_array_equal(once, again)


@pytest.mark.torch
@pytest.mark.parametrize("name", RUNNERS)
def test_a_damaged_file_does_not_open(
    name: str, made: dict[str, ExportedFile], tmp_path: Path
) -> None:
    file = made[able(name)]
    broken = tmp_path / file.path.name
    _cut_in_half(file.path, broken)
    inputs = make_inputs(file.artifact.inputs, 0)
    with (
        pytest.raises(StageError) as caught,
        load_runner(name).open(file.artifact, broken, inputs, RunOptions(threads=1)),
    ):
        pass
    assert caught.value.stage == "open"
    assert caught.value.message
