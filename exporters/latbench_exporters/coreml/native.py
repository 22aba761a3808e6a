"""Let Core ML execute a package, where a Mac is at hand, for reference outputs.

Only for packages with operations that have no kernel here. **Not yet run on a Mac.**
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from latbench.api import Array, StageError, first_line
from latbench_exporters.coreml.interface import Interface, unsupported
from latbench_exporters.coreml.quiet import quiet

NAME = "Core ML, cpu_only"


def available() -> bool:
    """Whether Core ML and its bindings are on this machine."""
    if sys.platform != "darwin":
        return False
    package = find_spec("coremltools")
    folders = (package.submodule_search_locations or ()) if package is not None else ()
    return any(found for folder in folders for found in Path(folder).glob("libcoremlpython*"))


def execute(path: Path, inputs: Mapping[str, Array], found: Interface) -> dict[str, Array]:
    """The numeric outputs of one prediction on the CPU, from states of zeros.

    Raises :class:`StageError` if Core ML rejects the package, and for images, which only the timed
    session converts.
    """
    if found.images:
        raise unsupported(
            "a package with images has operations without a kernel here",
            hint="convert it again with arrays, or start from the PyTorch model",
        )
    try:
        with quiet():
            import coremltools as ct

            model = ct.models.MLModel(str(path), compute_units=ct.ComputeUnit.CPU_ONLY)
            state = (model.make_state(),) if found.states else ()
            given = model.predict(dict(inputs), *state)
    except MemoryError:
        raise
    except Exception as error:
        # coremltools raises bare Exception.
        raise StageError(
            "export",
            f"Core ML cannot execute {path.name}: {first_line(error)}",
            hint="a package for a newer system, or start from the PyTorch model",
        ) from error
    return {spec.name: _array(given[spec.name]) for spec in found.outputs}


def _array(value: Any) -> Array:
    """An output as an array; a dictionary in the order of its sorted labels."""
    import numpy as np

    return np.array([value[key] for key in sorted(value)] if isinstance(value, dict) else value)
