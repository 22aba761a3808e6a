"""Defaults that commands and functions share, as constants without imports."""

from __future__ import annotations

FALLBACK = "onnxruntime"
"""The default backend. It runs on every machine, so it is also the fallback for a backend that
cannot run; a record always labels a fallback."""

FORMAT = "onnx"
"""The default export format."""

SIMULATED = frozenset({"fake"})
"""Backends that execute nothing: their times are not evidence for claims about other backends."""

LOCAL = "local"
"""The name of the device that is this machine."""

RUN_PROTOCOL = "latbench-warm@1"
"""Protocol of ``run`` and of a sweep."""
COMPARE_PROTOCOL = "latbench-compare@1"
"""Protocol of ``compare``."""

TIMEOUT_S = 300.0
"""Seconds to wait for each response of a worker."""

MARGIN = 0.02
"""Relative difference up to which two latencies count as the same."""
