"""Counts of networks on disk, because building them for the whole registry takes a minute.

The key is the request, the networks' identities, the source of the counting program, and the
version of PyTorch. Models of the user's own are not kept: they may read files that their identity
does not cover.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

import msgspec

from latbench.artifacts.code_digest import exporter_sources, sources_digest
from latbench.errors import LatbenchError
from latbench.files import write_beside
from latbench.paths import cache_folder
from latbench.worker import messages
from latbench.zoo.resolver import resolve

A = TypeVar("A", bound=messages.Message)


class CountCache:
    """Responses of the counting program ``program``, by request."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._code: str | None = None

    def find(self, request: messages.RequestMessage, expect: type[A]) -> A | None:
        """The response to an equal request for the same networks, or ``None``."""
        path = self._path(request)
        if path is None:
            return None
        with suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode(path.read_bytes(), type=expect)
        return None

    def keep(self, request: messages.RequestMessage, response: messages.Message) -> None:
        """Store a response. A cache that cannot be written to only costs time."""
        path = self._path(request)
        if path is None:
            return
        with suppress(OSError, LatbenchError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_beside(path, lambda file: file.write_bytes(msgspec.json.encode(response)))

    def _path(self, request: messages.RequestMessage) -> Path | None:
        """The file of a request; ``None`` if its response is not kept."""
        match request:
            case messages.CountModel(model=name) | messages.ApplyMethod(host=name):
                pass
            case _:
                return None
        try:
            model = resolve(name, weights=None, batch=None, resolution=None, seed=0).identity
            parts = (model.architecture, version("torch"), self._source_digest())
        except (LatbenchError, PackageNotFoundError):
            return None
        if model.source not in ("zoo", "timm"):
            return None
        total = hashlib.sha256(msgspec.json.encode((request, parts)))
        return cache_folder() / "counts" / f"{total.hexdigest()}.json"

    def _source_digest(self) -> str:
        if self._code is None:
            self._code = sources_digest(exporter_sources(self._program))
        return self._code
