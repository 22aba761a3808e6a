"""The command line. One command, one file, imported when it is called."""

from __future__ import annotations

import importlib
import os
import sys

import click

from latbench.errors import LatbenchError, UsageError

COMMANDS = {
    "run": "Measure a model and store the record.",
    "compare": "Time two models, backends or settings in turn, and say which is faster.",
    "plan": "Say from a short pilot what a wanted precision will take.",
    "export": "Export a model to a file, checked against PyTorch.",
    "verify": "Execute a ready file, and say whether it is a certain model.",
    "models": "List the models of the zoo, or describe one.",
    "protocols": "List the ways of taking a number, or describe one.",
    "backends": "List the backends and whether they can run here.",
    "devices": "List the known devices, or describe one.",
    "claims": "List published figures, check them, add your own.",
    "papers": "List the papers that latbench answers for, and what is found of their claims.",
    "show": "Show one record, or the latest of each group.",
    "table": "Show records as one table, or write it as CSV, JSON or Parquet.",
    "plot": "Draw published accuracy against measured latency.",
    "history": "Show the records of one model on one device and backend.",
    "import": "Store records from JSON files.",
    "bundle": "Put records, claims and verdicts into one file, and check such a file.",
    "doctor": "Say what works here, what does not, and what to install.",
}


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
        file = f"{cmd_name}_" if cmd_name == "import" else cmd_name
        module = importlib.import_module(f"latbench.cli.{file}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Names and one-line descriptions, without importing the commands."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Offer the nearest names for an unknown one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=3)
            ctx.fail(
                f"no command {args[0]!r}." + (f" Did you mean {', '.join(close)}?" if close else "")
            )
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="latbench", prog_name="latbench")
def cli() -> None:
    """Time models on devices, keep the evidence, check the claims.

    Exit status: 0 measured or done, 1 a gate or claim says no, 2 the request makes no sense,
    3 could not measure (a failure record is stored), 4 measured but not conclusive.
    """


def main() -> None:
    """Run the command line; every expected error ends in words and an exit status."""
    try:
        status = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except click.Abort:
        click.echo("latbench: interrupted", err=True)
        status = 3
    except BrokenPipeError:
        # Whoever read the output has had enough; Python's own flush at exit would complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except LatbenchError as error:
        click.echo(f"latbench: {error.message}", err=True)
        if error.hint:
            click.echo(f"  hint: {error.hint}", err=True)
        status = 2 if isinstance(error, UsageError) else 3
    sys.exit(status if isinstance(status, int) else 0)
