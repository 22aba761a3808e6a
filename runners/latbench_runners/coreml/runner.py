"""Run Core ML models on a Mac with coremltools.

If the runtime has a clock, samples use it: it covers the prediction only, without the copies
between numpy and ``MLMultiArray`` that a Swift program would not make. The duration of the whole
call is recorded as well. fp16 arrays reach Core ML as fp32: coremltools widens them, and converting
them back to fp16 is part of the prediction.

A model with states is timed with one state, which every inference changes. Its outputs are those of
one more inference, after timing, from a new state.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from latbench.api import (
    Array,
    Artifact,
    Capability,
    OperatorPlan,
    Placement,
    Runner,
    RunOptions,
    Session,
    StageError,
    choice_option,
    is_out_of_memory,
)
from latbench.clock import time_calls
from latbench_runners.coreml.errors import reason
from latbench_runners.coreml.features import color_spaces, fed_inputs, from_feature, image_inputs
from latbench_runners.coreml.loading import (
    COMPUTE_UNITS,
    SPECIALIZATIONS,
    compute_unit,
    load,
    new_state,
)
from latbench_runners.coreml.plan import placement_of, plan
from latbench_runners.coreml.system import build, runtime_version, thermal_state

UNCONVERTIBLE = "value type not convertible"
"""What the bindings say of an input of a type that they do not pass on."""


class CoreMLRunner:
    """Run Core ML packages on this Mac."""

    name = "coreml"
    formats = ("coreml",)
    needs: tuple[str, ...] = ("coremltools",)
    options: Mapping[str, str] = {
        "compute_units": f"{', '.join(COMPUTE_UNITS)}: units Core ML may use (default all)",
        "specialization": f"{', '.join(SPECIALIZATIONS)}: fast_prediction spends more time loading "
        "to predict faster (default default; macOS 15 or later)",
    }

    units: Mapping[str, tuple[str, ...]] = {
        "cpu": (),
        "gpu": (),
        "neural_engine": ("npu", "ane"),
    }

    def probe(self) -> Capability:
        """Check for macOS and for the bindings, which only the macOS wheels of coremltools have."""
        if sys.platform != "darwin":
            return Capability(
                available=False,
                reason=f"Core ML requires an Apple system; this is {platform.system()}",
                hint="run it on a Mac; `latbench export --format coreml` can export and check "
                "packages here",
            )
        package = find_spec("coremltools")
        if package is None:
            return Capability(
                available=False,
                reason="coremltools is not installed",
                hint="pip install 'latbench[coreml]'",
            )
        folders = [Path(folder) for folder in package.submodule_search_locations or ()]
        if not any(found for folder in folders for found in folder.glob("libcoremlpython*")):
            return Capability(
                available=False,
                reason="this coremltools has no bindings to Core ML (libcoremlpython)",
                hint="install the wheel for this Python: pip install --force-reinstall "
                "--only-binary :all: coremltools",
            )
        engine = ("neural_engine",) if platform.machine() == "arm64" else ()
        return Capability(available=True, version=runtime_version(), units=("cpu", "gpu", *engine))

    def prepare(self) -> None:
        """Import coremltools, which takes seconds, and pillow if installed."""
        import coremltools  # noqa: F401

        with suppress(ImportError):
            import PIL.Image  # noqa: F401

    @contextmanager
    def open(
        self, artifact: Artifact, path: Path, inputs: Sequence[Array], options: RunOptions
    ) -> Iterator[Session]:
        """Compile and load ``path``; convert ``inputs`` for Core ML."""
        settings = _settings(artifact, options)
        fed = fed_inputs(artifact, inputs)
        model = load(path, settings)
        yield _LoadedModel(model, artifact, fed, settings)


def runner() -> Runner:
    """Entry point."""
    return CoreMLRunner()


class _LoadedModel:
    """An ``MLModel`` with prepared inputs."""

    def __init__(
        self,
        model: Any,
        artifact: Artifact,
        fed: dict[str, object],
        settings: dict[str, str],
    ) -> None:
        self._model = model
        self._artifact = artifact
        self._fed = fed
        self._own_clock = hasattr(type(model), "last_predict_duration_in_nano_seconds")
        self._settings = {**settings, "clock": "runtime" if self._own_clock else "call"}
        self._planned: OperatorPlan | str | None = None
        self._reported: dict[str, str] | None = None
        self._given: Mapping[str, Any] | None = None
        self._call_ns: Sequence[int] = ()
        self._state = new_state(model) if "states" in artifact.details else None

    def run(self) -> None:
        self._given = self._predict(self._state)

    def _predict(self, state: Any) -> Mapping[str, Any]:
        try:
            found: Mapping[str, Any] = (
                self._model.predict(self._fed)
                if state is None
                else self._model.predict(self._fed, state=state)
            )
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise self._failed(error) from error
        return found

    def _failed(self, error: RuntimeError) -> StageError:
        """The error of an inference that Core ML or its bindings refused."""
        hint = "try other compute_units, or convert the model for another --option target"
        if UNCONVERTIBLE in str(error):
            types = ", ".join(f"{spec.name} {spec.dtype}" for spec in self._artifact.inputs)
            hint = f"coremltools takes arrays of floats and of int32; the inputs are {types}"
        return StageError("time", f"Core ML failed in an inference: {reason(error)}", hint=hint)

    def time_block(self, calls: int) -> Sequence[int]:
        if not self._own_clock:
            return time_calls(self.run, calls)
        own: list[int] = []

        def one() -> None:
            self.run()
            # Only the latest duration is available, so the call's time includes reading it.
            own.append(self._own_ns())

        self._call_ns = time_calls(one, calls)
        return own

    def beside_ns(self) -> Mapping[str, Sequence[int]]:
        return {"call": self._call_ns} if self._own_clock else {}

    def outputs(self) -> tuple[Array, ...]:
        if self._given is None:
            raise StageError("outputs", "outputs are available only after an inference")
        given = self._given
        if self._state is not None:
            # The reference has seen one inference, from a state of zeros.
            given = self._predict(new_state(self._model))
        spaces = color_spaces(self._artifact.details)
        return tuple(
            from_feature(given[spec.name], spec, spaces.get(spec.name, "RGB"))
            for spec in self._artifact.outputs
        )

    def placement(self) -> Placement:
        """Placement planned by Core ML for these compute units (``MLComputePlan``, macOS 14.4)."""
        return placement_of(self._found())

    def plan(self) -> OperatorPlan | None:
        """The same by operation."""
        found = self._found()
        return None if isinstance(found, str) else found

    def _found(self) -> OperatorPlan | str:
        if self._planned is None:
            function = self._artifact.details.get("signature", "main")
            self._planned = plan(self._model, compute_unit(self._settings), function)
        return self._planned

    def settings(self) -> Mapping[str, str]:
        # Read on first use, after loading was timed, so that it is not part of the load time.
        if self._reported is None:
            self._reported = {
                **self._settings,
                "macos_build": build() or "unknown",
                "thermal_state": thermal_state() or "unknown",
            }
            if self._in_half():
                self._reported["precision"] = "fp16"
        return self._reported

    def _in_half(self) -> bool:
        """Whether the model may compute in fp16: GPU and Neural Engine compute a neuralnetwork in
        fp16 whatever its weights. Without a plan this cannot be excluded."""
        if (self._artifact.details.get("type"), self._artifact.precision) != (
            "neuralnetwork",
            "fp32",
        ):
            return False
        on_cpu = self._settings["compute_units"] == "cpu_only"
        return not on_cpu and set(self.placement().units) != {"cpu"}

    def _own_ns(self) -> int:
        own = self._model.last_predict_duration_in_nano_seconds
        if own is None:
            raise StageError(
                "time",
                "Core ML reported no duration for the prediction",
                hint="update coremltools",
            )
        return int(own)


def _settings(artifact: Artifact, options: RunOptions) -> dict[str, str]:
    """All settings as strings, with defaults filled in."""
    extra = {"compute_units": "all", "specialization": "default", **options.extra}
    for name, allowed in (("compute_units", COMPUTE_UNITS), ("specialization", SPECIALIZATIONS)):
        choice_option(name, extra[name], allowed)
    # Core ML chooses the number of threads and does not report it.
    settings = {"threads": "unknown", **extra}
    if images := image_inputs(artifact):
        settings["input"] = "image"
        if any(space != "GRAYSCALE_FLOAT16" for space in images.values()):
            # Images are rounded to 8 bits; the reference's inputs are not.
            settings["input_bits"] = "8"
    if any(spec.dtype == "float16" for spec in artifact.inputs):
        settings["input_arrays"] = "float32"
    if "states" in artifact.details:
        settings["states"] = "kept between inferences"
    return settings
