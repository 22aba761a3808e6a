"""Sessions of the native worker: what the Python worker computes and reports."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from latbench.worker import messages
from latbench.worker.process import python_module
from support import onnx_files, tflite_files
from support.native_talk import Talk, given, open_fields, spec

pytestmark = pytest.mark.slow  # The program is compiled first.

OWN = {"worker", "worker_sha256", "library_sha256", "libc"}
TYPES = (
    *("FLOAT16", "FLOAT", "DOUBLE", "INT8", "INT16", "INT32", "INT64"),
    *("UINT8", "UINT16", "UINT32", "UINT64", "BOOL"),
)


def both(
    program: Path, fields: dict[str, Any], calls: int = 1
) -> tuple[dict[str, Any], list[np.ndarray[Any, Any]]]:
    """What the native worker reports on opening, and its outputs, once they are the same as those
    of the Python worker, settings included."""
    opened: dict[str, dict[str, Any]] = {}
    outputs: dict[str, list[np.ndarray[Any, Any]]] = {}
    for name, command in (
        ("native", [program]),
        ("python", python_module("latbench.worker.inference").command),
    ):
        with Talk(command) as worker:
            opened[name] = worker.ask("open", **fields)
            assert opened[name]["type"] == "opened", opened[name]
            assert len(worker.ask("time", calls=calls)["sample_ns"]) == calls
            outputs[name] = given(worker.ask("outputs"))
            assert worker.ask("close") == {"type": "closed"}
    ours, theirs = opened["native"], opened["python"]
    own = ours["settings"]
    assert own.keys() - theirs["settings"].keys() == OWN
    assert {name: own[name] for name in own.keys() - OWN} == theirs["settings"]
    assert ours["version"] == theirs["version"]
    assert ours["placement"]["units"].keys() == theirs["placement"]["units"].keys()
    for one, other in zip(outputs["native"], outputs["python"], strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.tobytes() == other.tobytes()
    return ours, outputs["native"]


def test_placement_beside_another_provider_is_observed(
    native_program: Path, tmp_path: Path
) -> None:
    """Azure's is in the package and executes no node of such files; so the CPU does."""
    path = onnx_files.identity(tmp_path / "i.onnx")
    fields = open_fields(path, [spec("x", 4)], [spec("y", 4)])
    for asked in ("azure", "AzureExecutionProvider"):
        opened, _ = both(native_program, {**fields, "extra": {"provider": asked}})
        placement = opened["placement"]
        assert placement["known"] == "proven"
        assert placement["units"] == {"AzureExecutionProvider": 0, "CPUExecutionProvider": 1}
        assert placement["partitions"] == 1
    refused = {
        "strict_placement": "ONNX Runtime cannot load the file on AzureExecutionProvider",
        "provider": "this onnxruntime has no provider nnapi",
        "provider_options": "is not of the form key=value",
    }
    values = {"strict_placement": "yes", "provider": "nnapi", "provider_options": "a"}
    for name, words in refused.items():
        with Talk([native_program]) as worker:
            extra = {"provider": "azure", name: values[name]}
            assert words in json.dumps(worker.ask("open", **{**fields, "extra": extra}))


@pytest.mark.parametrize("threads", [1, 2])
def test_convolutions(native_program: Path, tmp_path: Path, threads: int) -> None:
    path = onnx_files.stack(tmp_path / "s.onnx", side=24)
    fields = open_fields(path, [spec("x0", 1, 3, 24, 24)], [spec("mean", 1, 32, 1, 1)], seed=7)
    options = {"graph_optimization": "basic", "spinning": "off", "inter_op_threads": "2"}
    for extra in ({}, options, {"provider": "CPU", "strict_placement": "yes"}):
        both(native_program, {**fields, "threads": threads, "extra": extra}, calls=3)


def test_the_harness_reads_each_response(native_program: Path, tmp_path: Path) -> None:
    path = onnx_files.identity(tmp_path / "i.onnx")
    fields = open_fields(path, [spec("x", 4)], [spec("y", 4)])
    requests = [
        ("outputs", {}, messages.Failed),
        ("open", fields, messages.SessionOpened),
        ("time", {"calls": 3, "settle": 1}, messages.BlockTimed),
        ("time", {"calls": -3}, messages.Refused),
        ("outputs", {}, messages.OutputsGiven),
        ("time_operators", {"calls": 3}, messages.OperatorsTimed),
        ("close", {}, messages.Closed),
    ]
    with Talk([native_program]) as worker:
        line = json.dumps(worker.hello).encode()
        assert isinstance(messages.decode_response(line), messages.Hello)
        for type, sent, kind in requests:
            answer = messages.decode_response(json.dumps(worker.ask(type, **sent)).encode())
            assert isinstance(answer, kind), answer


def identities(path: Path, shape: list[int]) -> Path:
    """One identity for each type, in and out, listed in another order than they are given."""
    nodes, inputs, outputs = [], [], []
    for name in TYPES:
        kind = getattr(TensorProto, name)
        nodes.append(helper.make_node("Identity", [name], [f"{name}_out"]))
        inputs.insert(0, helper.make_tensor_value_info(name, kind, shape))
        outputs.append(helper.make_tensor_value_info(f"{name}_out", kind, shape))
    graph = helper.make_graph(nodes, "identities", inputs, outputs)
    opset = [helper.make_opsetid("", 20)]
    path.write_bytes(
        helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()
    )
    return path


def numpy_name(name: str) -> str:
    return str(helper.tensor_dtype_to_np_dtype(getattr(TensorProto, name)).name)


@pytest.mark.parametrize("shape", [(2, 3), (2, 0, 3), ()])
def test_every_element_type(native_program: Path, tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = identities(tmp_path / "i.onnx", list(shape))
    inputs = [spec(name, *shape, dtype=numpy_name(name)) for name in TYPES]
    outputs = [spec(f"{name}_out", *shape, dtype=numpy_name(name)) for name in reversed(TYPES)]
    _, found = both(native_program, open_fields(path, inputs, outputs, seed=3))
    assert [array.dtype.name for array in found] == [numpy_name(name) for name in reversed(TYPES)]


def test_bfloat16_is_float32_outside(native_program: Path, tmp_path: Path) -> None:
    kind = TensorProto.BFLOAT16
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "narrow",
        [helper.make_tensor_value_info("x", kind, [50])],
        [helper.make_tensor_value_info("y", kind, [50])],
    )
    path = tmp_path / "b.onnx"
    opset = [helper.make_opsetid("", 20)]
    path.write_bytes(
        helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()
    )
    fields = open_fields(path, [spec("x", 50, content="0.1:3")], [spec("y", 50)])
    _, (found,) = both(native_program, fields)
    assert found.dtype == np.float32
    assert len(set(found.tolist())) > 10


def test_contents_and_arrays_of_files(native_program: Path, tmp_path: Path) -> None:
    path = onnx_files.length(tmp_path / "l.onnx")
    np.savez(tmp_path / "i.npz", audio=np.arange(256, dtype="f4").reshape(1, 4, 64))
    inputs = [
        spec("length", 1, dtype="int64", content="12"),
        spec("audio", 1, 4, 64, content="sha256:" + "0" * 64),
    ]
    fields = open_fields(path, inputs, [spec("y", 1, 12)], inputs=str(tmp_path / "i.npz"))
    _, (found,) = both(native_program, fields)
    assert found.shape == (1, 12)


def test_weights_beside_the_file_and_folders(native_program: Path, tmp_path: Path) -> None:
    model = onnx.load(onnx_files.stack(tmp_path / "s.onnx", side=16))
    folder = tmp_path / "folder.onnx"
    folder.mkdir()
    onnx.save(
        model,
        folder / "model.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    assert (folder / "weights.bin").stat().st_size > 10_000
    io = [spec("x0", 1, 3, 16, 16)], [spec("mean", 1, 32, 1, 1)]
    both(native_program, open_fields(folder, *io))
    both(native_program, open_fields(folder / "model.onnx", *io))
    (folder / "weights.bin").unlink()
    with Talk([native_program]) as worker:
        answer = worker.ask("open", **open_fields(folder, *io))
        assert (answer["type"], answer["kind"]) == ("failed", "error")


def test_half_precision_is_reported_as_it_runs(native_program: Path, tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones((4, 4), np.float16), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "half",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, [2, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, [2, 4])],
        [weight],
    )
    path = tmp_path / "h.onnx"
    opset = [helper.make_opsetid("", 20)]
    path.write_bytes(
        helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()
    )
    io = [spec("x", 2, 4, dtype="float16")], [spec("y", 2, 4, dtype="float16")]
    opened, _ = both(native_program, open_fields(path, *io, precision="fp16"))
    assert (opened["settings"].get("precision") == "fp32") == (os.uname().machine == "x86_64")


@pytest.mark.skipif(
    "LATBENCH_TEST_SANITIZE" in os.environ,
    reason="the sanitizer ends a program that asks for 64 TB",
)
def test_an_inference_that_needs_too_much_memory(native_program: Path, tmp_path: Path) -> None:
    path = onnx_files.asking_for_much_memory(tmp_path / "m.onnx")
    with Talk([native_program]) as worker:
        fields = open_fields(
            path, [spec("x", 1)], [spec("y")], extra={"graph_optimization": "disabled"}
        )
        assert worker.ask("open", **fields)["type"] == "opened"
        answer = worker.ask("time", calls=1)
        assert (answer["type"], answer["kind"]) == ("failed", "out_of_memory")


def test_strings_are_refused_in_words(native_program: Path, tmp_path: Path) -> None:
    path = onnx_files.with_strings(tmp_path / "t.onnx")
    with Talk([native_program]) as worker:
        fields = open_fields(path, [spec("x", 1, dtype="str")], [spec("y", 1, dtype="str")])
        answer = worker.ask("open", **fields)
        assert answer["type"] == "refused"
        assert "does not support" in answer["message"]


@pytest.fixture(scope="module")
def adder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("ai_edge_litert")
    return tflite_files.adder(tmp_path_factory.mktemp("tflite") / "a.tflite")


def tflite_fields(path: Path, /, **changes: Any) -> dict[str, Any]:
    fields = open_fields(path, [spec("x", 1, 4)], [spec("y", 1, 4)], format="tflite")
    return {**fields, "backend": "tflite", **changes}


@pytest.mark.parametrize("xnnpack", ["on", "off"])
def test_an_addition_by_litert(native_program: Path, adder: Path, xnnpack: str) -> None:
    extra = {"xnnpack": xnnpack}
    opened, (found,) = both(
        native_program, tflite_fields(adder, seed=5, threads=2, extra=extra), calls=3
    )
    assert opened["settings"]["threads"] == "2"
    assert opened["placement"]["units"] == {"XNNPACK" if xnnpack == "on" else "TFLite kernels": 1}
    assert len(set(found.ravel().tolist())) == 4


@pytest.mark.parametrize(
    ("changes", "type", "words"),
    [
        ({"path": "/nonexistent.tflite"}, "failed", "cannot load the file"),
        ({"extra": {"xnnpak": "on"}}, "refused", "has no option 'xnnpak'"),
        ({"extra": {"xnnpack": "maybe"}}, "refused", "xnnpack cannot be 'maybe'"),
        ({"extra": {"runtime": "tflite-runtime"}}, "failed", "ai-edge-litert without"),
        ({"extra": {"delegate": "/x.so"}}, "failed", "without other delegates"),
        ({"extra": {"delegate_options": "a=b"}}, "refused", "requires a delegate"),
    ],
)
def test_what_litert_cannot_open(
    native_program: Path, adder: Path, changes: dict[str, Any], type: str, words: str
) -> None:
    with Talk([native_program]) as worker:
        answer = worker.ask("open", **tflite_fields(adder, **changes))
        assert answer["type"] == type
        assert words in answer["message"]
        assert worker.ask("open", **tflite_fields(adder))["type"] == "opened"


def test_inputs_that_differ_from_a_tflite_file(native_program: Path, adder: Path) -> None:
    with Talk([native_program]) as worker:
        for wrong in ([spec("x", 1, 5)], [spec("x", 1, 4, dtype="int32")], []):
            fields = open_fields(adder, wrong, [spec("y", 1, 4)], format="tflite")
            answer = worker.ask("open", **{**fields, "backend": "tflite"})
            assert (answer["type"], answer["stage"]) == ("failed", "open")


def test_damaged_tflite_files_are_failures(
    native_program: Path, adder: Path, tmp_path: Path
) -> None:
    whole = adder.read_bytes()
    with Talk([native_program]) as worker:
        for i, content in enumerate((b"", b"\xff" * 300, whole[:100], whole[: len(whole) // 2])):
            path = tmp_path / f"{i}.tflite"
            path.write_bytes(content)
            answer = worker.ask("open", **tflite_fields(path))
            assert (answer["type"], answer["stage"]) == ("failed", "open"), i


def test_an_unknown_version_of_litert_is_unavailable(native_program: Path, adder: Path) -> None:
    with Talk([native_program], LATBENCH_LITERT_VERSION="3.0.0") as worker:
        answer = worker.ask("open", **tflite_fields(adder))
        assert (answer["type"], answer["kind"]) == ("failed", "unavailable")
        assert "LiteRT 3.0.0" in answer["message"]
        told = worker.ask("capabilities", backends=["tflite"])["backends"]["tflite"]
        assert told["available"] is False


def test_operators_outside_xnnpack_leave_the_placement_unknown(
    native_program: Path, tmp_path: Path
) -> None:
    """The Python worker, which reads the delegated graph, proves where they are."""
    pytest.importorskip("ai_edge_litert")
    path = tflite_files.adder(tmp_path / "m.tflite", "FloorMod")
    with Talk([native_program]) as worker:
        opened = worker.ask("open", **tflite_fields(path))
        assert opened["placement"]["known"] == "unknown"
        assert opened["placement"]["units"] == {"XNNPACK": None, "TFLite kernels": None}
