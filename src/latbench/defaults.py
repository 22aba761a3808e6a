"""The defaults that commands and functions share, as constants without imports."""

from __future__ import annotations

FALLBACK = "onnxruntime"
"""Runs wherever latbench does; always labelled, never counted as something that it is not."""


LOCAL = "local"
"""The device that is this machine."""

TIMEOUT_S = 300.0
"""Seconds to wait for each response of a worker."""
