"""The native worker's conversation, and what ends it."""

from __future__ import annotations

import copy
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from latbench.version import latbench_version
from support import onnx_files
from support.native_talk import MARK, Talk, open_fields, spec

pytestmark = pytest.mark.slow  # The program is compiled first.


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_files.classifier(tmp_path_factory.mktemp("model") / "c.onnx")


def classifier(file: Path, /, **changes: Any) -> dict[str, Any]:
    return open_fields(file, [spec("image", 1, 3, 8, 8)], [spec("logits", 1, 4)], **changes)


def state(pid: int) -> str | None:
    """The state letter of a process; ``None`` if it has ended."""
    try:
        found = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None
    return None if found == "Z" else found


def until(condition: Any, within_s: float = 20) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_from_hello_to_closed(native_program: Path, model: Path) -> None:
    with Talk([native_program]) as worker:
        assert worker.hello == {
            **{"type": "hello", "protocol": 2, "program": "latbench-native", "stoppable": True},
            **{"version": latbench_version(), "pid": worker.process.pid},
        }
        opened = worker.ask("open", **classifier(model, threads=2, news=[1]))
        assert opened["type"] == "opened", opened
        assert opened["load_ns"] > 0
        assert opened["placement"]["known"] == "proven"
        settings = opened["settings"]
        assert (settings["threads"], settings["worker"]) == ("2", "native")
        assert len(settings["worker_sha256"]) == len(settings["library_sha256"]) == 64
        worker.send(b"")
        timed = worker.ask("time", calls=7, settle=2)
        assert len(timed["sample_ns"]) == 7
        assert min(timed["sample_ns"]) > 0
        assert timed["readings"]["wall_ns"] >= sum(timed["sample_ns"][2:])
        assert worker.ask("time", calls=0)["sample_ns"] == []
        assert worker.ask("outputs")["tensors"][0]["shape"] == [1, 4]
        assert worker.ask("outputs")["peak_rss_bytes"] > 5_000_000
        assert worker.ask("time_operators", calls=3) == {"type": "operators_timed", "profile": None}
        assert worker.ask("open", **classifier(model))["type"] == "opened"
        assert worker.ask("outputs")["type"] == "failed"
        assert worker.ask("close") == {"type": "closed"}
        assert worker.ended() == 0


def test_a_period_is_kept(native_program: Path, model: Path) -> None:
    with Talk([native_program]) as worker:
        worker.ask("open", **classifier(model))
        timed = worker.ask("time", calls=6, settle=1, period_ns=20_000_000)
        assert timed["readings"]["wall_ns"] >= 5 * 20_000_000
        assert timed["readings"]["cpu_ns"] < timed["readings"]["wall_ns"] / 2


def test_a_pinned_worker_runs_on_the_last_cpus(native_program: Path, model: Path) -> None:
    with Talk([native_program]) as worker:
        worker.ask("open", **classifier(model, pinned=True))
        allowed = os.sched_getaffinity(worker.process.pid)
        assert sorted(allowed) == sorted(os.sched_getaffinity(0))[-1:]


def test_requests_before_a_session_are_failures(native_program: Path) -> None:
    with Talk([native_program]) as worker:
        for type, fields in (
            ("time", {"calls": 1}),
            ("outputs", {}),
            ("time_operators", {"calls": 1}),
        ):
            answer = worker.ask(type, **fields)
            assert (answer["type"], answer["stage"], answer["kind"]) == ("failed", "open", "error")
            assert "before a session was open" in answer["message"]


@pytest.mark.parametrize(
    ("changes", "type", "words"),
    [
        ({"path": "/nonexistent.onnx"}, "failed", "NO_SUCHFILE"),
        ({"backend": "coreml"}, "refused", "unknown backend 'coreml'"),
        ({"extra": {"spining": "off"}}, "refused", "has no option 'spining'"),
        ({"extra": {"spinning": "maybe"}}, "refused", "spinning cannot be 'maybe'"),
        ({"extra": {"inter_op_threads": "0"}}, "refused", "must be a positive integer"),
        ({"extra": {"inter_op_threads": "9" * 30}}, "refused", "must be a positive integer"),
        ({"extra": {"provider": "cuda"}}, "failed", "has no provider cuda"),
        ({"extra": {"provider_options": "a=b"}}, "refused", "provider other than CPU"),
        ({"threads": 0}, "refused", "threads cannot be 0"),
        ({"threads": -(2**63)}, "refused", "threads cannot be"),
        ({"inputs": "/nonexistent.npz"}, "failed", "the inputs cannot be read"),
        ({"path": "a\0b"}, "refused", "zero byte"),
        ({"path": "/tmp"}, "failed", "cannot load the file"),
    ],
)
def test_what_cannot_be_opened(
    native_program: Path, model: Path, changes: dict[str, Any], type: str, words: str
) -> None:
    with Talk([native_program]) as worker:
        answer = worker.ask("open", **classifier(model, **changes))
        assert answer["type"] == type
        assert words in answer["message"]
        assert worker.ask("open", **classifier(model))["type"] == "opened"


def test_damaged_files_are_failures(native_program: Path, model: Path, tmp_path: Path) -> None:
    whole = model.read_bytes()
    with Talk([native_program]) as worker:
        for i, content in enumerate((b"", b"\xff" * 300, whole[:200])):
            path = tmp_path / f"{i}.onnx"
            path.write_bytes(content)
            answer = worker.ask("open", **classifier(path))
            assert (answer["type"], answer["stage"]) == ("failed", "open")
            assert answer["hint"]


def test_inputs_that_the_file_does_not_have(native_program: Path, model: Path) -> None:
    with Talk([native_program]) as worker:
        fields = open_fields(model, [spec("other", 1, 3, 8, 8)], [spec("logits", 1, 4)])
        assert worker.ask("open", **fields)["type"] == "failed"
        fields = open_fields(model, [spec("image", 1, 3, 8, 9)], [spec("logits", 1, 4)])
        assert worker.ask("open", **fields)["type"] == "opened"
        answer = worker.ask("time", calls=1)
        assert (answer["type"], answer["stage"], answer["kind"]) == ("failed", "time", "error")
        fields = open_fields(model, [spec("image", 1, 3, 8, 8)], [spec("none", 1, 4)])
        assert worker.ask("open", **fields)["type"] == "opened"
        worker.ask("time", calls=1)
        assert "no output 'none'" in worker.ask("outputs")["message"]
        huge = open_fields(model, [spec("image", 2**40, 2**40)], [spec("logits", 1, 4)])
        assert worker.ask("open", **huge)["kind"] == "out_of_memory"


@pytest.mark.parametrize(
    "fields",
    [
        {"calls": -1},
        {"calls": 2**62},
        {"calls": 2, "settle": 3},
        {"calls": 2, "settle": -1},
        {"calls": 1, "period_ns": -1},
        {"calls": 1, "period_ns": 2**63 - 1},
    ],
)
def test_numbers_out_of_range_are_refused(
    native_program: Path, model: Path, fields: dict[str, int]
) -> None:
    with Talk([native_program]) as worker:
        worker.ask("open", **classifier(model))
        assert worker.ask("time", **fields)["type"] == "refused"
        assert worker.ask("time", calls=1)["type"] == "timed"


@pytest.mark.parametrize(
    "line",
    [
        *(b"not json", b"[1]", b"{}", b'{"type":"unheard_of"}', b'{"type":1}', b"\xff", b" "),
        *(b'{"type":"time"}', b'{"type":"time","calls":"7"}', b'{"type":"time","calls":1.5}'),
        *(b'{"type":"time","calls":18446744073709551615}', b'{"type":"time","calls":1e99}'),
        *(b'{"type":"time","calls":99999999999999999999}', b'{"type":"open"}', b"[" * 100_000),
    ],
    ids=lambda line: line[:40].decode(errors="replace"),
)
def test_what_is_not_a_message_ends_the_conversation(native_program: Path, line: bytes) -> None:
    with Talk([native_program]) as worker:
        worker.send(line)
        assert worker.ended() == 1
        assert worker.process.stdout is not None
        assert worker.process.stdout.read() == b""
        assert worker.process.stderr is not None
        assert worker.process.stderr.read().startswith(b"latbench-native: ")


OTHERS: list[Any] = [None, True, -1, 1.5, "x", [], {}, [[1]], {"a": 1}]


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each field and element of a message."""
    if at:
        yield at
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for key in keys:
        yield from places(value[key], (*at, key))


def replaced(value: Any, at: tuple[Any, ...], by: Any) -> Any:
    if not at:
        return by
    changed = copy.copy(value)
    changed[at[0]] = replaced(value[at[0]], at[1:], by)
    return changed


def test_fields_of_other_types_end_in_order(native_program: Path, model: Path) -> None:
    """Each field of `open` is replaced by each kind of value: an answer, or words and status 1."""
    message = {"type": "open", **classifier(model, inputs=None, pinned=False, extra={"a": "b"})}
    ways = [at for at in places(message) if at != ("type",)]
    draw = random.Random(2)
    cases = [(at, other) for at in ways for other in OTHERS]
    ended = 0
    with ExitStack() as opened:
        worker = opened.enter_context(Talk([native_program]))
        for at, other in draw.sample(cases, 150):
            worker.send(json.dumps(replaced(message, at, other)).encode())
            assert worker.process.stdout is not None
            if line := worker.process.stdout.readline():
                assert json.loads(line)["type"] in ("opened", "failed", "refused")
                continue
            ended += 1
            assert worker.ended() == 1, (at, other)
            worker = opened.enter_context(Talk([native_program]))
    assert ended > 50


def test_the_longest_line_is_read_and_a_longer_one_is_not(native_program: Path) -> None:
    start = b'{"type":"time","calls":1,"more":"'
    longest = 64 * 2**20
    with Talk([native_program]) as worker:
        worker.send(start + b"x" * (longest - len(start) - 2) + b'"}')
        assert worker.line()["type"] == "failed"
        worker.send(start + b"x" * longest + b'"}')
        assert worker.ended() == 1


def test_a_large_seed_counts_modulo_its_upper_half(native_program: Path, tmp_path: Path) -> None:
    path = onnx_files.identity(tmp_path / "i.onnx")
    answers = []
    with Talk([native_program]) as worker:
        for seed in (5, 5 + 2**32, 2**63 + 5, 2**64 - 1):
            fields = open_fields(path, [spec("x", 4)], [spec("y", 4)], seed=seed)
            assert worker.ask("open", **fields)["type"] == "opened"
            worker.ask("time", calls=1)
            answers.append(worker.ask("outputs")["tensors"][0]["data"])
    assert answers[0] == answers[1] == answers[2] != answers[3]


def test_what_a_runtime_prints_does_not_disturb(native_program: Path, tmp_path: Path) -> None:
    """Descriptor 1 is standard error; ONNX Runtime's warnings go there too."""
    with Talk([native_program]) as worker:
        one, two = (Path(f"/proc/{worker.process.pid}/fd/{name}").readlink() for name in "12")
        assert one == two
        assert Path(f"/proc/{worker.process.pid}/fd/0").readlink() == Path("/dev/null")


def test_the_end_of_input_ends_an_inference(native_program: Path, tmp_path: Path) -> None:
    path = onnx_files.endless(tmp_path / "e.onnx")
    with Talk([native_program]) as worker:
        assert worker.ask("open", **open_fields(path, [spec("x", 4)], [spec("y", 4)]))
        worker.send(b'{"type":"time","calls":1}')
        mark = Path(f"/proc/{worker.process.pid}/environ").read_bytes()
        mark = next(x for x in mark.split(b"\0") if x.startswith(MARK.encode())).split(b"=")[1]
        # Something that the worker might have started, in a session of its own.
        child = subprocess.Popen(
            ["sleep", "600"], env={**os.environ, MARK: mark.decode()}, start_new_session=True
        )
        time.sleep(0.2)
        assert state(worker.process.pid) == "R" or state(worker.process.pid) == "S"
        worker.hang_up()
        assert worker.ended() in (0, -signal.SIGKILL)
        assert child.wait(timeout=20) == -signal.SIGKILL


@pytest.mark.parametrize("text", ["soon", "0", "-1", "8s", "nan", "inf"])
def test_a_timeout_that_is_not_one_is_an_error(native_program: Path, text: str) -> None:
    """A worker that ignored it would outlive its owner."""
    variables = {**os.environ, "LATBENCH_OWNER_TIMEOUT_S": text}
    done = subprocess.run(
        [native_program], env=variables, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert f"cannot be '{text}'" in done.stderr


def test_time_while_stopped_is_not_silence(native_program: Path) -> None:
    with Talk([native_program], LATBENCH_OWNER_TIMEOUT_S="1") as worker:
        os.kill(worker.process.pid, signal.SIGSTOP)
        time.sleep(2.5)
        os.kill(worker.process.pid, signal.SIGCONT)
        time.sleep(0.3)
        assert worker.ask("conditions")["type"] == "conditions_told"


def test_machine_conditions_and_capabilities(native_program: Path) -> None:
    with Talk([native_program]) as agent:
        machine = agent.ask("machine")
        assert machine["type"] == "machine_told"
        assert machine["machine"]["architecture"] == os.uname().machine
        assert machine["software"] is None
        assert machine["libc"] == machine["machine"]["libc"]
        conditions = agent.ask("conditions")
        assert conditions["type"] == "conditions_told"
        assert conditions["conditions"]["usable_cpus"] >= 1
        told = agent.ask("capabilities", backends=["onnxruntime", "coreml"])
        assert told["type"] == "capabilities_told"
        assert told["backends"]["onnxruntime"]["available"] is True
        assert told["backends"]["onnxruntime"]["version"].count(".") == 2
        assert told["backends"]["coreml"]["available"] is False
        assert "Python worker" in told["backends"]["coreml"]["hint"]
        # The library was loaded by a process of its own.
        assert "onnxruntime" not in Path(f"/proc/{agent.process.pid}/maps").read_text()


def test_a_library_that_is_missing_or_wrong_is_unavailable(
    native_program: Path, model: Path, tmp_path: Path
) -> None:
    wrong = tmp_path / "libonnxruntime.so"
    wrong.write_bytes(b"\x7fELF" + b"\0" * 100)
    for path in (tmp_path / "absent.so", wrong, Path("/usr/lib/x86_64-linux-gnu/libm.so.6")):
        with Talk([native_program], LATBENCH_ORT=str(path)) as worker:
            told = worker.ask("capabilities", backends=["onnxruntime"])["backends"]["onnxruntime"]
            assert told["available"] is False
            assert told["reason"]
            answer = worker.ask("open", **classifier(model))
            assert (answer["type"], answer["kind"]) == ("failed", "unavailable")
            assert answer["hint"]


def test_the_library_beside_the_program_is_used(
    native_program: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = os.environ["LATBENCH_ORT"]
    monkeypatch.delenv("LATBENCH_ORT")
    program = tmp_path / "latbench-native"
    program.write_bytes(native_program.read_bytes())
    program.chmod(0o755)
    with Talk([program]) as worker:
        assert worker.ask("open", **classifier(model))["kind"] == "unavailable"
    (tmp_path / Path(library).name).symlink_to(library)
    with Talk([program]) as worker:
        assert worker.ask("open", **classifier(model))["type"] == "opened"


def test_signals_reach_workers_of_the_same_harness_only(native_program: Path) -> None:
    with (
        Talk([native_program], LATBENCH_HARNESS="ours") as agent,
        Talk([native_program], LATBENCH_HARNESS="theirs") as stranger,
    ):
        worker = subprocess.Popen(
            ["sleep", "600"],
            env={**os.environ, "LATBENCH_HARNESS": "ours"},
            start_new_session=True,
        )
        # The kernel shows the variables of a program some time after it has started it.
        place = Path(f"/proc/{worker.pid}/environ")
        until(lambda: b"LATBENCH_HARNESS=ours" in place.read_bytes().split(b"\0"))
        told = {"type": "signaled", "existed": True}
        assert agent.ask("signal", pid=worker.pid, signal="stop") == told
        until(lambda: state(worker.pid) == "T")
        assert agent.ask("signal", pid=worker.pid, signal="continue") == told
        until(lambda: state(worker.pid) == "S")
        refused = agent.ask("signal", pid=stranger.process.pid, signal="kill")
        assert refused["type"] == "refused"
        assert "is not a worker of this harness" in refused["message"]
        for pid in (0, 1, -1, 2**40):
            assert agent.ask("signal", pid=pid, signal="kill")["type"] == "refused"
        assert agent.ask("signal", pid=worker.pid, signal="hup")["type"] == "refused"
        assert agent.ask("signal", pid=worker.pid, signal="kill") == told
        assert worker.wait(timeout=20) == -signal.SIGKILL
        gone = agent.ask("signal", pid=worker.pid, signal="kill")
        assert gone == {"type": "signaled", "existed": False}
        assert stranger.process.poll() is None


def test_a_device_is_reserved_by_one(native_program: Path, tmp_path: Path) -> None:
    """Until the worker that holds the lock ends, however it does."""
    lock = str(tmp_path / "device.lock")
    with Talk([native_program]) as one, Talk([native_program]) as two:
        assert one.ask("reserve", path=lock, owner="me@here") == {"type": "reserved"}
        refused = two.ask("reserve", path=lock, owner="you@there")
        assert (refused["kind"], refused["stage"]) == ("unavailable", "probe")
        assert refused["message"] == "the device is in use by me@here"
        one.process.kill()
        one.process.wait()
        assert two.ask("reserve", path=lock, owner="you@there") == {"type": "reserved"}
        assert Path(lock).read_text() == "you@there"
        nowhere = two.ask("reserve", path=str(tmp_path / "no" / "lock"), owner="x")
        assert "No such file or directory" in nowhere["message"]


@pytest.mark.parametrize("program", ["native", "python"])
def test_a_worker_restricts_itself_to_cpus(native_program: Path, model: Path, program: str) -> None:
    allowed = sorted(os.sched_getaffinity(0))
    first, absent = allowed[0], allowed[-1] + 1
    python = [sys.executable, "-P", "-m", "latbench.worker.inference"]
    with Talk([native_program] if program == "native" else python) as worker:
        told = worker.ask("open", **classifier(model, cpus=[first]))
        assert told["settings"]["cpus"] == str(first)
        assert os.sched_getaffinity(worker.process.pid) == {first}
        # Without the field there is no restriction, also after one.
        told = worker.ask("open", **classifier(model))
        assert "cpus" not in told["settings"]
        assert os.sched_getaffinity(worker.process.pid) == set(allowed)
        told = worker.ask("open", **classifier(model, cpus=allowed, pinned=True))
        assert os.sched_getaffinity(worker.process.pid) == {allowed[-1]}
        for cpus in ([first, absent], [absent]):
            refused = worker.ask("open", **classifier(model, cpus=cpus))
            assert (refused["type"], refused["kind"]) == ("failed", "unavailable"), refused
            assert "cannot be restricted to the CPUs" in refused["message"]
        assert worker.ask("open", **classifier(model))["type"] == "opened"
