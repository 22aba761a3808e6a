"""``latbench plot``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from latbench.cli.claim_options import load_registered
from latbench.cli.options import json_option, registry_option, warn

if TYPE_CHECKING:
    from latbench.schema.record import Record


@click.group("plot")
def command() -> None:
    """Draw several records in one picture (extra: plot).

    One record alone is drawn by `latbench show ID --plot FILE`. With --json a subcommand prints
    what it has drawn.
    """


@command.command("pareto")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--device", metavar="ID", help="Of one device.")
@click.option("--backend", metavar="NAME", help="Of one backend.")
@click.option(
    "--ratios",
    is_flag=True,
    help="Instead: latency ratios as published, of tables of claims, against those measured here.",
)
@registry_option
@json_option
def pareto(
    *,
    file: Path,
    device: str | None,
    backend: str | None,
    ratios: bool,
    registry: str | None,
    as_json: bool,
) -> None:
    """Draw top-1 as published against the typical latency as measured here.

    Of each model the newest record is taken; all must be of one device and backend, and those that
    differ from most in precision, threads or batch are left out and named.
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

    records, left = alike(_records(registry, device, backend))
    for why in left:
        warn(f"left out: {why}")
    if not records:
        asked = ", ".join(name for name in (device, backend) if name is not None)
        raise UsageError(
            f"there are no measured records{f' of {asked}' if asked else ''}",
            hint="`latbench run` makes them, `latbench show` lists what there is",
        )
    claimed = load_registered()
    title = f"{records[0].device.name} · {records[0].backend} · {setting(records[0])}"
    if ratios:
        pairs = ratio_pairs(claimed.claims, records, claimed.models)
        if not pairs:
            raise UsageError(
                "no two models of one published table are measured",
                hint="`latbench claims list --kind value --metric latency` has the tables",
            )
        ratios_of = [(pair.published, pair.measured) for pair in pairs]
        tau = tau_with_interval(ratios_of, [(pair.model, pair.reference) for pair in pairs])
        told = tau_text(tau)
        save_ratios(pairs, f"{title}\n{told}", file)
        found = {"file": str(file), "tau": tau, "pairs": pairs}
        click.echo(to_json(found) if as_json else f"{told}\n{file}")
        return
    published = accuracies(claimed.claims, claimed.models, load_papers().top1)
    points = pareto_points(records, published)
    if not points:
        raise UsageError(
            f"no published accuracy is known of {', '.join(r.model.name for r in records)}",
            hint=f"it is known of {', '.join(sorted(published))}",
        )
    save_pareto(points, title, file)
    drawn = {point.measured.model for point in points}
    for record in records:
        if record.model.name not in drawn:
            warn(f"left out: {record.model.name}: no published accuracy is known")
    told = f"models drawn: {len(points)}\n{file}"
    click.echo(to_json({"file": str(file), "points": points}) if as_json else told)


def _records(registry: str | None, device: str | None, backend: str | None) -> list[Record]:
    """The newest of each model, measured on the backend that was asked for."""
    from latbench.defaults import SIMULATED
    from latbench.store.registry import Registry

    with Registry.open(registry, create=False) as store:
        return [
            store.get(row.id)
            for row in store.latest(device)
            if row.backend == row.requested_backend
            and row.backend not in SIMULATED
            and row.status == "measured"
            and (backend is None or row.backend == backend)
        ]
