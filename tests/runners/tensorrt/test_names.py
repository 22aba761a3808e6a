"""The stand-in has no name that TensorRT lacks. TensorRT for RTX is a package of the same interface
that is installed without a GPU; its parser, builder and runtime are compiled, so that nothing but
their names can be had from it here."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import pytest

from support.tensorrt import Driver, TensorRt, engine_bytes

real = pytest.importorskip("tensorrt_rtx", reason="needs the `tensorrt-rtx` extra")

INTERNAL = {
    *("engine", "addresses", "told", "logger", "names", "cache", "flags", "workspace", "network"),
}
"""What the stand-in keeps for itself."""


@pytest.fixture
def objects() -> dict[str, Any]:
    """Class of TensorRT -> an object of the stand-in."""
    trt = TensorRt("11.0.0.1", Driver())
    logger = trt.ILogger()
    content = engine_bytes({"x": ([1], 0)}, {"y": ([1], 0)}, trt.__version__, 4096)
    runtime, builder = trt.Runtime(logger), trt.Builder(logger)
    engine = runtime.deserialize_cuda_engine(content)
    return {
        "Runtime": runtime,
        "Builder": builder,
        "IBuilderConfig": builder.create_builder_config(),
        "OnnxParser": trt.OnnxParser(builder.create_network(), logger),
        "ICudaEngine": engine,
        "IExecutionContext": engine.create_execution_context(),
    }


def test_classes_have_the_members(objects: dict[str, Any]) -> None:
    for name, made in objects.items():
        members = {each for each in (*vars(type(made)), *vars(made)) if each[0] != "_"} - INTERNAL
        assert members
        lacking = {each for each in members if not hasattr(getattr(real, name), each)}
        assert not lacking, name


def test_enumerations_have_the_members() -> None:
    trt = TensorRt("11.0.0.1", Driver())
    kinds = {name: value for name, value in vars(trt).items() if isinstance(value, type)}
    found = {name: kind for name, kind in kinds.items() if issubclass(kind, IntEnum)}
    assert len(found) > 5
    for name, kind in found.items():
        members = set(getattr(real, name).__members__)
        assert {member.name for member in kind} <= members, name
