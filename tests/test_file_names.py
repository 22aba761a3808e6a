"""File names of any bytes as texts, and back."""

from __future__ import annotations

import os
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.errors import LatbenchError, StageError, UsageError
from latbench.file_names import restored_name, shell_word, shown_name, stored_name
from latbench.schema.request import make_request
from latbench.schema.request_syntax import side_request, side_word

CONFUSING = st.sampled_from(
    [rb"\x", rb"\xff", rb"\x5c", b"\\", b"\xff", b"x5c", b"ff", "é".encode()]
)
NAMES = st.one_of(st.binary(max_size=12), st.lists(CONFUSING, max_size=6).map(b"".join)).map(
    lambda name: name.decode("utf-8", "surrogateescape")
)


@given(NAMES)
def test_a_stored_name_is_text_that_gives_the_name_again(name: str) -> None:
    text = stored_name(name)
    text.encode()
    assert restored_name(text) == name


@given(st.text(st.characters(exclude_characters="\\", exclude_categories=["Cs"])))
def test_a_usual_name_is_stored_as_it_is(name: str) -> None:
    assert stored_name(name) == restored_name(name) == name


@given(NAMES, NAMES)
def test_two_names_are_two_texts(one: str, other: str) -> None:
    assert (one == other) == (stored_name(one) == stored_name(other))


@given(NAMES)
def test_a_side_of_a_comparison_is_read_as_the_model_again(name: str) -> None:
    text = stored_name(name)
    if name and not name.endswith("\\") and "\\," not in name:
        assert side_request(side_word(text)).model == text


def test_a_surrogate_that_is_no_byte_cannot_be_a_name() -> None:
    with pytest.raises(UsageError, match="model"):
        make_request("\ud800.onnx")


def test_errors_are_text() -> None:
    name = os.fsdecode(b"\xff")
    assert shown_name(f"{name} and \ud800") == r"\xff and \ud800"
    assert str(LatbenchError(name, hint=name)) == r"\xff"
    assert StageError("open", name, detail=name).failure.detail == r"\xff"


def test_words_of_a_shell() -> None:
    assert shell_word("a b.onnx") == shlex.quote("a b.onnx")
    assert shell_word(os.fsdecode(b"it's \xff")) == r"$'it\'s \xff'"
    assert shell_word("two\nlines") == r"$'two\nlines'"
    assert shell_word("-dash", argument=True) == "./-dash"
