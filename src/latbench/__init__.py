"""latbench: time models on devices, keep the evidence, check the claims.

``run`` measures and stores, ``compare`` times two in turn, ``sweep`` measures many, ``export``
makes a checked file, ``Registry`` reads records back and ``summarize`` computes what a record says.
Everything is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__: str

if TYPE_CHECKING:
    from latbench.analysis.comparison import Comparison as Comparison
    from latbench.analysis.summary import Summary as Summary
    from latbench.analysis.summary import summarize as summarize
    from latbench.artifacts.cache import CachedArtifact as CachedArtifact
    from latbench.artifacts.export import export as export
    from latbench.bench.compare import CompareResult as CompareResult
    from latbench.bench.compare import compare as compare
    from latbench.bench.run import RunResult as RunResult
    from latbench.bench.run import run as run
    from latbench.bench.sweep import SweepResult as SweepResult
    from latbench.bench.sweep import sweep as sweep
    from latbench.errors import LatbenchError as LatbenchError
    from latbench.errors import RegistryError as RegistryError
    from latbench.errors import StageError as StageError
    from latbench.errors import UsageError as UsageError
    from latbench.schema.codec import decode_record as decode_record
    from latbench.schema.codec import encode_record as encode_record
    from latbench.schema.record import Record as Record
    from latbench.store.registry import Registry as Registry

_HOMES = {
    "CachedArtifact": "latbench.artifacts.cache",
    "CompareResult": "latbench.bench.compare",
    "Comparison": "latbench.analysis.comparison",
    "LatbenchError": "latbench.errors",
    "Record": "latbench.schema.record",
    "Registry": "latbench.store.registry",
    "RegistryError": "latbench.errors",
    "RunResult": "latbench.bench.run",
    "StageError": "latbench.errors",
    "Summary": "latbench.analysis.summary",
    "SweepResult": "latbench.bench.sweep",
    "UsageError": "latbench.errors",
    "compare": "latbench.bench.compare",
    "decode_record": "latbench.schema.codec",
    "encode_record": "latbench.schema.codec",
    "export": "latbench.artifacts.export",
    "run": "latbench.bench.run",
    "summarize": "latbench.analysis.summary",
    "sweep": "latbench.bench.sweep",
}

__all__ = [*sorted(_HOMES), "__version__"]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from latbench.version import latbench_version

        return latbench_version()
    if name not in _HOMES:
        raise AttributeError(f"module 'latbench' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
