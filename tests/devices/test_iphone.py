"""Measuring on a phone behind a Mac: the whole way, with a stand-in of devicectl and of the app.

What is shown is the way there and back, and what happens when it breaks; not what a phone does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from latbench.analysis.summary import summarize
from latbench.bench.left_jobs import left_jobs
from latbench.bench.run import run_request
from latbench.devices import apple, apple_scripts
from latbench.devices.connections import Connection, known_connection, store_connection
from latbench.schema.protocol_catalog import FIXED, WARM
from latbench.schema.record import Record
from latbench.schema.request import make_request
from latbench.store.registry import Registry
from support.command_line import Ended, in_process
from support.devices import use_home
from support.environment import child_environment
from support.hosts import Bed
from support.hosts.spec import CHECKOUT
from support.mac.phone import TEAM, UDID, StandInPhone, make_phone

pytestmark = pytest.mark.slow
SHORT = msgspec.structs.replace(
    FIXED, processes=2, max_processes=2, warmup_calls=3, min_calls=10, block_calls=5
)
"""Two processes, each of which has 5 answers but for the conditions."""


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandInPhone:
    """A phone called ``my-iphone`` behind this machine, whose app runs the fake backend."""
    made = make_phone(tmp_path / "mac")
    for name, value in made.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(apple, "BUSY_POLL_S", 0.1)
    monkeypatch.setattr(apple_scripts, "RETRY_S", 0.1)
    monkeypatch.setattr(apple_scripts, "LOST_S", 3.0)
    made.has_app("my-iphone", "fake")
    return made


def measured(tmp_path: Path, protocol: Any = SHORT, **options: str) -> Record:
    request = make_request(
        "mobilevig_ti", backend="fake", device="my-iphone", options=options, protocol=FIXED.label
    )
    registry = str(tmp_path / "registry.db")
    record = run_request(request, protocol=protocol, registry=registry).record
    with Registry.open(registry) as store:
        assert store.get(record.id) == record
    return record


def latbench(*arguments: str) -> Ended:
    return in_process(list(arguments), dict(os.environ), Path.cwd())


def test_the_record_is_that_of_a_conversation(phone: StandInPhone, tmp_path: Path) -> None:
    record = measured(tmp_path)
    assert record.outcome.status == "measured"
    assert record.outcome.stopped == "complete"
    assert [trace.process for trace in record.outcome.traces] == [0, 1]
    for trace in record.outcome.traces:
        assert len(trace.warmup_ns) == 3
        assert [len(block.sample_ns) for block in trace.blocks] == [5, 5]
    assert [check.max_rel_error for check in record.outcome.checks] == [0, 0]
    environment = record.environment
    assert environment.link is not None
    assert environment.link.transport == "apple"
    assert environment.link.address == f"apple://local/{UDID}"
    assert "devicectl 518.31" in environment.link.worker
    assert not environment.detached
    assert environment.after is not None
    assert environment.after.unix_ns > environment.before.unix_ns > record.created_unix_ns
    assert record.device.id == "my-iphone"
    assert left_jobs() == ()
    # The app never wrote where the Mac has copied something to: on a phone it may not.
    written = {path.name for path in phone.documents().rglob("*.jsonl")}
    assert written == {"script.jsonl", "answers.jsonl"}
    assert not [*phone.documents().glob("in-*/answers.jsonl")]


def test_numbers_are_fixed_after_pilot_runs(phone: StandInPhone, tmp_path: Path) -> None:
    phone.change(json=5, reality="virtual")
    protocol = msgspec.structs.replace(
        WARM, processes=2, max_processes=2, min_calls=10, min_ns=0, budget_ns=6 * 10**9
    )
    record = measured(tmp_path, protocol)
    assert record.outcome.status == "measured"
    assert record.protocol.warmup == "fixed"
    assert record.protocol.budget_ns is None
    assert record.environment.machine.emulated
    assert "numbers fixed in advance" in record.protocol.what
    assert all(
        len(trace.warmup_ns) == record.protocol.warmup_calls for trace in record.outcome.traces
    )
    # A sentinel alternates with the model, in the same launches: facts, two pilot runs, processes.
    assert record.sentinel is not None
    assert (record.sentinel.name, record.sentinel.absent) == ("fake-sentinel@1", None)
    for model, sentinel in zip(record.outcome.traces, record.outcome.sentinel, strict=True):
        assert len(sentinel.blocks) == len(model.blocks) > 0
        assert sentinel.warmup_ns
    assert phone.state()["launches"] == 3 + 2
    assert len(record.outcome.checks) == 2


def test_the_first_half_second_of_a_phone_is_told_apart(
    phone: StandInPhone, tmp_path: Path
) -> None:
    """The stand-in is quicker for the first 100 calls of each process."""
    slower = {"shift": "1.5", "warmup": "1", "between": "0.001"}
    found = msgspec.structs.replace(
        WARM, processes=6, max_processes=6, min_calls=60, min_ns=0, sentinel_ns=None
    )
    record = measured(tmp_path, msgspec.structs.replace(found, budget_ns=10**11), **slower)
    summary = summarize(record)
    assert summary is not None
    regimes = {regime.name: regime for regime in summary.regimes}
    assert regimes["burst"].processes == 6
    assert regimes["steady"].median_ns == pytest.approx(1.5 * regimes["burst"].median_ns, rel=0.02)
    assert summary.median_ns == regimes["steady"].median_ns
    assert summary.reliability == "reliable", summary.reasons
    # A protocol that looks for nothing has both in its samples, and says what to do.
    plain = msgspec.structs.replace(SHORT, processes=6, max_processes=6, min_calls=250)
    summary = summarize(measured(tmp_path, plain, **slower))
    assert summary is not None
    assert summary.reliability == "unreliable"
    assert "two levels: 6 of 6 sessions began faster than they went on" in summary.reasons
    assert any("a longer --warmup" in advice for advice in summary.advice)


def test_a_sentinel_that_the_phone_refuses_is_left_out(
    phone: StandInPhone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATBENCH_FAKE_SENTINEL", "error")
    failed = measured(tmp_path, msgspec.structs.replace(SHORT, sentinel_ns=10 * 10**6))
    assert failed.outcome.status == "measured"
    assert failed.sentinel is not None
    assert failed.sentinel.absent == "the fake runtime failed"
    assert failed.outcome.sentinel == ()


@pytest.mark.parametrize(
    ("state", "words", "hint"),
    [
        ({"locked": True}, "my-iphone is locked", "Auto-Lock"),
        ({"pairing": "unpaired"}, "is not paired with its Mac", "tap Trust"),
        ({"developer_mode": "disabled"}, "developer mode is off", "Privacy & Security"),
        ({"connection": "unavailable"}, "cannot be reached by its Mac", "cable"),
        ({"disk_image": False}, "developer disk image is not mounted", "Xcode"),
        ({"untrusted": True}, "does not trust the developer", "VPN & Device Management"),
        ({"no_xcode": True}, "has no Xcode", "xcode-select"),
        ({"udid": "OTHER"}, f"knows no device {UDID}", "discover --on"),
        ({"cut_copies": 1}, "the connection from this machine to my-iphone was lost", "cable"),
    ],
)
def test_a_phone_that_cannot_be_measured_on_is_a_record_with_words(
    phone: StandInPhone, tmp_path: Path, state: dict[str, Any], words: str, hint: str
) -> None:
    phone.change(**state)
    failure = measured(tmp_path).outcome.failure
    assert failure is not None
    assert words in failure.message
    assert hint in (failure.hint or "")


def test_an_app_that_was_never_there(phone: StandInPhone, tmp_path: Path) -> None:
    import shutil

    shutil.rmtree(phone.documents().parent)
    failure = measured(tmp_path).outcome.failure
    assert failure is not None
    assert "never opened" in failure.message
    connection = known_connection("my-iphone")
    assert connection.installed is not None
    older = msgspec.structs.replace(connection.installed, latbench="0" * 64)
    store_connection(msgspec.structs.replace(connection, installed=older))
    failure = measured(tmp_path).outcome.failure
    assert failure is not None
    assert "another state of latbench's app" in failure.message
    assert failure.hint == "latbench devices install my-iphone --team TEAMID"


def test_a_model_that_the_phone_refuses(phone: StandInPhone, tmp_path: Path) -> None:
    record = measured(tmp_path, misbehave="error", at="open")
    failure = record.outcome.failure
    assert failure is not None
    assert failure.message == "the fake runtime failed"
    assert record.outcome.traces == ()
    assert measured(tmp_path).outcome.status == "measured"


# Two answers are facts. The pilot run has 8: conditions, open, first, warm-up, block, outputs,
# close, conditions. The first process has 7 of its own, the second one begins after 17.
@pytest.mark.parametrize(
    ("wrong", "words", "kind"),
    [
        ({}, "latbench's app ended without a word on my-iphone", "crash"),
        ({"locks": True}, "my-iphone was locked, or has restarted, while it measured", "crash"),
        ({"runs_empty": True}, "the connection from this machine to my-iphone", "disconnected"),
        ({"half_written": True}, "latbench's app ended without a word on my-iphone", "crash"),
        ({"signal": True}, "latbench's app was ended by iOS on my-iphone", "crash"),
    ],
)
def test_an_app_that_dies_leaves_what_was_measured(
    phone: StandInPhone, tmp_path: Path, wrong: dict[str, Any], words: str, kind: str
) -> None:
    phone.change(dies_after=22, **wrong)
    record = measured(tmp_path)
    failure = record.outcome.failure
    assert failure is not None
    assert words in failure.message
    assert failure.kind == kind
    assert len(record.outcome.traces) >= 1
    assert record.outcome.traces[0].blocks
    if not wrong:
        phone.change(dies_after=None)
        assert measured(tmp_path).outcome.status == "measured"


def test_a_cable_that_is_cut_for_a_moment_costs_nothing(
    phone: StandInPhone, tmp_path: Path
) -> None:
    # Every launch loses its connection; the app goes on without it.
    phone.change(cut_consoles=9, cut_after_s=0.2, cut_s=0.5)
    record = measured(tmp_path)
    assert record.outcome.status == "measured", record.outcome.failure
    assert len(record.outcome.traces) == 2


def test_a_phone_of_another_model_decides_no_claim(phone: StandInPhone, tmp_path: Path) -> None:
    phone.has_app("my-iphone", "fake", same_as="iphone-13")
    failure = measured(tmp_path).outcome.failure
    assert failure is not None
    assert "my-iphone is iPhone 13 mini (iPhone14,4), not iphone-13" in failure.message
    phone.has_app("my-iphone", "fake", same_as="iphone-13-mini")
    record = measured(tmp_path)
    assert record.outcome.status == "measured"
    assert record.device.hardware == "iphone-13-mini"


def test_what_a_phone_does_not_do(phone: StandInPhone, tmp_path: Path) -> None:
    model = ("--backend", "fake", "--device", "my-iphone")
    left = latbench("run", "mobilevig_ti", *model, "--detach")
    assert left.status == 2
    assert "a run cannot be left on my-iphone" in left.err
    other = latbench("run", "mobilevig_ti", "--device", "my-iphone", "--backend", "onnxruntime")
    assert other.status == 3
    assert "latbench's app runs fake" in other.out + other.err


FEW = ("--calls", "10", "--block-calls", "5", "--warmup", "3")


def test_two_models_are_timed_alternately(phone: StandInPhone, tmp_path: Path) -> None:
    common = ("--model", "mobilevig_ti", "--backend", "fake", "--device", "my-iphone", *FEW)
    common = (*common, "--processes", "6")
    registry = ("--registry", str(tmp_path / "registry.db"))
    quiet = "noise=0.005,between=0.001"
    done = latbench("compare", quiet, f"{quiet},scale=1.2", *common, *registry, "--json")
    assert done.status == 0, done
    assert done.json["comparison"]["verdict"] == "slower"
    assert done.json["comparison"]["interleaved"] is True
    with Registry.open(str(tmp_path / "registry.db")) as store:
        one, two = (store.get(each["id"]) for each in done.json["sides"])
    assert one.interleaved is not None
    assert two.interleaved is not None
    assert one.interleaved.comparison == two.interleaved.comparison
    assert (one.interleaved.part, two.interleaved.part) == (0, 1)
    for a, b in zip(one.outcome.traces, two.outcome.traces, strict=True):
        assert a.process == b.process
        assert len(a.blocks) == len(b.blocks)
    # One launch for the facts, one for the pilot run, and one for each process.
    assert phone.state()["launches"] == 2 + 6
    assert left_jobs() == ()

    failing = "misbehave=error,at=open"
    done = latbench("compare", quiet, failing, *common, *registry, "--json")
    assert done.status == 3
    with Registry.open(str(tmp_path / "registry.db")) as store:
        one, two = (store.get(each["id"]) for each in done.json["sides"])
    assert (one.outcome.status, two.outcome.status) == ("interrupted", "failed")
    assert two.outcome.failure is not None
    assert two.outcome.failure.message == "the fake runtime failed"


def harness(phone: StandInPhone, registry: Path) -> subprocess.Popen[str]:
    command = (sys.executable, "-m", "latbench", "run", "mobilevig_ti", "--backend", "fake")
    return started(command, registry)


def started(command: Sequence[str], registry: Path) -> subprocess.Popen[str]:
    options = ("--device", "my-iphone", "--protocol", "latbench-fixed@1", "--processes", "3")
    return subprocess.Popen(
        [*command, *options, *FEW, "--registry", str(registry)],
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def until_stopped(phone: StandInPhone, running: subprocess.Popen[str] | None = None) -> None:
    end = time.monotonic() + 240
    while not (phone.folder / "stopped").exists():
        assert time.monotonic() < end
        assert running is None or running.poll() is None, running.communicate()
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_harness_that_ends_in_the_middle(
    phone: StandInPhone, tmp_path: Path, number: signal.Signals
) -> None:
    phone.change(stops_after=20, stops_for_s=1.0)
    registry = tmp_path / "registry.db"
    running = harness(phone, registry)
    until_stopped(phone, running)
    os.killpg(running.pid, number)
    out, err = running.communicate(timeout=60)
    phone.change(stops_after=None)
    if number == signal.SIGINT:
        assert "INTERRUPTED" in out + err
        assert left_jobs() == ()
    else:
        assert len(left_jobs()) == 1
        ended = latbench("collect", "--wait", "--registry", str(registry))
        assert ended.status == 3, ended
        assert "the program that launched its parts has ended" in ended.out
        assert left_jobs() == ()
    with Registry.open(str(registry)) as store:
        (id,) = store.ids("")
        record = store.get(id)
    assert record.outcome.status == ("interrupted" if number == signal.SIGINT else "failed")
    assert len(record.outcome.traces) >= (1 if number == signal.SIGKILL else 0)
    assert measured(tmp_path / "again").outcome.status == "measured"


def test_a_comparison_whose_harness_is_killed(phone: StandInPhone, tmp_path: Path) -> None:
    # Facts have 2 answers, the pilot run 14, the first process 14 and conditions.
    phone.change(stops_after=36, stops_for_s=1.0)
    registry = tmp_path / "registry.db"
    sides = ("compare", "scale=1", "scale=1.2", "--model", "mobilevig_ti", "--backend", "fake")
    running = started((sys.executable, "-m", "latbench", *sides), registry)
    until_stopped(phone, running)
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate(timeout=60)
    phone.change(stops_after=None)
    ended = latbench("collect", "--wait", "--registry", str(registry), "--json")
    assert ended.status == 3, ended
    (told,) = ended.json
    assert left_jobs() == ()
    with Registry.open(str(registry)) as store:
        records = [store.get(told[side]["id"]) for side in ("record", "second")]
    assert sorted(each.outcome.status for each in records) == ["failed", "interrupted"]
    for part, record in enumerate(records):
        assert record.interleaved is not None
        assert record.interleaved.part == part
        assert record.outcome.traces[0].blocks


def test_the_way_to_a_new_phone(phone: StandInPhone, tmp_path: Path) -> None:
    assert "add my-iphone apple" in latbench("devices", "discover", "--on", "local").out
    assert latbench("devices", "remove", "my-iphone").status == 0
    found = latbench("devices", "discover", "--on", "local")
    line = f"latbench devices add my-iphone-13-mini apple://local/{UDID} --same-as iphone-13-mini"
    assert found.out.startswith(line)
    phone.change(others=[{"identifier": "B", "udid": "00008110-0019"}])
    twice = latbench("devices", "discover", "--on", "local")
    assert "devices add my-iphone-13-mini-2 apple://local/00008110-0019 " in twice.out
    assert latbench(*line.split()[1:]).status == 0
    new = "my-iphone-13-mini"
    checked = latbench("devices", "check", new)
    assert checked.status == 3
    assert "latbench's app is not installed" in checked.out
    for team, words in ((None, "--team TEAMID"), ("x", "'x' is not the id of a team")):
        refused = latbench("devices", "install", new, *(("--team", team) if team else ()))
        assert refused.status == 2
        assert words in refused.err
    unknown = latbench("devices", "install", new, "--team", "ZZZZZ99999")
    assert unknown.status == 3
    assert "no account of the team ZZZZZ99999 is in Xcode on this machine" in unknown.err
    phone.change(unsigned=True)
    unsigned = latbench("devices", "install", new, "--team", TEAM)
    assert unsigned.status == 3
    assert "it is not signed for this phone" in unsigned.err
    phone.change(unsigned=False)
    installed = latbench("devices", "install", new, "--team", TEAM)
    assert installed.status == 0, installed.err
    assert installed.out.endswith(f"with coreml, signed by {TEAM}\n")
    checked = latbench("devices", "check", new)
    assert checked.status == 0, checked.out
    assert checked.out.startswith(f"{new} can be measured on\n")
    for words in ("Xcode 26.5", "version 518.31", "iPhone 13 mini (iPhone14,4), iOS 18.5"):
        assert words in checked.out
    assert latbench("devices", "clean", new).status == 0
    assert not phone.documents().exists()


def test_a_phone_that_warms_up_in_mid_run(phone: StandInPhone, tmp_path: Path) -> None:
    phone.change(conditions={"thermal_status": "nominal"})
    answers = measured_answers(phone, tmp_path)
    phone.change(conditions={"thermal_status": "nominal"}, warms_after=2 * answers - 4)
    record = measured(tmp_path)
    blocks = [block for trace in record.outcome.traces for block in trace.blocks]
    statuses = [block.readings.thermal_status if block.readings else None for block in blocks]
    assert statuses[0] == "nominal"
    assert statuses[-1] == "serious"
    assert record.environment.before.thermal_status == "nominal"
    assert record.environment.after is not None
    assert record.environment.after.thermal_status == "serious"
    summary = summarize(record)
    assert summary is not None
    assert summary.disturbances == {"the device throttled itself": statuses.count("serious")}


def test_a_warm_phone_is_waited_for(
    phone: StandInPhone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The app is asked again while it cools: at first, for the run, and while it rests."""
    monkeypatch.setattr(apple, "FRESH_S", 0.0)
    phone.change(conditions={"thermal_status": "fair"}, cools_at=5)
    ended = latbench(
        *("run", "mobilevig_ti", "--backend", "fake", "--device", "my-iphone", *FEW),
        *("--max-thermal-status", "nominal", "--processes", "1", "--json"),
    )
    assert ended.status == 0, ended
    rest = ended.json["record"]["environment"]["rest"]
    assert (rest["start_thermal_status"], rest["end_thermal_status"]) == ("fair", "nominal")


def measured_answers(phone: StandInPhone, tmp_path: Path) -> int:
    """How many lines the app answers in a run that goes well."""
    record = measured(tmp_path)
    assert record.outcome.status == "measured"
    answers: int = phone.state()["answers"]
    return answers


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"no_xcode": True}, "has no Xcode"),
        ({"udid": "00008110-001959E22178801F"}, "knows no device 00008110-001959E22178801E"),
        ({"locked": True}, "my-iphone is locked"),
        ({"pairing": "unpaired"}, "is not paired"),
        ({"conditions": {"battery_percent": 4}}, "charge it first"),
        ({"conditions": {"thermal_status": "fair"}}, "let it cool down"),
    ],
)
def test_a_check_says_what_to_do(phone: StandInPhone, state: dict[str, Any], words: str) -> None:
    phone.change(**state)
    checked = latbench("devices", "check", "my-iphone")
    assert words in checked.out
    assert checked.status == (0 if "conditions" in state else 3)


def test_a_phone_behind_a_mac_that_is_reached_over_ssh(
    ssh_bed: Bed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("asyncssh", reason="needs the `ssh` extra")
    with ssh_bed.started(name="studio", user="root", visible=CHECKOUT) as mac:
        use_home(tmp_path / "home", mac, monkeypatch)
        home = mac.spec.home
        phone = make_phone(mac.path(home) / "mac")
        variables = {
            "PATH": f"{home}/mac/xcode:$PATH",
            "LATBENCH_STAND_IN_PHONE": f"{home}/mac/phone",
        }
        variables["PYTHONPATH"] = phone.environment()["PYTHONPATH"]
        lines = (f'export {name}="{value}"\n' for name, value in variables.items())
        (mac.path(home) / ".bashrc").write_text("".join(lines))
        store_connection(Connection(id="studio", address="ssh://studio"))
        assert f"apple://studio/{UDID}" in latbench("devices", "discover", "--on", "studio").out
        phone.has_app("my-iphone", "fake", mac="studio")
        record = measured(tmp_path)
        assert record.outcome.status == "measured", record.outcome.failure
        assert record.environment.link is not None
        assert record.environment.link.address == f"apple://studio/{UDID}"
        assert not list(mac.path("/tmp").glob("latbench-*"))
        # The Mac falls asleep while the second process is timed.
        phone.change(stops_after=phone.state()["answers"] + 22, stops_for_s=2.0)

        def sleep() -> None:
            until_stopped(phone)
            mac.cut()

        with ThreadPoolExecutor() as asleep:
            asleep.submit(sleep)
            record = measured(tmp_path)
        failure = record.outcome.failure
        assert failure is not None
        assert len(record.outcome.traces) >= 1
        assert failure.kind in ("disconnected", "timeout")
        failure = measured(tmp_path).outcome.failure
        assert failure is not None
        assert failure.kind in ("disconnected", "unavailable", "timeout")
        assert "studio" in failure.message
