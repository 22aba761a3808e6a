"""Outputs that a worker sends: arrays of numbers, or a failure."""

from __future__ import annotations

import numpy as np
import pytest

from latbench.bench.job import _array
from latbench.errors import StageError
from latbench.worker.messages import Tensor


def tensor(dtype: str, shape: tuple[int, ...], data: bytes) -> Tensor:
    return Tensor(dtype=dtype, shape=shape, data=data)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8", "int64", "bool"])
def test_numbers_arrive_as_they_were(dtype: str) -> None:
    sent = np.arange(6).reshape(2, 3).astype(dtype)
    found = _array(tensor(dtype, sent.shape, sent.tobytes()))
    assert found.shape == (2, 3)
    assert np.array_equal(found, sent)
    assert _array(tensor("float32", (), bytes(4))).shape == ()
    assert _array(tensor("float32", (0, 3), b"")).shape == (0, 3)


@pytest.mark.parametrize(
    "lie",
    [
        tensor("float32", (2, 3), bytes(20)),
        tensor("float32", (2, 3), bytes(23)),
        tensor("float32", (-1, -1), bytes(24)),
        tensor("float32", (2**40, 2**40), bytes(24)),
        tensor("float32", (2**70,), bytes(24)),
        tensor("nonsense", (6,), bytes(24)),
        tensor("", (6,), b"x"),
        tensor("object", (3,), bytes(24)),
        tensor("O", (3,), bytes(24)),
        tensor("U6", (1,), bytes(24)),
        tensor("S24", (1,), bytes(24)),
        tensor("V24", (1,), bytes(24)),
        tensor("i4,f4", (3,), bytes(24)),
        tensor("datetime64[s]", (3,), bytes(24)),
        tensor("f4,(", (3,), bytes(24)),
    ],
    ids=lambda each: f"{each.dtype}-{each.shape}",
)
def test_a_lie_is_a_failure_of_the_outputs(lie: Tensor) -> None:
    with pytest.raises(StageError) as caught:
        _array(lie)
    assert caught.value.stage == "outputs"
    assert "not an array" in caught.value.message
