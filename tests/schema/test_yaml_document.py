"""The strict YAML reader: what it reads, and that everything else is an error in words."""

from __future__ import annotations

import json
import string
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.errors import UsageError
from latbench.schema.value import Value
from latbench.schema.yaml_document import parse

plain = st.text(string.ascii_letters + string.digits + " .:-_/()#'\"é", max_size=12).filter(
    "<<".__ne__
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.floats(allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9)
    | plain
)
trees = st.dictionaries(
    plain,
    st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain, inner, max_size=3),
        max_leaves=8,
    ),
    min_size=1,
    max_size=4,
)


class Leaf(Value, frozen=True, kw_only=True):
    name: str
    size: int | None = None


class Tree(Value, frozen=True, kw_only=True):
    schema: int
    leaves: tuple[Leaf, ...] = ()
    best: Leaf | None = None


def told(text: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse(text, "f.yaml").convert(Tree)
    return f"{caught.value.message} | {caught.value.hint}"


@given(trees)
def test_what_is_written_is_read(tree: dict[str, object]) -> None:
    """JSON is YAML, and says what its values are."""
    assert parse(json.dumps(tree, indent=1), "f.yaml").tree == tree


@given(st.text() | st.binary())
def test_any_text_is_read_or_told(content: str | bytes) -> None:
    with suppress(UsageError):
        parse(content, "f.yaml")


VALID = "schema: 1\nleaves:\n- name: a\n  size: 3\n- {name: b}\nbest:\n  name: c\n"


@given(st.integers(0, len(VALID)), st.text(string.printable, max_size=4), st.integers(0, 3))
def test_a_damaged_file_is_read_or_told_with_its_line(at: int, added: str, cut: int) -> None:
    damaged = VALID[:at] + added + VALID[at + cut :]
    with suppress(UsageError):
        assert parse(damaged, "f.yaml").convert(Tree).schema is not None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("12:30", "12:30"),
        ("2026-01-01", "2026-01-01"),
        ("010", "010"),
        ("0x10", "0x10"),
        (".inf", ".inf"),
        ("1_000", "1_000"),
        ("true", True),
        ("~", None),
        ("", None),
        ("-7", -7),
        ("1e3", 1000.0),
        ("'1'", "1"),
        ('"null"', "null"),
        ("99999999999999999999", "99999999999999999999"),
    ],
)
def test_scalars_stay_what_they_look_like(text: str, value: object) -> None:
    assert parse(f"a: {text}\n", "f.yaml").tree == {"a": value}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("schema: 1\nleaves:\n- name: a\n  siez: 3\n", "f.yaml:4: leaves[0].siez: unknown key | did you mean size?"),
        ("schema: 1\nbest: {name: a, colour: 1}\n", "f.yaml:2: best.colour: unknown key | known: name, size"),
        ("schema: 1\nleafs: []\n", "f.yaml:2: leafs: unknown key | did you mean leaves?"),
        ("schema: 1\nleaves:\n- name: 5\n", "f.yaml:3: leaves[0].name: expected `str`, got `int`"),
        ("schema: 1\nleaves:\n- size: 5\n", "f.yaml:3: leaves[0]: object missing required field `name`"),
        ("schema: 1\nleaves: 5\n", "f.yaml:2: leaves: expected `array`, got `int`"),
        ("- 1\n", "f.yaml:1: expected `object`, got `array`"),
        ("schema: 1\n\nschema: 2\n", "f.yaml:3: schema: duplicate key (first on line 1)"),
        ("a: &x [1]\nb: *x\n", "f.yaml:1: an anchor"),
        ("b: *x\n", "f.yaml:1: an alias"),
        ("a: !!python/object/apply:os.system [ls]\n", "f.yaml:1: a tag"),
        ("a: !x 1\n", "f.yaml:1: a tag"),
        ("<<: {a: 1}\n", "f.yaml:1: a merge key"),
        ("? [1]\n: 2\n", "f.yaml:1: a key that is not a plain scalar"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2: a second document"),
        ("", "f.yaml:1: the file is empty"),
        ("# only a comment\n", "f.yaml:1: the file is empty"),
        ("a: [1\nb: 2\n", "f.yaml:2"),
        ("a:\n\t- 1\n", "f.yaml:2"),
        ("a: \x00\n", "control characters"),
    ],
)  # fmt: skip
def test_errors_name_file_line_and_key(text: str, words: str) -> None:
    assert words in told(text)


def test_a_bomb_of_aliases_is_refused_at_its_first_anchor() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    assert "an anchor" in told("\n".join(lines))


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_deep_nesting_is_refused(opening: str) -> None:
    assert "nesting deeper than 32" in told(opening * 50_000)


def test_too_large_and_not_utf8() -> None:
    assert "the limit is" in told("# " + "x" * 5_000_000)
    with pytest.raises(UsageError, match=r"f.yaml:2: not UTF-8"):
        parse(b"a: 1\nb: \xff\n", "f.yaml")
