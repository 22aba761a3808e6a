"""Static int8 in ONNX: quantise and dequantise nodes (QDQ), by ONNX Runtime's quantiser.

Weights are signed and per output channel, activations per tensor. For CPUs activations are
unsigned, the pairing for which x86 has a dot-product instruction (VNNI), and biases are 32-bit
integers. TensorRT's parser refuses both: for it activations are signed and symmetric, biases stay
floats, and only inputs of convolutions and products are quantised.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from latbench.api import Array, StageError

PRODUCTS = ["Conv", "ConvTranspose", "Gemm", "MatMul"]


def quantize(
    path: Path,
    calibration: Sequence[tuple[Array, ...]],
    names: Sequence[str],
    *,
    symmetric: bool = False,
    trained: bool = False,
) -> dict[str, str]:
    """Replace the file at ``path`` by a quantised one, with ranges seen on ``calibration``.

    ``trained``: BatchNorms are to stay, which ONNX Runtime's optimiser folds. What was done, as
    details. Raises :class:`StageError`.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """The calibration inputs, one set after the other."""

        def __init__(self) -> None:
            self._sets: Iterator[tuple[Array, ...]] = iter(calibration)

        def get_next(self) -> dict[str, Array] | None:
            """Name -> array, then ``None``."""
            found = next(self._sets, None)
            return None if found is None else dict(zip(names, found, strict=True))

    if not calibration:
        raise StageError("export", "static int8 needs calibration inputs, and there are none")
    prepared, quantised = path.with_suffix(".prepared"), path.with_suffix(".int8")
    try:
        with _quiet():
            quant_pre_process(
                str(path), str(prepared), skip_symbolic_shape=True, skip_optimization=trained
            )
            quantize_static(
                str(prepared),
                str(quantised),
                Reader(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                weight_type=QuantType.QInt8,
                activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
                op_types_to_quantize=PRODUCTS if symmetric else None,
                extra_options=_symmetric() if symmetric else None,
            )
        quantised.replace(path)
    except Exception as error:
        # Its errors share no nearer ancestor.
        if isinstance(error, MemoryError):
            raise
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StageError(
            "export",
            f"ONNX Runtime's quantiser cannot quantise the graph: {first}",
            hint="another opset (--option opset=18) or another calibration may pass",
        ) from error
    finally:
        for left in (prepared, quantised):
            left.unlink(missing_ok=True)
    what = "symmetric, inputs of convolutions and products" if symmetric else "activations unsigned"
    return {
        "quantisation": f"static QDQ, weights per channel, {what}",
        "calibration_sets": str(len(calibration)),
    }


def _symmetric() -> dict[str, Any]:
    return {
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "QuantizeBias": False,
        "OpTypesToExcludeOutputQuantization": PRODUCTS,
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Its warnings are about itself: that a graph should be prepared, which this one has been."""
    root, before = logging.getLogger(), logging.getLogger().level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)
