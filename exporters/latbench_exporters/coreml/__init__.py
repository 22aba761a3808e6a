"""Core ML exporter."""

from __future__ import annotations

from latbench_exporters.coreml.exporter import exporter as exporter
