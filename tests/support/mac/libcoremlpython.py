"""What ``coremltools.libcoremlpython`` offers, with the names, arguments and errors of its published
source (``CoreMLPython.mm`` of coremltools 9.0). Assets are not offered: latbench uses none."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from time import perf_counter_ns
from typing import Any

import numpy as np

from support.mac.compiled import Loaded, compile_model, read_compiled
from support.mac.facts import MAC
from support.mac.features import to_feature, user_info
from support.mac.structure import UNITS, cost, device, preferred, structure, usage

NEWEST_SPECIFICATION = 10


class _State:
    def __init__(self, values: dict[str, np.ndarray]) -> None:
        self._values = values

    def read_state(self, name: str) -> np.ndarray:
        return self._values[name].astype(np.float32)

    def write_state(self, name: str, value: np.ndarray) -> None:
        self._values[name] = value.astype(self._values[name].dtype)


class _MLModelAssetProxy: ...


class _MLCPUComputeDeviceProxy: ...


class _MLGPUComputeDeviceProxy: ...


class _MLNeuralEngineComputeDeviceProxy:
    def get_total_core_count(self) -> int:
        return 16


class _MLComputePlanProxy:
    """A plan; the bindings construct an empty one too."""

    def __init__(self, found: Any = None, units: str = "ALL") -> None:
        self.model_structure, self._units = found, units

    def get_compute_device_usage_for_mlprogram_operation(self, operation: Any) -> Any:
        return usage(preferred(operation.__proxy__, self._units), self._units)

    def get_compute_device_usage_for_neuralnetwork_layer(self, layer: Any) -> Any:
        return usage(UNITS[self._units][0], self._units)

    def get_estimated_cost_for_mlprogram_operation(self, operation: Any) -> Any:
        return cost(operation.__proxy__)


class _MLModelProxy:
    def __init__(
        self, path: str, units: str, function: str, hints: dict[str, str], asset: None = None, /
    ) -> None:
        _arguments((path, str), (units, str), (function, str), (hints, dict))
        self._compiled, self._delete = path, False
        if not path.removesuffix("/").endswith(".mlmodelc"):
            with _silent_output():
                try:
                    self._compiled = compile_model(path)
                except RuntimeError as error:
                    raise RuntimeError(f'Error compiling model: "{error}".') from error
            self._delete = True
        _check_units(units)
        if hints:
            _since("Setting 'specializationStrategy'", 15)
        if function:
            _since("The 'functionName' property can only be set", 15, "")
        if (problem := MAC.fails.get("load")) is not None:
            raise user_info("Failed to build the model execution plan.", problem)
        start = perf_counter_ns()
        self._model = Loaded(self._compiled, function)
        self._load_ns = perf_counter_ns() - start
        self._predict_ns: int | None = None

    def __del__(self) -> None:
        if getattr(self, "_delete", False):
            shutil.rmtree(self._compiled, ignore_errors=True)

    def predict(self, features: dict[str, Any], state: _State | None, /) -> dict[str, Any]:
        _arguments((features, dict), (state, (_State, type(None))))
        converted = {name: to_feature(value) for name, value in features.items()}
        start = perf_counter_ns()
        found = self._model.predict(converted, None if state is None else state._values)
        self._predict_ns = perf_counter_ns() - start
        return found

    def batchPredict(self, batch: list[dict[str, Any]], /) -> list[dict[str, Any]]:
        return [self.predict(features, None) for features in batch]

    def newState(self) -> _State:
        _since("Stateful model", 15)
        return _State(self._model.new_state())

    def get_compiled_model_path(self) -> str:
        return self._compiled

    def get_load_duration_in_nano_seconds(self) -> int | None:
        return self._load_ns

    def get_last_predict_duration_in_nano_seconds(self) -> int | None:
        return None if "duration" in MAC.fails else self._predict_ns

    @staticmethod
    def maximum_supported_specification_version() -> int:
        return NEWEST_SPECIFICATION

    @staticmethod
    def compileModel(path: str, /) -> str:
        return compile_model(path)

    @staticmethod
    def get_model_structure(path: str, /) -> Any:
        _since("MLModelStructure", 14, 4)
        return structure(read_compiled(path)[0])

    @staticmethod
    def get_compute_plan(path: str, units: str, /) -> Any:
        from coremltools.models.compute_plan import MLComputePlan

        _arguments((path, str), (units, str))
        _since("MLComputePlan", 14, 4)
        _check_units(units)
        if (problem := MAC.fails.get("plan")) is not None:
            raise user_info("Failed to load compute plan.", problem)
        return MLComputePlan(_MLComputePlanProxy(structure(read_compiled(path)[0]), units))

    @staticmethod
    def get_available_compute_devices() -> list[Any]:
        return [device(unit) for unit in UNITS["ALL"]]

    get_all_compute_devices = get_available_compute_devices


def _arguments(*pairs: tuple[Any, Any]) -> None:
    """As pybind11 refuses a call whose arguments are of other types."""
    for value, kind in pairs:
        if not isinstance(value, kind):
            raise TypeError(
                "incompatible function arguments. The following argument types are supported: ..."
            )


def _check_units(units: str) -> None:
    assert units in UNITS, units
    if units == "CPU_AND_NE":
        _since("MLComputeUnitsCPUAndNeuralEngine", 13)


def _since(what: str, *version: Any) -> None:
    """As the source says that something needs a newer system."""
    numbers = tuple(part for part in version if part != "")
    if MAC.version() < numbers:
        only = "" if "" in version else " is only available"
        raise RuntimeError(f"{what}{only} on macOS >= {'.'.join(map(str, numbers))}")


@contextmanager
def _silent_output() -> Any:
    """Standard output leads nowhere while a model is compiled."""
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(nowhere)
        os.close(kept)
