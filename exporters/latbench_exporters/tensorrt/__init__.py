"""TensorRT and TensorRT for RTX exporters."""

from __future__ import annotations

from latbench_exporters.tensorrt.exporter import exporter as exporter
from latbench_exporters.tensorrt.exporter import rtx_exporter as rtx_exporter
