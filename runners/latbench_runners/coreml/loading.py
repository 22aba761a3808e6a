"""Load a Core ML model, and create its states.

Versions of coremltools differ in what they offer. What is needed is looked for, not its version:
7 has neither states nor strategies, 8.0 no ``MLComputePlan``, 8.2 no time of a prediction.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latbench.api import StageError
from latbench_runners.coreml.errors import reason

COMPUTE_UNITS = {
    "all": "ALL",
    "cpu_only": "CPU_ONLY",
    "cpu_and_gpu": "CPU_AND_GPU",
    "cpu_and_ne": "CPU_AND_NE",
}
"""Option value -> member of ``coremltools.ComputeUnit``."""
SPECIALIZATIONS = {"default": None, "fast_prediction": "FastPrediction"}
"""Option value -> member of ``coremltools.SpecializationStrategy``."""


def compute_unit(settings: Mapping[str, str]) -> Any:
    """The ``ComputeUnit`` of a setting."""
    import coremltools as ct

    return getattr(ct.ComputeUnit, COMPUTE_UNITS[settings["compute_units"]])


def load(path: Path, settings: Mapping[str, str]) -> Any:
    """Compile and load the model once, for the selected compute units.

    If Core ML rejects a model, ``MLModel`` only warns; for a model that is too new it is silent.
    Raises :class:`StageError`.
    """
    import coremltools as ct

    hints = _hints(settings["specialization"])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            model = ct.models.MLModel(str(path), compute_units=compute_unit(settings), **hints)
        model.get_compiled_model_path()
    except MemoryError:
        raise
    except Exception as error:
        # coremltools raises bare Exception.
        raise StageError(
            "open",
            f"Core ML cannot load {path.name}: {reason(error)}",
            hint="a damaged package, one for a newer system (see --option target=...), or compute "
            "units or a specialization that this macOS does not support",
        ) from error
    return model


def new_state(model: Any) -> Any:
    """A state of zeros. Raises :class:`StageError`."""
    try:
        return model.make_state()
    except MemoryError:
        raise
    except Exception as error:
        # coremltools raises bare Exception.
        raise StageError(
            "open",
            f"Core ML cannot create the state of the model: {reason(error)}",
            hint="states need macOS 15 and coremltools 8 or later",
            kind="unavailable",
        ) from error


def _hints(specialization: str) -> dict[str, Any]:
    """Arguments of ``MLModel``: none if none are asked for, since older systems refuse any."""
    import coremltools as ct

    strategy = SPECIALIZATIONS[specialization]
    if strategy is None:
        return {}
    if not hasattr(ct, "SpecializationStrategy"):
        raise StageError(
            "open",
            f"coremltools {ct.__version__} has no specialization strategies",
            hint="pip install --upgrade coremltools (8 or later), or omit specialization",
            kind="unavailable",
        )
    return {
        "optimization_hints": {
            "specializationStrategy": getattr(ct.SpecializationStrategy, strategy)
        }
    }
