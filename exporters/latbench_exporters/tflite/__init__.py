"""TFLite exporter."""

from __future__ import annotations

from latbench_exporters.tflite.exporter import exporter as exporter
