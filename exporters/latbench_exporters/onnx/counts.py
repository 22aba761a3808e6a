"""Count the operators, multiply-accumulates and weights of ONNX graphs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from latbench.api import Array, Counts, first_line, make_inputs
from latbench_exporters.onnx import work
from latbench_exporters.onnx.external import external, size_bytes
from latbench_exporters.onnx.graph import describe, inferred_shapes
from latbench_exporters.onnx.session import NodeCall, ObservedRun, Shape, observe
from latbench_exporters.onnx.walk import graphs, nodes, subgraphs

if TYPE_CHECKING:
    import onnx

CONTROL_FLOW = ("If", "Loop", "Scan")
OBSERVED = "as executed once with the inputs of this artifact"


class _Uncounted(Exception):
    """The reason why a graph has no counts."""


@dataclass(kw_only=True)
class _Site:
    """A node whose work is counted."""

    node: onnx.NodeProto
    position: int
    """In :func:`~latbench_exporters.onnx.walk.nodes`."""
    inner: bool
    """Whether it is in a subgraph, so that shapes and number of executions depend on the run."""


@dataclass(kw_only=True)
class _Found:
    """What is counted in a graph, and what cannot be."""

    sites: list[_Site] = field(default_factory=list)
    uncounted: set[str] = field(default_factory=set)


def count(
    model: onnx.ModelProto, inputs: Sequence[Array] | None = None
) -> tuple[Counts | None, dict[str, str]]:
    """Count MACs, parameters and operators; ``None`` if a part of the work cannot be counted.

    Shapes that inference cannot determine, and the bodies of Ifs, Loops and Scans, are observed in
    one run on ``inputs`` (seeded ones if not given). The details say so, or why there are no
    counts: ``uncounted`` names the operators.
    """
    try:
        return _count(model, inputs)
    except _Uncounted as reason:
        return None, {"uncounted": str(reason)}
    except Exception as error:  # noqa: BLE001 - any graph may come; counts only inform
        return None, {"uncounted": f"{type(error).__name__}: {first_line(error)}"}


def constant_tensors(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Initializers and outputs of constant nodes of one graph, by name."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and (tensor := _held(node)) is not None:
            found[node.output[0]] = tensor
    return found


def all_constants(graph: onnx.GraphProto) -> list[tuple[str, onnx.TensorProto]]:
    """Those of the graph and its subgraphs; names are unique only within one graph."""
    return [pair for part in graphs(graph) for pair in constant_tensors(part).items()]


def _count(model: onnx.ModelProto, inputs: Sequence[Array] | None) -> tuple[Counts, dict[str, str]]:
    found = _found(model.graph)
    if any(part.sparse_initializer for part in graphs(model.graph)):
        found.uncounted.add("sparse weights")
    if found.uncounted:
        raise _Uncounted(", ".join(sorted(found.uncounted)))
    shapes, lengths = _shapes(model), _lengths(model, found)
    dynamic = [name for name, value in lengths.items() if value is None]
    needed = {
        name
        for site in found.sites
        for name in (*work.factors(site.node), site.node.output[0])
        if name
    }
    run, details = None, {}
    if dynamic or any(site.inner for site in found.sites) or not needed <= shapes.keys():
        run, details = _observed(model, inputs, dynamic), {"counted": OBSERVED}
    macs, operators = 0, {"conv": 0, "linear": 0}
    for site in found.sites:
        kind = work.kind_of_work(site.node)
        assert kind is not None, "that makes it a site"
        for known in _calls(site, shapes, run):
            macs += _macs(site.node, known, lengths, run)
            operators[kind] = operators.get(kind, 0) + 1
    parameters, stored = _weights(model.graph)
    counts = Counts(macs=macs, parameters=parameters, parameter_bytes=stored, operators=operators)
    return counts, details


def _found(graph: onnx.GraphProto) -> _Found:
    """The nodes that multiply with constants: initializers, or what is computed from such alone."""
    found, position = _Found(), 0
    # In the order of `graphs`, with the constants that a subgraph sees outside of it.
    pending: list[tuple[onnx.GraphProto, set[str], bool]] = [(graph, set(), False)]
    while pending:
        part, outer, inner = pending.pop()
        constants = outer | constant_tensors(part).keys()
        for node in part.node:
            named = [name for name in node.input if name]
            if node.op_type == "Constant" or (
                named and constants.issuperset(named) and not subgraphs(node)
            ):
                constants.update(node.output)
            elif _is_counted(node, constants):
                found.sites.append(_Site(node=node, position=position, inner=inner))
            elif _is_uncounted(node, constants):
                found.uncounted.add(node.op_type)
            position += 1
        pending.extend((body, constants, True) for node in part.node for body in subgraphs(node))
    return found


def _is_counted(node: onnx.NodeProto, constants: set[str]) -> bool:
    kind = work.kind_of_work(node)
    return kind == "conv" or (kind is not None and not constants.isdisjoint(work.factors(node)))


def _is_uncounted(node: onnx.NodeProto, constants: set[str]) -> bool:
    """Whether the node may multiply with weights in a way that is not counted."""
    if subgraphs(node):
        return node.op_type not in CONTROL_FLOW
    if work.kind_of_work(node) is not None:
        return False
    return work.has_weights_inside(node) or (
        work.multiplies(node) and not constants.isdisjoint(node.input)
    )


def _shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    """The tensors of the main graph whose shapes are known, with them.

    A tensor without a shape has an unknown rank, which is not the rank 0 of a scalar.
    """
    graph = inferred_shapes(model).graph
    shapes = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.input, *graph.output)
        if value.type.tensor_type.HasField("shape")
        and all(
            dim.WhichOneof("value") == "dim_value" and dim.dim_value >= 0
            for dim in value.type.tensor_type.shape.dim
        )
    }
    constants = constant_tensors(model.graph)
    return shapes | {name: tuple(tensor.dims) for name, tensor in constants.items()}


def _lengths(model: onnx.ModelProto, found: _Found) -> dict[str, Array | None]:
    """Lengths of the sequences of recurrent layers by tensor; ``None`` if computed in the graph."""
    import onnx

    values = constant_tensors(model.graph)
    lengths: dict[str, Array | None] = {}
    for site in found.sites:
        if (name := _length_of(site.node)) is not None:
            if site.inner:
                raise _Uncounted(f"{site.node.op_type} with lengths in a loop or branch")
            lengths[name] = onnx.numpy_helper.to_array(values[name]) if name in values else None
    return lengths


def _length_of(node: onnx.NodeProto) -> str | None:
    if work.kind_of_work(node) != "recurrent" or len(node.input) <= work.LENGTHS:
        return None
    return node.input[work.LENGTHS] or None


def _observed(
    model: onnx.ModelProto, inputs: Sequence[Array] | None, values: Sequence[str]
) -> ObservedRun:
    if any(True for _ in external(model)):
        raise _Uncounted("shapes that only a run shows, in a model with external data")
    if inputs is None:
        inputs = make_inputs(describe(model)[0], seed=0)
    run = observe(model, inputs, values)
    if run is None:
        raise _Uncounted("shapes that only a run shows, and ONNX Runtime could not run it")
    return run


def _calls(
    site: _Site, shapes: Mapping[str, Shape], run: ObservedRun | None
) -> list[dict[str, Shape]]:
    """Shapes by tensor in each execution of a node."""
    if run is None:
        return [dict(shapes)]
    calls = run.calls.get(site.position, [])
    if not calls and not site.inner:
        raise _Uncounted(f"{site.node.op_type}, which the profile of a run does not show")
    return [_named(site.node, call) for call in calls]


def _named(node: onnx.NodeProto, call: NodeCall) -> dict[str, Shape]:
    names = [name for name in node.input if name], [name for name in node.output if name]
    return dict(zip(names[0], call.inputs, strict=True)) | dict(
        zip(names[1], call.outputs, strict=True)
    )


def _macs(
    node: onnx.NodeProto,
    shapes: Mapping[str, Shape],
    lengths: Mapping[str, Array | None],
    run: ObservedRun | None,
) -> int:
    steps = None
    if (name := _length_of(node)) is not None:
        own = lengths[name]
        if own is None:
            assert run is not None, "lengths that are computed are observed"
            own = run.values[name]
        steps = sum(int(length) for length in own.ravel())
    try:
        return work.macs(node, lambda name: shapes[name], steps)
    except ValueError as error:
        raise _Uncounted(f"{node.op_type} ({error})") from error


def _held(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """The tensor of a constant node; ``None`` for strings and sparse tensors."""
    import onnx

    for attribute in node.attribute:
        if attribute.name == "value":
            tensor: onnx.TensorProto = attribute.t
            return tensor
        if attribute.name in ("value_float", "value_floats"):
            return _tensor(onnx.TensorProto.FLOAT, attribute, attribute.floats, attribute.f)
        if attribute.name in ("value_int", "value_ints"):
            return _tensor(onnx.TensorProto.INT64, attribute, attribute.ints, attribute.i)
    return None


def _tensor(
    kind: int, attribute: onnx.AttributeProto, several: Sequence[float], one: float
) -> onnx.TensorProto:
    import onnx

    if attribute.name.endswith("s"):
        return onnx.helper.make_tensor("", kind, [len(several)], several)
    return onnx.helper.make_tensor("", kind, [], [one])


def _weights(graph: onnx.GraphProto) -> tuple[int, int]:
    """Number and bytes of the weights: floating-point tensors with more than one element, and
    integer tensors that are values of quantized operators, without scales and zero points."""
    import onnx

    kinds = onnx.TensorProto
    floats = (kinds.FLOAT, kinds.FLOAT16, kinds.BFLOAT16, kinds.DOUBLE)
    values: set[str] = set()
    scales: set[str] = set()
    packed: dict[str, int] = {}
    every = list(nodes(graph))
    dynamic = {node.output[1] for node in every if node.op_type == "DynamicQuantizeLinear"}
    for node in every:
        positions = work.QUANTIZED_VALUES.get(node.op_type)
        if positions is None and node.op_type.startswith("QLinear"):
            positions = (0,)
        if positions is not None:
            for i, name in enumerate(node.input):
                (values if i in positions else scales).add(name)
        elif node.op_type == "Mul" and not dynamic.isdisjoint(node.input):
            scales.update(node.input)
        if work.kind_of_work(node) == "recurrent":
            # Initial states, which are zeros and not parameters in PyTorch.
            scales.update(node.input[work.LENGTHS + 1 : work.LENGTHS + 3])
        if node.op_type == "MatMulNBits":
            sizes = (work.attribute(node, axis, 0) for axis in ("K", "N"))
            packed[node.input[1]] = math.prod(sizes)
    weights = [
        (packed.get(name, math.prod(tensor.dims)), size_bytes(tensor))
        for name, tensor in all_constants(graph)
        if math.prod(tensor.dims) > 1
        and (name in values or (tensor.data_type in floats and name not in scales))
    ]
    return sum(elements for elements, _ in weights), sum(stored for _, stored in weights)
