"""`latbench completion`: the scripts, and what the shell is offered."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest
from click.testing import CliRunner

from latbench.cli import GROUPS, cli
from latbench.schema.record import SweepPoint
from latbench.store.registry import Registry
from support.records import make_record

TYPES = ("TEXT", "INTEGER", "FLOAT", "INTEGER RANGE", "FLOAT RANGE")


def offered(*words: str, registry: str = "") -> list[str]:
    """What bash is offered for the last of ``words``."""
    line = " ".join(("latbench", *words))
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.argv = ['latbench']; import latbench.cli as c; c.main()",
        ],
        env={
            **os.environ,
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words)),
            "_LATBENCH_COMPLETE": "bash_complete",
            **({"LATBENCH_REGISTRY": registry} if registry else {}),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return [each.partition(",")[2] for each in done.stdout.splitlines()]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script(shell: str) -> None:
    done = CliRunner().invoke(cli, ["completion", shell])
    assert done.exit_code == 0
    assert "_LATBENCH_COMPLETE" in done.output


def test_names_are_offered() -> None:
    assert offered("com") == ["compare", "completion"]
    assert "mobilevig_ti" in offered("run", "mobilevig_")
    assert "onnxruntime" in offered("run", "--backend", "onn")
    assert "latbench-warm@1" in offered("run", "--protocol", "latbench-w")
    assert "local" in offered("run", "--device", "loc")
    assert offered("protocols", "latbench-warm") == ["latbench-warm@1", "latbench-warm@2"]


def parameters(command: click.Command, path: str = "") -> Iterator[tuple[str, click.Parameter]]:
    """Every parameter of a command and of those below it, with the command's name."""
    context = click.Context(command)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from parameters(below, f"{path} {name}".strip())
    for param in command.params:
        yield path, param


def test_every_parameter_that_names_something_is_completed() -> None:
    """But for what is new, or known only to another program."""
    new = {"devices add id", "check-worker backend", "import model_id", "import id"}
    names = {"model", "models", "backend", "backends", "device", "protocol", "id", "ids", "claim"}
    names |= {"claims", "claim_id", "sweep", "job", "source", "against", "a", "b"}
    missing = {
        f"{command} {param.name}"
        for command, param in parameters(cli)
        if param.name in names
        and not isinstance(param.type, click.Choice)
        and param._custom_shell_complete is None
    }
    assert missing - new == set()


def test_no_help_shows_the_type_of_a_value_in_code() -> None:
    """But what the value is: N, SECONDS, NAME."""
    shown = {
        f"{command} {param.name}"
        for command, param in parameters(cli)
        if isinstance(param, click.Option)
        and param.make_metavar(click.Context(click.Command("x"))) in TYPES
        and not param.is_flag
        and param.name not in {"title", "help", "version"}
    }
    assert shown == set()


def test_ids_of_claims_records_and_sweeps_are_offered(tmp_path: Path) -> None:
    """Also where two kinds of names are accepted."""
    url = str(tmp_path / "registry.db")
    record = make_record(id="01h0000000000000000000000a")
    point = SweepPoint(sweep="01s", points_sha256="0" * 64, point=0, points=1, order_seed=0)
    with Registry.open(url) as store:
        store.add(msgspec.structs.replace(record, sweep=point))
    assert offered("show", "01h", registry=url) == [record.id]
    assert offered("compare", "--records", "01h", registry=url) == [record.id]
    assert offered("table", "--sweep", "0", registry=url) == ["01s"]
    assert offered("claims", "check", "tinynet-e-mac") == ["tinynet-e-macs"]
    assert offered("claims", "list", "--source", "mobilevig")
    assert "iphone-x" in offered("devices", "iph")


def test_the_help_lists_every_command_once_in_a_group() -> None:
    listed = [name for group in GROUPS.values() for name in group]
    assert len(listed) == len(set(listed))
    shown = CliRunner().invoke(cli, ["--help"]).output
    for title in GROUPS:
        assert f"\n{title}:\n" in shown
