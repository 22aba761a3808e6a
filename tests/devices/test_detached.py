"""Runs that go on without their harness: whatever happens meanwhile, each becomes one record."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest

from latbench.analysis.summary import summarize
from latbench.bench.collect import cancel_job, collect_job
from latbench.bench.detach import detach_request
from latbench.bench.left_jobs import LeftJob, left_jobs
from latbench.bench.run import run_request
from latbench.devices.connections import known_connection, load_connections, save_connections
from latbench.devices.jobs import connect_to_jobs
from latbench.errors import StageError
from latbench.events import ignore
from latbench.schema.protocol import TimingProtocol
from latbench.schema.protocol_catalog import FIXED, WARM
from latbench.schema.record import Record
from latbench.schema.request import Request, make_request
from latbench.store.registry import Registry
from latbench.worker.job_folder import FoundJob
from support.command_line import Ended, in_process
from support.devices import add_with_checkout, use_home
from support.environment import child_environment
from support.hosts import Bed, Host, until
from support.hosts.spec import CHECKOUT
from support.onnx_files import stack

SHORT = msgspec.structs.replace(
    FIXED, processes=2, max_processes=2, warmup_calls=3, min_calls=40, block_calls=5
)
LONG = msgspec.structs.replace(SHORT, processes=20, max_processes=20)
"""Takes about half a minute: a worker of the fake backend sleeps for 20 ms in each call."""
pytestmark = pytest.mark.slow


def fake(**options: str) -> Request:
    return make_request(
        "mobilevig_ti",
        backend="fake",
        device="board",
        options={"real_time": "yes", **options},
        protocol=FIXED.label,
    )


def left(
    tmp_path: Path, protocol: TimingProtocol = LONG, limit_s: float | None = None, **options: str
) -> LeftJob:
    """A job on the device ``board``."""
    result = detach_request(
        fake(**options),
        protocol=protocol,
        registry=str(tmp_path / "registry.db"),
        limit_s=limit_s,
    )
    assert result.job is not None, result.record.outcome.failure
    return result.job


def collected(tmp_path: Path, job: LeftJob) -> Record:
    """Wait for the end of the job, and return its record as it is stored."""
    with Registry.open(str(tmp_path / "registry.db")) as store:
        result = collect_job(job, store, ignore, wait=True)
        assert result.state == "collected"
        assert left_jobs() == ()
        return store.get(job.id)


def latbench(*arguments: str) -> Ended:
    return in_process(list(arguments), dict(os.environ), Path.cwd())


def on_device(id: str = "board") -> tuple[FoundJob, ...]:
    jobs = connect_to_jobs(known_connection(id))
    try:
        return jobs.listed()
    finally:
        jobs.transport.close()


def until_measured(host: Host, job: LeftJob, answers: int = 60) -> None:
    """Wait for so many answers on the device."""
    path = f"{host.spec.home}/.cache/latbench/jobs/{job.id}/answers.jsonl"
    end = time.monotonic() + 60
    while host.path(path).read_bytes().count(b"\n") < answers:
        assert time.monotonic() < end
        time.sleep(0.05)


def nothing_runs(host: Host) -> None:
    end = time.monotonic() + 10
    while host.processes("latbench.worker"):
        assert time.monotonic() < end, host.processes("latbench.worker")
        time.sleep(0.05)


def test_what_a_device_did_alone_is_one_record(device: Host, tmp_path: Path) -> None:
    job = left(tmp_path, SHORT)
    (found,) = on_device()
    assert (found.id, found.about) == (job.id, job.about)
    record = collected(tmp_path, job)
    assert record.outcome.status == "measured"
    assert record.outcome.stopped == "complete"
    assert [trace.process for trace in record.outcome.traces] == [0, 1]
    for trace in record.outcome.traces:
        assert len(trace.warmup_ns) == 3
        assert [len(block.sample_ns) for block in trace.blocks] == [5] * 8
    assert [check.max_rel_error for check in record.outcome.checks] == [0, 0]
    assert record.device.id == "board"
    environment = record.environment
    assert environment.machine.hostname == "board"
    assert environment.after is not None
    assert environment.after.unix_ns > environment.before.unix_ns > record.created_unix_ns
    assert environment.detached
    assert environment.link is not None
    assert environment.link.address == "ssh://board"
    assert on_device() == ()
    nothing_runs(device)
    live = run_request(fake(), protocol=SHORT, registry=str(tmp_path / "registry.db"))
    assert live.record.outcome.status == "measured"


def test_the_harness_is_killed_and_collects_later(device: Host, tmp_path: Path) -> None:
    command = (sys.executable, "-m", "latbench", "run", "mobilevig_ti", "--backend", "fake")
    options = ("--device", "board", "--option", "real_time=yes", "--protocol", "latbench-warm@1")
    registry = ("--registry", str(tmp_path / "registry.db"))
    harness = subprocess.Popen(
        [*command, *options, *registry, "--budget", "12", "--detach"],
        env=child_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 90
    while not device.processes("latbench.worker.script run"):
        assert time.monotonic() < end
        time.sleep(0.02)
    harness.send_signal(signal.SIGKILL)
    harness.communicate(timeout=30)
    ended = latbench("collect", "--wait", *registry)
    assert ended.status == 0, ended.err
    assert "mobilevig_ti" in ended.out.splitlines()[0]
    again = latbench("collect", "--wait", *registry)
    assert (again.status, again.out) == (0, "nothing to collect\n")
    with Registry.open(registry[1]) as store:
        assert store.count() == 1
        record = store.get(store.ids()[0])
    assert record.outcome.status == "measured"
    assert record.protocol.target_ppm is None
    assert record.protocol.warmup == "fixed"
    assert record.protocol.processes == len(record.outcome.traces)
    assert record.sentinel is not None
    assert record.sentinel.absent is None
    assert len(record.outcome.sentinel) == len(record.outcome.traces)
    calls = {
        sum(len(block.sample_ns) - block.settle_calls for block in trace.blocks)
        for trace in record.outcome.traces
    }
    assert calls == {record.protocol.min_calls}


def test_a_cable_that_is_cut_changes_nothing(device: Host, tmp_path: Path) -> None:
    job = left(tmp_path)
    until_measured(device, job)
    device.cut()
    time.sleep(6)
    device.mend()
    record = collected(tmp_path, job)
    assert record.outcome.status == "measured"
    assert len(record.outcome.traces) == 20


def test_a_power_cut_keeps_what_was_measured(device: Host, tmp_path: Path) -> None:
    job = left(tmp_path)
    until_measured(device, job)
    device.stop()
    with Registry.open(str(tmp_path / "registry.db")) as store, pytest.raises(StageError):
        collect_job(job, store, ignore)
    device.start()
    assert [found.state for found in on_device()] == ["cut short"]
    record = collected(tmp_path, job)
    failure = record.outcome.failure
    assert failure is not None
    assert (record.outcome.status, failure.kind) == ("failed", "disconnected")
    assert "board was switched off or restarted" in failure.message
    assert sum(len(trace.blocks) for trace in record.outcome.traces) > 20
    assert record.environment.after is None
    assert summarize(record) is not None


def test_nobody_else_measures_while_a_job_runs(device: Host, tmp_path: Path) -> None:
    job = left(tmp_path)
    registry = str(tmp_path / "registry.db")
    for result in (
        run_request(fake(), protocol=SHORT, registry=registry),
        detach_request(fake(), protocol=SHORT, registry=registry),
    ):
        failure = result.record.outcome.failure
        assert failure is not None
        assert failure.kind == "unavailable"
        assert f"in use by the job {job.id} of " in failure.message
    assert cancel_job(job.id[:20], None, ignore) == f"canceled the job {job.id}"
    nothing_runs(device)
    record = collected(tmp_path, job)
    assert (record.outcome.status, record.outcome.failure) == ("interrupted", None)
    assert record.environment.before.unix_ns > record.created_unix_ns


def test_two_collects_store_one_record(device: Host, tmp_path: Path) -> None:
    job = left(tmp_path, SHORT)
    states = []

    def collect() -> None:
        with Registry.open(str(tmp_path / "registry.db")) as store:
            states.append(collect_job(job, store, ignore, wait=True).state)

    threads = [threading.Thread(target=collect) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(states) == ["already collected", "collected"]
    with Registry.open(str(tmp_path / "registry.db")) as store:
        assert store.count() == 1


def test_a_job_that_was_stored_but_not_deleted(
    device: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program ended between the two."""
    job = left(tmp_path, SHORT)

    def lost(*_: object) -> None:
        raise StageError("probe", "lost", kind="disconnected")

    with Registry.open(str(tmp_path / "registry.db")) as store:
        with monkeypatch.context() as patch:
            patch.setattr("latbench.devices.jobs.JobsOnDevice.remove", lost)
            assert collect_job(job, store, ignore, wait=True).state == "collected"
        assert len(on_device()) == len(left_jobs()) == 1
        assert collect_job(job, store, ignore).state == "already collected"
        assert store.count() == 1
    assert on_device() == left_jobs() == ()


def test_a_time_limit(device: Host, tmp_path: Path) -> None:
    job = left(tmp_path, limit_s=5)
    record = collected(tmp_path, job)
    failure = record.outcome.failure
    assert failure is not None
    assert (failure.kind, failure.message) == (
        "timeout",
        "the job was not done within its time limit of 5 s",
    )
    assert record.outcome.traces[0].blocks
    assert record.environment.after is not None
    nothing_runs(device)


def test_a_program_that_is_killed_leaves_nobody_behind(device: Host, tmp_path: Path) -> None:
    """Also when one worker is stopped while another one has its turn."""
    job = left(tmp_path, msgspec.structs.replace(LONG, sentinel_ns=10_000_000))
    until_measured(device, job)
    (program,) = device.processes("latbench.worker.script run")
    device.inside("kill", "-9", str(program.pid))
    nothing_runs(device)
    record = collected(tmp_path, job)
    assert record.outcome.failure is not None
    assert record.outcome.failure.kind == "disconnected"
    assert record.outcome.sentinel[0].blocks
    assert record.sentinel is not None
    assert record.sentinel.absent is None


def test_a_worker_that_is_killed(device: Host, tmp_path: Path) -> None:
    job = left(tmp_path)
    until_measured(device, job)

    def ended() -> bool:
        """One that has just answered everything may be killed too late."""
        for each in device.processes("latbench.worker.inference"):
            device.inside("kill", "-9", str(each.pid))
        return not on_device()[0].running

    until(ended)
    record = collected(tmp_path, job)
    failure = record.outcome.failure
    assert failure is not None
    assert (failure.kind, failure.stage != "probe") == ("crash", True)
    assert "SIGKILL" in failure.message
    assert len(record.outcome.traces) > 1
    nothing_runs(device)


@pytest.mark.parametrize("how", ["crash", "error", "nan"])
def test_a_model_that_fails_is_found_before_anything_is_left(
    device: Host, tmp_path: Path, how: str
) -> None:
    registry = str(tmp_path / "registry.db")
    result = detach_request(fake(misbehave=how), protocol=SHORT, registry=registry)
    assert result.job is None
    assert result.record.outcome.status == "failed"
    with Registry.open(registry) as store:
        assert store.get(result.record.id) == result.record
    assert on_device() == left_jobs() == ()


def test_a_job_of_another_machine(
    device: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = left(tmp_path, SHORT)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "elsewhere"))
    listed = latbench("devices", "jobs", "board")
    assert job.about.harness in listed.out
    refused = latbench("collect", job.id, "--registry", str(tmp_path / "other.db"))
    assert refused.status == 2
    assert f"was left by {job.about.harness}" in refused.err
    discarded = latbench("devices", "cancel", job.id, "--discard")
    assert discarded.status == 0, discarded.err
    assert on_device() == ()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home" / ".local"))
    gone = latbench("collect", "--registry", str(tmp_path / "registry.db"))
    assert gone.status == 3
    assert f"the job {job.id} is not on board any more" in gone.err
    kept = latbench("devices", "remove", "board")
    assert kept.status == 2
    assert f"board has jobs that were not collected: {job.id}" in kept.err
    forgotten = latbench("devices", "cancel", job.id)
    assert forgotten.out == f"forgot the job {job.id}: it is not on board any more\n"
    assert left_jobs() == ()


def test_a_full_disk(ssh_bed: Bed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("asyncssh", reason="needs the `ssh` extra")
    with ssh_bed.started(name="board", visible=CHECKOUT, disk_bytes=8 * 2**20) as host:
        use_home(tmp_path / "home", host, monkeypatch)
        add_with_checkout(host)
        job = left(tmp_path)
        until_measured(host, job)
        host.fill_disk()
        record = collected(tmp_path, job)
        failure = record.outcome.failure
        assert failure is not None
        assert "No space left on device" in failure.message
        assert record.outcome.traces[0].blocks
        nothing_runs(host)
        host.fill_disk()
        with pytest.raises(StageError, match="No space left on device"):
            left(tmp_path)
        assert left_jobs() == ()
        host.free_disk()
        assert on_device() == ()


def test_a_device_without_a_worker_says_so(device: Host, tmp_path: Path) -> None:
    (connection,) = load_connections()
    save_connections([msgspec.structs.replace(connection, installed=None)])
    ended = latbench("run", "mobilevig_ti", "--backend", "fake", "--device", "board", "--detach")
    assert ended.status == 3
    assert "latbench is not installed on board" in ended.out


def test_a_detached_run_agrees_with_a_live_one(device: Host, tmp_path: Path) -> None:
    request = make_request(str(stack(tmp_path / "stack.onnx", side=72)), device="board", threads=1)
    registry = str(tmp_path / "registry.db")
    live = run_request(request, protocol=WARM, budget_s=12, registry=registry)
    result = detach_request(request, protocol=WARM, budget_s=12, registry=registry)
    assert result.job is not None
    alone = summarize(collected(tmp_path, result.job))
    assert live.summary is not None
    assert alone is not None
    one, two = live.summary.interval_ns, alone.interval_ns
    assert one is not None
    assert two is not None
    # Wider than the intervals: the machine that runs the tests is not a quiet one.
    assert one[0] < 1.2 * two[1]
    assert two[0] < 1.2 * one[1]
