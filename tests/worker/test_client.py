"""The conversation with real programs: honest ones, and ones that die, hang and babble."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from latbench.api import ExportSpec
from latbench.errors import StageError
from latbench.schema.artifact import Artifact
from latbench.worker import messages
from latbench.worker.client import WorkerClient, _explain
from latbench.worker.process import LocalProgram
from latbench_exporters.fake import exporter as fake_exporter
from support.models import TinyModel
from support.records import make_artifact

WORKER = "latbench.worker.inference"
HELLO = '{"type":"hello","protocol":2,"program":"p","version":"0","pid":1,"stoppable":true}'


@pytest.fixture(scope="module")
def fake_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fake") / "model.fake.json"
    fake_exporter().export(TinyModel(), ExportSpec(), path)
    return path


def artifact(path: Path) -> Artifact:
    exported = fake_exporter().export(TinyModel(), ExportSpec(), path)
    return make_artifact(path, exported, "fake")


def open_request(path: Path, **extra: str) -> messages.Open:
    return messages.Open(
        backend="fake",
        artifact=artifact(path),
        path=str(path),
        threads=1,
        seed=0,
        process=0,
        extra=extra,
    )


linux = pytest.mark.skipif(sys.platform != "linux", reason="programs are paused on Linux only")


def script(text: str) -> LocalProgram:
    return LocalProgram([sys.executable, "-c", text])


def test_a_session_from_hello_to_closed(fake_file: Path) -> None:
    with WorkerClient.with_module(WORKER) as worker:
        assert worker.hello.protocol == messages.VERSION
        opened = worker.ask(
            open_request(fake_file), messages.SessionOpened, stage="open", timeout_s=60
        )
        assert opened.load_ns > 0
        timed = worker.ask(messages.Time(calls=7), messages.BlockTimed, stage="time", timeout_s=60)
        assert len(timed.sample_ns) == 7
        given = worker.ask(messages.Outputs(), messages.OutputsGiven, stage="outputs", timeout_s=60)
        assert given.tensors[0].shape == (1, 1000)
        worker.ask(messages.Close(), messages.Closed, stage="outputs", timeout_s=60)


def test_what_a_runtime_prints_does_not_disturb(fake_file: Path) -> None:
    with WorkerClient.with_module(WORKER) as worker:
        request = open_request(fake_file, misbehave="chatter")
        worker.ask(request, messages.SessionOpened, stage="open", timeout_s=60)
        for _ in range(3):
            worker.ask(messages.Time(calls=2), messages.BlockTimed, stage="time", timeout_s=60)


@pytest.mark.parametrize(
    ("misbehave", "kind", "words"),
    [
        ("crash", "crash", "SIGSEGV"),
        ("exit", "crash", "status 7"),
        ("error", "error", "the fake runtime failed"),
        ("oom", "out_of_memory", "ran out of memory"),
        ("hang", "timeout", "no response within 1 s"),
    ],
)
@pytest.mark.parametrize("at", ["open", "warmup", "time"])
def test_every_end_of_a_runtime_is_a_failure(
    fake_file: Path, misbehave: str, at: str, kind: str, words: str
) -> None:
    timeout_s = 1 if kind == "timeout" else 60

    def session() -> None:
        with WorkerClient.with_module(WORKER) as worker:
            request = open_request(fake_file, misbehave=misbehave, at=at)
            worker.ask(request, messages.SessionOpened, stage="open", timeout_s=timeout_s)
            for _ in range(4):
                worker.ask(
                    messages.Time(calls=1), messages.BlockTimed, stage="time", timeout_s=timeout_s
                )

    with pytest.raises(StageError) as caught:
        session()
    assert caught.value.kind == kind
    assert words in caught.value.message
    if misbehave == "exit":
        assert "the fake runtime gave up" in (caught.value.detail or "")


def test_asking_before_opening_is_a_failure() -> None:
    with (
        WorkerClient.with_module(WORKER) as worker,
        pytest.raises(StageError, match="before a session was open"),
    ):
        worker.ask(messages.Time(calls=1), messages.BlockTimed, stage="time", timeout_s=60)


def test_another_protocol_is_refused() -> None:
    with pytest.raises(StageError, match="speaks protocol 99"):
        WorkerClient(script(f"print('{HELLO.replace(':2,', ':99,', 1)}')"))


@pytest.mark.parametrize(
    "line", ["not json", "{}", '{"type":"unheard_of"}', "[1]", "\\xff", '{"type":"\\x9c"}']
)
def test_babble_is_a_crash(line: str) -> None:
    with pytest.raises(StageError) as caught:
        WorkerClient(script(f"import sys; sys.stdout.buffer.write(b'{line}\\n')"))
    assert caught.value.kind == "crash"


def test_the_wrong_answer_is_a_crash() -> None:
    with (
        WorkerClient(script(f"print('{HELLO}'); input(); print('{HELLO}')")) as program,
        pytest.raises(StageError) as caught,
    ):
        program.ask(messages.Time(calls=1), messages.BlockTimed, stage="time", timeout_s=60)
    assert caught.value.kind == "crash"


def test_newer_fields_are_ignored() -> None:
    hello = HELLO.replace("{", '{"news":[1,2],', 1)
    with WorkerClient(script(f"print('{hello}'); input()")) as program:
        assert program.hello.program == "p"


def test_a_crash_beside_another_programs_lack_of_memory_is_a_crash() -> None:
    assert _explain(-signal.SIGSEGV, True)[0] == "crash"
    assert _explain(1, True)[0] == "crash"
    assert _explain(-signal.SIGKILL, True)[0] == "out_of_memory"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere getrusage has no such past")
def test_the_peak_of_memory_is_the_workers_own(fake_file: Path) -> None:
    """Not the harness's, of which the worker was a copy before it began."""
    held = bytearray(b"1") * 400_000_000
    with WorkerClient.with_module(WORKER) as worker:
        worker.ask(open_request(fake_file), messages.SessionOpened, stage="open", timeout_s=60)
        worker.ask(messages.Time(calls=1), messages.BlockTimed, stage="time", timeout_s=60)
        given = worker.ask(messages.Outputs(), messages.OutputsGiven, stage="outputs", timeout_s=60)
    assert given.peak_rss_bytes is not None
    assert 10_000_000 < given.peak_rss_bytes < len(held)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/status")
    return not status.exists() or "\nState:\tZ" not in status.read_text()


def wait_until_dead(pid: int, within_s: float) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if not alive(pid):
            return True
        time.sleep(0.02)
    return False


def test_leaving_ends_the_program_and_its_children() -> None:
    text = (
        "import subprocess, sys;"
        "child = subprocess.Popen(['sleep', '600']);"
        f"print('{HELLO}'.replace('\"pid\":1', f'\"pid\":{{child.pid}}'), flush=True);"
        "import time; time.sleep(600)"
    )
    with WorkerClient(script(text)) as program:
        child = program.hello.pid
        assert alive(child)
    assert wait_until_dead(child, 5)


@linux
def test_a_killed_harness_leaves_no_converter_behind(tmp_path: Path) -> None:
    """Of a program that serves, and has started another one."""
    serves = (
        "import subprocess\n"
        "from latbench.worker.server import serve\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n"
        "serve('converts', lambda line: None, lambda request: None)\n"
    )
    owner = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time\n"
            "from latbench.worker.client import WorkerClient\n"
            "from latbench.worker.process import LocalProgram\n"
            f"WorkerClient(LocalProgram([sys.executable, '-c', {serves!r}]))\n"
            "print('ready', flush=True)\n"
            "time.sleep(600)\n",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == "ready\n"
    child = int((tmp_path / "pid").read_text())
    assert alive(child)
    owner.kill()
    owner.wait()
    assert wait_until_dead(child, 5)


SPINS = f"""
import os, threading
def spin():
    while True: pass
threading.Thread(target=spin, daemon=True).start()
print('{HELLO}'.replace('"pid":1', f'"pid":{{os.getpid()}}'), flush=True)
input()
print('{{"type":"closed"}}', flush=True)
"""


def cpu_ticks(pid: int) -> int:
    """What the process and its threads have used of the CPUs."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def wait_until_stopped(pid: int) -> None:
    end = time.monotonic() + 5
    while not stopped(pid):
        assert time.monotonic() < end
        time.sleep(0.005)


@linux
def test_a_paused_program_uses_no_cpu_until_it_is_asked() -> None:
    with WorkerClient(script(SPINS)) as program:
        pid = program.hello.pid
        begun = cpu_ticks(pid)
        time.sleep(0.3)
        assert cpu_ticks(pid) > begun
        program.pause()
        program.pause()
        wait_until_stopped(pid)
        begun = cpu_ticks(pid)
        time.sleep(0.3)
        assert cpu_ticks(pid) == begun
        program.ask(messages.Close(), messages.Closed, stage="outputs", timeout_s=60)


@linux
def test_a_paused_program_is_ended_in_order(fake_file: Path) -> None:
    """It reads that its input ends, which it could not while stopped."""
    ended = fake_file.parent / "ended"
    text = f"import sys; print('{HELLO}', flush=True); sys.stdin.read(); open('{ended}', 'w')"
    with WorkerClient(script(text)) as program:
        program.pause()
    assert ended.exists()


@linux
def test_a_paused_program_that_is_killed_is_a_crash(fake_file: Path) -> None:
    with WorkerClient.with_module(WORKER) as worker:
        worker.ask(open_request(fake_file), messages.SessionOpened, stage="open", timeout_s=60)
        worker.pause()
        wait_until_stopped(worker.hello.pid)
        os.kill(worker.hello.pid, signal.SIGKILL)
        with pytest.raises(StageError, match="killed") as caught:
            worker.ask(messages.Time(calls=1), messages.BlockTimed, stage="time", timeout_s=60)
        assert caught.value.kind == "crash"


@pytest.mark.parametrize(
    "then",
    [
        "worker.ask(messages.Time(calls=1), messages.BlockTimed, stage='time', timeout_s=600)",
        pytest.param("worker.pause(); __import__('time').sleep(600)", marks=linux),
    ],
    ids=["hanging", "paused"],
)
def test_a_worker_does_not_outlive_its_owner(fake_file: Path, then: str) -> None:
    """Killed outright, the owner cannot end its worker; it ends all the same."""
    request = msgspec.json.encode(open_request(fake_file, misbehave="hang", at="time")).decode()
    owner = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, msgspec\n"
            "from latbench.worker import messages\n"
            "from latbench.worker.client import WorkerClient\n"
            f"worker = WorkerClient.with_module({WORKER!r})\n"
            f"request = msgspec.json.decode({request!r}, type=messages.InferenceRequest)\n"
            "worker.ask(request, messages.SessionOpened, stage='open', timeout_s=60)\n"
            "worker.ask(messages.Time(calls=1), messages.BlockTimed, stage='time', timeout_s=60)\n"
            "worker.ask(messages.Time(calls=1), messages.BlockTimed, stage='time', timeout_s=60)\n"
            "print(worker.hello.pid, flush=True)\n"
            f"{then}\n",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    worker = int(owner.stdout.readline())
    assert alive(worker)
    if "pause" in then:
        wait_until_stopped(worker)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert wait_until_dead(worker, 5)


@pytest.mark.parametrize("text", ["soon", "0", "-1", "8s", "nan"])
def test_an_owner_timeout_that_is_not_one_is_an_error(text: str) -> None:
    with pytest.raises(StageError, match="status 1") as caught:
        WorkerClient.with_module(WORKER, environment={"LATBENCH_OWNER_TIMEOUT_S": text})
    assert f"cannot be {text!r}" in (caught.value.detail or "")
