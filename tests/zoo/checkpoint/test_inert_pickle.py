"""Pickles are read without importing or calling what they name."""

from __future__ import annotations

import argparse
import datetime
import enum
import io
import os
import pickle
import types
from collections import OrderedDict, defaultdict
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from latbench.zoo.checkpoint.inert_pickle import Opaque, read_pickle
from latbench.zoo.checkpoint.torch_file import UNDERSTOOD

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def read(content: bytes) -> Any:
    return read_pickle(io.BytesIO(content), UNDERSTOOD)


class Evil:
    """Pickles into a call of a function."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self._target}",)


class Color(enum.Enum):
    """A value that is pickled by name of its class."""

    RED = 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_values_are_read(protocol: int) -> None:
    shared = [1, 2]
    value = {
        "numbers": [0, -1, 2**70, 1.5, True, None],
        "texts": ("a", b"\x00\xff", "é" * 300),
        "sets": ({1, 2}, frozenset({3})),
        "nested": {"empty": [(), [], {}]},
        "ordered": OrderedDict(a=1),
        "shared": (shared, shared),
    }
    found = read(pickle.dumps(value, protocol=protocol))
    assert found == value
    assert found["shared"][0] is found["shared"][1]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_is_called(tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "executed"
    found = read(pickle.dumps({"a": Evil(target), "b": 1}, protocol=protocol))
    assert not target.exists()
    assert found["b"] == 1
    assert found["a"].name.endswith(".system")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_objects_of_unknown_classes_keep_what_they_were_given(protocol: int) -> None:
    value = [
        argparse.Namespace(lr=0.1),
        types.SimpleNamespace(epochs=3),
        PurePosixPath("a/b"),
        datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
        Color.RED,
    ]
    found = read(pickle.dumps(value, protocol=protocol))
    names = [each.name for each in found]
    assert names[:2] == ["argparse.Namespace", "types.SimpleNamespace"]
    assert [name.rpartition(".")[2] for name in names[2:]] == ["PurePosixPath", "datetime", "Color"]
    assert found[0].state == {"lr": 0.1}


def test_a_dictionary_of_another_class_keeps_its_items() -> None:
    class Config(dict[str, int]):
        """Stands for EasyDict, ConfigDict and others."""

    globals()["Config"] = Config
    Config.__qualname__ = "Config"
    found = read(pickle.dumps(Config(depth=3)))
    assert isinstance(found, Opaque)
    assert found.items == {"depth": 3}


def test_a_defaultdict_is_a_dictionary() -> None:
    assert read(pickle.dumps(defaultdict(list, a=[1]))) == {"a": [1]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x02}q\x00",  # no end
        b"\x80\x02u.",  # items of nothing
        b"\x80\x02K\x01\x85\x85a.",  # appended to a tuple
        b"\x80\x02\x86.",  # a pair of nothing
        b"\x80\x02h\x05.",  # from memory that is empty
        b"\x80\x02Q.",  # data outside the pickle
        b"\x80\x02\x82\x01.",  # a registered extension
        b"\x80\x05\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # exabytes
        b"\x80\x02r\xff\xff\xff\x7f.",  # a place in memory far beyond the file
    ],
)
def test_damage_raises_a_builtin_exception(content: bytes) -> None:
    with pytest.raises((ValueError, LookupError, TypeError)):
        read(content)
