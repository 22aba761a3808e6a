"""Imported by Python at its start when this folder is on PYTHONPATH: the bindings are found in the
package of coremltools, and the modules that ask for the system are told that it is a Mac."""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from support.mac.facts import FACTS, FOLDER, seen


class Told(Loader):
    """Executes a module, then replaces what it asks for the system."""

    def __init__(self, loader: Any, names: tuple[str, ...]) -> None:
        self._loader, self._names = loader, names

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        found: ModuleType | None = self._loader.create_module(spec)
        return found

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        for name in self._names:
            setattr(module, name, seen(name))


class Finder(MetaPathFinder):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != "coremltools" and name not in FACTS:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None:
            return None
        if name == "coremltools":
            assert spec.submodule_search_locations is not None
            spec.submodule_search_locations.append(str(FOLDER))
        else:
            spec.loader = Told(spec.loader, FACTS[name])
        return spec


sys.meta_path.insert(0, Finder())
