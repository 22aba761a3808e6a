"""What Core ML says when it fails, in one line."""

from __future__ import annotations

import re

from latbench.api import first_line

WRAPPED = "Underlying exception message was: "
"""Precedes the framework's error in the warning of a model that was not loaded."""
DESCRIPTION = re.compile(r'NSLocalizedDescription = (?:"((?:\\.|[^"\\])*)"|([^;]*));')
UNDERLYING = re.compile(r'NSUnderlyingError = "Error Domain=\S+ Code=-?\d+ \\"(.+?)\\"')
ESCAPE = re.compile(r"\\(?:U([0-9a-fA-F]{4})|(.))")


def reason(error: BaseException) -> str:
    """The description in an exception or warning of coremltools.

    Its bindings print the dictionary of an NSError over several lines, of which the first is a
    brace. The error below it, if any, says more: it is appended.
    """
    text = str(error)
    described = DESCRIPTION.search(text)
    if described is None:
        return first_line(text.rpartition(WRAPPED)[2].strip("{} \n"), type(error).__name__)
    parts = [_plain(described[1] or described[2] or "")]
    if (below := UNDERLYING.search(text)) is not None and below[1] != "(null)":
        parts.append(_plain(below[1]))
    told = dict.fromkeys(part.rstrip(".") for part in parts if part)
    return first_line(": ".join(told), "no description")


def _plain(text: str) -> str:
    """``text`` without the escapes of a printed NSDictionary."""
    return ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else found[2], text)
