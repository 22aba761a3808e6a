"""Which placements meet a requirement, and which units a request may require."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

import latbench
from latbench.bench.prepare import read_request, resolve_request
from latbench.bench.required_units import RequiredUnits
from latbench.devices.local import LocalDevice
from latbench.errors import StageError, UnfitError, UsageError
from latbench.plugins import load_runner, unit_names
from latbench.schema.codec import digest
from latbench.schema.protocol_options import changed_protocol, named_protocol
from latbench.schema.request import make_request
from latbench.schema.request_syntax import option_words, side_request
from latbench.schema.trace import MOST_EXAMPLES, Placement, examples_of
from support.onnx_files import classifier
from support.tflite_files import adder


def check(backend: str, names: str, placement: Placement) -> None:
    require = make_request("m", require=names).require
    RequiredUnits(names=require, also=unit_names(load_runner(backend))).check(backend, placement)


@pytest.mark.parametrize(
    ("backend", "names", "units"),
    [
        ("coreml", "npu", {"neural_engine": 7}),
        ("coreml", "ANE, gpu", {"neural_engine": 7, "gpu": 1}),
        ("tflite", "xnnpack", {"XNNPACK": 9}),
        ("tflite", "cpu", {"XNNPACK": 9, "TFLite kernels": 2}),
        ("tflite", "libnpu.so", {"/opt/lib/libnpu.so": 9}),
        ("tflite", "gpu", {"GPU": 9}),
        ("onnxruntime", "CPU", {"CPUExecutionProvider": None}),
        ("onnxruntime", "cuda", {"CUDAExecutionProvider": 50, "CPUExecutionProvider": 0}),
        ("onnxruntime", "gpu", {"CUDAExecutionProvider": 50, "CPUExecutionProvider": 0}),
        ("openvino", "gpu", {"GPU.1": None}),
        ("tensorrt", "gpu", {"A GPU of any name": 30}),
        ("executorch", "xnnpack,cpu", {"XnnpackBackend": 4, "portable kernels": 2}),
    ],
)
@pytest.mark.parametrize("known", ["proven", "planned"])
def test_met(backend: str, names: str, units: dict[str, int | None], known: str) -> None:
    check(backend, names, Placement(units=units, known=known))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("backend", "names", "units"),
    [
        ("coreml", "npu", {"neural_engine": 7, "cpu": 1}),
        ("tflite", "xnnpack", {"XNNPACK": 9, "TFLite kernels": 2}),
        ("tflite", "cpu", {"NPU": 9}),
        ("onnxruntime", "qnn", {"QNNExecutionProvider": 50, "CPUExecutionProvider": 1}),
        # ONNX Runtime does not say on which unit QNN runs.
        ("onnxruntime", "npu", {"QNNExecutionProvider": 50}),
        ("openvino", "npu", {"NPU": None, "CPU": None}),
    ],
)
def test_not_met(backend: str, names: str, units: dict[str, int | None]) -> None:
    with pytest.raises(StageError, match=f"{names} is required, and") as caught:
        check(backend, names, Placement(units=units, known="proven"))
    assert (caught.value.stage, caught.value.kind) == ("open", "mismatch")


def test_the_operators_elsewhere_are_listed_up_to_a_bound() -> None:
    operators = [("cpu", f"softmax_{i}") for i in range(40)]
    placement = Placement(
        units={"neural_engine": 7, "cpu": 40}, known="planned", examples=examples_of(operators)
    )
    with pytest.raises(StageError) as caught:
        check("coreml", "npu", placement)
    assert "40 operators (softmax_0, softmax_1, softmax_2, …) run on cpu" in caught.value.message
    lines = (caught.value.detail or "").splitlines()
    assert lines[0] == "softmax_0 on cpu"
    assert lines[MOST_EXAMPLES] == f"and {40 - MOST_EXAMPLES} more on cpu"


@pytest.mark.parametrize(
    "placement",
    [
        Placement(units={"TensorrtExecutionProvider": None}, known="unknown", note="use a profile"),
        Placement(units={}, known="planned"),
    ],
)
def test_what_nobody_can_prove_does_not_pass(placement: Placement) -> None:
    with pytest.raises(StageError, match="cannot prove where the operators run") as caught:
        check("onnxruntime", "gpu", placement)
    assert (placement.note or "") in caught.value.message
    assert caught.value.hint
    check("onnxruntime", "cpu", Placement(units={"CPUExecutionProvider": None}, known="proven"))
    RequiredUnits().check("onnxruntime", placement)


def resolved(path: Path, **fields: object) -> None:
    request = make_request(str(path), **fields)  # type: ignore[arg-type]
    resolve_request(read_request(request, named_protocol("latbench-quick")), LocalDevice())


def test_a_unit_that_the_backend_does_not_have(tmp_path: Path) -> None:
    path = classifier(tmp_path / "net.onnx")
    resolved(path, require="cpu,cuda")
    with pytest.raises(UsageError, match="backend 'onnxruntime' has no unit 'cpuu'") as caught:
        resolved(path, require="cpuu")
    assert "did you mean" in str(caught.value.hint)
    # A sweep skips what fits another backend.
    with pytest.raises(UnfitError, match="has no unit 'xnnpack'") as unfit:
        resolved(path, backend="openvino", require="xnnpack")
    assert "tflite" in str(unfit.value.hint)
    # What the user chooses by an option is a unit.
    chosen = {"delegate": "/opt/libnpu_delegate.so"}
    resolved(adder(tmp_path / "net.tflite"), require="libnpu_delegate.so", options=chosen)


def test_it_is_part_of_the_request_and_changes_no_other() -> None:
    plain, with_units = make_request("m"), make_request("m", require=("NPU", "gpu,npu"))
    assert with_units.require == ("npu", "gpu")
    assert digest(plain) != digest(with_units)
    assert b"require" not in msgspec.json.encode(plain)
    assert "--require npu,gpu" in " ".join(option_words(with_units))
    assert side_request("m,require=npu", require=("gpu",)).require == ("npu",)
    assert side_request("m", require=("gpu",)).require == ("gpu",)
    with pytest.raises(UsageError, match="has no name"):
        make_request("m", require="npu,,gpu")


def run(path: Path, registry: Path, require: str, **fields: object) -> latbench.RunResult:
    short = {"processes": 1, "warmup_calls": 1, "calls": 3, "block_calls": 3}
    protocol = changed_protocol(named_protocol("latbench-fixed@1"), **short)
    return latbench.run(
        str(path),
        require=require,
        threads=1,
        protocol=protocol,
        registry=str(registry),
        **fields,  # type: ignore[arg-type]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "require", "met"),
    [
        ("onnxruntime", "cpu", True),
        ("onnxruntime", "gpu", False),
        ("openvino", "CPU", True),
        ("openvino", "npu", False),
    ],
)
def test_real_backends(tmp_path: Path, backend: str, require: str, met: bool) -> None:
    pytest.importorskip(backend)
    path = classifier(tmp_path / "net.onnx")
    outcome = run(path, tmp_path / "r.db", require, backend=backend).record.outcome
    assert (outcome.status == "measured") is met
    if not met:
        assert outcome.failure is not None
        assert (outcome.failure.stage, outcome.failure.kind) == ("open", "mismatch")
        # Nothing was timed.
        assert outcome.traces == ()


def test_tflite_proves_what_xnnpack_took(tmp_path: Path) -> None:
    if not load_runner("tflite").probe().available:
        pytest.skip("needs a TFLite runtime")
    path = adder(tmp_path / "net.tflite")
    met = run(path, tmp_path / "r.db", "xnnpack").record
    assert met.outcome.status == "measured"
    failed = run(path, tmp_path / "r.db", "xnnpack", options={"xnnpack": "off"}).record
    failure = failed.outcome.failure
    assert failure is not None
    assert "1 operator (ADD (node 0)) runs on TFLite kernels" in failure.message
    assert failure.detail == "ADD (node 0) on TFLite kernels"
    assert failed.runtime is not None
    assert failed.request.require == ("xnnpack",)
