"""What a claim's figure must not say: no number, no unit of the metric, what is impossible."""

from __future__ import annotations

from collections.abc import Iterator

from latbench.claims.model import Claim
from latbench.claims.quantities import (
    FAILED,
    UNITS,
    parse_figure,
    quotients,
    stated_figure,
)
from latbench.claims.statements import (
    StatedBound,
    StatedDifference,
    StatedParity,
    StatedRatio,
    StatedScaling,
    StatedSize,
    StatedValue,
)
from latbench.schema.value import Value

Path = tuple[str | int, ...]
MOST_EXPONENT = 10
SANE: dict[str, tuple[float, float]] = {
    "latency": (1e3, 3.6e12),
    "throughput": (1e-3, 1e8),
    "parameters": (1.0, 1e13),
    "macs": (1.0, 1e15),
    "memory": (1.0, 1e13),
    "accuracy": (0.0, 100.0),
}
"""1 µs to an hour, and so on: outside of these a unit or a digit is wrong."""


class Problem(Value, frozen=True, kw_only=True):
    """One mistake, and where in the entry it stands."""

    path: Path
    message: str
    hint: str | None = None


def figure_problems(claim: Claim) -> Iterator[Problem]:
    """Everything that is wrong with what is said; none for a figure that can be held against one
    that is found."""
    says = claim.says
    if isinstance(says, StatedRatio):
        yield from _of_the_ratio(says)
        return
    if isinstance(says, StatedParity) and not 0 < says.tolerance_percent <= 50:
        yield Problem(path=("says", "tolerance_percent"), message="must be above 0 and at most 50")
    if isinstance(says, StatedScaling) and not 0 <= says.exponent <= MOST_EXPONENT:
        yield Problem(
            path=("says", "exponent"), message=f"must be at least 0 and at most {MOST_EXPONENT}"
        )
    if not isinstance(says, StatedValue | StatedDifference | StatedBound | StatedSize):
        return
    units = UNITS.get(says.metric)
    if units is None:
        yield Problem(
            path=("says", "metric"), message=f"a {claim.kind} of {says.metric} has no unit here"
        )
        return
    if says.unit not in units:
        yield Problem(
            path=("says", "unit"),
            message=f"{says.unit!r} is no unit of {says.metric}",
            hint=f"known: {', '.join(unit or '(empty)' for unit in units)}",
        )
        return
    if says.figure == FAILED and isinstance(says, StatedValue):
        return
    figure = stated_figure(claim)
    if figure is None:
        yield _no_figure(("says", "figure"), says.figure)
        return
    low, high = SANE[says.metric]
    # A difference may be as small as it likes.
    least = 0.0 if isinstance(says, StatedDifference) else low
    # The time of an inference is one over its rate.
    endless = isinstance(says, StatedValue) and says.metric == "throughput" and figure.low <= 0
    if figure.high < least or figure.low > high or figure.value == 0 or endless:
        yield Problem(
            path=("says", "figure"),
            message=f"{says.metric} of {says.figure} {says.unit} is impossible",
        )
    if isinstance(says, StatedBound) and figure.value is None:
        yield Problem(
            path=("says", "figure"),
            message=f"{says.sense} {says.figure}: a bound is one figure, not a range",
        )
    if claim.correction is not None and parse_figure(claim.correction.figure) is None:
        yield _no_figure(("correction", "figure"), claim.correction.figure)
    if claim.correction is not None and claim.correction.figure == says.figure:
        yield Problem(path=("correction", "figure"), message="is the printed figure")


def _of_the_ratio(says: StatedRatio) -> Iterator[Problem]:
    figure = parse_figure(says.figure)
    if figure is None:
        yield _no_figure(("says", "figure"), says.figure)
        return
    ambiguous = says.metric == "latency" and says.unit == "%" and says.sense != "of"
    if ambiguous and says.reading is None:
        yield Problem(
            path=("says", "reading"),
            message="a percentage of speed is of time or of rate",
            hint="`time`, `rate`, or `open` where the source does not say",
        )
    if not ambiguous and says.reading is not None:
        yield Problem(
            path=("says", "reading"),
            message="only a percentage of latency has one",
            hint='"1.5x faster" is the same of time and of rate',
        )
    around = says.around_percent
    if around is not None and not 0 < around <= 100:
        yield Problem(
            path=("says", "around_percent"), message="must be above 0 and at most 100, or left out"
        )
        return
    if says.unit == "x" and says.sense != "of" and figure.high < 1:
        yield Problem(
            path=("says", "figure"),
            message=f"{says.figure}x {says.sense} contradicts itself",
            hint="`sense: of` for a fraction",
        )
    told = f"{says.figure}{' %' if says.unit == '%' else 'x'} {says.sense}"
    if figure.value == 0:
        yield Problem(path=("says", "figure"), message=f"{told} is impossible")
    elif not quotients(says) and (says.reading is not None or not ambiguous):
        meant = f", meant of {says.reading}," if says.reading in ("time", "rate") else ""
        yield Problem(
            path=("says", "figure"),
            message=f"{told}{meant} is impossible",
            hint="100 % less leaves nothing, and a range from 0 has no inverse; `around_percent` "
            "widens the figure",
        )


def _no_figure(path: Path, text: str) -> Problem:
    return Problem(
        path=path,
        message=f"{text!r} is no figure",
        hint='as printed: "2.30", "1/4" or "5-2500"; "failed" for a value where it did not run',
    )
