"""The commands of the README and the tutorial, executed as printed."""

from __future__ import annotations

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest

from support.command_line import Ended, in_process
from support.environment import child_environment

ROOT = Path(__file__).parent.parent.parent
BLOCK = re.compile(r"^```(\w*)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$", re.M | re.S)
QUICK = ("--protocol", "latbench-fixed@1", "--processes", "1", "--warmup", "1", "--calls", "3")


def blocks(page: str) -> list[tuple[str, str | None, str]]:
    """Language, title and text of each fenced block."""
    text = (ROOT / page).read_text()
    return [(each[1], each["title"], each["text"]) for each in BLOCK.finditer(text)]


def commands(page: str) -> list[str]:
    """The lines of the page's console blocks that a reader types."""
    return [
        line.removeprefix("$ ").partition("  #")[0].strip()
        for language, _, text in blocks(page)
        if language == "console"
        for line in text.splitlines()
        if line.startswith("$ ")
    ]


def run(command: str, place: Path, *more: str) -> Ended:
    """Run a command as printed, in this process; its workers are processes."""
    program, *arguments = shlex.split(command)
    assert program == "latbench", command
    environment = child_environment(LATBENCH_REGISTRY=str(place / "registry.db"), COLUMNS="80")
    return in_process([*arguments, *more], environment, place)


def write_files(page: str, place: Path) -> None:
    for language, title, text in blocks(page):
        if language == "python" and title is not None:
            (place / title).write_text(text)


@pytest.mark.slow
@pytest.mark.torch
def test_the_tutorial_works_as_printed(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    write_files("docs/tutorial.md", tmp_path)
    typed = commands("docs/tutorial.md")
    assert len(typed) > 10
    for command in typed:
        done = run(command, tmp_path)
        # Inconclusive is an answer that a busy machine may give.
        allowed = {0, 4} if " compare " in command else {0}
        assert done.status in allowed, f"{command}\n{done.out}{done.err}"
        assert done.out.strip(), command


@pytest.mark.slow
@pytest.mark.torch
def test_the_readmes_commands_work(tmp_path: Path) -> None:
    """The same commands; what they measure is measured briefly here."""
    if find_spec("timm") is None:
        pytest.skip("needs the extra timm")
    write_files("docs/tutorial.md", tmp_path)
    made = run("latbench export net.py:make_net --output model.onnx", tmp_path)
    assert made.status == 0, made.err
    for name in ("old.onnx", "new.onnx"):
        (tmp_path / name).write_bytes((tmp_path / "model.onnx").read_bytes())
    # The README's board is this machine under another name.
    assert run("latbench devices add pi5 local://", tmp_path).status == 0
    typed = commands("README.md")
    assert len(typed) > 5
    for command in typed:
        measures = command.split()[1] in ("run", "compare")
        done = run(command, tmp_path, *(QUICK if measures else ()))
        assert done.status in ({0, 4} if measures else {0}), f"{command}\n{done.err}"


def test_the_two_commands_at_the_readmes_top_are_targets_of_make() -> None:
    first = next(text for language, _, text in blocks("README.md") if not language)
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^make (\w+)", first, re.M)
    assert targets == ["run", "test"]
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.M)


def test_no_page_prints_an_option_that_no_command_has() -> None:
    """Every ``latbench COMMAND ... --option`` in a page is known to that command."""
    import click

    from latbench.cli import COMMANDS, cli

    context = click.Context(cli)
    wrong = []
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/guides/*.md")]
    for page in pages:
        if page.name in ("VERDICTS.md", "PAPERS.md"):
            continue
        for line in re.findall(r"latbench [a-z][^`|;\n#]*", page.read_text()):
            words = re.split(r"\s+|=", line.strip())
            if words[1] not in COMMANDS:
                continue
            command = cli.get_command(context, words[1])
            if isinstance(command, click.Group) and len(words) > 2:
                command = command.get_command(context, words[2]) or command
            assert command is not None
            known = {
                flag for param in command.params for flag in (*param.opts, *param.secondary_opts)
            }
            wrong += [
                f"{page.name}: {line.strip()}: {word}"
                for word in words
                if re.fullmatch(r"--[a-z][a-z-]+", word) and word not in {*known, "--help"}
            ]
    assert not wrong, "\n".join(wrong)
