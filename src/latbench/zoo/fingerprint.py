"""The digest of an architecture: of its source and of what it imports, without executing it.

It is part of the cache key of exported files, so it must change whenever the network may change.
The user's own modules are followed and hashed; an installed package counts by its version; the
standard library is left out. Of latbench itself only the zoo's networks count, by their source
wherever latbench is installed: an edit of the harness does not change a network.
"""

from __future__ import annotations

import hashlib
import sys
import sysconfig
from collections.abc import Sequence
from functools import cache
from importlib.machinery import PathFinder
from importlib.metadata import packages_distributions, version
from pathlib import Path

from latbench.errors import UsageError
from latbench.file_names import stored_name
from latbench.zoo.imports import imported_modules

HARNESS = __name__.partition(".")[0]
NETWORKS = f"{HARNESS}.zoo.nets."


def architecture_digest(path: Path, name: str, search: Sequence[str]) -> str:
    """``sha256:`` digest of module ``name`` at ``path`` and of what it imports from ``search``."""
    total = hashlib.sha256()
    for part, content in sorted(_reachable(path, name, search).items()):
        total.update(stored_name(part).encode() + b"\0" + hashlib.sha256(content).digest())
    return f"sha256:{total.hexdigest()}"


def find_module(name: str, search: Sequence[str]) -> Path | None:
    """The file of a module. Unlike ``importlib.util.find_spec``, this imports no parent."""
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
    """Source by module name for the user's own modules, version by name for installed packages."""
    found: dict[str, bytes] = {}
    pending = [(name, path)]
    while pending:
        name, path = pending.pop()
        if name in found:
            continue
        top = name.partition(".")[0]
        if _installed(path) and not name.startswith(NETWORKS):
            for distribution in _distributions().get(top, [top]):
                found[distribution] = _version(distribution)
            continue
        found[name] = _read(path)
        for imported in _imports(found[name], name, path):
            if not _counts(imported):
                continue
            target = find_module(imported, search)
            if target is not None:
                pending.append((imported, target))
            elif imported.partition(".")[0] in _distributions():
                for distribution in _distributions()[imported.partition(".")[0]]:
                    found[distribution] = _version(distribution)
    return found


def _imports(source: bytes, name: str, path: Path) -> tuple[str, ...]:
    """Absolute names of all modules that the source may import, parents included."""
    try:
        return imported_modules(source, name, is_package=path.name == "__init__.py")
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise UsageError(f"{path}:{line}: {getattr(error, 'msg', error)}") from error


def _counts(name: str) -> bool:
    """Whether a module can shape the network: of latbench, only the zoo's networks can."""
    top = name.partition(".")[0]
    return top not in sys.stdlib_module_names and (top != HARNESS or name.startswith(NETWORKS))


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
