"""Execute and count the MIL program of a Core ML package on any machine.

The program is read back from the package and interpreted with torch kernels. Each operation is
computed in fp32 from the values in the package, and its result is rounded to the declared type.
This verifies graph, weights and rounding, but not Apple's kernels or placement. A flexible package
is read with the sizes of its inputs fixed, so that its shapes are known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from latbench.api import Array, Counts, StageError, first_line, is_out_of_memory
from latbench_exporters.coreml.calls import Kernel
from latbench_exporters.coreml.counts import (
    COMPRESSED,
    count,
    flat_inputs,
    is_constant,
    stored_in,
    weights,
)
from latbench_exporters.coreml.interface import MAIN
from latbench_exporters.coreml.kernels import kernels
from latbench_exporters.coreml.package import Package
from latbench_exporters.coreml.quiet import quiet

if TYPE_CHECKING:
    import torch

UPDATE = "coreml_update_state"


class Program:
    """One function of a package, as read back by coremltools."""

    def __init__(
        self,
        package: Package,
        name: str,
        function: str = MAIN,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        """Read the program. ``shapes`` fixes the open sizes of flexible inputs, by name.

        Raises :class:`StageError` if that fails.
        """
        with quiet():
            folder = "" if package.weights is None else str(package.weights)
            try:
                self._function = _loaded(package.spec, folder, function, shapes or {})
            except MemoryError:
                raise
            except Exception as error:
                # Its errors have no closer common base: KeyError, AssertionError, RuntimeError, ...
                reason = first_line(error)
                raise StageError(
                    "export",
                    f"coremltools cannot read the program of {name}: {reason}",
                    hint="the weights are damaged, or the package targets a system newer than this "
                    "coremltools knows: export it again, or upgrade coremltools",
                ) from error
        self.operations: list[Any] = list(self._function.operations)
        self.outputs: list[Any] = list(self._function.outputs)

    def counts(self) -> Counts | None:
        """Counts of the program; ``None`` if a shape depends on the data."""
        return count(self.operations)

    def constants(self) -> list[Any]:
        """Variables that hold floating-point weights of more than one element, including
        compressed ones."""
        return weights(self.operations)

    def compressed(self) -> list[str]:
        """Names of the weight compression schemes in use."""
        kinds = {operation.op_type for operation in self.operations}
        return sorted(kind for kind in kinds if kind.startswith(COMPRESSED))

    def stored(self) -> set[str]:
        """Precisions of the compressed weights."""
        return {
            stored_in(operation)
            for operation in self.operations
            if operation.op_type.startswith(COMPRESSED)
        }

    def kinds(self) -> set[str]:
        """Names of all operations."""
        return {operation.op_type for operation in self.operations}

    def computed(self) -> int:
        """Number of operations that compute something."""
        return sum(not is_constant(operation) for operation in self.operations)

    def missing_kernels(self) -> str | None:
        """Operations that cannot be executed here, with their numbers; ``None`` if all can."""
        table = kernels()
        unknown = Counter(
            operation.op_type
            for operation in self.operations
            if not is_constant(operation) and (operation.op_type not in table or operation.blocks)
        )
        return ", ".join(f"{number} {name}" for name, number in sorted(unknown.items())) or None

    def execute(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name; those of a classifier are the index of its label and its
        probabilities, in the order of the sorted labels. States are zero before.

        Raises :class:`StageError` (kind ``unavailable``) that lists every operation without a
        kernel.
        """
        import torch
        from coremltools.converters.mil.mil import types

        if (missing := self.missing_kernels()) is not None:
            raise _unavailable(f"no kernel here for these operations: {missing}")
        table = kernels()
        values: dict[str, torch.Tensor] = {}
        states = []
        for name, variable in self._function.inputs.items():
            if types.is_state(variable.sym_type):
                states.append(variable.name)
                values[variable.name] = _rounded(torch.zeros(variable.shape), variable)
            else:
                values[variable.name] = _rounded(torch.from_numpy(inputs[name].copy()), variable)
        computing = [operation for operation in self.operations if not is_constant(operation)]
        uses = Counter(v.name for operation in computing for v in flat_inputs(operation))
        uses.update((*states, *(variable.name for variable in self.outputs)))
        with torch.no_grad():
            for operation in computing:
                self._compute(operation, table, values)
                for variable in flat_inputs(operation):
                    uses[variable.name] -= 1
                    # Keeping all activations until the end would take up to a gigabyte.
                    if not uses[variable.name]:
                        values.pop(variable.name, None)
        return {variable.name: _value(variable, values).numpy() for variable in self.outputs}

    def _compute(
        self, operation: Any, table: Mapping[str, Kernel], values: dict[str, torch.Tensor]
    ) -> None:
        import torch

        try:
            result = table[operation.op_type](_Call(operation, values))
        except NotImplementedError as error:
            raise _unavailable(
                f"this form of {operation.op_type} ({operation.name}) has no kernel here: "
                f"{first_line(error)}"
            ) from error
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            if is_out_of_memory(error):
                raise  # the harness reports it as out of memory
            reason = first_line(error)
            raise StageError(
                "export",
                f"the operation {operation.op_type} ({operation.name}) cannot be executed: "
                f"{reason}",
                hint="the package is inconsistent, or the kernel for this operation is wrong",
            ) from error
        results = [result] if isinstance(result, torch.Tensor) else list(result)
        for variable, value in zip(operation.outputs, results, strict=True):
            shape = variable.shape
            if not _is_numeric(variable):
                values[variable.name] = value
                continue
            if all(isinstance(size, int) for size in shape) and tuple(value.shape) != shape:
                raise StageError(
                    "export",
                    f"the operation {operation.op_type} ({operation.name}) returned shape "
                    f"{tuple(value.shape)}; the package declares {shape}",
                    hint="the package is inconsistent, or the kernel for this operation is wrong",
                )
            values[variable.name] = _rounded(value, variable)
            if operation.op_type == UPDATE:
                values[operation.inputs["state"].name] = values[variable.name]


def _unavailable(message: str) -> StageError:
    return StageError(
        "export",
        message,
        hint="Core ML itself may be able to execute them: run latbench on a Mac, or start from the "
        "PyTorch model, whose outputs are then the reference",
        kind="unavailable",
    )


def _loaded(spec: Any, folder: str, function: str, shapes: Mapping[str, tuple[int, ...]]) -> Any:
    """A function of the program, with the sizes of its inputs fixed if it can be read so."""
    from coremltools.converters.mil.frontend.milproto.load import load

    fixed = _fixed(spec, function, shapes)
    if fixed is not spec:
        # coremltools refuses some programs at sizes that it accepts while they are open.
        with suppress(ValueError, AssertionError, RuntimeError):
            return load(fixed, fixed.specificationVersion, folder).functions[function]
    return load(spec, spec.specificationVersion, folder).functions[function]


def _fixed(spec: Any, function: str, shapes: Mapping[str, tuple[int, ...]]) -> Any:
    """A copy of ``spec`` whose inputs have no open sizes, so that all shapes can be inferred."""
    inputs = spec.mlProgram.functions[function].inputs if shapes else ()
    if not any(_open(named) for named in inputs):
        return spec
    copied = type(spec)()
    copied.CopyFrom(spec)
    for named in copied.mlProgram.functions[function].inputs:
        if _open(named):
            dimensions = named.type.tensorType.dimensions
            for dimension, size in zip(dimensions, shapes[named.name], strict=True):
                dimension.constant.size = size
    return copied


def _open(named: Any) -> bool:
    return any(
        dimension.WhichOneof("dimension") == "unknown"
        for dimension in named.type.tensorType.dimensions
    )


class _Call:
    """The inputs of one operation, for its kernel."""

    def __init__(self, operation: Any, values: Mapping[str, torch.Tensor]) -> None:
        self._inputs = operation.inputs
        self._values = values

    def tensor(self, name: str) -> torch.Tensor:
        found = self.maybe(name)
        assert found is not None, f"input {name} is required"
        return found

    def maybe(self, name: str) -> torch.Tensor | None:
        import torch

        variable = self._inputs.get(name)
        if variable is None:
            return None
        value = _value(variable, self._values)
        return value.float() if value.dtype == torch.float16 else value

    def tensors(self, name: str) -> list[torch.Tensor]:
        import torch

        found = [_value(variable, self._values) for variable in self._inputs[name]]
        return [value.float() if value.dtype == torch.float16 else value for value in found]

    def value(self, name: str, default: Any = None) -> Any:
        variable = self._inputs.get(name)
        if variable is None:
            return default
        if isinstance(variable.val, (str, list)):
            return variable.val
        return _value(variable, self._values).tolist()


def _value(variable: Any, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """A computed value or a constant (stored, expanded, or inferred from constants)."""
    import numpy as np
    import torch

    if variable.name in values:
        return values[variable.name]
    value = variable.val
    if value is None:
        value = variable.op.materialized_val_inference()
    array = np.array(value)
    if array.dtype in (np.uint16, np.uint32):
        array = array.astype(np.int64)
    return torch.from_numpy(array)


def _is_numeric(variable: Any) -> bool:
    """Whether a variable has numbers, unlike the label and the dictionary of a classifier."""
    from coremltools.converters.mil.mil import types

    return not (types.is_str(variable.sym_type) or types.is_dict(variable.sym_type))


def _rounded(value: torch.Tensor, variable: Any) -> torch.Tensor:
    """``value`` rounded to the type that the package declares for ``variable``."""
    import numpy as np
    import torch
    from coremltools.converters.mil.mil.types import nptype_from_builtin

    dtype = np.dtype(nptype_from_builtin(variable.dtype))
    wide = np.int64 if dtype in (np.uint16, np.uint32) else dtype
    return value.to(torch.from_numpy(np.empty(0, wide)).dtype)
