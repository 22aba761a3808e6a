"""The command line. Each command has its own module, imported only when it is called."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latbench.cli.numerics import load_numpy, memory_limit_bytes
from latbench.cli.streams import ClosedOutputError, shown_lines, standard_streams
from latbench.errors import LatbenchError, UsageError, first_line, is_out_of_memory

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

GROUPS = {
    "Measure": {
        "run": "Measure the latency of a model and store the record.",
        "compare": "Time two models, backends or settings interleaved: which is faster?",
        "plan": "Estimate from a short pilot run how long a target precision takes.",
        "collect": "Fetch the results of runs that were left on devices.",
        "reported": "Run vendors' benchmark tools; list, show, remove what they report.",
    },
    "Inspect": {
        "show": "Show one record, or the latest record of each group.",
        "table": "Show records as a table: text, Markdown, LaTeX, CSV, JSON or Parquet.",
        "history": "Show records over time, with the settings in which they differ.",
        "profile": "List the operators that take most of the latency; compare two profiles.",
        "plot": "Plot published accuracy against measured latency.",
        "export": "Export a model to a file and check it against PyTorch.",
        "verify": "Execute a pre-exported file and check that it is a given model.",
        "inspect": "Say what is in a model file or checkpoint, without executing it.",
    },
    "Claims": {
        "claims": "List published latency claims, check them, add your own.",
        "papers": "List the papers covered, with the verdicts on their claims.",
        "bundle": "Pack records, claims and verdicts into one file; verify such a file.",
    },
    "Devices and catalogs": {
        "devices": "List the known devices, or describe one.",
        "backends": "List the backends and whether they run here, or describe one.",
        "models": "List the models of the zoo, or describe one.",
        "protocols": "List the measurement protocols, or describe one.",
    },
    "Set up": {
        "check-worker": "Check that a worker program keeps to the protocol.",
        "doctor": "Check what works on this machine and what to install.",
        "import": "Import records from JSON files into the registry.",
        "completion": "Print the completion script for bash, zsh or fish.",
    },
}
MEMORY_HINT = "free memory, or raise its limit (ulimit -v) or that of processes (ulimit -u)"
TRACEBACK = "LATBENCH_TRACEBACK"
"""Environment variable: show the traceback of an internal error."""
COMMANDS = {name: text for group in GROUPS.values() for name, text in group.items()}


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or ``None`` for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        # `import` is a keyword of the language, so that command's module has another name.
        file = f"{cmd_name}_" if cmd_name == "import" else cmd_name.replace("-", "_")
        module = importlib.import_module(f"latbench.cli.{file}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Names and one-line descriptions by group, without importing the commands."""
        for title, commands in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl(list(commands.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Command names, without importing the commands; options as :mod:`click` completes them."""
        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        from click.shell_completion import CompletionItem

        return [
            CompletionItem(name, help=text)
            for name, text in COMMANDS.items()
            if name.startswith(incomplete)
        ]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Offer the nearest names for an unknown one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=3)
            ctx.fail(
                f"unknown command {args[0]!r}"
                + (f"; did you mean {', '.join(close)}?" if close else "")
            )
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="latbench", prog_name="latbench")
def cli() -> None:
    """Measure the latency of models on devices, keep the evidence, check published claims.

    \b
    latbench run mobilevig_ti            measure a model of the zoo
    latbench run model.onnx              measure a file
    latbench compare old.onnx new.onnx   which one is faster?

    `latbench COMMAND --help` describes a command.

    Exit status: 0 success, 1 a gate or claim failed, 2 invalid request, 3 could not measure (a
    failure record is stored), 4 measured but inconclusive.
    """
    if memory_limit_bytes() is not None:
        load_numpy()


def _print_error(message: str, hint: str | None) -> None:
    """What went wrong first, then what to do."""
    rest = message.partition(" ")[0][1:]
    if rest == rest.lower():  # not the name of an exception
        message = message[:1].lower() + message[1:]
    click.echo(f"latbench: {shown_lines(message)}", err=True)
    if hint:
        click.echo(f"  hint: {shown_lines(hint)}", err=True)


def main() -> None:
    """Run the command line; report every error as text with an exit status."""
    with standard_streams():
        status = _status()
    sys.exit(status)


def _status() -> int:
    """The exit status. 1 is only ever the answer of a command: no error has it."""
    try:
        status = cli.main(prog_name="latbench", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f"{context.command_path} --help" if context is not None else None
        _print_error(error.format_message(), hint and f"`{hint}` describes the command")
        return 2
    except click.Abort:
        click.echo("latbench: interrupted", err=True)
        return 3
    except ClosedOutputError:
        return 0
    except LatbenchError as error:
        _print_error(error.message, error.hint)
        return 2 if isinstance(error, UsageError) else 3
    except UnicodeEncodeError as error:
        # What is stored is UTF-8. Names of models and inputs are escaped, other texts are not.
        _print_error(
            f"a name contains bytes that are not UTF-8: {str(error.object)[:200]}",
            "rename the file, or give it another name by a link",
        )
        return 2
    except MemoryError:
        _print_error("not enough memory", MEMORY_HINT)
        return 3
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _print_error(f"{where}{error.strerror or error}", None)
        return 3
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        if is_out_of_memory(error) or memory_limit_bytes() is not None:
            _print_error(f"not enough memory: {_place(error)}", MEMORY_HINT)
            return 3
        _print_error(
            f"internal error: {_place(error)}", f"please report it; {TRACEBACK}=1 shows more"
        )
        return 3
    return status if isinstance(status, int) else 0


def _place(error: Exception) -> str:
    """Type, message and line of an error that is a mistake in latbench."""
    frames = traceback.extract_tb(error.__traceback__)
    at = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {first_line(error)}{at}"
