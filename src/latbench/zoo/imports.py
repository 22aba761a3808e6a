"""Which modules a source file imports, without executing it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache


@lru_cache(maxsize=1024)
def imported_modules(source: bytes, name: str, *, is_package: bool) -> tuple[str, ...]:
    """Absolute names of all modules that module ``name`` may import, in order of appearance.

    Parents of a module come before it. ``from package import name`` may import a submodule, so
    ``package.name`` is among the names. Raises :class:`SyntaxError` or :class:`ValueError` if
    ``source`` is not Python.
    """
    package = name if is_package else name.rpartition(".")[0]
    found: dict[str, None] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.update(dict.fromkeys(_with_parents(alias.name)))
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                anchor = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*anchor, base] if base else anchor)
            found.update(dict.fromkeys(_with_parents(base)))
            found.update(dict.fromkeys(f"{base}.{alias.name}" for alias in node.names if base))
    return tuple(found)


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".") if name else []
    for i in range(len(parts)):
        yield ".".join(parts[: i + 1])
