"""Compiled models (``.mlmodelc``) of the stand-in, and their execution.

Apple's layout of the folder is not published. Here it holds the specification and the weights.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from support.mac.facts import MAC
from support.mac.features import from_network, to_network, user_info

SPECIFICATION = "coremldata.bin"
SINCE = {6: (12,), 7: (13,), 8: (14,), 9: (15,), 10: (26,)}
"""Specification version -> the macOS from which on it is compiled."""


def compile_model(path: str) -> str:
    """Compile the model at ``path``; returns the folder. Raises RuntimeError."""
    from coremltools.models.utils import _try_get_weights_dir_path, load_spec

    if (problem := MAC.fails.get("compile")) is not None:
        raise RuntimeError(problem)
    try:
        spec = load_spec(path)
    except Exception as error:
        raise RuntimeError(f"Failed to read model package at file://{path}.") from error
    if MAC.version() < SINCE.get(spec.specificationVersion, (10,)):
        raise RuntimeError(
            f"Unable to parse specification version {spec.specificationVersion}: unsupported"
        )
    folder = Path(tempfile.mkdtemp(suffix=".mlmodelc", prefix=f"{Path(path).stem}_"))
    # A Mac empties its temporary folder by itself.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / SPECIFICATION).write_bytes(spec.SerializeToString())
    weights = _try_get_weights_dir_path(path) if Path(path).is_dir() else None
    if weights is not None:
        shutil.copytree(weights, folder / "weights")
    return str(folder)


def read_compiled(path: str) -> tuple[Any, Path | None]:
    """Specification and folder of weights of a compiled model."""
    from coremltools.proto import Model_pb2

    spec = Model_pb2.Model()
    try:
        spec.ParseFromString((Path(path) / SPECIFICATION).read_bytes())
    except OSError as error:
        raise user_info("Unable to load model", f"{path} does not exist") from error
    weights = Path(path) / "weights"
    return spec, weights if weights.is_dir() else None


class Loaded:
    """A function of a compiled model, ready to be executed."""

    def __init__(self, path: str, function: str) -> None:
        self._spec, self._weights = read_compiled(path)
        self.function = function or self._spec.description.defaultFunctionName or "main"
        described = self._spec.description
        if described.functions:
            found = [each for each in described.functions if each.name == self.function]
            if not found:
                raise user_info(f"The model has no function named {self.function}.")
            described = found[0]
        self.description = described
        self._programs: dict[tuple[tuple[int, ...], ...], Any] = {}

    def new_state(self) -> dict[str, np.ndarray]:
        """States of zeros."""
        return {
            feature.name: np.zeros(tuple(feature.type.stateType.arrayType.shape), np.float16)
            for feature in self.description.state
        }

    def predict(
        self, features: Mapping[str, Any], state: dict[str, np.ndarray] | None
    ) -> dict[str, Any]:
        """The outputs; ``state`` is changed in place."""
        if (problem := MAC.fails.get("predict")) is not None:
            raise user_info("Unable to compute the prediction using ML Program.", problem)
        inputs = {}
        for each in self.description.input:
            if each.name not in features:
                raise user_info(f"Feature {each.name} is required but not specified.")
            inputs[each.name] = to_network(features[each.name], each)
        if self.description.state and state is None:
            raise user_info("The model has states, but no state was given.")
        if self._spec.WhichOneof("Type") != "mlProgram":
            raise user_info("The stand-in executes ML programs only.")
        program = self._program(inputs)
        given = program.step(inputs, state)
        return _outputs(given, self.description, program.labels())

    def _program(self, inputs: Mapping[str, np.ndarray]) -> Any:
        shapes = tuple(array.shape for array in inputs.values())
        if shapes not in self._programs:
            self._programs[shapes] = _stepwise(
                self._spec, self._weights, self.function, dict(zip(inputs, shapes, strict=True))
            )
        return self._programs[shapes]


def _stepwise(
    spec: Any, weights: Path | None, function: str, shapes: Mapping[str, tuple[int, ...]]
) -> Any:
    from latbench_exporters.coreml.mil import Program
    from latbench_exporters.coreml.package import Package

    class Stepwise(Program):
        """A program that keeps its states."""

        def step(
            self, inputs: Mapping[str, np.ndarray], state: dict[str, np.ndarray] | None
        ) -> dict[str, np.ndarray]:
            self._state, self._begun = state or {}, False
            return self.execute(inputs)

        def labels(self) -> list[Any]:
            """Sorted class labels."""
            for operation in self.operations:
                if operation.op_type == "classify":
                    return sorted(np.array(operation.inputs["classes"].val).tolist())
            return []

        def _compute(self, operation: Any, table: Any, values: dict[str, Any]) -> None:
            import torch

            if not self._begun:
                for name, value in self._state.items():
                    values[name] = torch.from_numpy(value)
                self._begun = True
            super()._compute(operation, table, values)
            for name in self._state:
                self._state[name] = values[name].numpy()

    return Stepwise(Package(spec=spec, weights=weights), "model", function, shapes)


def _outputs(
    given: Mapping[str, np.ndarray], description: Any, labels: list[Any]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    best = None
    for each in description.output:
        if each.type.WhichOneof("Type") == "dictionaryType":
            values = [float(value) for value in given[each.name]]
            found[each.name] = dict(zip(labels, values, strict=True))
            best = labels[int(np.argmax(values))]
        elif each.type.WhichOneof("Type") in ("multiArrayType", "imageType"):
            found[each.name] = from_network(given[each.name], each)
    for each in description.output:
        if each.type.WhichOneof("Type") in ("stringType", "int64Type"):
            found[each.name] = best
    return found
