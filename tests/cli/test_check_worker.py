"""`latbench check-worker` with programs that are no workers, and with wrong command lines."""

from __future__ import annotations

import json
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from latbench.cli.check_worker import command
from latbench.errors import UsageError
from support.environment import child_environment


def lines(*arguments: str, status: int = 1) -> list[str]:
    done = CliRunner().invoke(command, list(arguments))
    assert done.exit_code == status, done.output
    return done.output.splitlines()


@pytest.mark.parametrize(
    ("program", "came"),
    [
        ("import time; time.sleep(600)", "no response within 1 s"),
        ("while True: print('loading')", "200 lines that are not messages, such as loading"),
        ('print(\'{"type":"hello"}\')', "Object missing required field `protocol`"),
        ("import sys; sys.exit('no licence')", "status 1; standard error: no licence"),
        ("import sys; sys.stdout.write('{' * 10**6)", "a line without its end"),
    ],
)
def test_what_is_no_worker_fails_at_hello(program: str, came: str) -> None:
    """In words, within its time, and it does not live on."""
    found = lines("--timeout", "1", "--", sys.executable, "-c", program)
    assert found[0].startswith("1 of ")
    assert "no model was opened" in found[0]
    assert found[1] == "failed  hello"
    assert came in found[3]
    assert found[4].endswith("(PROTOCOL.md, hello)")
    assert {line.split()[0] for line in found[5:]} == {"skipped"}
    running = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
    assert [sys.executable, "-c", program] not in running


def test_the_report_for_other_programs() -> None:
    done = CliRunner().invoke(command, ["--json", "--only", "pid", "--", "false"])
    report = json.loads(done.output)
    assert (done.exit_code, report["passed"], report["backend"]) == (1, False, None)
    assert [each["outcome"] for each in report["checks"]] == ["failed", "skipped"]
    assert report["checks"][0]["section"] == "hello"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("-- no-such-program", "no-such-program cannot be started: No such file or directory"),
        ("--only helo -- cat", "unknown check 'helo'"),
        ("--backend acme -- cat", "no model of backend 'acme' whose outputs are its inputs"),
        ("--artifact FILE -- cat", "--artifact needs the name of its backend"),
        ("--backend acme --artifact FILE -- cat", "the inputs of FILE are not known"),
        ("--backend acme --artifact FILE --shape 2x3 -- cat", "'2x3' has no name"),
        ("--backend acme --artifact FILE --shape x=2:foo -- cat", "'x=2:foo' has an unknown type"),
        ("--shape x=2 -- cat", "--shape describes the model of --artifact"),
        ('--script "a \'b" -- cat', "cannot be split into words"),
    ],
)
def test_wrong_command_lines(arguments: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "FILE"
    file.write_bytes(b"x")
    given = [str(file) if word == "FILE" else word for word in shlex.split(arguments)]
    done = CliRunner().invoke(command, ["--timeout", "1", *given])
    if isinstance(done.exception, UsageError):
        assert words in done.exception.message.replace(str(file), "FILE")
    else:
        assert words in done.output


def test_a_terminal_shows_which_check_runs() -> None:
    """And the first line of the output is the answer nevertheless."""
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "latbench", "check-worker", "--only", "pid", "--", "false"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=child_environment(TERM="xterm"),
        text=True,
        check=False,
    )
    os.close(theirs)
    drawn = os.read(ours, 10_000).decode()
    os.close(ours)
    assert done.stdout.startswith("1 of 2 checks failed")
    assert "check 1 of 2: hello, hello" in drawn
    assert "check 2 of 2: hello, pid" in drawn
