"""Core ML runner."""

from __future__ import annotations

from latbench_runners.coreml.runner import runner as runner
