"""``latbench run`` and what it leaves in the registry, on the fake backend."""

from __future__ import annotations

import json
import os
import pty
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from support.command_line import COMMAND, QUICK, Latbench, wait_for_workers, workers_of
from support.environment import GOLDEN

FAKE = ("run", "--model", "mobilevig_ti", "--backend", "fake", "--threads", "1")


def test_a_run_is_printed_stored_and_shown(latbench: Latbench) -> None:
    ran = latbench(*FAKE)
    assert ran.status == 0, ran
    assert ran.err == ""
    (short,) = re.findall(r"record +(\w{7,26}) ", ran.out)
    shown = latbench("show", short).out
    assert shown.splitlines()[0] == ran.out.splitlines()[0]
    (record,) = re.findall(r"record +(\w{26}) ", shown)
    assert record.startswith(short)
    assert latbench("show", record[:20]).out == shown


def test_verbose_prints_what_show_prints(latbench: Latbench) -> None:
    ran = latbench(*FAKE, *QUICK, "--verbose")
    (record,) = re.findall(r"record +(\w{26}) ", ran.out)
    assert latbench("show", record).out == ran.out


def test_what_a_run_prints(latbench: Latbench) -> None:
    """Golden: the fake backend's traces are seeded, so all but machine and moment is fixed."""
    # By a protocol that looks at no clock: elsewhere a slow machine may take a sample more.
    lines = latbench(*FAKE, "--protocol", "latbench-fixed@1").out.splitlines()
    kept = [
        line for line in lines if not re.match(r"  (cold start|record|reliability| {12})", line)
    ]
    # Whether the neighbors were quiet depends on the machine.
    kept[0] = kept[0].removeprefix("UNRELIABLE  ").rsplit(" · ", 1)[0]
    assert "\n".join(kept) + "\n" == (GOLDEN / "run-fake.txt").read_text()
    assert len(lines) <= 7


def test_the_first_line_shows_that_a_result_is_not_reliable(latbench: Latbench) -> None:
    first, *rest = latbench(*FAKE, *QUICK).out.splitlines()
    # Two processes are too few; a disturbed machine makes it worse.
    assert first.startswith(("INCONCLUSIVE  1.", "UNRELIABLE  1."))
    # Advice against the worst reasons only.
    assert any(line.strip().startswith("try: ") for line in rest)
    failed = latbench(*FAKE, *QUICK, "--option", "misbehave=crash", "--option", "at=open").out
    assert failed.startswith("FAILED at open (crash): ")


def test_a_protocol_with_another_number_has_it_on_the_first_line(latbench: Latbench) -> None:
    assert "ms cold start  mobilevig_ti" in latbench(*FAKE, "--protocol", "cold-start").out
    tail = latbench(*FAKE, "--protocol", "loadgen-singlestream", "--calls", "50").out
    assert " p90  mobilevig_ti" in tail.splitlines()[0]


def test_colors_only_where_they_are_wanted(latbench: Latbench) -> None:
    assert "\x1b[" not in latbench(*FAKE, *QUICK).out
    assert "\x1b[1m" in latbench(*FAKE, *QUICK, FORCE_COLOR="1").out
    assert "\x1b[" not in latbench(*FAKE, *QUICK, FORCE_COLOR="1", NO_COLOR="1").out


def test_json_is_the_record_and_its_summary(latbench: Latbench) -> None:
    ran = latbench(*FAKE, *QUICK, "--json")
    assert ran.status == 0
    record, summary = ran.json["record"], ran.json["summary"]
    assert record["schema"] == 3
    assert record["protocol"]["processes"] == summary["processes"] == 2
    traces = record["outcome"]["traces"]
    assert [trace["process"] for trace in traces] == [0, 1]
    for trace in traces:
        assert len(trace["warmup_ns"]) == 3
        assert [len(block["sample_ns"]) for block in trace["blocks"]] == [5, 5]
        assert trace["first_ns"] > 0
        assert trace["load_ns"] > 0
    # Two processes are never enough; a disturbed machine makes it worse.
    assert summary["reliability"] in ("inconclusive", "unreliable")
    assert latbench("show", record["id"], "--json").json == ran.json


def test_the_same_seed_gives_the_same_trace(latbench: Latbench) -> None:
    def samples(seed: str) -> object:
        record = latbench(*FAKE, *QUICK, "--seed", seed, "--json").json["record"]
        return [trace["blocks"] for trace in record["outcome"]["traces"]]

    def times(seed: str) -> object:
        return [[block["sample_ns"] for block in blocks] for blocks in samples(seed)]  # type: ignore[attr-defined]

    assert times("1") == times("1") != times("2")


@pytest.mark.parametrize(
    ("misbehave", "at", "kind", "stage"),
    [
        ("crash", "open", "crash", "open"),
        ("crash", "time", "crash", "time"),
        ("exit", "warmup", "crash", "warmup"),
        ("hang", "time", "timeout", "time"),
        ("oom", "time", "out_of_memory", "time"),
        ("error", "open", "error", "time"),
        ("lie", "time", "mismatch", "outputs"),
        ("nan", "time", "mismatch", "outputs"),
    ],
)
def test_what_goes_wrong_is_a_record(
    latbench: Latbench, misbehave: str, at: str, kind: str, stage: str
) -> None:
    ran = latbench(
        *FAKE,
        *QUICK,
        *("--option", f"misbehave={misbehave}", "--option", f"at={at}"),
        *(("--timeout", "2") if misbehave == "hang" else ()),
        "--json",
    )
    assert ran.status == 3
    outcome = ran.json["record"]["outcome"]
    assert outcome["status"] == "failed"
    assert (outcome["failure"]["kind"], outcome["failure"]["stage"]) == (kind, stage)
    assert outcome["failure"]["message"]
    if stage == "time" and at == "time":
        # What had been measured before it went wrong is kept.
        assert len(outcome["traces"][0]["warmup_ns"]) == 3
    shown = latbench("show", ran.json["record"]["id"])
    assert shown.status == 0
    assert shown.out.startswith(f"FAILED at {stage} ({kind}): ")


def test_chatter_on_standard_output_changes_nothing(latbench: Latbench) -> None:
    ran = latbench(*FAKE, *QUICK, "--option", "misbehave=chatter", "--json")
    assert ran.status == 0
    assert ran.json["record"]["outcome"]["status"] == "measured"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "--model", "mobilevig_tii"), "mobilevig_ti"),
        (("run", "--model", "mobilevig_ti", "--backend", "onxruntime"), "onnxruntime"),
        (("run", "--model", "mobilevig_ti", "--device", "iphone-13-mni"), "iphone-13-mini"),
        (
            ("run", "--model", "mobilevig_ti", "--device", "iphone-13-mini"),
            "is a description, not a device",
        ),
        (("rn",), "run"),
        ((*FAKE, "--batch", "0"), "batch"),
        ((*FAKE, "--resolution", "0"), "224"),
        ((*FAKE, "--resolution", "big"), "224"),
        ((*FAKE, "--threads", "0"), "threads"),
        ((*FAKE, "--option", "nois=1"), "noise"),
        ((*FAKE, "--option", "noise"), "KEY=VALUE"),
        ((*FAKE, "--precision", "fp12"), "fp32"),
        ((*FAKE, "--timeout", "0"), "timeout"),
        (("run",), "no model given"),
        (("show", "nosuchrecord"), "nosuchrecord"),
    ],
)
def test_requests_that_make_no_sense(
    latbench: Latbench, arguments: tuple[str, ...], words: str
) -> None:
    latbench(*FAKE, *QUICK)
    ended = latbench(*arguments)
    assert ended.status == 2
    assert ended.out == ""
    assert words in ended.err


def test_history_latest_and_groups(latbench: Latbench) -> None:
    for model in ("mobilevig_ti", "mobilevig_s", "mobilevig_ti"):
        assert latbench("run", "--model", model, "--backend", "fake", *QUICK).status == 0
    history = latbench("history", "--model", "mobilevig_ti", "--backend", "fake", "--json").json
    assert len(history) == 2
    assert history[0]["created_unix_ns"] > history[1]["created_unix_ns"]
    latest = latbench("show", "--json").json
    assert sorted(row["model"] for row in latest) == ["mobilevig_s", "mobilevig_ti"]
    assert history[0]["id"] in {row["id"] for row in latest}
    assert "no records" in latbench("history", "--model", "mobilevig_b", "--backend", "fake").out
    shown = latbench("show").out
    assert [name for name in ("mobilevig_s", "mobilevig_ti") if name in shown] == [
        *("mobilevig_s", "mobilevig_ti")
    ]


def test_progress_on_a_terminal_only(environment: dict[str, str], tmp_path: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execve(sys.executable, [*COMMAND, *FAKE, *QUICK], environment)
    shown = b""
    with suppress(OSError):  # a terminal whose program has ended gives an error, not an end
        while part := os.read(terminal, 4096):
            shown += part
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert b"timing" in shown
    assert b"100%" in shown
    assert b" ms \xc2\xb7 1 process" in shown  # the estimate so far
    assert shown.count(b"timing") <= 5  # once a block: nothing is drawn while samples are taken
    assert b"median of" in shown


def start(environment: dict[str, str], folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=environment,
        start_new_session=True,
    )


def gone(worker: int) -> bool:
    """Whether a worker has ended, within five seconds."""
    deadline = time.monotonic() + 5
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return not Path(f"/proc/{worker}").exists()


SLOW = (
    *FAKE,
    *("--protocol", "latbench-fixed@1", "--option", "real_time=yes"),
    *("--processes", "50", "--warmup", "2", "--calls", "100", "--block-calls", "2"),
)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_is_recorded(
    latbench: Latbench, environment: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    running = start(environment, tmp_path, *SLOW, "--json")
    workers = wait_for_workers(running.pid, 3)  # two processes are done by then
    running.send_signal(number)
    running.send_signal(number)  # an impatient user
    _, err = running.communicate(timeout=20)
    assert running.returncode == 3, err
    assert "Traceback" not in err
    assert all(gone(worker) for worker in workers)
    (row,) = latbench("show", "--json").json or latbench("history", *HISTORY, "--json").json
    assert row["status"] == "interrupted"
    record = latbench("show", row["id"], "--json").json["record"]
    assert sum(len(trace["blocks"]) for trace in record["outcome"]["traces"]) > 0
    assert record["environment"]["after"] is not None


def test_a_cache_that_takes_nothing_is_a_record(latbench: Latbench) -> None:
    ran = latbench(*FAKE, *QUICK, "--json", LATBENCH_CACHE="/dev/null/cache")
    assert ran.status == 3
    failure = ran.json["record"]["outcome"]["failure"]
    assert failure["stage"] == "export"
    assert "cannot write to the artifact cache" in failure["message"]
    assert "LATBENCH_CACHE" in failure["hint"]
    assert latbench("show", ran.json["record"]["id"]).status == 0


def test_a_worker_that_is_killed_is_a_failure(
    latbench: Latbench, environment: dict[str, str], tmp_path: Path
) -> None:
    """As the kernel does it for lack of memory."""
    running = start(environment, tmp_path, *SLOW, "--json")
    for worker in wait_for_workers(running.pid, 2):
        os.kill(worker, signal.SIGKILL)
    out, err = running.communicate(timeout=20)
    assert running.returncode == 3, err
    failure = json.loads(out)["record"]["outcome"]["failure"]
    assert failure["kind"] == "crash"
    assert "SIGKILL" in failure["message"]
    assert "memory" in failure["hint"]


HISTORY = ("--model", "mobilevig_ti", "--backend", "fake")


@pytest.mark.slow
def test_killed_at_any_moment_the_registry_is_whole(
    latbench: Latbench, environment: dict[str, str], tmp_path: Path
) -> None:
    """SIGKILL at 20 random moments: no half record, no worker left, and the next run works."""
    draw = random.Random(os.environ.get("PYTEST_RANDOM", "7"))
    begun = time.monotonic()
    assert latbench(*FAKE, *QUICK).status == 0
    whole_run = time.monotonic() - begun
    stored = 1
    for _ in range(20):
        running = start(environment, tmp_path, *FAKE, *QUICK)
        time.sleep(draw.uniform(0, whole_run * 1.1))
        workers = workers_of(running.pid)
        running.kill()
        out, _ = running.communicate()
        stored += "record " in out
        assert all(gone(worker) for worker in workers)
    rows = latbench("history", *HISTORY, "--limit", "1000", "--json").json
    assert stored <= len(rows) <= 21
    for row in rows:
        outcome = latbench("show", row["id"], "--json").json["record"]["outcome"]
        assert outcome["status"] == "measured"
        assert [len(trace["blocks"]) for trace in outcome["traces"]] == [2, 2]
    assert latbench(*FAKE, *QUICK).status == 0
