"""ExecuTorch exporter."""

from __future__ import annotations

from latbench_exporters.executorch.exporter import exporter as exporter
