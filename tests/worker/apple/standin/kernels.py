"""Executes models for the stand-in of Core ML: one JSON request and one answer on each line of a
Unix socket, whose path is the argument."""

from __future__ import annotations

import base64
import json
import re
import sys
import time
from importlib import import_module
from itertools import count
from socketserver import StreamRequestHandler, ThreadingMixIn, UnixStreamServer
from threading import Thread
from typing import Any

import numpy as np
from PIL import Image

from support.mac.compiled import Loaded, compile_model, read_compiled
from support.mac.features import ARRAYS
from support.mac.structure import preferred

FORMATS = {0x42475241: "RGB", 0x4C303038: "L", 0x4C303068: "F"}
"""Pixel format of Core Video -> mode of the picture."""
SLOW_S = 3600
models: dict[int, Loaded] = {}
states: dict[int, dict[str, np.ndarray]] = {}
numbers = count(1)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    match request["do"]:
        case "compile":
            return {"path": compile_model(request["path"])}
        case "load":
            number = next(numbers)
            models[number] = Loaded(request["path"], "")
            described = {
                each.name: {
                    "shape": [*each.type.multiArrayType.shape],
                    "type": each.type.multiArrayType.dataType or None,
                }
                for each in models[number].description.output
            }
            return {"number": number, "described": described}
        case "unload":
            del models[request["number"]]
            return {}
        case "state":
            number = next(numbers)
            states[number] = models[request["number"]].new_state()
            return {"number": number}
        case "plan":
            spec = read_compiled(request["path"])[0]
            units = request["units"]
            functions = {
                name: planned(function.block_specializations[function.opset], units)
                for name, function in spec.mlProgram.functions.items()
            }
            return {"functions": functions}
        case _:
            return predict(request)


def predict(request: dict[str, Any]) -> dict[str, Any]:
    model = models[request["number"]]
    given = {name: feature(value) for name, value in request["features"].items()}
    # A value of infinity stands for an inference that never ends.
    if any(isinstance(each, np.ndarray) and np.isinf(each).any() for each in given.values()):
        time.sleep(SLOW_S)
    found = model.predict(given, states.get(request.get("state", 0)))
    kinds = {each.name: each.type for each in model.description.output}
    # Labels are texts or numbers, which the worker does not ask for.
    values = {name: value for name, value in found.items() if not isinstance(value, str | int)}
    return {"features": {name: told(value, kinds[name]) for name, value in values.items()}}


def feature(value: dict[str, Any]) -> Any:
    data, shape = base64.b64decode(value["data"]), value["shape"]
    if value["kind"] == "array":
        return np.frombuffer(data, ARRAYS[value["type"]]).reshape(shape).copy()
    match FORMATS[value["type"]]:
        case "RGB":
            blue_first = np.frombuffer(data, np.uint8).reshape(*shape, 4)
            return Image.fromarray(np.ascontiguousarray(blue_first[..., 2::-1]))
        case "L":
            return Image.fromarray(np.frombuffer(data, np.uint8).reshape(shape))
        case _:
            half = np.frombuffer(data, np.float16).reshape(shape)
            return Image.fromarray(half.astype(np.float32))


def told(value: Any, kind: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        empty = {"shape": [], "type": 0, "data": ""}
        return {"kind": "dictionary", "labels": {str(k): v for k, v in value.items()}, **empty}
    if isinstance(value, np.ndarray):
        number = kind.multiArrayType.dataType
        return packed("array", value.astype(ARRAYS[number]), number)
    array = np.asarray(value)
    if value.mode == "F":
        return packed("image", array.astype(np.float16), 0x4C303068)
    if value.mode == "L":
        return packed("image", array, 0x4C303038)
    blue_first = np.concatenate([array[..., 2::-1], array[..., 3:]], axis=-1)
    return packed("image", blue_first, 0x42475241, array.shape[:2])


def packed(kind: str, array: np.ndarray, number: int, shape: Any = None) -> dict[str, Any]:
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"kind": kind, "shape": list(shape or array.shape), "type": number, "data": data}


def planned(block: Any, units: str) -> list[dict[str, Any]]:
    return [
        {
            "kind": each.type if each.type == "const" else f"ios17.{each.type}",
            "outputs": [output.name for output in each.outputs],
            "blocks": [planned(inner, units) for inner in each.blocks],
            "unit": preferred(each, units),
        }
        for each in block.operations
    ]


def refusal(error: Exception) -> dict[str, Any]:
    """The parts of the userInfo that the stand-in of coremltools' bindings prints."""
    description = re.search(r'NSLocalizedDescription = "(.*)";', str(error))
    below = re.search(r'NSUnderlyingError = ".* \\"(.*)\\"";', str(error))
    return {
        "error": description[1] if description else str(error),
        "underlying": below[1] if below else None,
    }


class Connection(StreamRequestHandler):
    """One process of the stand-in."""

    def handle(self) -> None:
        for line in self.rfile:
            try:
                said = answer(json.loads(line))
            except Exception as error:  # noqa: BLE001 - whatever it is, the worker is told
                said = refusal(error)
            self.wfile.write(json.dumps(said).encode() + b"\n")


class Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True


if __name__ == "__main__":
    # Imported before anybody waits for an answer: it takes seconds.
    for name in ("coremltools", "torch", "latbench_exporters.coreml.mil"):
        import_module(name)
    with Server(sys.argv[1], Connection) as server:
        sys.stdout.write("listening\n")
        sys.stdout.flush()
        # The program that started this one holds the other end.
        Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.read()
