"""``run --detach``, ``collect`` and ``devices jobs`` where there is no device at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.command_line import Latbench


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mobilevig_ti", "--backend", "fake"], "only on a device at the end of a connection"),
        (["mobilevig_ti", "--profile"], "--detach does not allow --profile"),
        (["mobilevig_ti", "--require-precision"], "--detach does not allow --profile"),
        (["mobilevig_ti", "--cooldown", "3"], "--detach does not allow --profile"),
        (["mobilevig_ti", "--max-temperature", "60"], "--detach does not allow --profile"),
        (["mobilevig_ti", "mobilevig_s"], "--detach applies to one model, not to a sweep"),
    ],
)
def test_what_cannot_be_left(latbench: Latbench, arguments: list[str], words: str) -> None:
    ended = latbench("run", *arguments, "--detach")
    assert ended.status == 2
    assert words in ended.err


def test_nothing_was_left(latbench: Latbench) -> None:
    assert latbench("collect").out == "nothing to collect\n"
    assert latbench("collect", "--json").json == []
    assert latbench("devices", "jobs").out == "no jobs were left on devices\n"
    for arguments in (("collect", "01abc"), ("devices", "cancel", "01abc")):
        ended = latbench(*arguments)
        assert ended.status == 2
        assert "no job '01abc' was found" in ended.err


@pytest.mark.parametrize("content", [b"{", b"\xff", b'{"schema": 2}', b""])
def test_a_damaged_job_is_named(latbench: Latbench, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data" / "latbench" / "jobs" / "01abc.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    ended = latbench("collect")
    assert ended.status == 3
    assert str(path) in ended.err


def test_this_machine_under_another_name_has_no_jobs(latbench: Latbench, tmp_path: Path) -> None:
    config = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    latbench("devices", "add", "here", "local://", **config)
    assert latbench("devices", "jobs", **config).out == "no jobs were left on devices\n"
    ended = latbench("devices", "jobs", "here", **config)
    assert ended.status == 3
    assert "no jobs can be left on here, which is this machine" in ended.err
    left = latbench(
        "run", "mobilevig_ti", "--backend", "fake", "--device", "here", "--detach", **config
    )
    assert left.status == 2
