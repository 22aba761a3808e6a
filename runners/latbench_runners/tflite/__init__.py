"""TFLite runner."""

from __future__ import annotations

from latbench_runners.tflite.runner import runner as runner
