"""``latbench plot``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latbench.cli.claim_options import load_registered
from latbench.cli.filter_options import filter_of, filter_options
from latbench.cli.help_sections import Command
from latbench.cli.options import json_option, registry_option
from latbench.cli.picture_options import picture_options, style_of
from latbench.cli.streams import warn

if TYPE_CHECKING:
    from latbench.schema.record import Record
    from latbench.store.record_filter import RecordFilter


@click.group("plot")
def command() -> None:
    """Plot several records in one picture (requires the extra `plot`).

    `latbench show ID --plot FILE` plots a single record. With --json a subcommand prints the data
    that it plotted.
    """


@command.command("pareto", cls=Command)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--ratios",
    is_flag=True,
    help="Plot published latency ratios against measured ones instead.",
)
@picture_options
@filter_options
@registry_option
@json_option
def pareto(
    *,
    file: Path,
    ratios: bool,
    size: tuple[float, float] | None,
    font_size: float,
    title: str | None,
    no_title: bool,
    registry: str | None,
    as_json: bool,
    **conditions: Any,
) -> None:
    """Plot published top-1 accuracy against measured latency.

    The newest record of each model that meets the conditions is used. All must be of one device and
    backend; records that differ from the majority in precision, threads or batch are left out and
    reported.
    """
    from latbench.analysis.rank_correlation import tau_with_interval
    from latbench.audit.papers import load_papers
    from latbench.audit.pareto import (
        accuracies,
        alike,
        pareto_points,
        ratio_pairs,
        setting,
        tau_text,
    )
    from latbench.errors import UsageError
    from latbench.report.json import to_json
    from latbench.report.plot.pareto import save_pareto, save_ratios

    wanted = filter_of(**conditions)
    records, left = alike(_records(registry, wanted))
    for why in left:
        warn(f"left out: {why}")
    if not records:
        asked = ", ".join((*wanted.devices, *wanted.backends, *wanted.models))
        raise UsageError(
            f"no measured records{f' of {asked}' if asked else ''} in the registry",
            hint="`latbench run` creates records, `latbench show` lists them",
        )
    claimed = load_registered()
    heading = f"{records[0].device.name} · {records[0].backend} · {setting(records[0])}"
    names = {model.build: model.name for model in claimed.models.values() if model.build}
    style = style_of(size, font_size, title, no_title=no_title)
    if ratios:
        pairs = ratio_pairs(claimed.claims, records, claimed.models)
        if not pairs:
            raise UsageError(
                "fewer than two models of the same published table are measured",
                hint="`latbench claims list --kind value --metric latency` lists the tables",
            )
        ratios_of = [(pair.published, pair.measured) for pair in pairs]
        tau = tau_with_interval(ratios_of, [(pair.model, pair.reference) for pair in pairs])
        summary = tau_text(tau)
        save_ratios(pairs, f"{heading}\n{summary}", file, names=names, style=style)
        found = {"file": str(file), "tau": tau, "pairs": pairs}
        click.echo(to_json(found) if as_json else f"{summary}\n{file}")
        return
    published = accuracies(claimed.claims, claimed.models, load_papers().top1)
    points, without = pareto_points(records, published)
    if not points:
        raise UsageError(
            "no model to plot: " + "; ".join(f"{name}: {why}" for name, why in without.items()),
            hint=f"models with a published accuracy: {', '.join(sorted(published))}",
        )
    save_pareto(points, heading, file, names=names, style=style)
    for name, why in without.items():
        warn(f"left out: {name}: {why}")
    summary = f"{len(points)} models plotted\n{file}"
    click.echo(to_json({"file": str(file), "points": points}) if as_json else summary)


def _records(registry: str | None, wanted: RecordFilter) -> list[Record]:
    """The newest record of each model that meets the conditions and did not fall back."""
    from latbench.defaults import SIMULATED
    from latbench.store.registry import Registry

    with Registry.open(registry, create=False) as store:
        return [
            store.get(row.id)
            for row in store.newest(wanted)
            if row.backend == row.requested_backend
            and row.backend not in SIMULATED
            and row.status == "measured"
        ]
