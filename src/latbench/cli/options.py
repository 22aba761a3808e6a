"""Options that most commands have."""

from __future__ import annotations

import click

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, and nothing else, to standard output."
)
verbose_option = click.option("-v", "--verbose", is_flag=True, help="Print all details.")
registry_option = click.option(
    "--registry",
    metavar="URL",
    help="SQLite file or database URL. [default: LATBENCH_REGISTRY, else the user's data folder]",
)


def require_one_format(format: str, *, as_json: bool) -> None:
    """Refuse ``--json`` together with another format."""
    if as_json and format not in ("text", "json"):
        raise click.UsageError(f"--json and --format {format} contradict each other")
