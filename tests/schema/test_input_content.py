"""What an input holds: texts of the command line, and the arrays that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.api import TensorSpec, UsageError, make_inputs
from latbench.schema.input_content import (
    Noise,
    Uniform,
    Values,
    find_input,
    read_content,
    read_input,
    read_shape,
)
from latbench.schema.request_syntax import side_request

INTEGERS = ("int8", "uint8", "int16", "int32", "uint32", "int64", "uint64")


def one(content: str | None, dtype: str = "float32", shape: tuple[int, ...] = (2, 3)) -> object:
    spec = TensorSpec(name="x", shape=shape, dtype=dtype, content=content)
    (array,) = make_inputs((spec,), 3)
    assert array.dtype == np.dtype(dtype)
    assert array.shape == shape
    return array


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("5", Values(texts=("5",))),
        ("-1.5e3", Values(texts=("-1.5e3",))),
        ("480,640", Values(texts=("480", "640"))),
        ("true", Values(texts=("1",))),
        ("-1:1", Uniform(low="-1", high="1")),
        ("random:7", Noise(seed=7)),
        ("photo.png", None),
        ("5x", None),
        ("nan", None),
    ],
)
def test_contents(text: str, content: object) -> None:
    assert read_content(text) == content


@pytest.mark.parametrize("text", ["2:1", "random:", "random:-1", "random:x", "0:1e999"])
def test_contents_that_mean_nothing(text: str) -> None:
    with pytest.raises(UsageError):
        read_content(text)


def test_shapes() -> None:
    assert read_shape("1x3x480x640") == ("", (1, 3, 480, 640), None)
    assert read_shape("ids=1X128:int64") == ("ids", (1, 128), "int64")
    assert read_shape("a/b:0=2") == ("a/b:0", (2,), None)
    assert read_shape("past=1x0x64") == ("past", (1, 0, 64), None)


@pytest.mark.parametrize("text", ["", "x", "=1x2", "x=", "x=1x", "x=-1", "1x2:", "x=1,2"])
def test_shapes_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="is not a shape"):
        read_shape(text)


def test_inputs_have_names_or_none() -> None:
    assert read_input("x=0:1") == ("x", "0:1")
    assert read_input("0:1") == ("", "0:1")
    assert read_input("x=a=b.npy") == ("x", "a=b.npy")
    for text in ("", "x=", "=5"):
        with pytest.raises(UsageError):
            read_input(text)


def test_names_without_what_a_converter_added() -> None:
    names = ("serving_default_x:0", "serving_default_y:0")
    assert find_input("x", names) == "serving_default_x:0"
    assert find_input("serving_default_y:0", names) == "serving_default_y:0"
    assert find_input("", ("only",)) == "only"
    with pytest.raises(UsageError, match="no input 'z'"):
        find_input("z", names)
    with pytest.raises(UsageError, match="has 2 inputs"):
        find_input("", names)
    with pytest.raises(UsageError, match="no input 'x'"):
        find_input("x", ("a_x", "b_x"))


@given(st.integers(-128, 127), st.integers(-128, 127))
def test_ranges_of_integers_include_both_ends(a: int, b: int) -> None:
    low, high = sorted((a, b))
    (array,) = make_inputs(
        (TensorSpec(name="x", shape=(4096,), dtype="int8", content=f"{low}:{high}"),), 0
    )
    assert (array.min(), array.max()) == (low, high) or high - low > 100
    assert low <= array.min() <= array.max() <= high


@pytest.mark.parametrize("dtype", INTEGERS)
def test_the_whole_range_of_a_type(dtype: str) -> None:
    limits = np.iinfo(dtype)
    array = one(f"{limits.min}:{limits.max}", dtype, (1000,))
    assert isinstance(array, np.ndarray)
    assert len(np.unique(array)) > 100
    assert np.all(one(str(limits.max), dtype) == limits.max)
    with pytest.raises(UsageError, match="out of range"):
        one(str(int(limits.max) + 1), dtype)
    with pytest.raises(UsageError, match="out of range"):
        one(str(int(limits.min) - 1), dtype)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_ranges_of_floats(dtype: str) -> None:
    array = one("10:11", dtype, (500,))
    assert isinstance(array, np.ndarray)
    assert 10 <= array.min() < 10.1
    assert 10.9 < array.max() <= 11
    with pytest.raises(UsageError, match="out of range"):
        one("1e39", "float32")
    with pytest.raises(UsageError, match="out of range"):
        one("70000", "float16")


def test_values_fill_the_input_or_are_its_elements() -> None:
    assert np.array_equal(np.asarray(one("480,640", "int64", (2,))), [480, 640])
    assert np.array_equal(np.asarray(one("1,2,3,4,5,6")), [[1, 2, 3], [4, 5, 6]])
    assert np.all(np.asarray(one("true", "bool")))
    with pytest.raises(UsageError, match="6 elements, but 2 values"):
        one("1,2")
    with pytest.raises(UsageError, match="out of range"):
        one("2", "bool")


def test_noise_of_another_seed_is_that_of_the_seed() -> None:
    spec = TensorSpec(name="x", shape=(5,), dtype="float32")
    own = TensorSpec(name="x", shape=(5,), dtype="float32", content="random:9")
    assert np.array_equal(make_inputs((own,), 1)[0], make_inputs((spec,), 9)[0])


def test_sides_add_to_what_is_common() -> None:
    side = side_request(
        "m.onnx,shape=x=1x2,input=x=5,dim=seq=8,arg=depth=2,tolerance=0.5",
        shapes=("x=1x9", "y=1x3"),
        inputs=("0:1",),
        dims={"n": 1},
        arguments={"depth": "1", "width": "3"},
    )
    assert side.shapes == {"x": (1, 2), "y": (1, 3)}
    assert side.inputs == {"": "0:1", "x": "5"}
    assert side.dims == {"n": 1, "seq": 8}
    assert side.arguments == {"depth": "2", "width": "3"}
    assert side.tolerance == 0.5
