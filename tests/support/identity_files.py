"""The files of ``latbench/worker/conformance/identity``, as they were made.

A test compares them with what these functions make.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

ONNX_TYPES = (
    *("float32", "float16", "float64", "int64", "int32", "int16", "int8"),
    *("uint8", "uint16", "uint32", "uint64", "bool"),
)
TFLITE_TYPES = ("float32", "int32", "int64", "int8", "uint8", "bool")
SHAPE = (2, 3)


def onnx_file(path: Path, types: Sequence[str] = ONNX_TYPES) -> Path:
    """One ``Identity`` for each type."""
    import onnx
    from onnx import helper

    def infos(letter: str) -> list[onnx.ValueInfoProto]:
        codes = [helper.np_dtype_to_tensor_dtype(np.dtype(each)) for each in types]
        return [
            helper.make_tensor_value_info(f"{letter}_{each}", code, SHAPE)
            for each, code in zip(types, codes, strict=True)
        ]

    nodes = [helper.make_node("Identity", [f"x_{each}"], [f"y_{each}"]) for each in types]
    graph = helper.make_graph(nodes, "identity", infos("x"), infos("y"))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    path.write_bytes(model.SerializeToString())
    return path


def tflite_file(path: Path, types: Sequence[str] = TFLITE_TYPES) -> Path:
    """One ``RESHAPE`` to its own shape for each type; needs the runtime's own schema."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    def tensor(name: str, dtype: str, shape: Sequence[int], buffer: int) -> object:
        made = schema.TensorT()
        made.name, made.buffer = name.encode(), buffer
        made.type = getattr(schema.TensorType, dtype.upper())
        made.shape = np.array(shape, dtype=np.int32)
        return made

    def buffer(content: bytes | None = None) -> object:
        made = schema.BufferT()
        made.data = None if content is None else np.frombuffer(content, dtype=np.uint8)
        return made

    def named(name: str, index: int) -> object:
        made = schema.TensorMapT()
        made.name, made.tensorIndex = name.encode(), index
        return made

    def node(index: int) -> object:
        made = schema.OperatorT()
        made.opcodeIndex = 0
        made.inputs = np.array([1 + index, 0], dtype=np.int32)
        made.outputs = np.array([1 + len(types) + index], dtype=np.int32)
        made.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
        made.builtinOptions = schema.ReshapeOptionsT()
        made.builtinOptions.newShape = np.array(SHAPE, dtype=np.int32)
        return made

    graph = schema.SubGraphT()
    graph.tensors = [
        tensor("shape", "int32", [2], 1),
        *[tensor(f"x_{each}", each, SHAPE, 0) for each in types],
        *[tensor(f"y_{each}", each, SHAPE, 0) for each in types],
    ]
    graph.inputs = np.arange(1, 1 + len(types), dtype=np.int32)
    graph.outputs = np.arange(1 + len(types), 1 + 2 * len(types), dtype=np.int32)
    graph.operators, graph.name = [node(i) for i in range(len(types))], b"main"
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RESHAPE
    code.version = 1
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
    signature.inputs = [named(f"x_{each}", 1 + i) for i, each in enumerate(types)]
    signature.outputs = [named(f"y_{each}", 1 + len(types) + i) for i, each in enumerate(types)]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [buffer(), buffer(np.array(SHAPE, np.int32).tobytes())]
    model.signatureDefs = [signature]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path
