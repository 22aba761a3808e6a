"""Stand-ins for the driver and for TensorRT."""

from __future__ import annotations

from support.tensorrt import driver, engine_file, make_engine, trt

__all__ = ["driver", "engine_file", "make_engine", "trt"]
