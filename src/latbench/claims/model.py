"""A published figure: what it says, of which model, under which conditions, and who says so.

Nine kinds of statement are kept apart, because each is confirmed or refuted in its own way
(:mod:`latbench.claims.judge`). A figure is kept as it is printed: ``"2.30"`` says more than 2.3.
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
    """Whether the number was seen to be this paper's."""
    year: int | None = None
    url: str | None = None
    note: str | None = None
    """How its figures were taken, as far as it is known."""


class Citation(Value, frozen=True, kw_only=True):
    """Where in which source, in its words where they are known."""

    id: str
    where: str
    quote: str | None = None
    version: str | None = None
    """Of a text whose claims changed between versions."""


class ClaimConditions(Value, frozen=True, kw_only=True):
    """How the figure was taken. ``None``: left open by the source, or of no meaning here; which of
    the two, :attr:`Claim.open` says."""

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
    """Of the model that it is compared with, where that is another one."""
    threads: int | None = None
    input: str | None = None
    """What an inference is given: a picture, a tensor on the host or on the device."""
    protocol: str | None = None
    warmup_calls: int | None = None
    calls: int | None = None
    statistic: str | None = None
    counting: str | None = None
    """What is counted as a MAC or parameter."""


class Correction(Value, frozen=True, kw_only=True):
    """What the source elsewhere, or arithmetic, makes of the printed figure."""

    figure: str
    reason: str


class StatedCounts(Value, frozen=True, kw_only=True):
    """Parameters and MACs of a model that nothing here builds: ``"4800000"``, ``"4.8 M"``."""

    source: str
    counted: bool = False
    """Counted in the authors' own code, not read in a table."""
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
    """A name that ``latbench run --model`` takes."""
    parameters: int | None = None
    """Exactly, as it is trained and with all its heads: a network of another count is another one.
    """
    deployed_parameters: int | None = None
    """Exactly, in its deploy form: tells a network whose branches were not fused."""
    form: Literal["trained", "deployed"] = "trained"
    """Which one published parameter counts are of."""
    counts: StatedCounts | None = None
    uncounted: Uncounted | None = None
    absent: str | None = None
    """Why nothing here builds it."""
    unreleased: bool = False
    """Its authors released no architecture: nobody can build it."""

    def another(self, trained: int | None, deployed: int | None) -> str | None:
        """Why a network of so many parameters is not this one; unknown counts tell nothing."""
        for found, pinned, form in (
            (trained, self.parameters, ""),
            (deployed, self.deployed_parameters, " in its deploy form"),
        ):
            if found is not None and pinned is not None and found != pinned:
                return (
                    f"{self.build} has {found:,} parameters{form}, and the network that is meant "
                    f"has {pinned:,}: another head, a branch that was not fused, or another "
                    "network of that name"
                )
        return None


class Claim(Value, frozen=True, kw_only=True):
    """One published figure."""

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
    """That the source says this."""
    margin_percent: float | None = None
    """How far a measured value may be off to be called confirmed."""
    correction: Correction | None = None
    conflicts: tuple[str, ...] = ()
    unverifiable: str | None = None
    """Why nobody could check it."""
    out_of_scope: str | None = None
    """Why this toolkit does not: video, training, ..."""
    note: str | None = None

    @property
    def kind(self) -> str:
        """``value``, ``ratio``, ..."""
        return str(type(self.says).__struct_config__.tag)

    @property
    def against(self) -> str | None:
        """The model that it is compared with."""
        found: str | None = getattr(self.says, "against", None)
        return found

    @property
    def figure(self) -> str | None:
        """As printed."""
        found: str | None = getattr(self.says, "figure", None)
        return found
