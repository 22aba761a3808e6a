"""Is the thing that is timed the model? Counts against counts, outputs against outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

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
    "int8": 1.0,
    "int8-weights": 1.0,
}
"""Precision -> bound on the relative error of outputs. Sound fp32 exports measure 1e-7 to 1e-5,
fp16 1e-4 to 4e-3, bf16 up to 1e-2. Of int8 the error of the worst element says little: there the
cosine is what is bounded."""
COSINE = {"int8": 0.8, "int8-weights": 0.9}
"""Precision -> bound on the cosine between outputs and reference. A wrong scale or a swapped axis
gives about 0; of networks with random weights static int8 measured 0.986 and above, int8 weights
0.9985."""
MISSING_BYTES = {"fp16": 0.5, "bf16": 0.5, "int8": 0.25, "int8-weights": 0.25}
"""Precision -> bytes of a parameter in it over those in fp32."""
MOST_BYTES = 0.75
"""Share of the model's bytes that a file exported in a lower precision may have: a converter that
leaves everything as it was gives 1."""
MISSING_PARAMETERS = 0.005
"""Share of the parameters' bytes that a file may lack. Exporters may compute small tables ahead (a
relative position bias is gathered once), never weights. More than the model has is not an error:
the table computed ahead is larger than what it came from."""


def tolerance_of(precision: str) -> float:
    """The bound on the relative error, for a precision of the file or of the runtime; of one that
    is not known, the strictest."""
    return TOLERANCE.get(precision, TOLERANCE["fp32"])


def check_counts(
    model: Counts, artifact: Counts | None, precision: str = "fp32", *, foldable_bytes: int = 0
) -> None:
    """Raise :class:`StageError` unless ``artifact`` does the work that ``model`` does.

    ``foldable_bytes`` of the model's parameters may be folded into others: those of BatchNorms.

    A converter that finds a branch multiplied by zero removes it: the outputs stay equal and the
    latency is of another network. Counting finds that.
    """
    if artifact is None:
        raise _mismatch("the exported graph cannot be counted")
    # A 1x1 convolution and a product are the same work, and converters write one as the other.
    if sum(artifact.operators.values()) != sum(model.operators.values()):
        raise _mismatch(
            f"operators: the model calls {_listed(model.operators)}, the file holds "
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
    """Raise :class:`StageError` where most of the parameters are not in a lower ``precision``."""
    if precision in MISSING_BYTES and artifact.parameter_bytes > model.parameter_bytes * MOST_BYTES:
        raise _mismatch(
            f"bytes of parameters: {artifact.parameter_bytes:,} in the file, hardly fewer than the "
            f"model's {model.parameter_bytes:,}; most of it is not in {precision}"
        )


def errors(reference: Sequence[Array], candidate: Sequence[Array]) -> tuple[float, float]:
    """Largest absolute error, and largest relative one: of each output over its own largest
    absolute reference value, so that a small output counts beside a large one. One whose reference
    is all zero is held to the largest value of all.

    Infinite where shapes, counts or finiteness differ.
    """
    import numpy as np

    if [a.shape for a in reference] != [a.shape for a in candidate]:
        return float("inf"), float("inf")
    found = []
    for expected, actual in zip(reference, candidate, strict=True):
        if expected.size == 0:
            continue
        wide = expected.astype(np.float64)
        difference = float(np.max(np.abs(wide - actual.astype(np.float64))))
        if not np.isfinite(difference):
            return float("inf"), float("inf")
        found.append((difference, float(np.max(np.abs(wide)))))
    overall = max((scale for _, scale in found), default=0.0) or 1.0
    absolute = max((difference for difference, _ in found), default=0.0)
    return absolute, max((error / (scale or overall) for error, scale in found), default=0.0)


def cosine(reference: Sequence[Array], candidate: Sequence[Array]) -> float | None:
    """Smallest cosine between an output and its reference; ``None`` where they cannot be compared
    or one is all zero."""
    import numpy as np

    if [a.shape for a in reference] != [a.shape for a in candidate]:
        return None
    found = []
    for expected, actual in zip(reference, candidate, strict=True):
        one, other = expected.astype(np.float64).ravel(), actual.astype(np.float64).ravel()
        size = float(np.linalg.norm(one) * np.linalg.norm(other))
        if expected.size and not (size > 0 and np.isfinite(size)):
            return None
        if expected.size:
            found.append(float(one @ other) / size)
    return min(found, default=None)


def top1_agreement(reference: Sequence[Array], candidate: Sequence[Array]) -> float | None:
    """Share of the rows of the first output whose largest element is where the reference's is;
    ``None`` where that is no table of scores (batch, classes)."""
    import numpy as np

    if not reference or reference[0].ndim != 2 or reference[0].shape[1] < 2:
        return None
    if not candidate or candidate[0].shape != reference[0].shape:
        return None
    return float(np.mean(reference[0].argmax(axis=1) == candidate[0].argmax(axis=1)))


def check_cosine(found: float | None, precision: str, stage: Stage, what: str) -> None:
    """Raise :class:`StageError` where the cosine is below what ``precision`` must reach."""
    bound = COSINE.get(precision)
    if bound is not None and not (found is not None and found >= bound):
        shown = "undefined" if found is None else f"{found:.3f}"
        raise StageError(
            stage,
            f"{what}: cosine to the reference {shown}, at least {bound} is needed",
            hint="calibrate with images of the kind that the model is for (--calibration FOLDER)"
            if (stage, precision) == ("verify", "int8")
            else "try other options, or another version of the exporter or runtime",
            kind="mismatch",
        )


def check_parity(error: float, tolerance: float, stage: Stage, what: str) -> None:
    """Raise :class:`StageError` where a relative ``error`` is above ``tolerance``."""
    if not error <= tolerance:
        raise StageError(
            stage,
            f"{what}: relative error {error:.2g}, allowed {tolerance:.2g}",
            hint="the numbers would be of another function than the model's; try other options "
            "or another version of the exporter or runtime",
            kind="mismatch",
        )


def denormals(arrays: Sequence[Array]) -> int:
    """How many elements are denormal: some units compute them many times slower."""
    import numpy as np

    found = 0
    for array in arrays:
        if array.dtype.kind == "f":
            magnitude = np.abs(array)
            found += int(np.sum((magnitude > 0) & (magnitude < np.finfo(array.dtype).tiny)))
    return found


def finite(arrays: Sequence[Array]) -> bool:
    """Whether no element is NaN or infinite."""
    import numpy as np

    return all(bool(np.all(np.isfinite(array))) for array in arrays if array.dtype.kind == "f")


def _mismatch(message: str) -> StageError:
    return StageError(
        "verify",
        message,
        hint="the converter changed the network: all-zero weights let it leave branches out, and "
        "some operations it writes as convolutions or computes twice",
        kind="mismatch",
    )


def _listed(operators: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(operators.items()))
