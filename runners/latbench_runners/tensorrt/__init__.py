"""TensorRT and TensorRT for RTX runners."""

from __future__ import annotations

from latbench_runners.tensorrt.runner import rtx_runner as rtx_runner
from latbench_runners.tensorrt.runner import runner as runner
