"""The option ``accelerator``: its settings, and what stands in the way of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from latbench.api import Artifact, RunOptions, StageError, UsageError
from latbench.plugins import load_runner
from latbench_runners.tflite import accelerated
from latbench_runners.tflite.accelerated import _places, with_accelerator
from support.native_talk import open_fields, spec
from support.tflite_files import adder


def settings(extra: dict[str, str], precision: str = "fp32") -> dict[str, str]:
    given = {"threads": "1", "xnnpack": "on", "accelerator": "cpu", **extra}
    return with_accelerator(given, extra, precision)


@pytest.mark.parametrize(
    ("name", "precision", "own"),
    [
        ("cpu", "fp32", {"xnnpack": "on"}),
        ("gpu", "fp32", {"accelerator": "gpu", "gpu_precision": "fp32"}),
        ("gpu", "fp16", {"accelerator": "gpu", "gpu_precision": "fp16"}),
        ("gpu", "int8", {"accelerator": "gpu"}),
        ("gpu|cpu", "fp16", {"accelerator": "gpu|cpu", "gpu_precision": "fp16"}),
        ("npu|cpu", "fp32", {"accelerator": "npu|cpu", "precision": "fp16"}),
        ("npu", "fp32", {"accelerator": "npu", "precision": "fp16"}),
        ("npu", "int8", {"accelerator": "npu"}),
    ],
)
def test_settings(name: str, precision: str, own: dict[str, str]) -> None:
    assert settings({"accelerator": name}, precision) == {"threads": "1", **own}


@pytest.mark.parametrize("option", ["xnnpack", "delegate", "delegate_options"])
def test_options_of_the_cpu_are_refused(option: str) -> None:
    with pytest.raises(UsageError, match=f"{option} is an option of accelerator=cpu"):
        settings({"accelerator": "gpu", option: "on"})
    assert settings({"accelerator": "cpu", option: "on"})[option] == "on"


def test_tensors_are_in_the_order_of_the_graph() -> None:
    def tensors(*indices: int) -> list[dict[str, int]]:
        return [{"index": index} for index in indices]

    assert _places(tensors(4, 0, 2), tensors(0, 2, 4)) == [1, 2, 0]
    with pytest.raises(StageError, match="have different tensors"):
        _places(tensors(0, 1), tensors(0, 2))


def failure(path: Path, name: str) -> Any:
    fields = open_fields(path, [spec("x", 1, 4)], [spec("y", 1, 4)], format="tflite")
    opening = load_runner("tflite").open(
        msgspec.convert(fields["artifact"], Artifact),
        path,
        (np.zeros((1, 4), np.float32),),
        RunOptions(threads=1, extra={"accelerator": name}),
    )
    with pytest.raises(StageError) as caught, opening:
        pass
    return caught.value


def test_what_stands_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ai_edge_litert")
    path = adder(tmp_path / "net.tflite")
    with pytest.raises(UsageError, match="accelerator cannot be 'tpu'"):
        failure(path, "tpu")
    # Without a compiler of the vendor's, no operator is for the NPU: none is left to the CPU.
    monkeypatch.setitem(accelerated.LIBRARIES, "NPU", "*LiteRt*")
    error = failure(path, "npu")
    assert error.message == "LiteRT cannot execute all operators of the file on the NPU"
    assert "accelerator='npu|cpu' leaves those to the CPU" in error.hint
    for name in ("gpu", "npu"):
        monkeypatch.setitem(accelerated.LIBRARIES, name.upper(), "absent-*.so")
        error = failure(path, name)
        assert error.kind == "unavailable"
        assert f"accelerator for the {name.upper()} is not installed" in error.message
        assert "absent-*.so" in error.message
        assert "--library tflite=FILE" in error.hint


def test_the_plan_of_a_divided_file() -> None:
    """Only what stands between the delegate's own lines is a reason."""
    said = (
        "INFO: [environment.cc:36] Creating\nERROR: Following operations are not supported by GPU "
        "delegate:\nZEROS_LIKE: Operation is not supported.\nGATHER: Only 1 dimension.\n"
    )
    plan = accelerated.DIVISION.search(
        said + "1 operations will run on the GPU, and the remaining 2 operations will run on the "
        "CPU.\nINFO: Created delegate for CPU.\n"
    )
    assert plan is not None
    assert (plan["some"], plan["rest"], plan["all"]) == ("1", "2", None)
    assert plan["why"].splitlines() == [
        "ZEROS_LIKE: Operation is not supported.",
        "GATHER: Only 1 dimension.",
    ]
    plan = accelerated.DIVISION.search(
        said + "No operations will run on the GPU, and all 3 operations will run on the CPU.\n"
    )
    assert plan is not None
    assert (plan["some"], plan["all"]) == (None, "3")
