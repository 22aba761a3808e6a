"""Define the precisions that an artifact can be exported in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]


PRECISIONS = {
    "fp32": "32-bit floats",
    "fp16": "16-bit floats, inputs and outputs as the model has them",
    "int8": "8-bit integers by static quantization, weights per channel where the format can",
    "int8-weights": "weights as 8-bit integers, computed in floats",
}
