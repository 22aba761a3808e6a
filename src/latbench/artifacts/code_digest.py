"""Digest of the code that shapes an artifact, as part of its cache key.

It covers what an exporter imports of its own package, so that an edit of one exporter leaves the
artifacts of the others in the cache, and the modules of latbench that build and check an artifact
of any format. The network's own code is in the identity of the model.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType

from latbench.analysis import parity
from latbench.api import Exporter
from latbench.artifacts import calibration, export_worker, validation
from latbench.errors import LatbenchError
from latbench.schema import seeded_inputs
from latbench.zoo import builder, lazy_model, macs, reparameterize, timm, weights
from latbench.zoo.imports import imported_modules

CHECKING: tuple[ModuleType, ...] = (calibration, export_worker, validation, parity, seeded_inputs)
"""Modules that calibrate an artifact, write its reference outputs and check it."""

BUILDING: tuple[ModuleType, ...] = (builder, lazy_model, macs, reparameterize, timm, weights)
"""Modules that build a network and bring it into the form that is exported."""


def code_digest(exporter: Exporter, modules: Iterable[ModuleType]) -> str:
    """Digest of the source of ``modules`` and of the exporter, by module name.

    Raises :class:`LatbenchError` if a file cannot be read.
    """
    files = {module.__name__: _file(module) for module in modules}
    sources = {name: _read(path) for name, path in files.items()}
    return sources_digest(sources | exporter_sources(type(exporter).__module__))


def sources_digest(sources: Mapping[str, bytes]) -> str:
    """Digest of sources by module name, in any order."""
    total = hashlib.sha256()
    for name, source in sorted(sources.items()):
        total.update(name.encode() + b"\0" + hashlib.sha256(source).digest())
    return total.hexdigest()


def exporter_sources(name: str) -> dict[str, bytes]:
    """Source by module name: module ``name`` and what it imports of its own top-level package.

    ``name`` must have been imported. What it imports is found without importing it. Raises
    :class:`LatbenchError` if a file cannot be read.
    """
    top = name.partition(".")[0]
    root = sys.modules[top]
    found: dict[str, bytes] = {}
    pending = [name, *_parents(name)]
    while pending:
        name = pending.pop()
        path = None if name in found else _find(root, name)
        if path is None:
            continue
        found[name] = source = _read(path)
        is_package = path.name == "__init__.py"
        try:
            imported = imported_modules(source, name, is_package=is_package)
        except (SyntaxError, ValueError) as error:
            raise LatbenchError(f"cannot parse {path}: {error}") from error
        pending += [each for each in imported if each.partition(".")[0] == top]
    return found


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


def _find(root: ModuleType, name: str) -> Path | None:
    """The file of module ``name`` in the package ``root``, or of ``root`` itself; ``None`` if
    ``name`` is not a module."""
    if name == root.__name__:
        return _file(root)
    for folder in getattr(root, "__path__", ()):
        place = Path(folder, *name.split(".")[1:])
        for path in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
            if path.is_file():
                return path
    return None


def _file(module: ModuleType) -> Path:
    assert module.__file__ is not None, f"{module.__name__} is not a namespace package"
    return Path(module.__file__)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LatbenchError(f"cannot read {path}: {error.strerror}") from error
