"""What an input holds: seeded noise, given values, a range, or an array from a file.

A :attr:`~latbench.schema.artifact.TensorSpec.content` is written as the user writes it on the
command line, except that a file is named by the digest of its bytes:

============== ===========================================================================
``5``          every element is 5
``480,640``    the elements in order, as many as the input has
``text:cat``   every element of an input of strings is ``cat``
``0:255``      uniform from 0 to 255: integers include both ends, floats only the lower one
``random:7``   the default seeded noise, of seed 7
``sha256:...`` the array in the file of this digest; ``#name`` follows for one of several
============== ===========================================================================
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from latbench.errors import UsageError, suggest
from latbench.schema.artifact import TensorSpec
from latbench.schema.value import Value

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_VALUES = re.compile(rf"(?:{_NUMBER})(?:,{_NUMBER})*\Z")
_RANGE = re.compile(rf"({_NUMBER}):({_NUMBER})\Z")
_NOISE = re.compile(r"random:(\d+)\Z")
_SHAPE = re.compile(r"\d+(?:[xX]\d+)*\Z")
STORED = "sha256:"
TEXT = "text:"
STRING = "string"
"""Element type of an input of strings; numpy calls it by the longest one, such as ``<U12``."""
_BOOLEANS = {"true": "1", "false": "0"}
ANY = ""
"""The name that stands for the only input, or for all of them."""


class Values(Value, frozen=True, kw_only=True):
    """One value for every element, or as many as there are elements, as texts."""

    texts: tuple[str, ...]


class Uniform(Value, frozen=True, kw_only=True):
    """Uniform from ``low`` to ``high``, as texts."""

    low: str
    high: str


class Noise(Value, frozen=True, kw_only=True):
    """The default seeded noise of another seed."""

    seed: int


class Words(Value, frozen=True, kw_only=True):
    """One text for every element of an input of strings."""

    text: str


Content = Values | Uniform | Noise | Words


def read_content(text: str) -> Content | None:
    """Return what ``text`` describes; ``None`` if it names a file. Raise :class:`UsageError`."""
    if text.startswith(TEXT):
        return Words(text=text.removeprefix(TEXT))
    text = _BOOLEANS.get(text.lower(), text)
    if found := _NOISE.match(text):
        return Noise(seed=int(found[1]))
    if text.startswith("random:"):
        raise UsageError(f"{text!r} is not random:SEED with a whole number")
    if found := _RANGE.match(text):
        low, high = found[1], found[2]
        if not float(low) <= float(high) < math.inf:
            raise UsageError(f"{text!r} is not a range LOW:HIGH with LOW up to HIGH")
        return Uniform(low=low, high=high)
    if _VALUES.match(text):
        return Values(texts=tuple(text.split(",")))
    return None


def read_shape(text: str) -> tuple[str, tuple[int, ...], str | None]:
    """Read ``[INPUT=]1x3x480x640[:TYPE]`` as name, sizes and element type.

    The name is :data:`ANY` and the type ``None`` where they are left out. Raise
    :class:`UsageError`.
    """
    name, equals, rest = text.rpartition("=")
    sizes, colon, dtype = rest.partition(":")
    if not _SHAPE.match(sizes) or (equals and not name) or (colon and not dtype):
        raise UsageError(
            f"{text!r} is not a shape",
            hint="a shape is [INPUT=]SIZExSIZE..., such as 1x3x480x640 or tokens=1x128",
        )
    return name, tuple(int(size) for size in sizes.lower().split("x")), dtype or None


def read_input(text: str) -> tuple[str, str]:
    """Read ``[INPUT=]CONTENT`` as name and content. Raise :class:`UsageError`."""
    name, equals, content = text.partition("=")
    if not equals:
        name, content = ANY, text
    if not content or (equals and not name):
        raise UsageError(
            f"{text!r} is not an input",
            hint="an input is [INPUT=]VALUE, LOW:HIGH, random:SEED, or a .npy, .npz or image file",
        )
    return name, content


def find_input(name: str, known: Sequence[str], *, what: str = "the model") -> str:
    """Return the input that ``name`` stands for; :data:`ANY` stands for the only one.

    Names that a converter has lengthened are also found without its additions:
    ``serving_default_x:0`` is ``x``. Raise :class:`UsageError`.
    """
    if name == ANY:
        if len(known) == 1:
            return known[0]
        raise UsageError(
            f"{what} has {len(known)} inputs, so each shape or file needs the name of its input",
            hint=f"NAME=..., with one of: {', '.join(known)}",
        )
    if name in known:
        return name
    short = [each for each in known if _is_short(name, each)]
    if len(short) == 1:
        return short[0]
    raise UsageError(f"{what} has no input {name!r}", hint=suggest(name, known))


def described_contents(specs: Sequence[TensorSpec]) -> str:
    """Name what the inputs hold, for a message: ``ids of 0 and 1, image of seeded noise``."""
    found = []
    for spec in specs:
        held = spec.content
        if held is None:
            held = "seeded noise" if "float" in spec.dtype else "seeded zeros and ones"
        found.append(f"{spec.name} of {held}")
    return ", ".join(found)


def _is_short(name: str, whole: str) -> bool:
    own = whole.partition(":")[0]
    return name == own or own.endswith(f"_{name}")
