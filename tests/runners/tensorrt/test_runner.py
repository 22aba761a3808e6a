"""The runner on stand-ins of the driver and of TensorRT 10 and 11."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from latbench.api import (
    Artifact,
    Capability,
    ProfiledSession,
    RunOptions,
    SelfTimedSession,
    StageError,
    TensorSpec,
    UsageError,
)
from latbench_runners.tensorrt import cuda, nvml, rtx_runner, runner
from latbench_runners.tensorrt import session as sessions

runners = import_module("latbench_runners.tensorrt.runner")
"""The module: its package offers the factory by that name."""

IMAGE = np.arange(48, dtype=np.float32).reshape(1, 3, 4, 4)
INFERENCE_NS, COPY_NS = 1_250_000, 500_000


def artifact(precision: str = "fp32", **details: str) -> Artifact:
    return Artifact(
        sha256="0",
        size_bytes=1,
        format="tensorrt",
        precision=precision,
        inputs=(TensorSpec(name="image", shape=(1, 3, 4, 4), dtype="float32"),),
        outputs=(TensorSpec(name="scores", shape=(1, 10), dtype="float32"),),
        counts=None,
        model_counts=None,
        trained_parameters=None,
        parity=None,
        details=details,
        toolchain={},
    )


@contextmanager
def session(path: Path, of: Artifact | None = None, **extra: str) -> Iterator[Any]:
    options = RunOptions(threads=1, extra=extra)
    with runner().open(of or artifact(), path, [IMAGE], options) as opened:
        yield opened


def test_outputs_are_those_of_the_inputs(trt: Any, engine_file: Path) -> None:
    with session(engine_file) as opened:
        opened.run()
        (scores,) = opened.outputs()
        np.testing.assert_allclose(scores, np.full((1, 10), IMAGE.mean()))
        assert scores.dtype == np.float32
    assert scores[0, 0] == IMAGE.mean(), "they outlive the session's memory"


def test_samples_are_device_time_and_the_hosts_is_kept_beside(
    trt: Any, driver: Any, engine_file: Path
) -> None:
    with session(engine_file) as opened:
        assert isinstance(opened, SelfTimedSession)
        assert list(opened.time_block(3)) == [INFERENCE_NS] * 3
        assert list(opened.time_block(2)) == [INFERENCE_NS] * 2
        beside = opened.beside_ns()
        assert set(beside) == {"call"}
        assert len(beside["call"]) == 2
        assert all(type(ns) is int and ns > 0 for ns in beside["call"])
        assert opened.settings()["clock"] == "device"


def test_a_call_is_what_is_timed_and_nothing_else(trt: Any, driver: Any, engine_file: Path) -> None:
    with session(engine_file) as opened:
        opened.time_block(2)
        driver.calls.clear()
        opened.time_block(2)
        once = ["cuEventRecord", "execute_async_v3", "cuEventRecord", "cuStreamSynchronize"]
        assert driver.calls == [*once, *once, "cuEventElapsedTime", "cuEventElapsedTime"]


def test_transfers_are_made_and_timed_apart(trt: Any, driver: Any, engine_file: Path) -> None:
    with session(engine_file, transfers="on") as opened:
        assert list(opened.time_block(2)) == [INFERENCE_NS] * 2
        assert list(opened.beside_ns()["transfers"]) == [2 * COPY_NS] * 2
        driver.calls.clear()
        opened.time_block(1)
        assert driver.calls[:7] == [
            *("cuEventRecord", "cuMemcpyHtoDAsync_v2", "cuEventRecord", "execute_async_v3"),
            *("cuEventRecord", "cuMemcpyDtoHAsync_v2", "cuEventRecord"),
        ]


def test_the_hosts_clock_can_be_the_one(trt: Any, engine_file: Path) -> None:
    with session(engine_file, clock="host", transfers="on") as opened:
        samples = opened.time_block(3)
        assert len(samples) == 3
        assert set(opened.beside_ns()) == {"device", "transfers"}
        assert list(opened.beside_ns()["device"]) == [INFERENCE_NS] * 3
        assert list(samples) != [INFERENCE_NS] * 3


def test_loading_runs_nothing_and_asks_no_clock(
    trt: Any, driver: Any, engine_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        sessions, "read_clocks", lambda nvml, bus: asked.append(bus) or {"sm_clock": "1"}
    )
    with session(engine_file) as opened:
        assert "execute_async_v3" not in driver.calls
        assert asked == []
        assert opened.settings()["sm_clock"] == "1"
        opened.settings()
        assert len(asked) == 1


def test_a_graph_is_captured_once_and_launched(trt: Any, driver: Any, engine_file: Path) -> None:
    with session(engine_file, cuda_graph="on") as opened:
        assert list(opened.time_block(1)) == [INFERENCE_NS]
        assert "cuGraphLaunch" not in driver.calls, "the first inference loads kernels"
        driver.calls.clear()
        opened.run()
        assert driver.calls.index("cuStreamBeginCapture_v2") < driver.calls.index("cuGraphLaunch")
        driver.calls.clear()
        assert list(opened.time_block(2)) == [INFERENCE_NS] * 2
        assert driver.calls.count("cuGraphLaunch") == 2
        assert "execute_async_v3" not in driver.calls
        opened.run()
        np.testing.assert_allclose(opened.outputs()[0], IMAGE.mean())
    assert not driver.live


def test_what_cannot_be_captured_says_so(trt: Any, driver: Any, engine_file: Path) -> None:
    driver.fail["cuStreamEndCapture"] = 900
    with session(engine_file, cuda_graph="on") as opened:
        opened.run()
        with pytest.raises(StageError) as caught:
            opened.run()
    assert caught.value.stage == "time"
    assert "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED" in caught.value.message
    assert "cuda_graph" in (caught.value.hint or "")
    assert not driver.live


def test_all_is_given_back_and_the_engine_goes_first(
    trt: Any, driver: Any, engine_file: Path
) -> None:
    with session(engine_file, transfers="on") as opened:
        opened.time_block(5)
        assert trt.alive == 2
    assert trt.alive == 0, "though the session is still held"
    assert not driver.live


@pytest.mark.parametrize(
    "function", ["cuMemAlloc_v2", "cuMemHostAlloc", "cuMemcpyHtoDAsync_v2", "cuStreamSynchronize"]
)
def test_all_is_given_back_after_an_error(
    trt: Any, driver: Any, engine_file: Path, function: str
) -> None:
    driver.fail[function] = 2
    with pytest.raises(StageError) as caught, session(engine_file):
        pass
    assert caught.value.stage == "open"
    assert caught.value.kind == "out_of_memory"
    assert f"CUDA_ERROR_OUT_OF_MEMORY from {function}" in caught.value.message
    assert not driver.live


def test_a_fault_of_the_gpu_is_of_the_stage_where_it_came(
    trt: Any, driver: Any, engine_file: Path
) -> None:
    with session(engine_file) as opened:
        driver.fail["cuStreamSynchronize"] = 700
        with pytest.raises(StageError) as timing:
            opened.time_block(1)
        with pytest.raises(StageError) as reading:
            opened.outputs()
        with pytest.raises(StageError) as again:
            opened.run()
    assert timing.value.stage == again.value.stage == "time"
    assert reading.value.stage == "outputs"
    assert "CUDA_ERROR_ILLEGAL_ADDRESS" in timing.value.message
    assert not driver.live


def test_an_inference_that_does_not_start_is_told(trt: Any, engine_file: Path) -> None:
    with session(engine_file) as opened:
        trt.say = "IExecutionContext::enqueueV3: Error Code 7: out of tricks\nsecond line"
        with pytest.raises(StageError) as caught:
            opened.run()
        assert caught.value.stage == "time"
        assert caught.value.message.endswith("out of tricks")


def test_an_engine_of_another_version(trt: Any, driver: Any, engine_file: Path) -> None:
    content = engine_file.read_bytes()
    engine_file.write_bytes(content[:24] + bytes([8, 6, 1, 6]) + content[28:])
    with pytest.raises(StageError) as caught, session(engine_file):
        pass
    assert "built by another version (8.6.1.6" in caught.value.message
    assert trt.__version__ in caught.value.message
    assert "--no-cache" in (caught.value.hint or "")
    assert not driver.live


@pytest.mark.parametrize(
    ("said", "means"),
    [
        (
            "IRuntime::deserializeCudaEngine: Error Code 6: API Usage Error (The engine plan file is "
            "generated on an incompatible device, expecting compute 8.9 got compute 8.6, please "
            "rebuild.)",
            "another kind of GPU",
        ),
        (
            "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion "
            "plan.header.size == blobSize failed. In parsePlan at runtime.cpp:780)",
            "truncated",
        ),
        (
            "Error Code 1: Cuda Runtime (cudaError 35: CUDA driver version is insufficient for CUDA "
            "runtime version)",
            "driver is older",
        ),
        ("something new", "something new"),
    ],
)
def test_reasons_stand_in_the_log(
    trt: Any, engine_file: Path, monkeypatch: pytest.MonkeyPatch, said: str, means: str
) -> None:
    def refuse(self: Any, content: bytes) -> None:
        self.logger.log(trt.ILogger.Severity.INFO, "Loaded engine size: 0 MiB")
        self.logger.log(trt.ILogger.Severity.ERROR, said)

    monkeypatch.setattr(trt.Runtime, "deserialize_cuda_engine", refuse)
    with pytest.raises(StageError) as caught, session(engine_file):
        pass
    assert means in caught.value.message
    assert caught.value.hint
    assert caught.value.detail == said


def test_no_memory_for_a_context(trt: Any, engine_file: Path) -> None:
    trt.say = "IExecutionContext: Error Code 2: OutOfMemory (Requested size was 99 bytes.)"
    with pytest.raises(StageError) as caught, session(engine_file):
        pass
    assert caught.value.kind == "out_of_memory"
    assert caught.value.stage == "open"


def test_an_engine_that_is_not_the_artifact(trt: Any, engine_file: Path) -> None:
    other = msgspec.structs.replace(
        artifact(), inputs=(TensorSpec(name="image", shape=(2, 3, 4, 4), dtype="float32"),)
    )
    with pytest.raises(StageError, match="image"), session(engine_file, other):
        pass
    more = msgspec.structs.replace(
        artifact(), outputs=(TensorSpec(name="other", shape=(1, 10), dtype="float32"),)
    )
    with pytest.raises(StageError, match="scores"), session(engine_file, more):
        pass


@pytest.mark.parametrize("extra", [{"clock": "sun"}, {"transfers": "yes"}, {"cuda_graph": "1"}])
def test_unknown_values_are_told(trt: Any, engine_file: Path, extra: dict[str, str]) -> None:
    (name,) = extra
    with pytest.raises(UsageError, match=name) as caught, session(engine_file, **extra):
        pass
    assert caught.value.hint


def test_settings_are_as_they_are(trt: Any, engine_file: Path) -> None:
    with session(engine_file) as opened:
        settings = opened.settings()
        assert settings["threads"] == "unknown"
        assert settings["gpu"] == "NVIDIA Stand-in 4090"
        assert settings["compute_capability"] == "8.9"
        assert settings["cuda"] == "13.1"
        assert settings["tensorrt"] == trt.__version__
        assert settings["engine_memory_bytes"] == str(1 << 20)
        assert "precision" not in settings
        assert all(isinstance(value, str) for value in settings.values())
        placement = opened.placement()
        assert placement.units == {"NVIDIA Stand-in 4090": 2}
        assert placement.known == "proven"


def test_tf32_is_another_precision_of_fp32_alone(trt: Any, engine_file: Path) -> None:
    with session(engine_file, artifact(tf32="on")) as opened:
        assert opened.settings()["precision"] == "tf32"
    with session(engine_file, artifact("fp16", tf32="on")) as opened:
        assert "precision" not in opened.settings()


def test_host_code_is_run_from_own_engines_alone(make_engine: Callable[..., Path]) -> None:
    engine_file = make_engine(host_code=True)
    with session(engine_file, artifact(version_compatible="yes")) as opened:
        opened.run()
    with pytest.raises(StageError, match="contains host code"), session(engine_file):
        pass


def test_a_profile_has_times_and_precisions(trt: Any, engine_file: Path) -> None:
    trt.layers = [trt.layer("conv", "Half"), trt.layer("linear", LayerType="gemm")]
    with session(engine_file) as opened:
        assert isinstance(opened, ProfiledSession)
        profile = opened.profile(4)
        assert profile is not None
        assert profile.calls == 4
        assert profile.total_ns == INFERENCE_NS
        assert [(op.name, op.kind, op.time_ns, op.precision) for op in profile.operators] == [
            ("conv", "CaskConvolution", 1_000_000, "fp16"),
            ("linear", "gemm", 250_000, "fp32"),
        ]
        assert {op.unit for op in profile.operators} == {"NVIDIA Stand-in 4090"}


@pytest.mark.parametrize(
    ("kind", "precision"),
    [("BFloat16", "bf16"), ("FP8", "fp8"), ("Int4", "int4"), ("Int8", "int8"), ("UInt8", None)],
)
def test_a_profile_has_every_precision(
    trt: Any, engine_file: Path, kind: str, precision: str | None
) -> None:
    trt.layers = [trt.layer("conv", kind), trt.layer("linear")]
    with session(engine_file) as opened:
        profile = opened.profile(1)
        assert profile is not None
        assert profile.operators[0].precision == precision


def test_a_profile_of_names_alone(make_engine: Callable[..., Path]) -> None:
    with session(make_engine(profiling="LAYER_NAMES_ONLY")) as opened:
        profile = opened.profile(1)
        assert profile is not None
        assert [op.precision for op in profile.operators] == [None, None]


def test_the_driver_is_woken_before_tensorrt(trt: Any, driver: Any) -> None:
    runner().prepare()
    assert driver.calls[0] == "cuInit"
    assert "cuCtxSetCurrent" in driver.calls


def test_without_a_driver_nothing_of_tensorrt_is_made(
    trt: Any, engine_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(runners, "load_driver", none)
    for action in (runner().prepare, lambda: session(engine_file).__enter__()):
        with pytest.raises(StageError, match="no NVIDIA driver") as caught:
            action()
        assert caught.value.kind == "unavailable"
    assert trt.happening == []


def test_probe_with_all_that_it_needs(trt: Any) -> None:
    capability = runner().probe()
    assert capability.available
    assert capability.units == ("NVIDIA Stand-in 4090",)


def test_probe_without_the_package(trt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    capability = runner().probe()
    assert capability == Capability(
        available=False,
        reason="tensorrt is not installed",
        hint="pip install 'latbench[tensorrt]'",
    )


def test_probe_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "ask_gpu", lambda: (None, "no NVIDIA driver"))
    for made, extra in ((runner(), "latbench[tensorrt]"), (rtx_runner(), "latbench[tensorrt-rtx]")):
        capability = made.probe()
        assert not capability.available
        assert "no NVIDIA driver" in (capability.reason or "")
        assert extra in (capability.hint or "")


def test_a_driver_that_fails_or_hangs_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "load_driver", lambda: None)
    monkeypatch.setattr(cuda, "LIBRARY", "libc.so.6")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    gpu, why = cuda.ask_gpu()
    assert gpu is None
    assert "reports no GPU" in why
    monkeypatch.setattr(cuda, "PROBE_S", 0.0)
    assert cuda.ask_gpu() == (None, "the NVIDIA driver does not respond")


@pytest.mark.parametrize("answer", ["[]", "{}", '{"name": "x"}', "nothing"])
def test_an_answer_that_is_not_understood_is_no_gpu(
    monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    done = subprocess.CompletedProcess([], 0, stdout=answer, stderr="")
    monkeypatch.setattr(cuda, "load_driver", lambda: None)
    monkeypatch.setattr(cuda.subprocess, "run", lambda *_, **__: done)
    gpu, why = cuda.ask_gpu()
    assert gpu is None
    assert "is invalid" in why


def test_the_working_directory_tells_of_no_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = '{"name": "x", "compute_capability": "8.9", "cuda": "13.1", "bus": "0"}'
    (tmp_path / "ctypes.py").write_text(f"import os; print({told!r}, flush=True); os._exit(0)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cuda, "load_driver", lambda: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert cuda.ask_gpu()[0] is None


def test_clocks_where_the_library_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nvml:
        def __getattr__(self, name: str) -> Any:
            def function(*arguments: Any) -> int:
                if name == "nvmlSystemGetDriverVersion":
                    arguments[0].value = b"580.95"
                elif name == "nvmlDeviceGetClockInfo":
                    arguments[2]._obj.value = {1: 2520, 2: 10501}[arguments[1].value]
                elif name == "nvmlDeviceGetMaxClockInfo":
                    arguments[2]._obj.value = 3105
                elif name == "nvmlDeviceGetEnforcedPowerLimit":
                    return 3  # not supported
                return 0

            return function

    assert nvml.read_clocks(Nvml(), "0000:65:00.0") == {
        "nvidia_driver": "580.95",
        "sm_clock_at_open_mhz": "2520",
        "memory_clock_at_open_mhz": "10501",
        "sm_clock_max_mhz": "3105",
    }
    assert nvml.read_clocks(None, "0000:65:00.0") == {}
