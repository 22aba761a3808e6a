"""ONNX Runtime runner."""

from __future__ import annotations

from latbench_runners.onnxruntime.runner import runner as runner
