"""Inputs are a function of the seed that any other program can compute."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.schema.artifact import TensorSpec
from latbench.schema.seeded_inputs import make_inputs

MASK = 2**64 - 1


def by_the_book(seed: int, k: int, i: int) -> float:
    """docs/PROTOCOL.md, written again with plain integers and 32-bit floats by hand."""
    z = (seed * 2**32 + k * 2**56 + i) * 0x9E3779B97F4A7C15 & MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    z ^= z >> 31

    def f32(x: float) -> float:
        return float(struct.unpack("f", struct.pack("f", x))[0])

    return f32(f32(f32(f32(z >> 40) * 2**-24) * 2 - 1) * f32(3**0.5))


def spec(shape: tuple[int, ...], dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name="x", shape=shape, dtype=dtype)


@given(st.integers(0, 2**31 - 1), st.integers(0, 59))
def test_formula(seed: int, i: int) -> None:
    first, second = make_inputs((spec((3, 20)), spec((3, 20))), seed)
    assert float(first.reshape(-1)[i]) == by_the_book(seed, 0, i)
    assert float(second.reshape(-1)[i]) == by_the_book(seed, 1, i)


def test_first_values_never_change() -> None:
    (x,) = make_inputs((spec((4,)),), 1)
    assert x.tolist() == [
        0.8514049649238586,
        -0.784347414970398,
        1.407265067100525,
        0.3508554697036743,
    ]


def test_looks_like_a_normalised_image() -> None:
    (x,) = make_inputs((spec((1, 3, 224, 224)),), 7)
    assert abs(float(x.mean())) < 0.01
    assert float(x.var()) == pytest.approx(1, abs=0.01)
    assert float(np.abs(x).max()) <= 3**0.5


@pytest.mark.parametrize("dtype", ["float16", "float64", "int64", "int8", "uint8", "bool"])
def test_other_types(dtype: str) -> None:
    (x,) = make_inputs((spec((100,), dtype),), 3)
    assert x.dtype.name == dtype
    if x.dtype.kind != "f":
        assert set(x.astype(int).tolist()) == {0, 1}


def test_empty_tensor() -> None:
    (x,) = make_inputs((spec((0, 3)),), 0)
    assert x.shape == (0, 3)
