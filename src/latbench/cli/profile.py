"""``latbench profile``: the operators of a profiled record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from latbench.cli import completion
from latbench.cli.options import json_option, registry_option, require_one_format
from latbench.cli.streams import warn
from latbench.cli.terminal import echo_result, list_width

if TYPE_CHECKING:
    from latbench.analysis.operator_shares import ProfileShares
    from latbench.analysis.summary import Summary
    from latbench.schema.record import Record


@click.command("profile")
@click.argument("id", shell_complete=completion.record_ids)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=15,
    show_default=True,
    metavar="N",
    help="Operators to list.",
)
@click.option(
    "--against",
    metavar="ID",
    shell_complete=completion.record_ids,
    help="Another profiled record of the same network, shown side by side.",
)
@click.option(
    "--trace",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the operators as a trace for Perfetto or about:tracing.",
)
@click.option(
    "--format",
    type=click.Choice(("text", "markdown", "csv", "json")),
    default="text",
    show_default=True,
    help="Output format; csv and json have all operators.",
)
@registry_option
@json_option
def command(
    *,
    id: str,
    top: int,
    against: str | None,
    trace: Path | None,
    format: str,
    registry: str | None,
    as_json: bool,
) -> None:
    """List the operators that take most of the latency.

    ID is a record of `latbench run --profile`, or an unambiguous start of its ID. Times are the
    operators' shares of the latency without the profiler, which slows down what it measures.

    Core ML cannot time operators: what it plans is shown instead, their units and estimated costs.
    """
    from latbench.files import write_beside
    from latbench.report.chrome_trace import chrome_trace
    from latbench.report.json import to_json
    from latbench.report.text.answer import title
    from latbench.report.text.profile import (
        against_lines,
        profile_csv,
        profile_lines,
        profile_markdown,
    )
    from latbench.store.registry import Registry

    require_one_format(format, as_json=as_json)
    format = "json" if as_json else format
    if against is None and trace is None and _show_plan(id, top, format, registry):
        return
    if against is not None and format in ("markdown", "csv"):
        raise click.UsageError(f"--against has no --format {format}, only text and json")
    with Registry.open(registry, create=False) as store:
        read = [_profiled(store.get(each)) for each in (id, against) if each is not None]
        short = store.short_ids([record.id for record, _, _ in read])
    (record, summary, shares), *others = read
    if trace is not None:
        named = [(f"{title(r)} ({short[r.id]})", found) for r, _, found in read]
        write_beside(trace, lambda path: path.write_text(chrome_trace(named)))
    if others:
        other, _, second = others[0]
        if record.model.architecture != other.model.architecture:
            warn(f"these are different networks: {record.model.name} and {other.model.name}")
        if format == "json":
            click.echo(to_json({"a": _json(*read[0]), "b": _json(*read[1])}))
            return
        names = title(record), title(other)
        ids = short[record.id], short[other.id]
        echo_result(against_lines(names, ids, shares, second, top=top, width=list_width()))
    elif format == "json":
        click.echo(to_json(_json(record, summary, shares)))
        return
    elif format == "csv":
        click.echo(profile_csv(shares), nl=False)
        return
    elif format == "markdown":
        click.echo("\n".join(profile_markdown(shares, top)))
        return
    else:
        lines = profile_lines(
            record, summary, shares, top=top, width=list_width(), id=short[record.id]
        )
        echo_result(lines)
    if trace is not None:
        click.echo(f"trace written to {trace}")


def _show_plan(id: str, top: int, format: str, registry: str | None) -> bool:
    """Show what is planned of a record's operators; whether there is a plan and no times."""
    from latbench.report.json import to_json
    from latbench.report.text.operator_plan import operator_plan_csv, operator_plan_lines
    from latbench.store.registry import Registry

    with Registry.open(registry, create=False) as store:
        record = store.get(id)
        short = store.short_ids([record.id])[record.id]
    plan = record.outcome.plan
    if plan is None or record.outcome.profile is not None:
        return False
    if format == "json":
        click.echo(to_json({"record": record.id, "model": record.model.name, "plan": plan}))
    elif format == "csv":
        click.echo(operator_plan_csv(plan), nl=False)
    else:
        echo_result(operator_plan_lines(record, plan, top=top, id=short))
    return True


def _json(record: Record, summary: Summary | None, shares: ProfileShares) -> dict[str, object]:
    return {
        "record": record.id,
        "model": record.model.name,
        "backend": record.backend,
        "load_ns": summary.load_ns if summary else None,
        "first_ns": summary.first_ns if summary else None,
        "peak_rss_bytes": summary.peak_rss_bytes if summary else None,
        "profile": shares,
    }


def _profiled(record: Record) -> tuple[Record, Summary | None, ProfileShares]:
    """The record with its summary and profile. Raises :class:`UsageError` without a profile."""
    from latbench.analysis.operator_shares import profile_shares
    from latbench.analysis.summary import summarize
    from latbench.errors import UsageError
    from latbench.file_names import restored_name, shell_word

    if record.outcome.profile is None and record.outcome.plan is not None:
        raise UsageError(
            f"record {record.id} has a plan of its operators, but no times",
            hint=f"latbench profile {record.id} shows the plan",
        )
    if record.outcome.profile is None:
        model = shell_word(restored_name(record.request.model), argument=True)
        raise UsageError(
            f"record {record.id} has no times by operator",
            hint=f"measure them: latbench run {model} "
            f"--backend {record.request.backend} --profile; not every runtime reports them",
        )
    summary = summarize(record)
    latency_ns = summary.median_ns if summary is not None and summary.warm else None
    return record, summary, profile_shares(record.outcome.profile, latency_ns)
