"""``--require``: a run whose operators are placed elsewhere fails before it is timed."""

from __future__ import annotations

from pathlib import Path

from support.command_line import QUICK, Latbench
from support.onnx_files import classifier


def test_a_required_unit_fails_before_time_is_spent(latbench: Latbench, tmp_path: Path) -> None:
    path = classifier(tmp_path / "net.onnx")
    done = latbench("run", path, *QUICK, "--require", "npu,gpu")
    assert done.status == 3
    first = "FAILED at open (mismatch): npu or gpu is required, and operators run on CPU"
    assert done.out.startswith(first)
    done = latbench("run", path, "--require", "cpuu")
    assert done.status == 2
    assert "backend 'onnxruntime' has no unit 'cpuu'" in done.err
    # In a comparison each side may require its own.
    done = latbench("compare", path, f"{path},require=npu", *QUICK, "--require", "cpu", "--json")
    assert done.status == 3
    one, two = (latbench("show", done.json[part], "--json").json["record"] for part in "ab")
    assert one["request"]["require"] == ["cpu"]
    assert one["outcome"]["status"] == "interrupted"
    assert two["outcome"]["failure"]["kind"] == "mismatch"


def test_the_names_of_units_are_listed(latbench: Latbench) -> None:
    out = latbench("backends", "tflite").out
    assert "units (--require NAME): XNNPACK (cpu); TFLite kernels (cpu, kernels)" in out
    assert "units (--require NAME): gpu" in latbench("backends", "tensorrt").out
    (found,) = latbench("backends", "coreml", "--json").json
    assert found["units"]["neural_engine"] == ["npu", "ane"]


def test_a_required_unit_in_a_sweep(latbench: Latbench, tmp_path: Path) -> None:
    path = classifier(tmp_path / "net.onnx")
    (tmp_path / "sweep.yaml").write_text(
        f"models: [{path}]\nrequire: [cpu]\npoints:\n- model: {path}\n  require: [npu]\n"
    )
    assert latbench("run", "--sweep", "sweep.yaml", *QUICK).status == 3
    rows = latbench("table", "--sweep", "latest", "--json").json
    assert [row["status"] for row in rows] == ["measured", "failed"]


def test_a_required_unit_permits_no_fallback(latbench: Latbench) -> None:
    fake = ("run", "mobilevig_ti", "--backend", "fake", "--threads", "1", *QUICK)
    done = latbench(*fake, "--require", "fake")
    assert "fake cannot prove where the operators run" in done.out
    missing = {"LATBENCH_FAKE_UNAVAILABLE": "1"}
    done = latbench(*fake, "--require", "fake", **missing)
    assert done.status == 3
    assert done.out.startswith("FAILED at probe (unavailable)")
