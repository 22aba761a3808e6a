"""A TFLite file made by hand, without a converter."""

from __future__ import annotations

import re
import struct
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
    return _write(
        path,
        {
            "n": ("INT32", [1], None),
            "axis": ("INT32", [1], np.zeros(1, np.int32).tobytes()),
            "one": ("FLOAT32", [], np.ones(1, np.float32).tobytes()),
            "ones": ("FLOAT32", [1], None),
            "sum": ("FLOAT32", [], None),
        },
        [("FILL", ["n", "one"], ["ones"], None), ("SUM", ["ones", "axis"], ["sum"], "Reducer")],
        ["n"],
        ["sum"],
    )


def words(path: Path, *, echo: bool = False) -> Path:
    """1 for each of two strings ``t`` that is ``red`` or ``blue``, in this order; with ``echo``,
    the strings are an output too."""
    texts = (b"red", b"blue")
    starts = [16, 19, 23]
    packed = struct.pack("<4i", len(texts), *starts) + b"".join(texts)
    return _write(
        path,
        {
            "t": ("STRING", [2], None),
            "known": ("STRING", [2], packed),
            "same": ("BOOL", [2], None),
            "y": ("FLOAT32", [2], None),
        },
        [("EQUAL", ["t", "known"], ["same"], "Equal"), ("CAST", ["same"], ["y"], None)],
        ["t"],
        ["y", "t"] if echo else ["y"],
    )


def narrow(path: Path, kind: str) -> Path:
    """Four elements of a type such as ``INT4``, made 32-bit floats."""
    tensors = {"x": (kind, [4], None), "y": ("FLOAT32", [4], None)}
    return _write(path, tensors, [("CAST", ["x"], ["y"], None)], ["x"], ["y"])


def _write(
    path: Path,
    tensors: dict[str, tuple[str, list[int], bytes | None]],
    operators: list[tuple[str, list[str], list[str], str | None]],
    inputs: list[str],
    outputs: list[str],
) -> Path:
    """A file of ``tensors`` (type, shape, constant) and ``operators`` (name, inputs, outputs,
    options)."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    names = list(tensors)

    def places(each: list[str]) -> object:
        return np.array([names.index(name) for name in each], dtype=np.int32)

    def tensor(name: str) -> object:
        made = schema.TensorT()
        kind, shape, _ = tensors[name]
        made.name, made.buffer = name.encode(), names.index(name) + 1
        made.type = getattr(schema.TensorType, kind)
        made.shape = np.array(shape, dtype=np.int32)
        return made

    def buffer(content: bytes | None) -> object:
        made = schema.BufferT()
        made.data = None if content is None else np.frombuffer(content, dtype=np.uint8)
        return made

    def operator(index: int) -> object:
        _, taken, given, options = operators[index]
        made = schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = index, places(taken), places(given)
        if options is not None:
            made.builtinOptionsType = getattr(schema.BuiltinOptions, f"{options}Options")
            made.builtinOptions = getattr(schema, f"{options}OptionsT")()
        return made

    def code(name: str) -> object:
        made = schema.OperatorCodeT()
        made.builtinCode = made.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
        made.version = 1
        return made

    graph = schema.SubGraphT()
    graph.tensors = [tensor(name) for name in names]
    graph.inputs, graph.outputs = places(inputs), places(outputs)
    graph.operators, graph.name = [operator(i) for i in range(len(operators))], b"main"
    model = schema.ModelT()
    model.version, model.subgraphs = 3, [graph]
    model.operatorCodes = [code(each[0]) for each in operators]
    model.buffers = [buffer(None), *(buffer(content) for _, _, content in tensors.values())]
    builder = flatbuffers.Builder(256)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path
