"""Quantize ONNX files to static int8 with quantize/dequantize nodes (QDQ), by ONNX Runtime.

Weights are signed and per output channel, activations per tensor. For CPUs, activations are
unsigned, the combination for which x86 has a dot-product instruction (VNNI), and biases are 32-bit
integers. TensorRT's parser rejects both: for it, activations are signed and symmetric, biases stay
floating point, and only inputs of convolutions and products are quantized.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from latbench.api import Array, StageError, first_line

PRODUCTS = ["Conv", "ConvTranspose", "Gemm", "MatMul"]


def quantize(
    path: Path,
    calibration: Sequence[tuple[Array, ...]],
    names: Sequence[str],
    *,
    symmetric: bool = False,
    trained: bool = False,
) -> dict[str, str]:
    """Replace the file at ``path`` by a quantized one, with ranges seen on ``calibration``.

    Each calibration set has one array per input, in the order of ``names``. ``symmetric`` selects
    the form for TensorRT; ``trained`` keeps BatchNorms, which ONNX Runtime's optimizer folds.

    Returns details of the quantization. Raises :class:`StageError`.
    """
    if not calibration:
        raise StageError("export", "static int8 requires calibration inputs; none were given")
    prepared, quantized = path.with_suffix(".prepared"), path.with_suffix(".int8")
    try:
        with _quiet():
            _prepare(path, prepared, trained=trained)
            _quantize(prepared, quantized, _reader(calibration, names), symmetric=symmetric)
        quantized.replace(path)
    except Exception as error:
        # Its errors have no closer common base.
        if isinstance(error, MemoryError):
            raise
        first = first_line(error)
        raise StageError(
            "export",
            f"ONNX Runtime cannot quantize the graph: {first}",
            hint="try another opset (--option opset=18) or another calibration",
        ) from error
    finally:
        for left in (prepared, quantized):
            left.unlink(missing_ok=True)
    what = "symmetric, inputs of convolutions and products" if symmetric else "activations unsigned"
    return {
        "quantisation": f"static QDQ, weights per channel, {what}",
        "calibration_sets": str(len(calibration)),
    }


def _reader(calibration: Sequence[tuple[Array, ...]], names: Sequence[str]) -> Any:
    """The calibration sets in the form that ONNX Runtime reads."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Iterates over the calibration sets."""

        def __init__(self) -> None:
            self._sets: Iterator[tuple[Array, ...]] = iter(calibration)

        def get_next(self) -> dict[str, Array] | None:
            """One set as name -> array; ``None`` at the end."""
            found = next(self._sets, None)
            return None if found is None else dict(zip(names, found, strict=True))

    return Reader()


def _prepare(path: Path, prepared: Path, *, trained: bool) -> None:
    """Infer shapes and, unless ``trained``, optimize."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True, skip_optimization=trained)


def _quantize(prepared: Path, quantized: Path, reader: Any, *, symmetric: bool) -> None:
    """Write ``quantized``: weights int8 per output channel, activations int8 or uint8."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    quantize_static(
        str(prepared),
        str(quantized),
        reader,
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
        op_types_to_quantize=PRODUCTS if symmetric else None,
        extra_options=_symmetric() if symmetric else None,
    )


def _symmetric() -> dict[str, Any]:
    return {
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "QuantizeBias": False,
        "OpTypesToExcludeOutputQuantization": PRODUCTS,
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress a warning to preprocess the graph, which has been preprocessed."""
    root, before = logging.getLogger(), logging.getLogger().level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)
