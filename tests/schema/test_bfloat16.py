from __future__ import annotations

import numpy as np
import pytest

from latbench.schema.bfloat16 import from_bfloat16, to_bfloat16


def test_every_value_survives() -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    values = from_bfloat16(bits)
    numbers = ~np.isnan(values)
    np.testing.assert_array_equal(to_bfloat16(values)[numbers], bits[numbers])
    assert np.all(np.isnan(from_bfloat16(to_bfloat16(values[~numbers]))))


def test_rounding_is_that_of_ml_dtypes() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    draw = np.random.default_rng(0).standard_normal(10_000).astype(np.float32)
    values = np.concatenate([draw, draw * 1e30, draw * 1e-38, [3.4e38, 0.0, -0.0, np.inf]])
    values = values.astype(np.float32)
    expected = values.astype(ml_dtypes.bfloat16).view(np.uint16)
    np.testing.assert_array_equal(to_bfloat16(values), expected)


def test_shapes_stay() -> None:
    assert to_bfloat16(np.float32(1.0)).shape == ()
    assert to_bfloat16(np.ones((2, 3), np.float32).T).shape == (3, 2)
