"""A TFLite file made by hand, without a converter."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

UNARY = ("ZerosLike",)


def adder(path: Path, *operators: str, width: int = 4) -> Path:
    """``width`` numbers plus 0, 1, 2, ..., with a signature; needs the runtime's own schema.

    ``operators`` are others, by the names of their options, each applied to what the one before it
    gives and to the constants.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    chain = operators or ("Add",)

    def tensor(name: str, buffer: int) -> object:
        made = schema.TensorT()
        made.name, made.buffer, made.type = name.encode(), buffer, schema.TensorType.FLOAT32
        made.shape = np.array([1, width], dtype=np.int32)
        return made

    def buffer(content: bytes | None = None) -> object:
        made = schema.BufferT()
        made.data = None if content is None else np.frombuffer(content, dtype=np.uint8)
        return made

    def named(name: str, index: int) -> object:
        made = schema.TensorMapT()
        made.name, made.tensorIndex = name.encode(), index
        return made

    def node(at: int, operator: str) -> object:
        made = schema.OperatorT()
        made.opcodeIndex = at
        taken = (at + 1 if at else 0, 1)[: 1 if operator in UNARY else 2]
        made.inputs, made.outputs = (np.array(each, dtype=np.int32) for each in (taken, (at + 2,)))
        made.builtinOptionsType = getattr(schema.BuiltinOptions, f"{operator}Options")
        made.builtinOptions = getattr(schema, f"{operator}OptionsT")()
        return made

    def code(operator: str) -> object:
        made = schema.OperatorCodeT()
        kind = re.sub(r"(?<!^)(?=[A-Z])", "_", operator).upper()
        made.builtinCode = made.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
        made.version = 1
        return made

    last = len(chain) + 1
    graph = schema.SubGraphT()
    graph.tensors = [tensor("x", 1), tensor("c", 2)]
    graph.tensors += [tensor("y" if i == last else f"t{i}", i + 1) for i in range(2, last + 1)]
    graph.inputs, graph.outputs = (np.array([each], dtype=np.int32) for each in (0, last))
    graph.operators, graph.name = [node(*each) for each in enumerate(chain)], b"main"
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
    signature.inputs, signature.outputs = [named("x", 0)], [named("y", last)]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code(each) for each in chain], [graph]
    constant = np.arange(width, dtype=np.float32).tobytes()
    model.buffers = [buffer(), buffer(), buffer(constant), *(buffer() for _ in chain)]
    model.signatureDefs = [signature]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def filler(path: Path) -> Path:
    """Ones, as many as the integer input ``n`` says, and their sum; needs the runtime's schema."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    kinds = {"n": schema.TensorType.INT32, "axis": schema.TensorType.INT32}
    shapes = {"n": [1], "axis": [1], "one": [], "ones": [1], "sum": []}
    contents = {"axis": np.zeros(1, np.int32), "one": np.ones(1, np.float32)}
    names = list(shapes)

    def tensor(name: str) -> object:
        made = schema.TensorT()
        made.name, made.buffer = name.encode(), names.index(name) + 1
        made.type = kinds.get(name, schema.TensorType.FLOAT32)
        made.shape = np.array(shapes[name], dtype=np.int32)
        return made

    def buffer(name: str | None) -> object:
        made = schema.BufferT()
        held = contents.get(name or "")
        made.data = None if held is None else np.frombuffer(held.tobytes(), dtype=np.uint8)
        return made

    def operator(code: int, inputs: list[str], outputs: list[str]) -> object:
        made = schema.OperatorT()
        made.opcodeIndex = code
        made.inputs = np.array([names.index(each) for each in inputs], dtype=np.int32)
        made.outputs = np.array([names.index(each) for each in outputs], dtype=np.int32)
        return made

    def code(number: int) -> object:
        made = schema.OperatorCodeT()
        made.builtinCode = made.deprecatedBuiltinCode = number
        made.version = 1
        return made

    total = operator(1, ["ones", "axis"], ["sum"])
    total.builtinOptionsType = schema.BuiltinOptions.ReducerOptions  # type: ignore[attr-defined]
    total.builtinOptions = schema.ReducerOptionsT()  # type: ignore[attr-defined]
    graph = schema.SubGraphT()
    graph.tensors = [tensor(name) for name in names]
    graph.inputs, graph.outputs = (
        np.array([names.index(each)], dtype=np.int32) for each in ("n", "sum")
    )
    graph.operators, graph.name = [operator(0, ["n", "one"], ["ones"]), total], b"main"
    model = schema.ModelT()
    model.version, model.subgraphs = 3, [graph]
    model.operatorCodes = [code(schema.BuiltinOperator.FILL), code(schema.BuiltinOperator.SUM)]
    model.buffers = [buffer(None), *map(buffer, names)]
    builder = flatbuffers.Builder(256)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path
