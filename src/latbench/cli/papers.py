"""``latbench papers``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from latbench.cli.claim_options import load_registered
from latbench.cli.options import json_option, registry_option, require_one_format
from latbench.cli.streams import warn
from latbench.cli.terminal import list_width

if TYPE_CHECKING:
    from latbench.report.text.papers import PaperRow


@click.command("papers")
@click.option(
    "--format", type=click.Choice(("text", "markdown")), default="text", show_default=True
)
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file."
)
@registry_option
@json_option
def command(*, format: str, output: Path | None, registry: str | None, as_json: bool) -> None:
    """List the papers covered: their models, claims, and the verdicts on them.

    Parameters and MACs are counted, which may take a minute; latencies come from stored records.
    docs/PAPERS.md is the Markdown output with an empty registry.
    """
    from latbench.files import write_beside
    from latbench.report.json import to_json
    from latbench.report.text.papers import papers_markdown, papers_text

    require_one_format(format, as_json=as_json)
    rows = _rows(registry)
    if as_json:
        text = to_json(rows) + "\n"
    else:
        width = list_width() if output is None else None
        lines = papers_text(rows, width) if format == "text" else papers_markdown(rows)
        text = "\n".join(lines) + "\n"
    if output is None:
        click.echo(text, nl=False)
    else:
        write_beside(output, lambda path: path.write_text(text))


def _rows(registry: str | None) -> list[PaperRow]:
    from latbench.audit.check import check
    from latbench.audit.papers import load_papers
    from latbench.report.text.papers import paper_rows
    from latbench.store.registry import Registry

    papers = load_papers().papers
    registered = load_registered()
    sources = {source for paper in papers for source in paper.sources}
    claims = [claim for claim in registered.claims if claim.source.id in sources]
    with Registry.open(registry) as store:
        # No device is "this one", so that every machine with the same records prints the same list.
        timed = store.count() > 0
        checked = check(claims, registered, store if timed else None, device="", timed=timed)
    for why in checked.unread:
        warn(f"left out: {why}")
    return paper_rows(
        papers,
        registered.claims,
        {model.id: model.build for model in registered.models.values()},
        {verdict.claim: verdict for verdict in checked.verdicts},
    )
