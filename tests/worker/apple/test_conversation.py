"""Conversations with the worker for Apple devices, whose Core ML is a stand-in."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latbench.schema.artifact import TensorSpec
from latbench.schema.seeded_inputs import make_inputs
from support.coreml import (
    convolution,
    filters,
    write_classifier,
    write_functions,
    write_image_program,
    write_program,
    write_stateful,
)
from support.native_talk import Talk, given, open_fields, spec

pytestmark = [pytest.mark.slow, pytest.mark.torch]

X, Y = spec("x", 1, 3, 8, 8), spec("y", 1, 4, 6, 6)


def fields(path: Path, inputs: list[Any], outputs: list[Any], /, **changes: Any) -> dict[str, Any]:
    """The fields of ``open``; ``details`` are the artifact's."""
    details = changes.pop("details", {"type": "mlprogram"})
    made = open_fields(
        path, inputs, outputs, **{"format": "coreml", "backend": "coreml", **changes}
    )
    return {**made, "artifact": {**made["artifact"], "details": details}}


def seeded(given_spec: dict[str, Any], stored: Any = None, seed: int = 0) -> np.ndarray:
    wanted = TensorSpec(**{**given_spec, "shape": tuple(given_spec["shape"])})
    return np.asarray(make_inputs([wanted], seed, stored)[0])


def convolved(x: np.ndarray) -> np.ndarray:
    import torch

    found: np.ndarray = torch.nn.functional.conv2d(
        torch.from_numpy(x), torch.from_numpy(filters())
    ).numpy()
    return found


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "conv.mlpackage"
    return write_program(convolution, path, (1, 3, 8, 8))


def test_a_model_is_loaded_timed_and_checked(apple: Sequence[str], package: Path) -> None:
    with Talk(apple) as worker:
        hello = worker.hello
        assert (hello["protocol"], hello["program"]) == (2, "latbench-apple")
        assert hello["pid"] == worker.process.pid
        told = worker.ask("machine")["machine"]
        assert told["memory_bytes"] > 0
        assert told["cpu_model"] is None  # sent as null: the field must be there
        now = worker.ask("conditions")
        assert now["conditions"]["unix_ns"] > 0
        backends = worker.ask("capabilities", backends=["coreml", "tflite"])["backends"]
        assert backends["coreml"]["units"] == ["cpu", "gpu", "neural_engine"]
        assert not backends["tflite"]["available"]
        assert worker.ask("time", calls=1)["stage"] == "open"
        opened = worker.ask(
            "open", **fields(package, [X], [Y], extra={"compute_units": "cpu_only"})
        )
        assert opened["load_ns"] > opened["compile_ns"] > 0
        assert opened["placement"] == {
            "units": {"cpu": 1},
            "known": "planned",
            "note": "preferred devices of MLComputePlan; Core ML does not report the devices used",
            "partitions": 1,
            "examples": {"cpu": ["y (ios17.conv)"]},
        }
        settings = opened["settings"]
        assert settings["compute_units"] == "cpu_only"
        assert settings["outputs_preallocated"] == "1 of 1"
        assert (settings["worker"], settings["threads"]) == ("apple", "unknown")
        assert worker.ask("outputs")["stage"] == "outputs"
        timed = worker.ask("time", calls=5, settle=2)
        assert len(timed["sample_ns"]) == 5
        assert timed["readings"]["wall_ns"] >= sum(timed["sample_ns"][2:])
        spaced = worker.ask("time", calls=3, period_ns=30_000_000)
        assert len(spaced["sample_ns"]) == 3
        answer = worker.ask("outputs")
        assert answer["peak_rss_bytes"] > 2**20
        assert np.array_equal(given(answer)[0], convolved(seeded(X)))
        told = worker.ask("time_operators", calls=3)
        assert told["profile"] is None
        assert told["plan"]["source"] == "MLComputePlan"
        (conv,) = (each for each in told["plan"]["operators"] if each["kind"].endswith("conv"))
        assert (conv["unit"], conv["cost_ppm"]) == ("cpu", 500_000)
        assert worker.ask("close") == {"type": "closed"}
        assert worker.ended() == 0


def test_inputs_are_those_of_python(apple: Sequence[str], tmp_path: Path) -> None:
    """The package returns what it is given, so that each input can be compared bit for bit."""
    from coremltools.converters.mil.mil import Builder as mb

    size = (2, 9)
    path = write_program(lambda x: mb.identity(x=x, name="y"), tmp_path / "same.mlpackage", size)
    np.savez(tmp_path / "plain.npz", x=np.arange(18, dtype=np.float32).reshape(2, 9))
    np.savez(tmp_path / "turned.npz", x=np.arange(18, dtype=np.float32).reshape(9, 2).T)
    cases = [(None, 0, None), (None, 2**40 + 7, None), ("random:77", 1, None), ("0.1", 0, None)]
    cases += [("-1.7:0.3", 3, None), (",".join(map(str, range(18))), 0, None), ("true", 0, None)]
    cases += [("sha256:0", 0, "plain.npz"), ("sha256:0", 0, "turned.npz")]
    with Talk(apple) as worker:
        for content, seed, file in cases:
            x = spec("x", *size, content=content)
            more = {} if file is None else {"inputs": str(tmp_path / file)}
            opened = worker.ask("open", **fields(path, [x], [spec("y", *size)], seed=seed, **more))
            assert opened["type"] == "opened", (content, opened)
            worker.ask("time", calls=1)
            stored = None if file is None else dict(np.load(tmp_path / file))
            assert np.array_equal(given(worker.ask("outputs"))[0], seeded(x, stored, seed)), content
        for content, words in {
            "1e39": "out of range",
            "1,2": "2 values are given",
            "5:1": "is not a range",
            "random:x": "whole number",
            "five": "cannot hold",
            "sha256:0": "is missing",
        }.items():
            x = spec("x", *size, content=content)
            refused = worker.ask("open", **fields(path, [x], [spec("y", *size)]))
            assert refused["type"] == "refused", refused
            assert words in refused["message"]
        damaged = tmp_path / "damaged.npz"
        damaged.write_bytes((tmp_path / "plain.npz").read_bytes()[:-30])
        x = spec("x", *size, content="sha256:0")
        failed = worker.ask("open", **fields(path, [x], [spec("y", *size)], inputs=str(damaged)))
        assert (failed["type"], failed["stage"]) == ("failed", "open")


def test_other_types_of_elements_are_rounded_as_numpy_does(
    apple: Sequence[str], tmp_path: Path
) -> None:
    from coremltools.converters.mil.mil import Builder as mb

    from latbench_exporters.coreml.package import read, write

    made = {}
    for name, kind in (("int32", 131104), ("float16", 65552)):
        plain = tmp_path / f"{name}-plain.mlpackage"
        described = read(write_program(lambda x: mb.identity(x=x, name="y"), plain, (7,))).spec
        for each in (*described.description.input, *described.description.output):
            each.type.multiArrayType.dataType = kind
        made[name] = tmp_path / f"{name}.mlpackage"
        write(described, None, made[name])
    with Talk(apple) as worker:
        for name, contents in {
            "float16": (None, "0.1", "65504", "-3:60000"),
            "int32": (None, "-7", "-8388608:8388607", "3:9"),
        }.items():
            for content in contents:
                x = spec("x", 7, dtype=name, content=content)
                opened = worker.ask("open", **fields(made[name], [x], [spec("y", 7, dtype=name)]))
                assert opened["type"] == "opened", opened
                worker.ask("time", calls=1)
                found = given(worker.ask("outputs"))[0]
                assert np.array_equal(found, seeded(x)), (name, content)


def test_images_states_labels_and_functions(apple: Sequence[str], tmp_path: Path) -> None:
    with Talk(apple) as worker:
        for space in ("RGB", "BGR", "GRAYSCALE", "GRAYSCALE_FLOAT16"):
            path = write_image_program(tmp_path / f"{space}.mlpackage", space)
            channels = 3 if space in ("RGB", "BGR") else 1
            kind = "float16" if space == "GRAYSCALE_FLOAT16" else "uint8"
            details = {
                **{"type": "mlprogram", "images": "x", "image_scale": "1.0"},
                **{"image_bias": "0.0,0.0,0.0"},
                **({} if space == "RGB" else {"color_spaces": f"x {space}, y {space}"}),
            }
            x = spec("x", 1, channels, 8, 8, content="0:100")
            y = spec("y", 1, channels, 8, 8, dtype=kind)
            opened = worker.ask("open", **fields(path, [x], [y], details=details))
            assert opened["type"] == "opened", opened
            assert opened["settings"]["input"] == "image"
            assert ("input_bits" in opened["settings"]) == (kind == "uint8")
            worker.ask("time", calls=1)
            pixels = seeded(x)
            expected = np.rint(pixels) * 2 if kind == "uint8" else pixels.astype(np.float16) * 2
            assert np.array_equal(given(worker.ask("outputs"))[0], expected.astype(kind)), space

        path = write_stateful(tmp_path / "state.mlpackage")
        x, y = spec("x", 1, 4, content="1"), spec("y", 1, 4)
        details = {"type": "mlprogram", "states": "total"}
        opened = worker.ask("open", **fields(path, [x], [y], details=details))
        assert opened["settings"]["states"] == "kept between inferences"
        worker.ask("time", calls=3)
        # From a new state, however many inferences were timed.
        assert given(worker.ask("outputs"))[0].tolist() == [[2.0] * 4]

        path = write_classifier(tmp_path / "labels.mlpackage", ["c", "a", "b"])
        x, y = spec("x", 1, 3, content="1,2,3"), spec("classLabel_probs", 3)
        opened = worker.ask("open", **fields(path, [x], [y]))
        worker.ask("time", calls=1)
        weights = np.exp([2.0, 3.0, 1.0])  # of a, b, c: sorted
        assert np.allclose(given(worker.ask("outputs"))[0], weights / weights.sum())

        path = write_functions(tmp_path / "both.mlpackage")
        details = {"type": "mlprogram", "signature": "small"}
        worker.ask("open", **fields(path, [X], [Y], details=details))
        worker.ask("time", calls=1)
        assert np.array_equal(given(worker.ask("outputs"))[0], convolved(seeded(X)))


def test_what_cannot_be_done_is_said_in_words(
    apple: Sequence[str], package: Path, tmp_path: Path
) -> None:
    good = fields(package, [X], [Y])
    broken = tmp_path / "broken.mlpackage"
    broken.mkdir()
    cases = [
        ({"backend": "tflite"}, "refused", "has no backend 'tflite'"),
        ({"extra": {"compute_units": "fast"}}, "refused", "compute_units cannot be 'fast'"),
        ({"extra": {"speed": "1"}}, "refused", "unknown option 'speed'"),
        ({"threads": 0}, "refused", "number of threads"),
        ({"pinned": True}, "failed", "cannot pin"),
        ({"cpus": [0]}, "failed", "cannot pin"),
        ({"path": str(tmp_path / "absent.mlpackage")}, "failed", "no model was found"),
        ({"path": str(broken)}, "failed", "Core ML cannot load broken.mlpackage: Failed to read"),
        (fields(package, [spec("x", 1, 3, 9, 9)], [Y]), "opened", ""),
        (fields(package, [spec("x", 1, 3, 8, 8, dtype="int64")], [Y]), "failed", "no arrays of"),
        (fields(package, [spec("x", 1, 3, 8, 8, dtype="complex64")], [Y]), "refused", "complex64"),
    ]
    with Talk(apple) as worker:
        for changes, kind, words in cases:
            answer = worker.ask("open", **{**good, **changes})
            assert answer["type"] == kind, answer
            assert words in answer.get("message", "")
        worker.ask("open", **fields(package, [spec("x", 1, 3, 9, 9)], [Y]))
        failed = worker.ask("time", calls=2)
        assert (failed["type"], failed["stage"]) == ("failed", "time")
        # The description of the error, and of the one below it.
        assert "Core ML failed in an inference" in failed["message"]
        assert "does not match the shape" in failed["message"]
        worker.ask("open", **good)
        for wrong in ({"calls": 2, "settle": 3}, {"calls": -1}, {"calls": 1, "period_ns": -1}):
            assert worker.ask("time", **wrong)["type"] == "refused"
        assert worker.ask("signal", pid=1, signal="kill")["type"] == "refused"
        lock = str(tmp_path / "lock")
        assert worker.ask("reserve", path=lock, owner="me")["type"] == "reserved"
        with Talk(apple) as other:
            failed = other.ask("reserve", path=lock, owner="you")
            assert (failed["kind"], "by me" in failed["message"]) == ("unavailable", True)
        worker.send(b'{"type": "dance"}')
        assert worker.ended() == 1


def test_it_ends_with_its_owner_in_the_middle_of_an_inference(
    apple: Sequence[str], package: Path
) -> None:
    """Infinity as input makes the stand-in compute for an hour."""
    endless = package.with_name("endless.npz")
    np.savez(endless, x=np.full((1, 3, 8, 8), np.inf, np.float32))
    x = {**X, "content": "sha256:0"}
    for variables in ({}, {"LATBENCH_OWNER_TIMEOUT_S": "0.5"}):
        with Talk(apple, **variables) as worker:
            for _ in range(3 if variables else 0):
                time.sleep(0.3)
                worker.send(b"")
            opened = worker.ask("open", **fields(package, [x], [Y], inputs=str(endless)))
            assert opened["type"] == "opened", opened
            worker.send(json.dumps({"type": "time", "calls": 1}).encode())
            if not variables:
                worker.hang_up()
            worker.ended(within_s=20)
            assert worker.process.stdout is not None
            assert worker.process.stdout.read() == b""


def test_requests_that_are_no_messages_end_it(apple: Sequence[str]) -> None:
    for line in (
        b"{",
        b"[]",
        b'{"type": "time"}',
        b'{"type": 3}',
        b'{"type":"open","threads":"1"}',
    ):
        with Talk(apple) as worker:
            worker.send(line)
            assert worker.ended() == 1
            assert worker.process.stderr is not None
            assert b"not a message" in worker.process.stderr.read()
