"""The defaults that commands and functions share, as constants without imports."""

from __future__ import annotations

FALLBACK = "onnxruntime"
"""The default backend. It runs on every machine, so it is also the fallback for a backend that
cannot run; a record always labels a fallback."""

FORMAT = "onnx"
"""The default export format."""

SIMULATED = frozenset({"fake"})
"""Backends that execute nothing: their times are no evidence for claims about other backends."""

LOCAL = "local"
"""The device that is this machine."""

TIMEOUT_S = 300.0
"""Seconds to wait for each response of a worker."""
