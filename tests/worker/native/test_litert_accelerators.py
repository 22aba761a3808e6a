"""LiteRT's accelerators in the native worker, and the same on a GPU in software in both workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latbench.worker.native import LITERT, native_libraries
from latbench.worker.process import python_module
from support import tflite_files
from support.command_line import QUICK, Ended, in_subprocess
from support.environment import child_environment
from support.native_talk import Talk, given, open_fields, spec
from support.swiftshader import swiftshader

pytestmark = pytest.mark.slow  # The program is compiled first.


@pytest.fixture(scope="module")
def adder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("ai_edge_litert")
    return tflite_files.adder(tmp_path_factory.mktemp("tflite") / "a.tflite")


def fields(path: Path, **extra: str) -> dict[str, Any]:
    io = [spec("x", 1, 4)], [spec("y", 1, 4)]
    return {**open_fields(path, *io, format="tflite"), "backend": "tflite", "extra": extra}


def test_what_stands_in_the_way(native_program: Path, adder: Path, tmp_path: Path) -> None:
    """Only libraries beside LiteRT's count, and no operator is left to the CPU."""
    library = tmp_path / "libLiteRt.so"
    library.symlink_to(native_libraries()[LITERT])

    def answer(name: str, **extra: str) -> dict[str, Any]:
        with Talk([native_program], **{LITERT: str(library)}) as worker:
            return worker.ask("open", **fields(adder, accelerator=name, **extra))

    for name, files in (("gpu", "libLiteRt*Accelerator.so"), ("npu", "libLiteRtDispatch*.so")):
        failed = answer(name)
        assert (failed["type"], failed["kind"]) == ("failed", "unavailable")
        missing = f"accelerator for the {name.upper()} is not installed: {tmp_path}/ has no {files}"
        assert missing in failed["message"]
        assert "--library tflite=FILE" in failed["hint"]
    (tmp_path / "libLiteRtGpuAccelerator.so").write_text("not a library")
    failed = answer("gpu")
    assert failed["kind"] == "unavailable"
    assert f"from {tmp_path}/libLiteRtGpuAccelerator.so" in failed["message"]
    (tmp_path / "libLiteRtDispatch_Example.so").write_text("not a library")
    failed = answer("npu")
    assert failed["message"] == (
        "LiteRT cannot execute all operators of the file on the NPU (NpuAccelerator)"
    )
    assert "accelerator='npu|cpu' leaves those to the CPU" in failed["hint"]
    # Where nothing reports what the NPU takes, nothing is claimed about it.
    opened = answer("npu|cpu")
    placement = opened["placement"]
    assert (placement["units"], placement["known"]) == ({"NPU": None, "CPU": None}, "unknown")
    for name in ("tpu", "cpu|gpu", ""):
        refused = answer(name)
        assert (refused["type"], refused["hint"]) == (
            "refused",
            "one of: cpu, gpu, gpu|cpu, npu, npu|cpu",
        )
    assert answer("gpu", xnnpack="on")["message"] == "xnnpack is an option of accelerator=cpu"
    # The CPU needs none of them, and loads none: not even what the system would find.
    with Talk([native_program], LD_LIBRARY_PATH=str(Path(native_libraries()[LITERT]).parent)) as w:
        assert w.ask("open", **fields(adder))["placement"]["units"] == {"XNNPACK": 1}
        mapped = Path(f"/proc/{w.hello['pid']}/maps").read_text()
    assert "libLiteRt.so" in mapped
    assert "Accelerator" not in mapped
    opened = answer("cpu", xnnpack="off")
    assert "accelerator" not in opened["settings"]
    assert opened["placement"]["units"] == {"TFLite kernels": 1}


def test_a_gpu_in_software(native_program: Path, adder: Path, tmp_path: Path) -> None:
    gpu = swiftshader()

    def latbench(*arguments: str, **variables: str) -> Ended:
        chosen = child_environment(LATBENCH_REGISTRY=str(tmp_path / "r.db"), **variables)
        asked = ("--backend", "tflite", *QUICK, "--option", "accelerator=gpu")
        return in_subprocess(["run", str(adder), *asked, *arguments], chosen, tmp_path)

    commands: list[Any] = [[native_program], python_module("latbench.worker.inference").command]
    for command in commands:
        with Talk(command, **gpu) as worker:
            opened = worker.ask("open", **fields(adder, accelerator="gpu"))
            if "cannot prepare" in opened.get("message", ""):
                pytest.skip(f"SwiftShader does not work here: {opened['message']}")
            assert opened["type"] == "opened", opened
            assert len(worker.ask("time", calls=3)["sample_ns"]) == 3
            (found,) = given(worker.ask("outputs"))
        with Talk(command) as worker:
            assert worker.ask("open", **fields(adder))["type"] == "opened"
            worker.ask("time", calls=1)
            (expected,) = given(worker.ask("outputs"))
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        settings = opened["settings"]
        assert (settings["accelerator"], settings["gpu_precision"]) == ("gpu", "fp32")
        assert "xnnpack" not in settings
        assert settings.get("accelerator_name", "GPU WebGPU") == "GPU WebGPU"
        placement = opened["placement"]
        assert (placement["units"], placement["known"]) == ({"GPU": 1}, "planned")
        libraries = settings["accelerator_libraries"]
        assert "libLiteRtWebGpuAccelerator.so sha256:" in libraries
        assert "libLiteRt.so" not in libraries
    divided(commands, gpu, tmp_path)
    done = latbench("--require", "gpu", "--json", **gpu)
    assert done.status == 0, done.err
    (check, *_) = done.json["record"]["outcome"]["checks"]
    assert check["max_rel_error"] < 1e-4
    done = latbench("--require", "cpu", **gpu)
    assert done.status == 3
    assert "cpu is required, and 1 operator runs on GPU" in done.out
    # Without a driver there is a failure, and not a run on the CPU.
    done = latbench(VK_ICD_FILENAMES="/nonexistent", LD_LIBRARY_PATH="")
    assert done.status == 3
    assert "LiteRT cannot prepare the file for the GPU" in done.out


def divided(commands: list[Any], gpu: dict[str, str], folder: Path) -> None:
    """A file with an operator that only the CPU has: what is planned is stated, and no more."""
    path = tflite_files.adder(folder / "d.tflite", "Add", "ZerosLike", "Add")
    whole = tflite_files.adder(folder / "w.tflite")
    for command in commands:
        with Talk(command, **gpu) as worker:
            failed = worker.ask("open", **fields(path, accelerator="gpu"))
            assert "cannot execute all operators of the file on the GPU" in failed["message"]
            opened = worker.ask("open", **fields(path, accelerator="gpu|cpu"))
            placement = opened["placement"]
            assert (placement["units"], placement["known"]) == ({"GPU": 1, "CPU": 2}, "planned")
            assert placement["note"].endswith("; ZEROS_LIKE: Operation is not supported.")
            worker.ask("time", calls=1)
            (found,) = given(worker.ask("outputs"))
            np.testing.assert_array_equal(found, np.arange(4, dtype=np.float32).reshape(1, 4))
            # The Python interface does not say whether what is delegated is all on the GPU.
            placement = worker.ask("open", **fields(whole, accelerator="gpu|cpu"))["placement"]
            native = command == commands[0]
            assert placement["known"] == ("planned" if native else "unknown")
            assert placement["units"] == ({"GPU": 1} if native else {"GPU": None, "CPU": None})
