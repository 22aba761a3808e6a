"""The digest of an architecture: of its source and all that it imports, without executing any.

It is part of the key under which exported files are found again, so it must change whenever the
network may. Modules of the user's own are followed and hashed; of installed packages the version
counts; the standard library goes with the interpreter.
"""

from __future__ import annotations

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.machinery import PathFinder
from importlib.metadata import packages_distributions, version
from pathlib import Path

from latbench.errors import UsageError


def architecture_digest(path: Path, name: str, search: Sequence[str]) -> str:
    """``sha256:`` of module ``name`` at ``path`` and of what it imports, found on ``search``."""
    total = hashlib.sha256()
    for part, content in sorted(_reachable(path, name, search).items()):
        total.update(part.encode() + b"\0" + hashlib.sha256(content).digest())
    return f"sha256:{total.hexdigest()}"


def find_module(name: str, search: Sequence[str]) -> Path | None:
    """The file of a dotted module name; unlike ``importlib.util.find_spec``, imports no parent."""
    locations: Sequence[str] | None = search
    origin = None
    parts = name.split(".")
    for i in range(len(parts)):
        spec = PathFinder.find_spec(".".join(parts[: i + 1]), locations)
        if spec is None:
            return None
        origin, locations = spec.origin, spec.submodule_search_locations
        if locations is None and i < len(parts) - 1:
            return None
    return Path(origin) if origin and origin.endswith(".py") else None


def _reachable(path: Path, name: str, search: Sequence[str]) -> dict[str, bytes]:
    """Module name -> source, for the user's own; distribution name -> version, for installed."""
    found: dict[str, bytes] = {}
    pending = [(name, path)]
    while pending:
        name, path = pending.pop()
        if name in found:
            continue
        top = name.partition(".")[0]
        if _installed(path):
            for distribution in _distributions().get(top, [top]):
                found[distribution] = _version(distribution)
            continue
        found[name] = _read(path)
        for imported in _imports(found[name], name, path):
            if imported.partition(".")[0] in sys.stdlib_module_names:
                continue
            target = find_module(imported, search)
            if target is not None:
                pending.append((imported, target))
            elif imported.partition(".")[0] in _distributions():
                for distribution in _distributions()[imported.partition(".")[0]]:
                    found[distribution] = _version(distribution)
    return found


def _imports(source: bytes, name: str, path: Path) -> Iterator[str]:
    """Absolute names of all modules that the source may import, parents included."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise UsageError(f"{path}:{line}: {getattr(error, 'msg', error)}") from error
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                anchor = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*anchor, base] if base else anchor)
            yield from _with_parents(base)
            # `from package import module` names a module as it names anything else.
            yield from (f"{base}.{alias.name}" for alias in node.names if base)


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".") if name else []
    for i in range(len(parts)):
        yield ".".join(parts[: i + 1])


def _installed(path: Path) -> bool:
    folders = {sysconfig.get_paths()[kind] for kind in ("purelib", "platlib")}
    return any(path.is_relative_to(folder) for folder in folders) or bool(
        {"site-packages", "dist-packages"} & set(path.parts)
    )


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(packages_distributions())


def _version(distribution: str) -> bytes:
    try:
        return version(distribution).encode()
    except ModuleNotFoundError:
        return b"unknown"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
