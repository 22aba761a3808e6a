"""Texts are plain technical English: habits of speech that readers stumbled over do not return."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.environment import ROOT

HABITS = {
    r"\b(?:is|are) told\b|\btold (?:apart|of|as|in|by)\b|\bit tells\b": "report, print, say",
    r"\bmend(?:s|ed)?\b": "fix, repair",
    r"\blacks\b|\blacking\b": "is missing, has no",
    r"\bpassed over\b": "skipped",
    r"(?<!there )\b(?:is|are) no (?!longer\b|more\b|such\b|\w+er than\b)": "is not a",
    r"\b(?:is|are) of (?:int8|fp16|fp32)\b": "requires --precision ...",
    r"\bheld against\b": "compared with",
    r"\bin turn\b": "interleaved, alternating",
    r"\bmakes? no sense\b": "is invalid",
    r"\bcannot tell\b": "inconclusive",
    r"\banew\b": "again, starts over",
    r"\bready files?\b": "pre-exported file",
    r"\bsettling calls?\b": "discarded calls",
    r"\bno other is faster and more accurate\b": "on the Pareto frontier",
    r"\b(?:summar|normal|virtual|initial|serial|minim|maxim|optim|quant|recogn|organ)is(?:e|ing|ation)"
    r"|\bcolour|\bbehaviour|\bneighbour": "American spelling",
}
"""A pattern, and what to write instead (CONTRIBUTING.md has the list)."""
WORDS = re.compile("|".join(f"(?:{habit})" for habit in HABITS), re.IGNORECASE)
GENERATED = frozenset({"docs/PAPERS.md", "docs/VERDICTS.md"})
HASHED = ROOT / "src/latbench/schema/protocol_catalog.py"
"""Its texts are part of the protocols' hashes, which records store."""


def area_of(path: Path) -> str:
    """The folder of a module, or the page itself."""
    return str(path.relative_to(ROOT) if path.suffix == ".md" else path.parent.relative_to(ROOT))


def files() -> Iterator[Path]:
    """Modules and pages, without the networks (their files never change) and generated pages."""
    for folder in ("src", "exporters", "runners"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not path.is_relative_to(ROOT / "src/latbench/zoo/nets") and path != HASHED:
                yield path
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for path in pages:
        relative = path.relative_to(ROOT)
        if str(relative) not in GENERATED and "decisions" not in relative.parts:
            yield path


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text): what a page says; comments, docstrings and messages of a module."""
    source = path.read_text()
    if path.suffix == ".md":
        yield from enumerate(source.splitlines(), start=1)
        return
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        # A word alone is a key or a stored value, and stored formats do not change.
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            for i, line in enumerate(node.value.splitlines()):
                yield node.lineno + i, line


def found() -> dict[str, list[str]]:
    """Area -> each habit found there, with its place."""
    places: dict[str, list[str]] = {}
    for path in files():
        for line, text in texts(path):
            for match in WORDS.finditer(text):
                place = f"{path.relative_to(ROOT)}:{line}: {match.group().strip()!r} in {text!r}"
                places.setdefault(area_of(path), []).append(place)
    return places


FOUND = found()


@pytest.mark.parametrize("area", sorted({area_of(path) for path in files()}))
def test_texts_are_plain(area: str) -> None:
    assert FOUND.get(area, []) == []
