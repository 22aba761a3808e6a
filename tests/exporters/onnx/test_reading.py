"""Files that ONNX Runtime executes although they are unusual, and reasons of those it does not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from latbench.api import Exported, ExportSpec, StageError, make_inputs
from latbench_exporters.onnx import external
from latbench_exporters.onnx.exporter import OnnxExporter
from latbench_exporters.onnx.graph import read, write
from support import onnx_files, onnx_operators
from support.onnx_operators import IMAGE, floats, model_of, node, save

BROKEN = "truncated, corrupt"
KERNEL = floats("w", 4, 3, 3, 3)
CONV = 4 * 36 * 27


def conv() -> ModelProto:
    return model_of([node("Conv", "x w", "c"), node("Relu", "c")], IMAGE, KERNEL)


def adopted(path: Path) -> tuple[Exported, tuple[np.ndarray, ...]]:
    """Adopt the file, and execute the result."""
    out = path.with_name("out.onnx")
    exported = OnnxExporter().adopt(path, ExportSpec(), out)
    return exported, OnnxExporter().evaluate(out, make_inputs(exported.inputs, 0))


def refused(path: Path) -> StageError:
    with pytest.raises(StageError) as caught:
        adopted(path)
    return caught.value


def split(folder: Path, data: str = "model.data", model: ModelProto | None = None) -> Path:
    """A model whose weights are in a file of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save_model(
        model or conv(),
        folder / "model.onnx",
        save_as_external_data=True,
        location=data,
        size_threshold=0,
    )
    return folder / "model.onnx"


def hub_cache(tmp_path: Path) -> Path:
    """The cache of Hugging Face: both files are links to another folder, under other names."""
    split(tmp_path / "new")
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc" / "onnx"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for i, name in enumerate(("model.onnx", "model.data")):
        (tmp_path / "new" / name).rename(blobs / str(i))
        (snapshot / name).symlink_to(f"../../../blobs/{i}")
    return snapshot / "model.onnx"


def reversed_nodes(model: ModelProto) -> ModelProto:
    for graph in (model.graph, *(a.g for n in model.graph.node for a in n.attribute)):
        backwards = list(reversed(graph.node))
        copy = onnx.GraphProto()
        copy.node.extend(backwards)
        del graph.node[:]
        graph.node.extend(copy.node)
    return model


def looped() -> ModelProto:
    nodes = onnx_operators.looped(
        node("Conv", "cur w", "c", pads=[1] * 4), node("Relu", "c", "nxt")
    )
    constants = (floats("w", 3, 3, 3, 3), *onnx_operators.loop_constants(2))
    return model_of([*nodes[:-1], *nodes[-1:]], IMAGE, *constants)


def untyped() -> ModelProto:
    model = conv()
    model.graph.output[0].CopyFrom(onnx.ValueInfoProto(name="y"))
    return model


def nameless() -> ModelProto:
    model = conv()
    model.graph.name = ""
    return model


UNUSUAL = {
    "an output without a shape": conv,
    "an output without a type": untyped,
    "a graph without a name": nameless,
    "nodes in reverse order": lambda: reversed_nodes(conv()),
    "nodes of a body in reverse order": lambda: reversed_nodes(looped()),
}


@pytest.mark.parametrize("what", UNUSUAL)
def test_unusual_files_are_executed(what: str, tmp_path: Path) -> None:
    exported, outputs = adopted(save(UNUSUAL[what](), tmp_path / "in.onnx"))
    (output,) = outputs
    assert output.shape[2:] in ((6, 6), (8, 8))
    assert exported.outputs[0].dtype == "float32"
    assert exported.counts is not None


def test_the_layout_of_the_hub_cache_is_followed(tmp_path: Path) -> None:
    exported, _ = adopted(hub_cache(tmp_path))
    assert exported.counts is not None
    assert exported.counts.macs == CONV


def test_links_that_leave_the_models_folder_are_refused(tmp_path: Path) -> None:
    path = split(tmp_path / "model")
    (tmp_path / "model" / "model.data").rename(tmp_path / "secret")
    (tmp_path / "model" / "model.data").symlink_to(tmp_path / "secret")
    error = refused(path)
    assert "outside of its folder" in error.message
    assert "copy that file" in (error.hint or "")


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "deep/../../secret"])
def test_locations_outside_of_the_folder_are_refused(location: str, tmp_path: Path) -> None:
    path = split(tmp_path / "model")
    (tmp_path / "secret").write_bytes(bytes(4 * 108))
    model = onnx.load(path, load_external_data=False)
    external._point(model.graph.initializer[0], external.Located(Path(location), 0, 432))
    assert "outside of its folder" in refused(save(model, path)).message


def test_missing_and_short_data_have_hints_of_their_own(tmp_path: Path) -> None:
    path = split(tmp_path)
    data = tmp_path / "model.data"
    os.truncate(data, 100)
    assert "432 are needed" in refused(path).message
    data.unlink()
    error = refused(path)
    assert "model.data, which is missing" in error.message
    assert "download it too" in (error.hint or "")
    assert BROKEN not in (error.hint or "")


def test_a_link_to_a_model_whose_data_are_elsewhere_names_the_place(tmp_path: Path) -> None:
    path = split(tmp_path / "there")
    (tmp_path / "link.onnx").symlink_to(path)
    assert str(path) in (refused(tmp_path / "link.onnx").hint or "")


def newer(**versions: int) -> ModelProto:
    model = conv()
    model.ir_version = versions.get("ir", 8)
    model.opset_import[0].version = versions.get("opset", 17)
    return model


@pytest.mark.parametrize("versions", [{"ir": 99}, {"opset": 999}])
def test_a_file_of_a_newer_version_is_told_as_such(
    versions: dict[str, int], tmp_path: Path
) -> None:
    error = refused(save(newer(**versions), tmp_path / "new.onnx"))
    assert f"{next(iter(versions.values()))}" in error.message
    assert "upgrade" in (error.hint or "")


def test_a_cycle_is_told_as_such(tmp_path: Path) -> None:
    model = model_of([node("Add", "x b", "a"), node("Relu", "a", "b"), node("Relu", "b")], (2,))
    error = refused(save(model, tmp_path / "cycle.onnx"))
    assert "cycle" in error.message
    assert BROKEN not in (error.hint or "")


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"", BROKEN),
        (b"<html>not found</html>" * 20, BROKEN),
        (conv().SerializeToString()[:-200], BROKEN),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "git lfs pull"),
    ],
)
def test_only_broken_files_are_called_broken(content: bytes, hint: str, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(content)
    error = refused(tmp_path / "broken.onnx")
    assert "not a valid ONNX file" in error.message
    assert hint in (error.hint or "")


def test_an_unknown_element_type_is_told_in_words(tmp_path: Path) -> None:
    model = conv()
    model.graph.initializer[0].data_type = 99
    assert "element type 99" in refused(save(model, tmp_path / "w.onnx")).message
    model = conv()
    model.graph.input[0].type.tensor_type.elem_type = 99
    error = refused(save(model, tmp_path / "x.onnx"))
    assert BROKEN not in (error.hint or "")


def test_an_input_that_is_a_sequence_is_told_as_such(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [node("ConcatFromSequence", "s", axis=0)],
        "g",
        [helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)],
        [onnx_operators.value("y")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    error = refused(save(model, tmp_path / "seq.onnx"))
    assert "'s' is a sequence" in error.message
    assert BROKEN not in (error.hint or "")


def test_outputs_that_are_no_tensors_are_named_and_left_out(tmp_path: Path) -> None:
    model = model_of([node("SplitToSequence", "x", "s"), node("Relu", "x")], (2, 3))
    model.graph.output.insert(
        0, helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
    )
    exported, outputs = adopted(save(model, tmp_path / "in.onnx"))
    assert [output.shape for output in outputs] == [(2, 3)]
    assert [output.name for output in exported.outputs] == ["y"]
    assert exported.details["not_compared"] == "s (a sequence)"


def test_weights_over_the_limit_of_a_file_stay_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The artifact is a folder of two files, which is itself a pre-exported file."""
    model = model_of([node("MatMul", "x a", "h"), node("MatMul", "h b")], (1, 64))
    model.graph.initializer.extend([floats("a", 64, 128), floats("b", 128, 8)])
    path = split(tmp_path / "in", model=model)
    expected = adopted(path)[1]
    monkeypatch.setattr(external, "LIMIT_BYTES", 10_000)
    monkeypatch.setattr(external, "SMALL_BYTES", 4_096)
    for source in (path, tmp_path / "in" / "out.onnx"):
        out = tmp_path / f"{source.parent.name}-{source.name}"
        exported = OnnxExporter().adopt(source, ExportSpec(), out)
        if source == path:
            (tmp_path / "in" / "out.onnx").unlink()
            out = out.rename(tmp_path / "in" / "out.onnx")
        assert sorted(part.name for part in out.iterdir()) == [external.DATA, external.GRAPH]
        assert exported.counts is not None
        assert exported.counts.macs == 64 * 128 + 128 * 8
        actual = OnnxExporter().evaluate(out, make_inputs(exported.inputs, 0))
        np.testing.assert_array_equal(actual[0], expected[0])


def test_a_file_over_the_limit_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = read(save(conv(), tmp_path / "in.onnx"))
    monkeypatch.setattr(external, "LIMIT_BYTES", 100)
    with pytest.raises(StageError, match="an ONNX file holds at most 100") as caught:
        write(model, tmp_path / "out.onnx")
    assert "external data" in (caught.value.hint or "")


def test_bfloat16_is_given_and_read_as_float32(tmp_path: Path) -> None:
    kind = TensorProto.BFLOAT16
    model = model_of(
        [
            node("Cast", "x", "f", to=TensorProto.FLOAT),
            node("Mul", "f half", "h"),
            node("Cast", "h", to=kind),
        ],
        (1, 64),
        onnx_operators.constant("half", 0.5, "f4"),
        given=kind,
        made=kind,
    )
    exported, (output,) = adopted(save(model, tmp_path / "in.onnx"))
    assert exported.inputs[0].dtype == exported.outputs[0].dtype == "float32"
    assert exported.details["bfloat16"] == "x, y"
    assert output.dtype == np.float32
    (given,) = make_inputs(exported.inputs, 0)
    # A bfloat16 has 8 significant bits.
    np.testing.assert_allclose(output, given / 2, rtol=2**-8)
    assert not np.array_equal(output, given / 2)


def test_a_large_model_is_written_in_parts_that_are_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, whole, parts = (tmp_path / f"{name}.onnx" for name in ("in", "whole", "parts"))
    onnx_files.length(path)
    model = onnx.load(path)
    model.metadata_props.add(key="a", value="b")
    model.graph.sparse_initializer.add().values.name = "none"
    external.write_message(model, parts)
    whole.write_bytes(model.SerializeToString(deterministic=True))
    assert onnx.load(parts) == onnx.load(whole)
    assert abs(external.message_bytes(model) - whole.stat().st_size) < 500
    monkeypatch.setattr(external, "LARGE_BYTES", 0)
    write(read(path), parts)
    assert list(onnx.load(parts).graph.initializer) == list(onnx.load(path).graph.initializer)
