"""ncnn exporter."""

from __future__ import annotations

from latbench_exporters.ncnn.exporter import exporter as exporter
