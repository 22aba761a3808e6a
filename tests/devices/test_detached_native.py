"""Runs that go on alone on a device without Python."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from latbench.bench.collect import cancel_job, collect_job
from latbench.bench.detach import detach_request
from latbench.bench.left_jobs import LeftJob, left_jobs
from latbench.bench.run import run_request
from latbench.devices.connections import known_connection
from latbench.devices.jobs import connect_to_jobs
from latbench.errors import StageError
from latbench.events import ignore
from latbench.schema.protocol import TimingProtocol
from latbench.schema.protocol_catalog import FIXED
from latbench.schema.record import Record
from latbench.schema.request import Request, make_request
from latbench.store.registry import Registry
from latbench.worker.native import ONNXRUNTIME, native_libraries
from support.devices import add_with_native, use_home
from support.hosts import Bed, Host, until
from support.onnx_files import stack

PROGRAM = "latbench-native"
SHORT = msgspec.structs.replace(
    FIXED,
    processes=2,
    max_processes=2,
    warmup_calls=3,
    min_calls=20,
    block_calls=5,
    pinned=True,
    sentinel_ns=5_000_000,
)
LONG = msgspec.structs.replace(SHORT, processes=40, max_processes=40, period_ns=20_000_000)
pytestmark = pytest.mark.slow


@pytest.fixture
def device(
    ssh_bed: Bed, native_program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Host]:
    """A device called ``board`` without Python, with a small disk, a worker and a runtime."""
    pytest.importorskip("asyncssh", reason="needs the `ssh` extra")
    libraries = native_libraries()
    seen = (native_program.parent, Path(libraries[ONNXRUNTIME]).parent)
    with ssh_bed.started(name="board", python=False, visible=seen, disk_bytes=32 * 2**20) as host:
        use_home(tmp_path / "home", host, monkeypatch)
        add_with_native(host, native_program, libraries)
        yield host


def request(tmp_path: Path) -> Request:
    return make_request(str(stack(tmp_path / "stack.onnx", side=24)), device="board", threads=1)


def left(tmp_path: Path, protocol: TimingProtocol) -> LeftJob:
    registry = str(tmp_path / "registry.db")
    result = detach_request(request(tmp_path), protocol=protocol, registry=registry)
    assert result.job is not None, result.record.outcome.failure
    return result.job


def collected(tmp_path: Path, job: LeftJob) -> Record:
    with Registry.open(str(tmp_path / "registry.db")) as store:
        assert collect_job(job, store, ignore, wait=True).state == "collected"
        assert left_jobs() == ()
        return store.get(job.id)


def until_measured(host: Host, job: LeftJob, answers: int = 40) -> None:
    path = f"{host.spec.home}/.cache/latbench/jobs/{job.id}/answers.jsonl"
    until(lambda: host.path(path).read_bytes().count(b"\n") >= answers)


def nothing_runs(host: Host) -> None:
    until(lambda: not host.processes(PROGRAM))


def states() -> list[str]:
    jobs = connect_to_jobs(known_connection("board"))
    try:
        return [found.state for found in jobs.listed()]
    finally:
        jobs.transport.close()


def test_what_a_device_without_python_did_alone(device: Host, tmp_path: Path) -> None:
    record = collected(tmp_path, left(tmp_path, SHORT))
    assert (record.outcome.status, record.outcome.stopped) == ("measured", "complete")
    assert record.sentinel is not None
    assert record.sentinel.absent is None
    for traces in (record.outcome.traces, record.outcome.sentinel):
        assert [trace.process for trace in traces] == [0, 1]
    for trace in record.outcome.traces:
        assert [len(block.sample_ns) for block in trace.blocks] == [5] * 4
    assert record.outcome.checks[0].max_rel_error < 1e-4
    assert record.runtime is not None
    assert record.runtime.settings["worker"] == "native"
    environment = record.environment
    assert environment.detached
    assert environment.link is not None
    assert environment.link.worker.startswith("latbench-native ")
    assert environment.after is not None
    assert environment.after.unix_ns > environment.before.unix_ns > record.created_unix_ns
    assert states() == []
    nothing_runs(device)


def test_cable_cut_second_harness_and_cancel(device: Host, tmp_path: Path) -> None:
    job = left(tmp_path, LONG)
    refused = run_request(
        request(tmp_path), protocol=SHORT, registry=str(tmp_path / "registry.db")
    ).record.outcome.failure
    assert refused is not None
    assert f"in use by the job {job.id} of " in refused.message
    device.cut()
    time.sleep(3)
    device.mend()
    assert states() == ["running"]
    assert cancel_job(job.id[:20], None, ignore) == f"canceled the job {job.id}"
    nothing_runs(device)
    record = collected(tmp_path, job)
    assert (record.outcome.status, record.outcome.failure) == ("interrupted", None)
    assert record.outcome.traces


def test_killed_program_and_full_disk(device: Host, tmp_path: Path) -> None:
    job = left(tmp_path, LONG)
    until_measured(device, job)
    (program,) = device.processes(f"{PROGRAM} script run")
    assert len(device.processes(PROGRAM)) == 3
    device.inside("kill", "-9", str(program.pid))
    nothing_runs(device)
    record = collected(tmp_path, job)
    assert record.outcome.failure is not None
    assert record.outcome.failure.kind == "disconnected"
    assert record.outcome.sentinel[0].blocks

    job = left(tmp_path, LONG)
    until_measured(device, job)
    device.fill_disk()
    record = collected(tmp_path, job)
    failure = record.outcome.failure
    assert failure is not None
    assert "No space left on device" in failure.message
    assert record.outcome.traces[0].blocks
    nothing_runs(device)
    device.fill_disk()
    with pytest.raises(StageError, match="No space left on device"):
        left(tmp_path, LONG)
    assert left_jobs() == ()
    device.free_disk()
    assert states() == []
