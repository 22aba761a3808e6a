"""Define a published claim: its statement, model, conditions and source.

There are nine kinds of statement, because each is confirmed or refuted in its own way
(:mod:`latbench.claims.judge`). A value is stored as printed: ``"2.30"`` is more precise than 2.3.
"""

from __future__ import annotations

from typing import Literal

from latbench.claims.statements import ComputeUnit, Statement
from latbench.schema.value import Value


class ClaimSource(Value, frozen=True, kw_only=True):
    """A paper, a table of results or an issue thread."""

    id: str
    title: str
    arxiv: str | None = None
    arxiv_checked: bool | None = None
    """Whether the arXiv number was checked against this paper."""
    year: int | None = None
    url: str | None = None
    note: str | None = None
    """How its values were measured, as far as it is known."""


class Citation(Value, frozen=True, kw_only=True):
    """A location in a source, with a quote if it is known."""

    id: str
    where: str
    quote: str | None = None
    version: str | None = None
    """Version of the text, if its claims changed between versions."""


class ClaimConditions(Value, frozen=True, kw_only=True):
    """How the published value was measured.

    ``None`` means that the source leaves the condition open or that it does not apply;
    :attr:`Claim.open` lists the open ones.
    """

    device: str | None = None
    os: str | None = None
    backend: str | None = None
    backend_version: str | None = None
    provider: str | None = None
    """Execution provider, delegate or engine of the backend."""
    compute_unit: ComputeUnit | None = None
    precision: str | None = None
    batch: int | None = None
    resolution: int | None = None
    against_resolution: int | None = None
    """Resolution of the model that it is compared with, if it differs."""
    threads: int | None = None
    input: str | None = None
    """Kind of input of an inference: a picture, a tensor on the host or on the device."""
    protocol: str | None = None
    warmup_calls: int | None = None
    calls: int | None = None
    statistic: str | None = None
    counting: str | None = None
    """What is counted as a MAC or parameter."""


class Correction(Value, frozen=True, kw_only=True):
    """A correction of the printed value, from elsewhere in the source or from arithmetic."""

    figure: str
    reason: str


class StatedCounts(Value, frozen=True, kw_only=True):
    """Parameters and MACs of a model that latbench cannot build: ``"4800000"``, ``"4.8 M"``."""

    source: str
    counted: bool = False
    """Counted in the authors' own code, not taken from a table."""
    parameters: str | None = None
    macs: str | None = None


class Uncounted(Value, frozen=True, kw_only=True):
    """MACs that our counting leaves out and some authors count: products of two activations."""

    macs: int
    what: str


class ClaimedModel(Value, frozen=True, kw_only=True):
    """A network that claims are about, and how it is built here."""

    id: str
    name: str
    build: str | None = None
    """A name that ``latbench run --model`` accepts."""
    parameters: int | None = None
    """Exact number in the trained form with all heads. Another number means another network."""
    deployed_parameters: int | None = None
    """Exact number in the deploy form. It identifies a network whose branches were not fused."""
    form: Literal["trained", "deployed"] = "trained"
    """The form that published parameter counts refer to."""
    counts: StatedCounts | None = None
    uncounted: Uncounted | None = None
    absent: str | None = None
    """Why latbench cannot build it."""
    unreleased: bool = False
    """Its authors did not release the architecture, so nobody can build it."""

    def another(self, trained: int | None, deployed: int | None) -> str | None:
        """Return why a network with these parameter counts is not this one; ``None`` is unknown."""
        for found, pinned, form in (
            (trained, self.parameters, ""),
            (deployed, self.deployed_parameters, " in its deploy form"),
        ):
            if found is not None and pinned is not None and found != pinned:
                return (
                    f"{self.build} has {found:,} parameters{form}, but the claimed network has "
                    f"{pinned:,}: it has another head, a branch that was not fused, or is another "
                    "network with the same name"
                )
        return None


class Claim(Value, frozen=True, kw_only=True):
    """One published claim."""

    id: str
    model: str
    says: Statement
    source: Citation
    conditions: ClaimConditions = ClaimConditions()
    open: tuple[str, ...] = ()
    """Conditions that the source leaves open."""
    by: Literal["authors", "third party", "user report"]
    headline: bool = False
    confidence: Literal["high", "medium", "low"] = "high"
    """Confidence that the source states this."""
    margin_percent: float | None = None
    """How far a measured value may differ and still confirm the claim."""
    correction: Correction | None = None
    conflicts: tuple[str, ...] = ()
    unverifiable: str | None = None
    """Why nobody could check it."""
    out_of_scope: str | None = None
    """Why latbench does not check it: video, training, ..."""
    note: str | None = None

    @property
    def kind(self) -> str:
        """Kind of the statement: ``value``, ``ratio``, ..."""
        return str(type(self.says).__struct_config__.tag)

    @property
    def against(self) -> str | None:
        """The model that it is compared with."""
        found: str | None = getattr(self.says, "against", None)
        return found

    @property
    def figure(self) -> str | None:
        """The published value as printed."""
        found: str | None = getattr(self.says, "figure", None)
        return found
