"""Export the graph traced by ``torch.export``, in PyTorch's own container (``.pt2``).

``torch.export.load`` unpickles parts of a file without restriction, so the files written here
contain no pickles: the graph is JSON, weights are raw bytes, and example inputs are dropped.
"""

from __future__ import annotations

import copy
import io
import json
import math
import warnings
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latbench.api import (
    FORM,
    Array,
    Counts,
    Exported,
    Exporter,
    ExportSpec,
    FileContent,
    Model,
    OpenTensor,
    StageError,
    TensorSpec,
    first_line,
)

if TYPE_CHECKING:
    import torch

CONVOLUTIONS = ("conv1d", "conv2d", "conv3d", "convolution", "_convolution")
TRANSPOSED = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
PRODUCTS = {
    "linear": (0, 1),
    "matmul": (0, 1),
    "mm": (0, 1),
    "bmm": (0, 1),
    "addmm": (1, 2),
    "baddbmm": (1, 2),
}
"""ATen operator -> positions of the two factors among its arguments."""
RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")
CELLS = ("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")
"""One step of a recurrent layer: two products."""
DAMAGE = (zipfile.BadZipFile, OSError, ValueError, LookupError, TypeError, AttributeError)
"""What reading a damaged archive raises."""
LARGEST_GRAPH_BYTES = 1 << 28
SERIALIZED_TYPES = {
    **{1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64"},
    **{6: "float16", 7: "float32", 8: "float64", 12: "bool", 13: "bfloat16"},
}
"""Element types by their number in the archive."""


class TorchExporter:
    """Write ``torch.export.save`` files deterministically."""

    format = "torch"
    suffix = ".pt2"
    reads = ()
    precisions = ("fp32", "fp16")
    options: Mapping[str, str] = FORM

    def toolchain(self) -> Mapping[str, str]:
        try:
            return {"torch": version("torch")}
        except PackageNotFoundError:
            return {}

    def export(self, model: Model, spec: ExportSpec, out: Path) -> Exported:
        """Trace the model at its input shape, batch first, NCHW. Raises :class:`StageError`."""
        examples = model.example_inputs()
        import torch

        arguments = tuple(torch.from_numpy(array) for array in examples)
        module = model.module()
        if spec.precision == "fp16":
            module = copy.deepcopy(module).half()
            arguments = tuple(tensor.half() for tensor in arguments)
        traced = _traced(module, arguments)
        _refuse_code(traced)
        out.write_bytes(_container(traced))
        program = _load(out)
        inputs, outputs = _described(program)
        return Exported(
            inputs=inputs,
            outputs=outputs,
            counts=count(program),
            details={
                "route": "torch.export",
                "dialect": program.dialect,
                "nodes": str(sum(node.op == "call_function" for node in program.graph.nodes)),
            },
        )

    def adopt(self, path: Path, spec: ExportSpec, out: Path) -> Exported:
        raise StageError(
            "export",
            f"{path.name}: pre-exported .pt2 files are not accepted: loading one can execute code",
            hint="pass the Python factory of the model instead",
        )

    def inspect(self, path: Path) -> FileContent:
        """What the archive's JSON says; the parts that would be unpickled are left alone."""
        return _archive_content(path)

    def evaluate(self, path: Path, inputs: Sequence[Array]) -> tuple[Array, ...] | None:
        """Run one eager inference."""
        import torch

        with torch.inference_mode():
            outputs = _load(path).module()(*(torch.from_numpy(array) for array in inputs))
        tensors = (outputs,) if isinstance(outputs, torch.Tensor) else outputs
        return tuple(tensor.numpy() for tensor in tensors)


def exporter() -> Exporter:
    """Entry point."""
    return TorchExporter()


def count(program: torch.export.ExportedProgram) -> Counts | None:
    """Count convolutions, and products with a factor that is constant or derived from constants.

    ``None`` if such a product is an einsum, whose work depends on its equation.
    """

    signature = program.graph_signature
    given = {
        *signature.inputs_to_parameters,
        *signature.inputs_to_buffers,
        *signature.inputs_to_lifted_tensor_constants,
    }
    constants = {node for node in program.graph.nodes if node.name in given}
    macs, operators = 0, {"conv": 0, "linear": 0}
    for node in program.graph.nodes:
        if node.op != "call_function":
            continue
        name = _operator(node)
        known = [argument in constants for argument in node.all_input_nodes]
        factors = [node.args[i] for i in PRODUCTS.get(name, ())]
        if name in CONVOLUTIONS or name in TRANSPOSED:
            operators["conv"] += 1
            macs += _conv_macs(node, name)
        elif any(factor in constants for factor in factors):
            operators["linear"] += 1
            macs += math.prod(_shape(node)) * int(_shape(factors[0])[-1])
        elif name in RECURRENT:
            layers, work = _recurrent_work(node)
            operators["recurrent"] = operators.get("recurrent", 0) + layers
            macs += work
        elif name in CELLS:
            operators["linear"] += 2
            weights = math.prod(_shape(node.args[2])), math.prod(_shape(node.args[3]))
            macs += math.prod(_shape(node.args[0])[:-1]) * sum(weights)
        elif name == "einsum" and any(known):
            return None
        elif known and all(known):
            constants.add(node)
    stored = [
        tensor
        for tensor in (*program.state_dict.values(), *program.constants.values())
        if hasattr(tensor, "is_floating_point")
        and tensor.is_floating_point()
        and tensor.numel() > 1
    ]
    return Counts(
        macs=macs,
        parameters=sum(tensor.numel() for tensor in stored),
        parameter_bytes=sum(tensor.numel() * tensor.element_size() for tensor in stored),
        operators=operators,
    )


def _traced(
    module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]
) -> torch.export.ExportedProgram:
    import torch

    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            return torch.export.export(module, arguments)
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        raise StageError(
            "export",
            f"torch.export cannot trace the model: {first_line(error)}",
            hint="make its control flow independent of the data",
        ) from error


def _refuse_code(program: torch.export.ExportedProgram) -> None:
    """Raise :class:`StageError` for constants that would be pickled and sizes that would be
    evaluated on loading; the runner rejects such files."""
    import torch

    odd = [k for k, v in program.constants.items() if not isinstance(v, torch.Tensor)]
    odd += [str(symbol) for symbol in program.range_constraints]
    if odd:
        raise StageError(
            "export",
            f"the traced graph contains {', '.join(odd[:5])}, which is neither a tensor nor a "
            "fixed size",
            hint="make its control flow and sizes independent of the data",
        )


def _container(program: torch.export.ExportedProgram) -> bytes:
    """Bytes of the file, from a buffer, since the archive is otherwise named after the file."""
    import torch

    program.example_inputs = None
    for node in program.graph.nodes:
        # Contains paths of this machine.
        node.meta.pop("stack_trace", None)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def _elements(tensor: OpenTensor) -> int:
    return math.prod(size for size in tensor.shape or () if isinstance(size, int))


def _archive_content(path: Path) -> FileContent:
    """Inputs, outputs and operators of a ``.pt2`` archive. Raises :class:`StageError`."""
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = (each for each in archive.namelist() if each.endswith("models/model.json"))
            if (size := archive.getinfo(name).file_size) > LARGEST_GRAPH_BYTES:
                raise ValueError("its graph is too large")
            # Without a limit zipfile unpacks up to 2 GiB before it looks at the stated size.
            with archive.open(name) as stream:
                program = json.loads(stream.read(size + 1))
        module = program["graph_module"]
        values, signature = module["graph"]["tensor_values"], module["signature"]

        def tensor(name: str) -> OpenTensor:
            found = [size.get("as_int") for size in values[name]["sizes"]]
            sizes = [size if isinstance(size, int) else None for size in found]
            dtype = SERIALIZED_TYPES.get(values[name]["dtype"], "unknown")
            return OpenTensor(name=str(name), shape=tuple(sizes), dtype=dtype)

        def names(specs: list[Any], kind: str) -> list[str]:
            arguments = (spec[kind]["arg"] for spec in specs if kind in spec)
            return [each.get("as_tensor", each)["name"] for each in arguments]

        weights = [tensor(name) for name in names(signature["input_specs"], "parameter")]
        targets = [node["target"] for node in module["graph"]["nodes"]]
        return FileContent(
            inputs=tuple(map(tensor, names(signature["input_specs"], "user_input"))),
            outputs=tuple(map(tensor, names(signature["output_specs"], "user_output"))),
            operators=Counter(each.removeprefix("torch.ops.") for each in targets),
            details={"torch": str(program.get("torch_version", "unknown"))},
            parameters=sum(map(_elements, weights)),
            problem="loading a .pt2 file can execute code, so only those that latbench exports run",
        )
    except DAMAGE as error:
        raise StageError(
            "export",
            f"{path.name} is not a valid .pt2 file: {first_line(error)}",
            hint="truncated, corrupt, or from another version of torch: export it again",
        ) from error


def _load(path: Path) -> torch.export.ExportedProgram:
    """Load a file written by this exporter."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.load(path)


def _described(
    program: torch.export.ExportedProgram,
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    nodes = {node.name: node for node in program.graph.nodes}

    def spec(name: str) -> TensorSpec:
        value = nodes[name].meta["val"]
        dtype = str(value.dtype).removeprefix("torch.")
        return TensorSpec(name=name, shape=tuple(map(int, value.shape)), dtype=dtype)

    signature = program.graph_signature
    return (
        tuple(spec(str(name)) for name in signature.user_inputs),
        tuple(spec(str(name)) for name in signature.user_outputs),
    )


def _operator(node: Any) -> str:
    """ATen operator name without its overload."""
    packet = getattr(node.target, "overloadpacket", None)
    return "" if packet is None else str(packet.__name__)


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(int(dim) for dim in node.meta["val"].shape)


def _recurrent_work(node: Any) -> tuple[int, int]:
    """Number of layers and MACs: every weight is used once in each step of each sequence.

    The arguments are ``input, states, weights, has_biases, layers, ...``; for sequences of several
    lengths, ``steps, batch sizes, states, weights, has_biases, layers, ...``.
    """
    packed = isinstance(node.args[3], list | tuple)
    weights, layers = (node.args[3], node.args[5]) if packed else (node.args[2], node.args[4])
    steps = _shape(node.args[0])[:1] if packed else _shape(node.args[0])[:-1]
    shapes = [_shape(weight) for weight in weights]
    used = sum(math.prod(shape) for shape in shapes if len(shape) == 2)
    return int(layers), math.prod(steps) * used


def _conv_macs(node: Any, name: str) -> int:
    """One kernel slice per output element (transposed convolution: per input element)."""
    transposed = name in TRANSPOSED or (name in ("convolution", "_convolution") and node.args[6])
    across = node.args[0] if transposed else node
    return math.prod(_shape(across)) * math.prod(_shape(node.args[1])[1:])
