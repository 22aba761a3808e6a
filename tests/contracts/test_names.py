"""One name, one thing: no public name is defined in two modules of latbench."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from support.environment import ROOT

SOURCE = ROOT / "src/latbench"
SHARED = {
    "SCHEMA": "the version of each stored format, read with its module's name",
    "compare": "`latbench.compare` measures two sides; the analysis compares two records",
    "handle": "the handler of each worker program",
    "main": "the entry point of each program",
}
"""Names that several modules define on purpose, and why."""
LOCAL = frozenset(
    {"AXES", "FORM", "FORMATS", "GROUPS", "KINDS", "MARK", "MOST", "QUESTIONS", "SHOWN", "TIMED"}
    | {"MS", "PROGRAM", "TIMEOUT_HINT", "TIMEOUT_S", "UNITS"}
)
"""Constants that are read in their own module only; a new one needs a name of its own."""


def modules() -> Iterator[Path]:
    """Modules of latbench, without the networks (their files never change) and migrations."""
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).parts
        if parts[:2] != ("zoo", "nets") and "migrations" not in parts:
            yield path


def is_command(node: ast.stmt) -> bool:
    """Whether click calls it by the name that the user types, or for a value that is typed."""
    return isinstance(node, ast.FunctionDef) and any(
        "command" in ast.unparse(each) or "group" in ast.unparse(each)
        for each in node.decorator_list
    )


def defined(node: ast.stmt) -> list[str]:
    """The names that a top-level statement defines."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [] if is_command(node) else [name]
        case ast.Assign(value=ast.Call(func=ast.Name(id="TypeVar"))):
            return []
        case ast.Assign(targets=targets):
            return [target.id for target in targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []


def test_a_public_name_is_defined_once() -> None:
    places: dict[str, set[str]] = defaultdict(set)
    for path in modules():
        for node in ast.parse(path.read_text()).body:
            for name in defined(node):
                if not name.startswith("_"):
                    places[name].add(str(path.relative_to(SOURCE)))
    twice = {name: sorted(found) for name, found in places.items() if len(found) > 1}
    assert {name: twice[name] for name in twice if name not in SHARED.keys() | LOCAL} == {}
    assert SHARED.keys() | LOCAL <= twice.keys(), "remove from the lists what is defined once"
