"""Core ML packages, and a Mac for coremltools in the process of a test (see :mod:`support.mac`)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.mac.facts import FACTS, FOLDER, MAC, MACOS, Mac, seen, tools

BINDINGS = {
    "model": ("_MLModelProxy", "_MLModelAssetProxy"),
    "_compiled_model": ("_MLModelProxy",),
    "compute_plan": ("_MLModelProxy", "_MLComputePlanProxy"),
    "compute_device": (
        "_MLModelProxy",
        "_MLCPUComputeDeviceProxy",
        "_MLGPUComputeDeviceProxy",
        "_MLNeuralEngineComputeDeviceProxy",
    ),
}
"""Module of ``coremltools.models`` -> what it imports from the bindings."""


@contextmanager
def on_a_mac(folder: Path, macos: str = MACOS) -> Iterator[Mac]:
    """The bindings and the facts of a Mac in this process."""
    pytest.importorskip("coremltools", reason="needs the `coreml` extra")
    utils = import_module("coremltools.models.utils")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "PATH", f"{tools(folder / 'mac-tools', macos)}{os.pathsep}{os.environ['PATH']}"
        )
        bindings = import_module("support.mac.libcoremlpython")
        patch.setitem(sys.modules, "coremltools.libcoremlpython", bindings)
        spec = sys.modules["coremltools"].__spec__
        assert spec is not None
        places = [*(spec.submodule_search_locations or ()), str(FOLDER)]
        patch.setattr(spec, "submodule_search_locations", places)
        for module, names in BINDINGS.items():
            for name in names:
                found = import_module(f"coremltools.models.{module}")
                patch.setattr(found, name, getattr(bindings, name))
        for module, names in FACTS.items():
            for name in names:
                patch.setattr(import_module(module), name, seen(name))
        patch.setattr(MAC, "macos", macos)
        patch.setattr(MAC, "fails", {})
        utils._macos_version.cache_clear()
        try:
            yield MAC
        finally:
            utils._macos_version.cache_clear()


def write_program(
    body: Callable[..., Any],
    path: Path,
    shape: Any,
    states: Any = (),
    precision: str = "FLOAT32",
    **options: Any,
) -> Path:
    """A package of a program written operator by operator, with the arguments of ``ct.convert``."""
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb

    from latbench_exporters.coreml.package import write

    target = ct.target.iOS18 if states else ct.target.iOS17
    specs = [mb.TensorSpec(shape=shape), *states]
    program = mb.program(input_specs=specs, opset_version=target)(body)
    model = ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=target,
        compute_precision=getattr(ct.precision, precision),
        skip_model_load=True,
        **options,
    )
    write(model.get_spec(), Path(model.weights_dir) if model.weights_dir else None, path)
    return path


def filters() -> Any:
    """Weights (4, 3, 3, 3) of :func:`convolution`."""
    return np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)


def convolution(x: Any) -> Any:
    """The body of a program: an output ``y`` of 4 channels."""
    from coremltools.converters.mil.mil import Builder as mb

    return mb.conv(x=x, weight=filters(), name="y")


def write_image_program(path: Path, space: str, side: int = 8) -> Path:
    """A package that doubles the pixels of an image ``x`` of a color space; ``y`` is an image."""
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb

    from latbench_exporters.coreml.package import read, write

    shape = (1, 3 if space in ("RGB", "BGR") else 1, side, side)
    layout = getattr(ct.colorlayout, space)
    image = ct.ImageType(name="x", shape=shape, color_layout=layout)
    arrays = path.with_name(f"{path.stem}-arrays.mlpackage")
    write_program(lambda x: mb.mul(x=x, y=np.float32(2), name="y"), arrays, shape, inputs=[image])
    spec = read(arrays).spec
    kind = spec.description.output[0].type.imageType
    kind.CopyFrom(spec.description.input[0].type.imageType)
    write(spec, None, path)
    return path


def write_classifier(path: Path, labels: Any) -> Path:
    """A package of a classifier: the softmax of its three inputs."""
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb

    return write_program(
        lambda x: mb.softmax(x=x, axis=-1, name="p"),
        path,
        (1, 3),
        classifier_config=ct.ClassifierConfig(labels),
    )


def write_stateful(path: Path) -> Path:
    """A package that adds its input to the state ``total`` and returns twice the sum."""
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    def body(x: Any, total: Any) -> Any:
        half = mb.cast(x=x, dtype="fp16")
        before = mb.read_state(input=total)
        after = mb.coreml_update_state(state=total, value=mb.add(x=before, y=half))
        return mb.cast(x=mb.add(x=after, y=after), dtype="fp32", name="y")

    return write_program(body, path, (1, 4), (mb.StateTensorSpec((1, 4), dtype=types.fp16),))


def write_functions(path: Path) -> Path:
    """A package of the functions ``small`` (1x3x8x8), its default, and ``large`` (2x3x5x5)."""
    import coremltools as ct

    described = ct.utils.MultiFunctionDescriptor()
    for name, shape in (("small", (1, 3, 8, 8)), ("large", (2, 3, 5, 5))):
        part = path.with_name(f"{path.stem}-{name}.mlpackage")
        described.add_function(str(write_program(convolution, part, shape)), "main", name)
    described.default_function_name = "small"
    ct.utils.save_multifunction(described, str(path))
    return path
