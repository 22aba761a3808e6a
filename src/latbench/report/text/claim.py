"""Claims as text and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from latbench.claims.completeness import completeness
from latbench.claims.model import Claim, ClaimConditions, ClaimedModel
from latbench.claims.quantities import FAILED
from latbench.claims.statements import (
    COUNTED,
    StatedBound,
    StatedDifference,
    StatedIdentity,
    StatedOrdering,
    StatedParity,
    StatedRatio,
    StatedScaling,
)
from latbench.report.json import to_json
from latbench.report.text.layout import table

if TYPE_CHECKING:
    from latbench.claims.model import ClaimSource

Models = Mapping[str, ClaimedModel]
POWERS = {1.0: "linearly with", 2.0: "with the square of"}
MARK = {"macs": "MACs", "size": "parameters or MACs", "training-memory": "memory of training"}


def statement(claim: Claim, models: Models) -> str:
    """``0.78 ms``, ``1.5x less latency than MobileNetV2 x1.3``, …"""
    says = claim.says
    metric = MARK.get(says.metric, says.metric)
    other = models[claim.against].name if claim.against is not None else ""
    sense = getattr(says, "sense", "")
    if sense == "less" and says.metric in (*COUNTED, "time-steps"):
        sense = "fewer"
    figure = f"{claim.figure}{' ' if getattr(says, 'unit', 'x') != 'x' else ''}"
    figure += getattr(says, "unit", "")
    if isinstance(says, StatedRatio):
        read = f" (of {says.reading})" if says.reading in ("time", "rate") else ""
        if says.reading == "open":
            read = " (of time or of rate)"
        around = "about " if says.around_percent is not None else ""
        if says.sense == "of":
            figure = figure.removesuffix("x") + " of" if "/" in says.figure else figure
            return f"{around}{figure} the {metric} of {other}"
        return f"{around}{figure} {sense} {metric} than {other}{read}"
    if isinstance(says, StatedDifference):
        return f"{figure} {sense} {metric} than {other}"
    if isinstance(says, StatedOrdering):
        return f"{sense} {metric} than {other}"
    if isinstance(says, StatedParity):
        return f"the same {metric} as {other} (within {says.tolerance_percent:g} %)"
    if isinstance(says, StatedIdentity):
        return f"no more {metric} than {other}: {says.method}"
    if isinstance(says, StatedScaling):
        grow = "grow" if says.metric == "macs" else "grows"
        power = POWERS.get(says.exponent, f"with the power {says.exponent:g} of")
        return f"{metric} {grow} {power} {says.over}"
    if isinstance(says, StatedBound):
        return f"{metric} {says.sense} {figure}"
    if claim.figure == FAILED:
        return "does not run there"
    return f"{figure} {metric}" if says.metric in ("parameters", "macs", "memory") else figure


def list_lines(
    claims: Sequence[Claim],
    models: Models,
    sources: Mapping[str, ClaimSource],
    width: int | None = None,
) -> list[str]:
    """The number of claims, then a table of them, fitted to ``width``."""
    rows = [
        (
            claim.id,
            models[claim.model].name,
            statement(claim, models),
            claim.conditions.device or "",
            _share(claim),
            f"{claim.source.id} {sources[claim.source.id].year or ''}".strip(),
        )
        for claim in claims
    ]
    head = ("id", "model", "statement", "device", "known", "source")
    return [f"{len(claims)} claims", *(table(head, rows, width) if rows else ())]


def show_lines(claim: Claim, models: Models, sources: Mapping[str, ClaimSource]) -> list[str]:
    """Everything about one claim."""
    source, model = sources[claim.source.id], models[claim.model]
    cited = ", ".join(part for part in (source.title, _version(claim), claim.source.where) if part)
    facts = [
        ("statement", f"{model.name}: {statement(claim, models)} ({claim.kind})"),
        ("printed", f"{claim.figure}" if claim.figure is not None else None),
        ("source", f"{cited}{f', arXiv {source.arxiv}' if source.arxiv else ''}"),
        ("quote", f'"{claim.source.quote}"' if claim.source.quote else None),
        ("stated by", f"{claim.by} (confidence in the reading: {claim.confidence})"),
        ("model", _built(model)),
        ("shown on", ", ".join(getattr(claim.says, "hosts", ())) or None),
        ("known", f"{_share(claim)} of the relevant conditions" if _share(claim) else None),
        *((f"  {name}", value) for name, value in _conditions(claim)),
        ("open", ", ".join(claim.open) or None),
        (
            "corrected",
            f"{claim.correction.figure}: {claim.correction.reason}" if claim.correction else None,
        ),
        ("conflicts", ", ".join(claim.conflicts) or None),
        ("unverifiable", claim.unverifiable),
        ("out of scope", claim.out_of_scope),
        ("note", claim.note),
        ("method", source.note),
    ]
    return [claim.id, *(f"  {name:<19}{value}" for name, value in facts if value is not None)]


def claims_json(claims: Sequence[Claim]) -> str:
    """Each claim with its kind and completeness, which are computed."""
    return to_json([{"claim": claim, "completeness": completeness(claim)} for claim in claims])


def _conditions(claim: Claim) -> list[tuple[str, str]]:
    found = []
    for name in ClaimConditions.__struct_fields__:
        value = getattr(claim.conditions, name)
        if value is not None:
            found.append((name, str(value)))
    return found


def _built(model: ClaimedModel) -> str:
    if model.build is None:
        return f"not built here: {model.absent}"
    pins = ((model.parameters, ""), (model.deployed_parameters, " in its deploy form"))
    counts = [f"{count:,} parameters{form}" for count, form in pins if count is not None]
    return ", ".join((model.build, *counts))


def _share(claim: Claim) -> str:
    known, of = completeness(claim)
    return f"{known}/{of}" if of else ""


def _version(claim: Claim) -> str | None:
    return f"version {claim.source.version}" if claim.source.version else None
