"""latbench: time models on devices, keep the evidence, check the claims.

``run`` measures a model and stores the record, ``compare`` times two alternately, ``sweep``
measures many, and ``export`` creates a checked file. ``import_reported`` and ``run_tool`` keep what
other tools report. They accept a ``Request`` (``make_request``)
and a ``TimingProtocol`` as values, and report to ``Events``. ``Registry`` reads records back, and
``summarize`` computes the summary of a record. Every name is imported on first use.
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
    from latbench.bench.import_reported import import_reported as import_reported
    from latbench.bench.run import RunResult as RunResult
    from latbench.bench.run import run as run
    from latbench.bench.run import run_request as run_request
    from latbench.bench.sweep import SweepResult as SweepResult
    from latbench.bench.sweep import sweep as sweep
    from latbench.bench.tool_run import ToolRequest as ToolRequest
    from latbench.bench.tool_run import run_tool as run_tool
    from latbench.errors import LatbenchError as LatbenchError
    from latbench.errors import RegistryError as RegistryError
    from latbench.errors import StageError as StageError
    from latbench.errors import UsageError as UsageError
    from latbench.events import Events as Events
    from latbench.schema.codec import decode_record as decode_record
    from latbench.schema.codec import encode_record as encode_record
    from latbench.schema.protocol import TimingProtocol as TimingProtocol
    from latbench.schema.record import Record as Record
    from latbench.schema.reported import ReportedResult as ReportedResult
    from latbench.schema.request import Request as Request
    from latbench.schema.request import make_request as make_request
    from latbench.store.registry import Registry as Registry

_HOMES = {
    "CachedArtifact": "latbench.artifacts.cache",
    "CompareResult": "latbench.bench.compare",
    "Comparison": "latbench.analysis.comparison",
    "Events": "latbench.events",
    "LatbenchError": "latbench.errors",
    "Record": "latbench.schema.record",
    "Registry": "latbench.store.registry",
    "RegistryError": "latbench.errors",
    "ReportedResult": "latbench.schema.reported",
    "Request": "latbench.schema.request",
    "RunResult": "latbench.bench.run",
    "StageError": "latbench.errors",
    "Summary": "latbench.analysis.summary",
    "SweepResult": "latbench.bench.sweep",
    "TimingProtocol": "latbench.schema.protocol",
    "ToolRequest": "latbench.bench.tool_run",
    "UsageError": "latbench.errors",
    "compare": "latbench.bench.compare",
    "decode_record": "latbench.schema.codec",
    "encode_record": "latbench.schema.codec",
    "export": "latbench.artifacts.export",
    "import_reported": "latbench.bench.import_reported",
    "make_request": "latbench.schema.request",
    "run": "latbench.bench.run",
    "run_request": "latbench.bench.run",
    "run_tool": "latbench.bench.tool_run",
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
