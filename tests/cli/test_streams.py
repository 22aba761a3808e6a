"""Standard output that is full, closed or a terminal, and names that try to steer it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from latbench.cli.streams import shown_lines
from latbench.report.writers import printable
from latbench.schema.codec import decode_record, encode_record
from support.command_line import COMMAND, Latbench
from support.records import make_record

COMMANDS = [
    ("models",),
    ("protocols", "--json"),
    ("table", "--format", "csv"),
    ("--version",),
    ("import", "record.json"),
]
FULL = "cannot write to standard output"
linux = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


def redirected(environment: dict[str, str], folder: Path, *command: str, to: str) -> Any:
    """Run a command in a shell with a redirection."""
    line = f'"$@" {to}'
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line, "bash", *COMMAND, *command],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def folder(latbench: Latbench, tmp_path: Path) -> Path:
    (tmp_path / "stored.json").write_bytes(encode_record(make_record(id="stored")))
    (tmp_path / "record.json").write_bytes(encode_record(make_record(id="another")))
    assert latbench("import", "stored.json").status == 0
    return tmp_path


@linux
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("to", [">/dev/full", ">&-"])
def test_output_that_cannot_be_written_is_no_answer(
    environment: dict[str, str], folder: Path, command: tuple[str, ...], to: str
) -> None:
    ended = redirected(environment, folder, *command, to=to)
    assert ended.returncode == 3, ended
    assert FULL in ended.stderr
    assert "Traceback" not in ended.stderr


@linux
@pytest.mark.parametrize("command", COMMANDS[1::3], ids=" ".join)
@pytest.mark.parametrize("to", ["2>&-", "2>/dev/full", "<&- 2>&-"])
def test_messages_that_nobody_receives_are_not_needed(
    environment: dict[str, str], folder: Path, command: tuple[str, ...], to: str
) -> None:
    ended = redirected(environment, folder, *command, to=to)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_reader_that_has_enough_is_not_an_error(
    environment: dict[str, str], folder: Path, command: tuple[str, ...]
) -> None:
    ended = redirected(environment, folder, *command, to="| head -c 1")
    assert (ended.returncode, ended.stderr) == (0, "")


@linux
def test_a_measurement_goes_on_without_messages(
    environment: dict[str, str], latbench: Latbench, folder: Path
) -> None:
    run = ("run", "mobilevig_ti", "--backend", "fake", "--protocol", "latbench-quick@1", "--json")
    assert redirected(environment, folder, *run, to="2>&-").returncode == 0
    full = redirected(environment, folder, *run, to=">/dev/full")
    assert full.returncode == 3
    assert "records that were measured are stored" in full.stderr
    assert latbench("history", "mobilevig_ti", "--backend", "fake", "--json").status in (0, 2)


def test_an_internal_error_is_no_answer(
    latbench: Latbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from latbench.cli import cli

    def broken(*args: object, **more: object) -> None:
        raise KeyError("missing")

    monkeypatch.setattr(cli, "main", broken)
    ended = latbench("models")
    assert ended.status == 3
    assert ended.err.startswith("latbench: internal error: KeyError: 'missing' (test_streams.py:")
    assert "report it" in ended.err


EVIL = "x\x1b[2J\x1b]0;title\x07\nrecord 2\r\u202e\x9b31m\x00"


def test_names_are_shown_with_escapes() -> None:
    shown = printable(EVIL)
    assert shown == r"x\x1b[2J\x1b]0;title\x07\nrecord 2\r\u202e\x9b31m\x00"
    assert printable("Prüfung 1 µs ±2 · naïve 模型") == "Prüfung 1 µs ±2 · naïve 模型"
    assert shown_lines("one\ntwo\x1b") == "one\ntwo\\x1b"


def evil_record(id: str) -> bytes:
    """A record whose texts all contain control characters."""
    tree = json.loads(encode_record(make_record(id=id)))

    def changed(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: changed(each, name) for name, each in value.items()}
        if isinstance(value, list):
            return [changed(each, key) for each in value]
        if isinstance(value, str) and key in ("name", "version", "hostname", "cpu_model", "kernel"):
            return value + EVIL
        return value

    data = msgspec.json.encode(changed(tree))
    decode_record(data)
    return data


@pytest.mark.parametrize("command", [("show",), ("show", "evil"), ("table",)])
def test_a_foreign_record_forges_no_lines(
    latbench: Latbench, tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "evil.json").write_bytes(evil_record("evil"))
    assert latbench("import", "evil.json").status == 0
    ended = latbench(*command)
    assert ended.status == 0, ended
    assert not [c for c in ended.out if (c != "\n" and ord(c) < 32) or c in "\x9b\u202e"]
    assert not [line for line in ended.out.splitlines() if line.startswith("record 2")]
    assert r"\x1b[2J" in ended.out


def test_a_terminal_gets_no_control_characters(
    environment: dict[str, str], latbench: Latbench, tmp_path: Path
) -> None:
    """Not even from output for programs, which is not changed in a pipe."""
    (tmp_path / "evil.json").write_bytes(evil_record("evil"))
    assert latbench("import", "evil.json").status == 0
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        [*COMMAND, "table", "--format", "markdown"],
        env={**environment, "TERM": "xterm"},
        cwd=tmp_path,
        stdout=theirs,
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # The end of a terminal.
        pass
    os.close(ours)
    assert running.wait(60) == 0
    assert b"mobilevig" in shown or b"model" in shown
    assert b"\x1b[2J" not in shown
    assert b"\x07" not in shown
