"""ONNX exporter."""

from __future__ import annotations

from latbench_exporters.onnx.exporter import exporter as exporter
