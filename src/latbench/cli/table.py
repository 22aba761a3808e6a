"""``latbench table``."""

from __future__ import annotations

from pathlib import Path

import click

from latbench.cli.options import json_option, registry_option, require_one_format

FORMATS = ("text", "markdown", "matrix", "csv", "json", "parquet")


@click.command("table")
@click.option(
    "--sweep", metavar="ID", help="Of one sweep; `latest` is the newest. Else: the latest records."
)
@click.option("--device", metavar="ID", help="Of one device.")
@click.option("--format", type=click.Choice(FORMATS), default="text", show_default=True)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a file; Parquet needs one.",
)
@registry_option
@json_option
def command(
    *,
    sweep: str | None,
    device: str | None,
    format: str,
    output: Path | None,
    registry: str | None,
    as_json: bool,
) -> None:
    """Show records as one table, or write it as CSV, JSON or Parquet.

    `matrix` is Markdown with a row for each model and a column for each backend.
    """
    from latbench.analysis.summary import summarize
    from latbench.errors import UsageError
    from latbench.files import write_beside
    from latbench.report.json import to_json
    from latbench.report.tables import row, to_csv, write_parquet
    from latbench.report.text.table import to_markdown, to_matrix, to_text
    from latbench.store.registry import Registry

    require_one_format(format, as_json=as_json)
    format = "json" if as_json else format
    if format == "parquet" and output is None:
        raise click.UsageError("Parquet is binary: name a file with --output")
    with Registry.open(registry, create=False) as store:
        if sweep is None:
            records = [store.get(found.id) for found in store.latest(device)]
        else:
            id = store.latest_sweep() if sweep == "latest" else sweep
            records = list(store.of_sweep(id)) if id is not None else []
            if not records:
                raise UsageError(
                    f"there is no sweep {sweep!r} in {store.url}",
                    hint="`latbench run --sweep FILE`, or several --model or --backend, make one",
                )
    rows = [
        row(record, summarize(record))
        for record in records
        if device is None or record.device.id == device
    ]
    if format == "parquet":
        assert output is not None
        write_beside(output, lambda path: write_parquet(rows, path))
        return
    text = {
        "text": lambda: "\n".join(to_text(rows)) + "\n",
        "markdown": lambda: "\n".join(to_markdown(rows)) + "\n",
        "matrix": lambda: "\n".join(to_matrix(rows)) + "\n",
        "csv": lambda: to_csv(rows),
        "json": lambda: to_json(rows) + "\n",
    }[format]()
    if output is None:
        click.echo(text, nl=False)
    else:
        write_beside(output, lambda path: path.write_text(text))
