"""Check that the timed artifact is the model: compare counts and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from latbench.errors import Stage, StageError
from latbench.schema.artifact import Counts

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

TOLERANCE = {
    "fp32": 1e-4,
    "tf32": 2e-2,
    "fp16": 5e-2,
    "bf16": 2e-1,
    "int16": 1.0,
    "int8": 1.0,
    "int8-weights": 1.0,
    "int4-weights": 1.0,
}
"""Precision -> bound on the relative error of outputs. Correct fp32 exports measure 1e-7 to 1e-5,
fp16 1e-4 to 4e-3, bf16 up to 1e-2. For integers the error of the worst element is not informative,
so the cosine is bounded instead."""
COSINE = {"int16": 0.8, "int8": 0.8, "int8-weights": 0.9, "int4-weights": 0.8}
"""Precision -> bound on the cosine between outputs and reference. A wrong scale or a swapped axis
gives about 0; networks with random weights measured 0.986 and above with static int8, and 0.9985
with int8 weights."""
ROUNDING = 2e-6
"""Absolute error that counts as rounding: about 16 roundings of a value of 1 in fp32.
Probabilities near zero are computed from such values: a map of them had an error of 2e-7, which was
11 % of its largest value."""
MOST_ROUNDING = 0.5
"""Relative error up to which :data:`ROUNDING` excuses: a small output that is wrong by more is
wrong."""
LEVEL = 1.0
"""Absolute error of an output of 8-bit integers, such as an image, whose reference is not rounded:
a runtime may round to either side."""
MISSING_BYTES = {
    **{"fp16": 0.5, "bf16": 0.5, "int16": 0.5},
    **{"int8": 0.25, "int8-weights": 0.25, "int4-weights": 0.125},
}
"""Precision -> bytes of a parameter relative to fp32."""
MOST_BYTES = 0.75
"""Largest share of the model's bytes in a file exported in a lower precision. A converter that does
not change the precision gives 1."""
MISSING_PARAMETERS = 0.005
"""Share of the parameters' bytes that may be missing in a file. Exporters may precompute small
tables (a relative position bias is gathered once), but not weights. More bytes than in the model
are not an error, because a precomputed table is larger than its source."""


def tolerance_of(precision: str) -> float:
    """Return the bound on the relative error for a precision; the strictest if it is unknown."""
    return TOLERANCE.get(precision, TOLERANCE["fp32"])


def check_counts(
    model: Counts, artifact: Counts | None, precision: str = "fp32", *, foldable_bytes: int = 0
) -> None:
    """Raise :class:`StageError` unless ``artifact`` does the work that ``model`` does.

    ``foldable_bytes`` of the model's parameters may be folded into others: those of BatchNorms.

    A converter removes a branch that is multiplied by zero: the outputs stay equal, but the latency
    is that of another network. Counts detect this.
    """
    if artifact is None:
        raise _mismatch("the exported graph cannot be counted")
    # A 1x1 convolution and a product do the same work, and converters replace one by the other.
    # A format without recurrent layers has them as many products.
    as_products = "recurrent" in model.operators and "recurrent" not in artifact.operators
    if not as_products and sum(artifact.operators.values()) != sum(model.operators.values()):
        raise _mismatch(
            f"operators: the model has {_listed(model.operators)}, the file has "
            f"{_listed(artifact.operators)}"
        )
    if artifact.macs != model.macs:
        raise _mismatch(
            f"multiply-accumulates: {model.macs:,} in the model, {artifact.macs:,} in the file"
        )
    smaller = MISSING_BYTES.get(precision, 1)
    least = (model.parameter_bytes - foldable_bytes) * (1 - MISSING_PARAMETERS)
    if artifact.parameter_bytes < least * smaller:
        raise _mismatch(
            f"bytes of parameters: {model.parameter_bytes:,} in the model, "
            f"{artifact.parameter_bytes:,} in the file"
        )


def check_share(model: Counts, artifact: Counts, precision: str) -> None:
    """Raise :class:`StageError` if most of the parameters are not in the lower ``precision``."""
    if precision in MISSING_BYTES and artifact.parameter_bytes > model.parameter_bytes * MOST_BYTES:
        raise _mismatch(
            f"bytes of parameters: {artifact.parameter_bytes:,} in the file, but "
            f"{model.parameter_bytes:,} in the model; most of the file is not in {precision}"
        )


class OutputDifference(NamedTuple):
    """How far outputs are from their reference, by the output that is furthest from its bound."""

    absolute: float
    """Largest absolute error of all outputs."""
    relative: float
    """Error relative to the output's largest absolute reference value. An output whose reference is
    all zero is compared with the largest value of all outputs."""
    bound: float
    """The relative error that is allowed: that of the precision, or, for small outputs, that of
    :data:`ROUNDING`."""


def output_difference(
    reference: Sequence[Array],
    candidate: Sequence[Array],
    precision: str,
    tolerance: float | None = None,
) -> OutputDifference:
    """Compare outputs computed in ``precision`` with their reference.

    ``tolerance`` replaces the relative error that the precision allows.

    The errors are infinite if shapes, counts or finiteness differ.
    """
    import numpy as np

    tolerance = tolerance_of(precision) if tolerance is None else tolerance
    apart = OutputDifference(float("inf"), float("inf"), tolerance)
    if [a.shape for a in reference] != [a.shape for a in candidate]:
        return apart
    found = []
    for expected, actual in zip(reference, candidate, strict=True):
        if expected.size == 0:
            continue
        wide = expected.astype(np.float64)
        difference = float(np.max(np.abs(wide - actual.astype(np.float64))))
        if not np.isfinite(difference):
            return apart
        levels = actual.dtype == np.uint8 and expected.dtype.kind == "f"
        found.append((difference, float(np.max(np.abs(wide))), levels))
    overall = max((scale for _, scale, _ in found), default=0.0) or 1.0
    absolute = max((difference for difference, _, _ in found), default=0.0)
    each = []
    for error, own, levels in found:
        scale = own or overall
        bound = max(tolerance, LEVEL / scale) if levels else _bound(tolerance, scale)
        each.append(OutputDifference(absolute, error / scale, bound))
    return furthest(each) if each else OutputDifference(0.0, 0.0, tolerance)


def furthest(found: Sequence[OutputDifference]) -> OutputDifference:
    """Return the difference that is largest relative to its bound, with the largest absolute error
    of all."""
    worst = max(found, key=lambda each: each.relative / each.bound)
    return worst._replace(absolute=max(each.absolute for each in found))


def _bound(tolerance: float, scale: float) -> float:
    return max(tolerance, min(ROUNDING / scale, MOST_ROUNDING))


def cosine(reference: Sequence[Array], candidate: Sequence[Array]) -> float | None:
    """Return the smallest cosine between an output and its reference.

    Equal outputs have 1, also if they are all zero, which has no direction. One element has no
    direction either and is left out. ``None`` if shapes differ, if just one of the two is all zero,
    or if values are not finite.
    """
    import numpy as np

    if [a.shape for a in reference] != [a.shape for a in candidate]:
        return None
    found = [1.0]
    for expected, actual in zip(reference, candidate, strict=True):
        one, other = expected.astype(np.float64).ravel(), actual.astype(np.float64).ravel()
        if np.array_equal(one, other):
            continue
        size = float(np.linalg.norm(one) * np.linalg.norm(other))
        if not np.isfinite(size):
            return None
        if len(one) == 1:
            continue
        if size == 0:
            return None
        found.append(float(one @ other) / size)
    return min(found)


def top1_agreement(reference: Sequence[Array], candidate: Sequence[Array]) -> float | None:
    """Return the share of rows of the first output with the same largest element as the reference.

    ``None`` if the output is not a table of scores (batch, classes).
    """
    import numpy as np

    if not reference or reference[0].ndim != 2 or reference[0].shape[1] < 2:
        return None
    if not candidate or candidate[0].shape != reference[0].shape:
        return None
    return float(np.mean(reference[0].argmax(axis=1) == candidate[0].argmax(axis=1)))


def check_outputs(
    found: OutputDifference,
    near: float | None,
    precision: str,
    stage: Stage,
    what: str,
    tolerance: float | None = None,
) -> None:
    """Raise :class:`StageError` if the error exceeds its bound or the cosine ``near`` is too low.

    A ``tolerance`` that the user states replaces the rules of the precision, so that of the cosine
    too.
    """
    check_parity(found, stage, what)
    if tolerance is None:
        check_cosine(near, precision, stage, what)


def check_cosine(found: float | None, precision: str, stage: Stage, what: str) -> None:
    """Raise :class:`StageError` if the cosine is below the bound of ``precision``."""
    bound = COSINE.get(precision)
    if bound is not None and not (found is not None and found >= bound):
        shown = "undefined" if found is None else f"{found:.3f}"
        raise StageError(
            stage,
            f"{what}: cosine to the reference {shown}, at least {bound} is needed",
            hint="calibrate with images like those the model is used for (--calibration FOLDER)"
            if (stage, precision) == ("verify", "int8")
            else "try other options, or another version of the exporter or runtime",
            kind="mismatch",
        )


def check_parity(found: OutputDifference, stage: Stage, what: str) -> None:
    """Raise :class:`StageError` if the relative error is above its bound."""
    if not found.relative <= found.bound:
        raise StageError(
            stage,
            f"{what}: relative error {found.relative:.2g}, allowed {found.bound:.2g}",
            hint="the artifact does not compute the same function as the model; try other options "
            "or another version of the exporter or runtime, or accept the error with --tolerance",
            kind="mismatch",
        )


def denormals(arrays: Sequence[Array]) -> int:
    """Count denormal elements, which some compute units process many times slower."""
    import numpy as np

    found = 0
    for array in arrays:
        if array.dtype.kind == "f":
            magnitude = np.abs(array)
            found += int(np.sum((magnitude > 0) & (magnitude < np.finfo(array.dtype).tiny)))
    return found


def finite(arrays: Sequence[Array]) -> bool:
    """Whether all elements are finite."""
    import numpy as np

    return all(bool(np.all(np.isfinite(array))) for array in arrays if array.dtype.kind == "f")


def _mismatch(message: str) -> StageError:
    return StageError(
        "verify",
        message,
        hint="the converter changed the network: it can remove branches with all-zero weights, and "
        "can replace operations by convolutions or compute them twice",
        kind="mismatch",
    )


def _listed(operators: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(operators.items()))
