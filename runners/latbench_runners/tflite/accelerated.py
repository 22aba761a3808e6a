"""Sessions on a GPU or an NPU, by LiteRT's compiled model.

The CPU is not among the permitted accelerators unless the user asks for it: a file with an operator
that the unit does not support fails, and nothing is left to the CPU in silence.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Any

from latbench.api import (
    Array,
    Placement,
    Profile,
    StageError,
    UsageError,
    choice_option,
    first_line,
)

UNITS = {"cpu": "CPU", "gpu": "GPU", "gpu|cpu": "GPU", "npu": "NPU", "npu|cpu": "NPU"}
"""Values of the option, and the units in placements besides the CPU."""
DIVIDED = "|cpu"
"""How values end that leave to the CPU what the unit does not support."""
LIBRARIES = {"GPU": "*LiteRt*Accelerator.*", "NPU": "vendors/*/dispatch/*LiteRtDispatch*"}
"""Where the package has an accelerator's libraries."""
NOT_ACCELERATED = "ops are not accelerated"
"""What LiteRT says of a file with operators that the unit does not support."""
DIVISION = re.compile(
    r"not supported by GPU delegate:\n(?P<why>(?:.+\n)*?)"
    r"(?:(?P<some>\d+) operations will run on the GPU, and the remaining (?P<rest>\d+)"
    r"|No operations will run on the GPU, and all (?P<all>\d+)) operations will run on the CPU"
)
"""How LiteRT's GPU delegates report a divided file, and why they leave an operator to the CPU."""


def with_accelerator(
    settings: Mapping[str, str], given: Mapping[str, str], precision: str
) -> dict[str, str]:
    """``settings`` with those of the accelerator in place of the CPU's.

    On a GPU an fp32 or fp16 artifact is computed in its ``precision``. NPUs have 16-bit floats, and
    what they use cannot be read back. Raises :class:`UsageError`.
    """
    name = settings["accelerator"]
    choice_option("accelerator", name, UNITS)
    if name == "cpu":
        return {key: value for key, value in settings.items() if key != "accelerator"}
    for option in ("xnnpack", "delegate", "delegate_options"):
        if option in given:
            raise UsageError(f"{option} is an option of accelerator=cpu", hint=f"omit {option}")
    own = {key: value for key, value in settings.items() if key != "xnnpack"}
    if UNITS[name] == "GPU" and precision in ("fp16", "fp32"):
        own["gpu_precision"] = precision
    if UNITS[name] == "NPU" and precision == "fp32":
        own["precision"] = "fp16"
    return own


class AcceleratedSession:
    """A compiled model with its inputs in place."""

    def __init__(self, path: Path, inputs: Sequence[Array], settings: Mapping[str, str]) -> None:
        """Compile and write the inputs. Raises :class:`StageError`."""
        self._path = path
        self._settings = settings
        self._unit = UNITS[settings["accelerator"]]
        self._divided = settings["accelerator"].endswith(DIVIDED)
        _require_library(self._unit)
        self._model, self._said = self._compiled()
        self._outputs: list[Array] = []
        try:
            self._place(inputs)
        except (RuntimeError, ValueError, IndexError) as error:
            raise StageError(
                "open",
                f"LiteRT cannot pass the inputs and outputs to the {self._unit}",
                hint="use accelerator=cpu, or the native worker",
                detail=str(error),
            ) from error

    def _place(self, inputs: Sequence[Array]) -> None:
        """Make the buffers, and write ``inputs``, which are in the order of the main graph."""
        model = self._model
        key = model.get_signature_by_index(0)["key"]
        taken = list(model.get_input_tensor_details(key).values())
        given = list(model.get_output_tensor_details(key).values())
        taking, self._giving = [0], [0]
        if not (model.get_num_signatures() == len(taken) == len(given) == 1):
            plain = _plain(self._path)
            taking = _places(taken, plain.get_input_details())
            self._giving = _places(given, plain.get_output_details())
        self._read = [(each["shape"], each["dtype"]) for each in given]
        self._given = model.create_input_buffers(0)
        self._taken = model.create_output_buffers(0)
        for place, array in zip(taking, inputs, strict=True):
            self._given[place].write(array)
        # Some types of elements cannot be read.
        self._outputs = self._got()

    def run(self) -> None:
        """One inference, up to the outputs in host memory: the unit may still be at work before."""
        self._model.run_by_index(0, self._given, self._taken)
        self._outputs = self._got()

    def _got(self) -> list[Array]:
        return [
            buffer.read(prod(shape), dtype)
            for buffer, (shape, dtype) in zip(self._taken, self._read, strict=True)
        ]

    def outputs(self) -> tuple[Array, ...]:
        return tuple(
            self._outputs[place].reshape(self._read[place][0]).copy() for place in self._giving
        )

    def placement(self) -> Placement:
        """As far as LiteRT's plan says it; what ran where is not reported."""
        if self._divided:
            return self._divided_placement()
        if not self._model.is_fully_accelerated():
            return Placement(
                units={self._unit: None},
                known="unknown",
                note="LiteRT does not report that all operators are delegated",
            )
        return Placement(
            units={self._unit: self._operators()},
            known="planned",
            note="LiteRT reports that all operators are delegated; the CPU is not permitted",
            partitions=1,
        )

    def _divided_placement(self) -> Placement:
        """From the messages on compilation: the Python interface has nothing else, and without
        one it cannot be distinguished whether all operators are delegated to the unit."""
        plan = DIVISION.search(self._said)
        own, left = (int(plan["some"] or 0), int(plan["rest"] or plan["all"])) if plan else (0, 0)
        if plan is None or own + left != self._operators():
            return Placement(
                units={self._unit: None, UNITS["cpu"]: None},
                known="unknown",
                note="LiteRT does not report how it divides the file",
            )
        reasons = "".join(f"; {each}" for each in plan["why"].splitlines())
        return Placement(
            units={**({self._unit: own} if own else {}), UNITS["cpu"]: left},
            known="planned",
            note=f"LiteRT divides the file between the {self._unit} and the CPU{reasons}",
        )

    def _operators(self) -> int:
        return len(_plain(self._path)._get_ops_details())

    def settings(self) -> Mapping[str, str]:
        return {**self._settings, **_loaded_libraries()}

    def profile(self, calls: int) -> Profile | None:
        """LiteRT's profiler has no times inside an accelerator."""
        return None

    def _compiled(self) -> tuple[Any, str]:
        """The compiled model, and what LiteRT wrote about a divided file."""
        try:
            from ai_edge_litert import compiled_model as lib

            gpu = lib.GpuOptions(enforce_f32=self._settings.get("gpu_precision") == "fp32")
            options = lib.Options(
                hardware_accelerators=lib.HardwareAccelerator[self._unit],
                gpu_options=gpu if self._unit == "GPU" else None,
            )
            if self._divided:
                options.hardware_accelerators |= lib.HardwareAccelerator.CPU
                options.cpu_options.num_threads = int(self._settings["threads"])
        except (ImportError, AttributeError, TypeError) as error:
            raise StageError(
                "open",
                f"ai-edge-litert {version('ai-edge-litert')} has no accelerators: "
                f"{first_line(error)}",
                hint="pip install -U ai-edge-litert; version 2.3 has them",
                kind="unavailable",
            ) from error

        def compiled() -> Any:
            return lib.CompiledModel.from_file(str(self._path), options=options)

        try:
            return _with_messages(compiled) if self._divided else (compiled(), "")
        except (RuntimeError, ValueError) as error:
            raise self._failure(str(error)) from error

    def _failure(self, said: str) -> StageError:
        if NOT_ACCELERATED in said:
            return StageError(
                "open",
                f"LiteRT cannot execute all operators of the file on the {self._unit}",
                hint=f"accelerator='{self._settings['accelerator']}{DIVIDED}' leaves those to the "
                "CPU. A library of the vendor may also be missing",
                detail=said,
            )
        return StageError(
            "open",
            f"LiteRT cannot prepare the file for the {self._unit}",
            hint=f"there is no {self._unit} or driver that the accelerator can use, or it does not "
            "support an operator; accelerator=cpu executes the file",
            detail=said,
        )


def _with_messages(act: Callable[[], Any]) -> tuple[Any, str]:
    """What ``act`` returns, and what was written to the standard error meanwhile, by foreign code
    too. It is passed on afterwards."""
    sys.stderr.flush()
    own = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        try:
            os.dup2(kept.fileno(), 2)
            found = act()
        finally:
            os.dup2(own, 2)
            os.close(own)
            kept.seek(0)
            said = kept.read()
            os.write(2, said)
    return found, said.decode(errors="replace")


def _package() -> list[Path]:
    spec = importlib.util.find_spec("ai_edge_litert")
    return [Path(each) for each in (spec and spec.submodule_search_locations) or ()]


def _loaded_libraries() -> dict[str, str]:
    """The setting ``accelerator_libraries``: the package's accelerators in this process, with their
    digests. Empty where the system does not list what is loaded."""
    maps = Path("/proc/self/maps")
    mapped = set(maps.read_text().split()) if maps.exists() else set()
    found = {
        path
        for place in _package()
        for pattern in LIBRARIES.values()
        for path in place.glob(pattern)
        if str(path.resolve()) in mapped
    }
    digests = []
    for path in sorted(found):
        with path.open("rb") as file:
            digests.append(f"{path.name} sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}")
    return {"accelerator_libraries": ", ".join(digests)} if digests else {}


def _require_library(unit: str) -> None:
    places = _package()
    pattern = LIBRARIES[unit]
    if not any(found for place in places for found in place.glob(pattern)):
        raise StageError(
            "open",
            f"LiteRT's accelerator for the {unit} is not installed: "
            f"{', '.join(map(str, places))} has no {pattern}",
            hint="packages of ai-edge-litert for some systems have it; with the native worker, "
            "latbench devices install ID --library tflite=FILE",
            kind="unavailable",
        )


def _plain(path: Path) -> Any:
    """An interpreter of the file without delegates, which is not allocated."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return Interpreter(str(path), experimental_op_resolver_type=plain)


def _places(
    signature: Sequence[Mapping[str, Any]], graph: Sequence[Mapping[str, Any]]
) -> list[int]:
    """Where the signature has the tensors of the graph, in the graph's order."""
    indices = [int(each["index"]) for each in signature]
    wanted = [int(each["index"]) for each in graph]
    if sorted(indices) != sorted(wanted):
        raise StageError(
            "open",
            "the signature and the main graph have different tensors",
            hint="use accelerator=cpu",
        )
    return [indices.index(each) for each in wanted]
