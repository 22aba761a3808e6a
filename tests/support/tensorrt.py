"""Stand-ins for an NVIDIA driver and for TensorRT 10 and 11, as their documentation has them.

The Python part of the `tensorrt` wheel cannot be used as that of coremltools is (`support.mac`):
parser, builder, runtime and engine are one compiled module, around which Python only adds `nptype`,
`volume` and context managers. That the stand-in invents no name is checked against the installed
package of TensorRT for RTX in `tests/runners/tensorrt/test_names.py`.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable
from enum import IntEnum
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

INFERENCE_MS, COPY_MS = 1.25, 0.5
HEADER = 32
OUT_OF_MEMORY, ILLEGAL_ADDRESS, UNSUPPORTED_CAPTURE = 2, 700, 900
NAMES = {
    OUT_OF_MEMORY: b"CUDA_ERROR_OUT_OF_MEMORY",
    ILLEGAL_ADDRESS: b"CUDA_ERROR_ILLEGAL_ADDRESS",
    UNSUPPORTED_CAPTURE: b"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
}


class Driver:
    """libcuda, as far as it is called: memory is a dictionary, time advances by what is done."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fail: dict[str, int] = {}
        """Function -> the code that it answers with."""
        self.memory: dict[int, np.ndarray] = {}
        self.pinned: dict[int, Any] = {}
        self.events: dict[int, float] = {}
        self.graphs: dict[int, list[Any]] = {}
        self.live: set[str] = set()
        self.now_ms = 0.0
        self.capturing: list[Any] | None = None
        self._handle = 0x7F00_0000_0000  # addresses above 4 GiB find truncated integers

    def __getattr__(self, name: str) -> Any:
        if not name.startswith(("cu", "_cu")):
            raise AttributeError(name)
        work = getattr(type(self), f"do_{name}", lambda *_: None)

        def function(*arguments: Any) -> int:
            self.calls.append(name)
            assert not any(type(argument) in (int, float) for argument in arguments), (
                f"{name}: a Python number would be passed as a 32-bit integer"
            )
            if name in self.fail:
                return self.fail[name]
            return work(self, *arguments) or 0

        return function

    def new(self, kind: str) -> int:
        self._handle += 0x1000
        self.live.add(f"{kind}:{self._handle}")
        return self._handle

    def gone(self, kind: str, handle: Any) -> None:
        self.live.remove(f"{kind}:{handle.value}")

    def do(self, work: Any) -> None:
        """On the stream: now, or when the graph is launched."""
        if self.capturing is None:
            work()
        else:
            self.capturing.append(work)

    def do_cuDeviceGetName(self, name: Any, size: Any, device: Any) -> None:
        name.value = b"NVIDIA Stand-in 4090"

    def do_cuDeviceGetPCIBusId(self, bus: Any, size: Any, device: Any) -> None:
        bus.value = b"0000:65:00.0"

    def do_cuDriverGetVersion(self, version: Any) -> None:
        version._obj.value = 13010

    def do_cuDeviceGetAttribute(self, value: Any, attribute: Any, device: Any) -> None:
        value._obj.value = {75: 8, 76: 9}[attribute.value]

    def do_cuGetErrorName(self, code: Any, name: Any) -> None:
        name._obj.value = NAMES.get(code.value, b"CUDA_ERROR_UNKNOWN")

    def do_cuStreamCreate(self, stream: Any, flags: Any) -> None:
        stream._obj.value = self.new("stream")

    def do_cuStreamDestroy_v2(self, stream: Any) -> None:
        self.gone("stream", stream)

    def do_cuMemAlloc_v2(self, pointer: Any, size: Any) -> None:
        pointer._obj.value = self.new("memory")
        self.memory[pointer._obj.value] = np.zeros(size.value, np.uint8)

    def do_cuMemFree_v2(self, pointer: Any) -> None:
        self.gone("memory", pointer)

    def do_cuMemHostAlloc(self, pointer: Any, size: Any, flags: Any) -> None:
        raw = ctypes.create_string_buffer(size.value)
        pointer._obj.value = ctypes.addressof(raw)
        self.pinned[ctypes.addressof(raw)] = raw
        self.live.add(f"pinned:{ctypes.addressof(raw)}")

    def do_cuMemFreeHost(self, pointer: Any) -> None:
        self.gone("pinned", pointer)

    def do_cuMemcpyHtoDAsync_v2(self, target: Any, source: Any, size: Any, stream: Any) -> None:
        def work() -> None:
            ctypes.memmove(self.memory[target.value].ctypes.data, source.value, size.value)
            self.now_ms += COPY_MS

        self.do(work)

    def do_cuMemcpyDtoHAsync_v2(self, target: Any, source: Any, size: Any, stream: Any) -> None:
        def work() -> None:
            ctypes.memmove(target.value, self.memory[source.value].ctypes.data, size.value)
            self.now_ms += COPY_MS

        self.do(work)

    def do_cuMemcpyHtoD_v2(self, target: Any, source: Any, size: Any) -> None:
        ctypes.memmove(self.memory[target.value].ctypes.data, source.value, size.value)

    def do_cuMemcpyDtoH_v2(self, target: Any, source: Any, size: Any) -> None:
        ctypes.memmove(target.value, self.memory[source.value].ctypes.data, size.value)

    def do_cuEventCreate(self, event: Any, flags: Any) -> None:
        event._obj.value = self.new("event")

    def do_cuEventDestroy_v2(self, event: Any) -> None:
        self.gone("event", event)

    def do_cuEventRecord(self, event: Any, stream: Any) -> None:
        self.events[event.value] = self.now_ms

    def do_cuEventElapsedTime(self, elapsed: Any, start: Any, end: Any) -> None:
        elapsed._obj.value = self.events[end.value] - self.events[start.value]

    def do_cuStreamBeginCapture_v2(self, stream: Any, mode: Any) -> None:
        self.capturing = []

    def do_cuStreamEndCapture(self, stream: Any, graph: Any) -> None:
        graph._obj.value = self.new("graph")
        self.graphs[graph._obj.value], self.capturing = self.capturing or [], None

    def do_cuGraphDestroy(self, graph: Any) -> None:
        self.gone("graph", graph)

    def do_cuGraphInstantiateWithFlags(self, ready: Any, graph: Any, flags: Any) -> None:
        ready._obj.value = self.new("exec")
        self.graphs[ready._obj.value] = self.graphs[graph.value]

    def do_cuGraphExecDestroy(self, ready: Any) -> None:
        self.gone("exec", ready)

    def do_cuGraphLaunch(self, ready: Any, stream: Any) -> None:
        for work in self.graphs[ready.value]:
            work()


class Severity(IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3


class DataType(IntEnum):
    FLOAT = 0
    HALF = 1
    BF16 = 7


FORMATS = {
    "Float": "Row major linear FP32 format",
    "Half": "Channel major FP16 format where channel % 4 == 0",
    "BFloat16": "Row major linear BFloat16 format",
    "Int8": "Thirty-two wide channel vectorized row major Int8 format",
    "UInt8": "Row major linear UInt8 format",
    "FP8": "Row major linear FP8 format",
    "Int4": "Row major linear INT4 format",
}
"""Type -> with its format, as the inspector of version 10 has it in one."""


NUMPY = {DataType.FLOAT: np.float32, DataType.HALF: np.float16}


def engine_bytes(
    inputs: dict[str, Any],
    outputs: dict[str, Any],
    version: str = "10.13.3.9",
    size: int = 4096,
    *,
    profiling: str = "DETAILED",
    host_code: bool = False,
) -> bytes:
    """A file that the stand-in opens: name -> (shape, type)."""
    numbers = bytes(int(part) for part in version.split("."))
    told = {"inputs": inputs, "outputs": outputs, "profiling": profiling, "host_code": host_code}
    body = json.dumps(told).encode()
    header = b"ftrt" + bytes(20) + numbers + bytes(4)
    return (header + body).ljust(size, b" ")


class TensorRt(ModuleType):
    """The module; ``happening`` is what was called, in order."""

    def __init__(self, version: str, driver: Driver) -> None:
        super().__init__("tensorrt")
        self.__spec__ = ModuleSpec("tensorrt", None)
        self.__version__ = version
        self.happening: list[str] = []
        self.driver = driver
        self.alive = 0
        """Engines and contexts that are not yet gone."""
        self.say: str | None = None
        """An error that the next call logs, and fails with."""
        self.built_bytes = 4096
        ten = version.startswith("10")
        self.ten = ten
        self.layers: list[dict[str, Any]] = [self.layer("conv"), self.layer("linear")]
        self.BuilderFlag = IntEnum(
            "BuilderFlag",
            {**({"FP16": 0, "INT8": 1} if ten else {}), "TF32": 7, "VERSION_COMPATIBLE": 10},
        )
        self.NetworkDefinitionCreationFlag = IntEnum(
            "NetworkDefinitionCreationFlag",
            {**({"EXPLICIT_BATCH": 0} if ten else {}), "STRONGLY_TYPED": 1 if ten else 0},
        )
        self.ProfilingVerbosity = IntEnum(
            "ProfilingVerbosity", {"LAYER_NAMES_ONLY": 0, "NONE": 1, "DETAILED": 2}
        )
        self.HardwareCompatibilityLevel = IntEnum(
            "HardwareCompatibilityLevel",
            {"NONE": 0, "AMPERE_PLUS": 1, **({} if ten else {"SAME_COMPUTE_CAPABILITY": 2})},
        )
        self.MemoryPoolType = IntEnum("MemoryPoolType", {"WORKSPACE": 0})
        self.TensorIOMode = IntEnum("TensorIOMode", {"NONE": 0, "INPUT": 1, "OUTPUT": 2})
        self.LayerInformationFormat = IntEnum("LayerInformationFormat", {"ONELINE": 0, "JSON": 1})
        trt = self

        class ILogger:
            Severity = globals()["Severity"]

            def __init__(self) -> None: ...

        class IProfiler:
            def __init__(self) -> None: ...

        class Config:
            def __init__(self) -> None:
                self.flags = {trt.BuilderFlag.TF32}
                self.builder_optimization_level = 3
                self.workspace = 16 << 30
                trt.config = self

            def set_flag(self, flag: Any) -> None:
                self.flags.add(flag)

            def clear_flag(self, flag: Any) -> None:
                self.flags.discard(flag)

            def set_memory_pool_limit(self, pool: Any, size: int) -> None:
                self.workspace = size

            def get_memory_pool_limit(self, pool: Any) -> int:
                return self.workspace

            def create_timing_cache(self, content: bytes) -> Any:
                return SimpleNamespace(content=content, serialize=lambda: content + b"+timed")

            def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
                self.cache = cache
                return not ignore_mismatch and b"other GPU" not in cache.content

            def get_timing_cache(self) -> Any:
                return self.cache

        class Builder:
            def __init__(self, logger: Any) -> None:
                self.logger = logger

            def create_network(self, flags: int = 0) -> Any:
                trt.network = SimpleNamespace(flags=flags, name="Unnamed Network 7", num_layers=5)
                return trt.network

            def create_builder_config(self) -> Any:
                return Config()

            def build_serialized_network(self, network: Any, config: Any) -> Any:
                if trt.say:
                    self.logger.log(Severity.ERROR, trt.say)
                    return None
                assert network.name != "Unnamed Network 7"
                # The order of the ONNX file is not kept (NVIDIA/TensorRT#1042).
                return engine_bytes(
                    dict(reversed(network.inputs.items())),
                    dict(reversed(network.outputs.items())),
                    trt.__version__,
                    trt.built_bytes,
                    profiling=config.profiling_verbosity.name,
                    host_code=trt.BuilderFlag.VERSION_COMPATIBLE in config.flags,
                )

        class OnnxParser:
            def __init__(self, network: Any, logger: Any) -> None:
                self.network = network
                self.num_errors = 0

            def parse_from_file(self, path: str) -> bool:
                import onnx

                trt.happening.append("parse")
                graph = onnx.load(path).graph

                def told(values: Any) -> dict[str, Any]:
                    return {
                        value.name: (
                            [dim.dim_value for dim in value.type.tensor_type.shape.dim],
                            int(value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16),
                        )
                        for value in values
                    }

                self.network.inputs, self.network.outputs = told(graph.input), told(graph.output)
                return True

        class Context:
            def __init__(self, engine: Any) -> None:
                self.engine = engine
                self.addresses: dict[str, int] = {}
                self.profiler: Any = None
                self.enqueue_emits_profile = True
                trt.alive += 1

            def __del__(self) -> None:
                trt.alive -= 1

            def set_tensor_address(self, name: str, address: int) -> bool:
                self.addresses[name] = address
                return True

            def execute_async_v3(self, stream: int) -> bool:
                assert stream in {
                    int(live.partition(":")[2]) for live in trt.driver.live if "stream" in live
                }
                if trt.say:
                    self.engine.logger.log(Severity.ERROR, trt.say)
                    return False
                trt.driver.calls.append("execute_async_v3")
                trt.driver.do(self._infer)
                return True

            def execute_v2(self, bindings: list[int]) -> bool:
                self.addresses = dict(zip(self.engine.names(), bindings, strict=True))
                self._infer()
                return True

            def report_to_profiler(self) -> None:
                for name, ms in (("conv", 1.0), ("linear", 0.25)):
                    self.profiler.report_layer_time(name, ms)

            def _infer(self) -> None:
                """By name: the mean of the first input and ten times that of the second, ...; of
                the second output one more than of the first, ..."""
                trt.driver.now_ms += INFERENCE_MS
                told = self.engine.told

                def tensor(name: str, kind: int) -> Any:
                    return trt.driver.memory[self.addresses[name]].view(NUMPY[DataType(kind)])

                value = sum(
                    tensor(name, kind).mean() * 10**i
                    for i, (name, (_, kind)) in enumerate(sorted(told["inputs"].items()))
                )
                for i, (name, (_, kind)) in enumerate(sorted(told["outputs"].items())):
                    tensor(name, kind)[:] = value + i

        class Engine:
            def __init__(self, told: Any, logger: Any) -> None:
                self.told, self.logger = told, logger
                self.num_io_tensors = len(told["inputs"]) + len(told["outputs"])
                self.num_layers = 2
                self.device_memory_size_v2 = 1 << 20
                trt.alive += 1

            def __del__(self) -> None:
                trt.alive -= 1

            def names(self) -> list[str]:
                return [*self.told["outputs"], *self.told["inputs"]]

            def get_tensor_name(self, index: int) -> str:
                return self.names()[index]

            def get_tensor_shape(self, name: str) -> Any:
                return {**self.told["inputs"], **self.told["outputs"]}[name][0]

            def get_tensor_dtype(self, name: str) -> DataType:
                return DataType({**self.told["inputs"], **self.told["outputs"]}[name][1])

            def get_tensor_mode(self, name: str) -> Any:
                return trt.TensorIOMode.INPUT if name in self.told["inputs"] else 2

            def create_execution_context(self) -> Any:
                if trt.say:
                    self.logger.log(Severity.ERROR, trt.say)
                    return None
                return Context(self)

            def create_engine_inspector(self) -> Any:
                layers: list[Any] = {
                    "DETAILED": trt.layers,
                    "LAYER_NAMES_ONLY": [layer["Name"] for layer in trt.layers],
                    "NONE": [],
                }[self.told["profiling"]]
                return SimpleNamespace(
                    get_engine_information=lambda format: json.dumps({"Layers": layers})
                )

        class Runtime:
            def __init__(self, logger: Any) -> None:
                trt.happening.append("Runtime")
                self.logger = logger
                self.engine_host_code_allowed = False
                trt.runtime = self

            def deserialize_cuda_engine(self, content: bytes) -> Any:
                version = ".".join(map(str, content[24:28]))
                wrong = None
                if not content.startswith(b"ftrt"):
                    wrong = "Serialization assertion plan->header.magicTag == rt::kPLAN_MAGIC_TAG failed."
                elif version != trt.__version__:
                    wrong = (
                        "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization "
                        "assertion stdVersionRead == kSERIALIZATION_VERSION failed.Version tag does "
                        "not match. Note: Current Version: 237, Serialized Engine Version: 239)"
                    )
                told = {} if wrong else json.loads(content[HEADER:])
                if told.get("host_code") and not self.engine_host_code_allowed:
                    wrong = "Version-compatible engine with host code, which is not allowed"
                if wrong:
                    self.logger.log(Severity.ERROR, wrong)
                    return None
                return Engine(told, self.logger)

        def nptype(kind: Any) -> Any:
            if kind not in NUMPY:
                raise TypeError(
                    "Could not resolve TensorRT datatype to an equivalent numpy datatype."
                )
            return NUMPY[kind]

        self.ILogger, self.IProfiler = ILogger, IProfiler
        self.Builder, self.OnnxParser, self.Runtime = Builder, OnnxParser, Runtime
        self.nptype = nptype
        self.init_libnvinfer_plugins = lambda logger, namespace: trt.happening.append("plugins")

    def layer(self, name: str, kind: str = "Float", **more: str) -> dict[str, Any]:
        """As the inspector tells of it, its tensors of one type."""
        joint = {"Format/Datatype": FORMATS[kind]}
        split = {"DataType": kind, "Format": f"{FORMATS[kind]} (kLINEAR)"}
        tensor = {"Name": "a", **(joint if self.ten else split)}
        return {
            "Name": name,
            "LayerType": "CaskConvolution",
            "Inputs": [tensor],
            "Outputs": [tensor],
            **more,
        }


@pytest.fixture
def driver() -> Driver:
    return Driver()


@pytest.fixture(params=["10.13.3.9", "11.4.0.106"])
def trt(
    request: pytest.FixtureRequest, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> TensorRt:
    """Each of both versions, installed, on a machine with a GPU."""
    from latbench_exporters.tensorrt import engine as exporter_engine
    from latbench_exporters.tensorrt import gpu as exporter_gpu
    from latbench_runners.tensorrt import cuda as runner_gpu

    runners = import_module("latbench_runners.tensorrt.runner")
    exporters = import_module("latbench_exporters.tensorrt.exporter")
    module = TensorRt(request.param, driver)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setattr(runners, "load_driver", lambda: driver)
    monkeypatch.setattr(runners, "ask_gpu", lambda: (runner_gpu.read_facts(driver), ""))
    monkeypatch.setattr(exporter_engine, "load_driver", lambda: driver)
    monkeypatch.setattr(exporters, "find_gpu", lambda: exporter_gpu.describe(driver))
    return module


@pytest.fixture
def make_engine(trt: TensorRt, tmp_path: Path) -> Callable[..., Path]:
    """Writes one of the version that is installed: by default input 1x3x4x4, output 1x10."""

    def make(
        inputs: dict[str, Any] | None = None, outputs: dict[str, Any] | None = None, **more: Any
    ) -> Path:
        path = tmp_path / "model.engine"
        tensors = (inputs or {"image": ([1, 3, 4, 4], 0)}, outputs or {"scores": ([1, 10], 0)})
        path.write_bytes(engine_bytes(*tensors, trt.__version__, **more))
        return path

    return make


@pytest.fixture
def engine_file(make_engine: Callable[..., Path]) -> Path:
    return make_engine()
