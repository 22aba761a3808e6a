"""An exported file, as the conformance suites pass it around."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from latbench.api import Exported
from latbench.schema.artifact import Artifact


@dataclass(frozen=True, kw_only=True)
class ExportedFile:
    """A file, what the exporter said of it, and the value that a worker gets."""

    path: Path
    exported: Exported
    artifact: Artifact
