"""PyTorch runner."""

from __future__ import annotations

from latbench_runners.torch.runner import runner as runner
