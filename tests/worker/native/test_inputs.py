"""Inputs and arrays from files: bit for bit those of the Python worker."""

from __future__ import annotations

import base64
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latbench.errors import UsageError
from latbench.schema.artifact import TensorSpec
from latbench.schema.seeded_inputs import make_inputs

pytestmark = pytest.mark.slow  # The program is compiled first.

Probe = Callable[[str, list[bytes]], list[str]]
FLOATS = ("float16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
DTYPES = (*FLOATS, *INTEGERS, "bool")
SHAPE = (3, 5, 7)
CONTENTS = (None, "random:7", "random:99999999999999999999999", "0", "1", "0:1", "true", "FALSE")


def ask(probe: Probe, specs: list[TensorSpec], seed: int, file: Path | None = None) -> str:
    inputs = [
        {"name": s.name, "shape": list(s.shape), "dtype": s.dtype, "content": s.content}
        for s in specs
    ]
    request = {"inputs": inputs, "seed": seed, "file": None if file is None else str(file)}
    return probe("inputs", [json.dumps(request).encode()])[0]


def arrays(answer: str) -> list[np.ndarray[Any, Any]]:
    assert answer.startswith("ok "), answer
    return [array(each) for each in json.loads(answer[3:])]


def array(told: dict[str, Any]) -> np.ndarray[Any, Any]:
    data = base64.b64decode(told["data"])
    return np.frombuffer(data, dtype=told["dtype"]).reshape(told["shape"])


def same(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    return (
        one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    )


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**62])
def test_every_type_and_content(probe: Probe, seed: int) -> None:
    specs = [
        TensorSpec(name=f"{dtype} {content}", shape=SHAPE, dtype=dtype, content=content)
        for dtype in DTYPES
        for content in CONTENTS
    ]
    for spec, found, right in zip(
        specs, arrays(ask(probe, specs, seed)), make_inputs(specs, seed), strict=True
    ):
        assert same(found, right), spec.name


RANGES = [
    *((dtype, "-1.5:2.75") for dtype in FLOATS),
    *(("float16", text) for text in ("-65504:65504", "0.1:0.3", "6e-8:1e-7", "1e-9:1e-8")),
    *(("float32", text) for text in ("-3.4e38:3.4e38", "1e-45:1e-40", "0.1:0.1", "+.5:5.")),
    *(("float64", text) for text in ("0.1:0.7", "-1e300:1e300", "123456789.123:123456790")),
    *(("int8", text) for text in ("-128:127", "-5:5", "3:3")),
    *(("uint8", text) for text in ("0:255", "1e1:2e1")),
    *(("int64", text) for text in ("-9223372036854775808:9223372036854775807", "0:1000")),
    *(
        ("uint64", text)
        for text in ("0:18446744073709551615", "9223372036854775807:9223372036854775809")
    ),
    *(("int32", "-2147483648:2147483647"), ("uint32", "7:4294967295"), ("uint16", "0:65535")),
]


@pytest.mark.parametrize(("dtype", "content"), RANGES)
def test_ranges(probe: Probe, dtype: str, content: str) -> None:
    spec = TensorSpec(name="x", shape=(2000,), dtype=dtype, content=content)
    with np.errstate(all="ignore"):
        (right,) = make_inputs([spec], 3)
    (found,) = arrays(ask(probe, [spec], 3))
    assert same(found, right)


VALUES = {
    "float16": (
        "65504",
        "-65504",
        "5.96e-8",
        "2.98e-8",
        "2.981e-8",
        "1e-10",
        "0.1",
        "6.1e-5",
        "2049",
        "2051",
    ),
    "float32": ("3.4028234e38", "1e-45", "0.1", "-.5", "5.", "16777217", "1e-999"),
    "float64": ("1.7976931348623157e308", "5e-324", "0.1", "9007199254740993"),
    "int64": ("9223372036854775807", "-9223372036854775808", "1e3", "+7", "-0"),
    "uint64": ("18446744073709551615", "9007199254740993"),
    "uint8": ("255", "2.0", "0"),
}


@pytest.mark.parametrize("dtype", VALUES)
def test_values_are_rounded_once(probe: Probe, dtype: str) -> None:
    texts = VALUES[dtype]
    spec = TensorSpec(name="x", shape=(len(texts),), dtype=dtype, content=",".join(texts))
    (right,) = make_inputs([spec], 0)
    (found,) = arrays(ask(probe, [spec], 0))
    assert same(found, right)


def test_many_halves(probe: Probe) -> None:
    """Every exponent, near the middle between two values."""
    draw = np.random.default_rng(0)
    numbers = np.ldexp(1 + draw.integers(0, 2**13, 4000) / 2**13, draw.integers(-27, 15, 4000))
    texts = ",".join(map(repr, map(float, numbers)))
    spec = TensorSpec(name="x", shape=(4000,), dtype="float16", content=texts)
    (found,) = arrays(ask(probe, [spec], 0))
    assert same(found, numbers.astype(np.float16))


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1,)])
def test_scalars_and_empty_axes(probe: Probe, shape: tuple[int, ...]) -> None:
    contents = (None, "1", "0:1")
    specs = [TensorSpec(name="x", shape=shape, dtype="int32", content=each) for each in contents]
    for found, right in zip(arrays(ask(probe, specs, 1)), make_inputs(specs, 1), strict=True):
        assert same(found, right)


@pytest.mark.parametrize(
    ("dtype", "content"),
    [
        *(("uint8", text) for text in ("256", "-1", "1e30", "0:256", "1.5", "9" * 50)),
        *(("bool", text) for text in ("2", "0:2")),
        *(("float16", text) for text in ("65505", "-1e6", "0:70000")),
        *(
            ("float32", text)
            for text in ("3.5e38", "1,2,3", "random:x", "random:", "2:1", "0:1e999")
        ),
        *(("float32", text) for text in ("abc", "", "1,", "1:2:3", "nan", "1 2", "sha256:abc")),
    ],
)
def test_contents_that_do_not_fit_are_refused_with_the_same_words(
    probe: Probe, dtype: str, content: str
) -> None:
    spec = TensorSpec(name="x's", shape=(4,), dtype=dtype, content=content)
    with pytest.raises(UsageError) as caught:
        make_inputs([spec], 0)
    assert ask(probe, [spec], 0) == f"refused {caught.value.message} | {caught.value.hint or ''}"


def test_impossible_shapes_are_words(probe: Probe) -> None:
    huge = TensorSpec(name="x", shape=(2**40, 2**40), dtype="float32")
    assert ask(probe, [huge], 0) == "memory"
    negative = TensorSpec(name="x", shape=(-1,), dtype="float32")
    assert ask(probe, [negative], 0).startswith("refused a shape has a negative size")
    unknown = TensorSpec(name="x", shape=(1,), dtype="str")
    assert "which the native worker does not support" in ask(probe, [unknown], 0)


def test_arrays_of_a_file(probe: Probe, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    right = {f"a {dtype}": (draw.random((3, 4)) * 9).astype(dtype) for dtype in DTYPES} | {
        "fortran": np.asfortranarray(draw.random((2, 3, 4))),
        "scalar": np.float32(3.5),
        "empty": np.zeros((0, 4), np.int64),
        "é/x:0": np.arange(5),
    }
    path = tmp_path / "a.npz"
    np.savez(path, **right)  # type: ignore[arg-type]
    (answer,) = probe("npz", [str(path).encode()])
    found = {name: array(told) for name, told in json.loads(answer.removeprefix("ok ")).items()}
    assert found.keys() == right.keys()
    for name, each in right.items():
        assert same(found[name], np.asarray(each)), name
    spec = TensorSpec(name="fortran", shape=(2, 3, 4), dtype="float64", content="sha256:0")
    assert same(arrays(ask(probe, [spec], 0, path))[0], right["fortran"])


def member(content: bytes, **how: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", **how) as archive:
            archive.writestr("x.npy", content)

    return write


HEADER = b"\x93NUMPY\x01\x00v\x00{'descr': '%s', 'fortran_order': False, 'shape': %s, }"
BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "No such file"),
    "empty": (lambda path: path.touch(), "empty"),
    "not a zip": (lambda path: path.write_bytes(b"x" * 500), "not a zip archive"),
    "compressed": (lambda path: np.savez_compressed(path, x=np.zeros(9)), "is compressed"),
    "objects": (lambda path: np.savez(path, x=np.array([None])), "elements of type '|O'"),
    "texts": (lambda path: np.savez(path, x=np.array(["a"])), "elements of type '<U1'"),
    "big-endian": (lambda path: np.savez(path, x=np.zeros(2, ">f4")), "elements of type '>f4'"),
    "complex": (lambda path: np.savez(path, x=np.zeros(2, "c8")), "elements of type '<c8'"),
    "records": (lambda path: np.savez(path, x=np.zeros(2, "f4,i4")), "several parts"),
    "not an array": (member(b"hello, world"), "not an array"),
    "short": (member((HEADER % (b"<f4", b"(9,)")).ljust(128)), "ends early"),
    "huge": (member((HEADER % (b"<f4", b"(9000000000000,)")).ljust(128)), "ends early"),
}


@pytest.mark.parametrize("case", BAD)
def test_other_files_are_refused_in_words(probe: Probe, tmp_path: Path, case: str) -> None:
    write, words = BAD[case]
    path = tmp_path / "a.npz"
    write(path)
    (answer,) = probe("npz", [str(path).encode()])
    assert answer.startswith(f"failed the inputs cannot be read: {path}: "), answer
    assert words in answer


def test_damaged_files_are_refused_or_read(probe: Probe, tmp_path: Path) -> None:
    """Under the sanitizers: neither a crash nor memory that is not there."""
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(6.0).reshape(2, 3), y=np.zeros((0, 2)))
    whole = path.read_bytes()
    draw = random.Random(3)
    paths = []
    for i in range(1500):
        content = bytearray(whole)
        if i % 5 == 0:
            content = content[: draw.randrange(len(content))]
        else:
            for _ in range(draw.randint(1, 3)):
                content[draw.randrange(len(content))] = draw.choice((0, 1, 0x7F, 0xFF, 0x50))
        damaged = tmp_path / f"{i}"
        damaged.write_bytes(content)
        paths.append(str(damaged).encode())
    answers = probe("npz", paths)
    assert len(answers) == len(paths)
    assert sum(answer.startswith("failed") for answer in answers) > 500
    assert not [answer for answer in answers if answer.startswith("memory")]
