"""Validate a claim's value: its number, its unit and whether it is possible."""

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
"""Plausible ranges (latency: 1 µs to an hour). Outside of them a unit or a digit is wrong."""


class Problem(Value, frozen=True, kw_only=True):
    """One mistake in an entry, and its path."""

    path: Path
    message: str
    hint: str | None = None


def figure_problems(claim: Claim) -> Iterator[Problem]:
    """Yield every problem of the statement; none if its value can be compared with a measured
    one."""
    says = claim.says
    if isinstance(says, StatedRatio):
        yield from _ratio_problems(says)
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
            message=f"{says.unit!r} is not a unit of {says.metric}",
            hint=f"known: {', '.join(unit or '(empty)' for unit in units)}",
        )
        return
    if says.figure == FAILED and isinstance(says, StatedValue):
        return
    figure = stated_figure(claim)
    if figure is None:
        yield _invalid_figure(("says", "figure"), says.figure)
        return
    low, high = SANE[says.metric]
    # A difference has no lower limit.
    least = 0.0 if isinstance(says, StatedDifference) else low
    # The time of an inference is the inverse of its rate, so a rate of 0 is invalid.
    endless = isinstance(says, StatedValue) and says.metric == "throughput" and figure.low <= 0
    if figure.high < least or figure.low > high or figure.value == 0 or endless:
        yield Problem(
            path=("says", "figure"),
            message=f"{says.metric} of {says.figure} {says.unit} is impossible",
        )
    if isinstance(says, StatedBound) and figure.value is None:
        yield Problem(
            path=("says", "figure"),
            message=f"{says.sense} {says.figure}: a bound is a single value, not a range",
        )
    if claim.correction is not None and parse_figure(claim.correction.figure) is None:
        yield _invalid_figure(("correction", "figure"), claim.correction.figure)
    if claim.correction is not None and claim.correction.figure == says.figure:
        yield Problem(path=("correction", "figure"), message="equals the printed value")


def _ratio_problems(says: StatedRatio) -> Iterator[Problem]:
    figure = parse_figure(says.figure)
    if figure is None:
        yield _invalid_figure(("says", "figure"), says.figure)
        return
    ambiguous = says.metric == "latency" and says.unit == "%" and says.sense != "of"
    if ambiguous and says.reading is None:
        yield Problem(
            path=("says", "reading"),
            message="missing: a percentage of speed refers to time or to rate",
            hint="set `time`, `rate`, or `open` if the source does not say",
        )
    if not ambiguous and says.reading is not None:
        yield Problem(
            path=("says", "reading"),
            message="only a percentage of latency has a reading",
            hint='"1.5x faster" means the same for time and for rate',
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
            hint="use `sense: of` for a fraction",
        )
    statement = f"{says.figure}{' %' if says.unit == '%' else 'x'} {says.sense}"
    if figure.value == 0:
        yield Problem(path=("says", "figure"), message=f"{statement} is impossible")
    elif not quotients(says) and (says.reading is not None or not ambiguous):
        meant = f" (reading: {says.reading})" if says.reading in ("time", "rate") else ""
        yield Problem(
            path=("says", "figure"),
            message=f"{statement}{meant} is impossible",
            hint="100 % less leaves nothing, and a range from 0 has no inverse; use "
            "`around_percent` to widen the value",
        )


def _invalid_figure(path: Path, text: str) -> Problem:
    return Problem(
        path=path,
        message=f"{text!r} is not a value",
        hint='write it as printed: "2.30", "1/4" or "5-2500"; "failed" if the model did not run',
    )
