"""Is the thing that is timed the model? Counts against counts, outputs against outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from latbench.core.errors import Stage, StageError
from latbench.core.records import Counts

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

TOLERANCE = {"fp32": 1e-4}
"""Precision -> bound on the relative error of outputs. Sound fp32 exports measure 1e-7 to 1e-5."""
MISSING_PARAMETERS = 0.005
"""Share of the parameters' bytes that a file may lack. Exporters may compute small tables ahead (a
relative position bias is gathered once), never weights. More than the model has is not an error:
the table computed ahead is larger than what it came from."""


def check_counts(model: Counts, artifact: Counts | None) -> None:
    """Raise :class:`StageError` unless ``artifact`` does the work that ``model`` does.

    A converter that finds a branch multiplied by zero removes it: the outputs stay equal and the
    latency is of another network. Counting finds that.
    """
    if artifact is None:
        raise _mismatch("the exported graph cannot be counted: its control flow depends on data")
    if artifact.operators != model.operators:
        raise _mismatch(
            f"operators: the model calls {_listed(model.operators)}, the file holds "
            f"{_listed(artifact.operators)}"
        )
    if artifact.macs != model.macs:
        raise _mismatch(
            f"multiply-accumulates: {model.macs:,} in the model, {artifact.macs:,} in the file"
        )
    if artifact.parameter_bytes < model.parameter_bytes * (1 - MISSING_PARAMETERS):
        raise _mismatch(
            f"bytes of parameters: {model.parameter_bytes:,} in the model, "
            f"{artifact.parameter_bytes:,} in the file"
        )


def errors(reference: Sequence[Array], candidate: Sequence[Array]) -> tuple[float, float]:
    """Largest absolute error, and the same over the largest absolute reference value.

    Infinite where shapes, counts or finiteness differ.
    """
    import numpy as np

    if [a.shape for a in reference] != [a.shape for a in candidate]:
        return float("inf"), float("inf")
    worst, scale = 0.0, 0.0
    for expected, actual in zip(reference, candidate, strict=True):
        if expected.size == 0:
            continue
        wide = expected.astype(np.float64)
        difference = float(np.max(np.abs(wide - actual.astype(np.float64))))
        worst = max(worst, difference if np.isfinite(difference) else float("inf"))
        scale = max(scale, float(np.max(np.abs(wide))))
    return worst, worst / scale if scale > 0 else worst


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
        hint="the exporter changed the network; all-zero or all-equal weights are a common cause",
        kind="mismatch",
    )


def _listed(operators: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(operators.items()))
