"""Which real model files can be measured, by runtime.

    python benchmarks/real_files.py [--cache FOLDER] [--only TEXT] [--smoke]

Downloads the packages of ``real_files.yaml`` from the index that pip uses (about 190 MB), checks
the digest of every model file in them, and gives each file to ``latbench run`` (Core ML, which
needs a Mac to run: to ``latbench verify``). The packages are not installed and none of their code
is executed. *Without latbench* names the runtimes that execute the file by a few lines of their own
API: if one of them is named and its cell is a reason, then latbench is wrong, and the exit status
is 1. Nothing printed is a time, so a busy machine will do.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

RUNTIMES = {".onnx": ("onnxruntime", "openvino"), ".tflite": ("tflite",), ".mlpackage": ("coreml",)}
COLUMNS = ("onnxruntime", "openvino", "tflite", "coreml")
QUICK = ("--protocol", "latbench-quick@1", "--budget", "2", "--threads", "1")
# Wheels for one fixed platform, so that the table does not depend on the machine.
PLATFORM = (
    "--only-binary=:all:",
    "--python-version=3.11",
    "--implementation=cp",
    *(f"--platform={name}" for name in ("manylinux_2_28_x86_64", "manylinux2014_x86_64", "any")),
)


class ModelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: str
    sha256: str
    shapes: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()


class Package(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    version: str
    license: str
    files: tuple[ModelFile, ...]


def digest(path: Path) -> str:
    """The sha256 of a file, or of a folder's file names with their digests."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    found = hashlib.sha256()
    for part in sorted(part for part in path.rglob("*") if part.is_file()):
        name = part.relative_to(path).as_posix().encode()
        found.update(name + b"\0" + hashlib.sha256(part.read_bytes()).digest())
    return found.hexdigest()


def unpack(package: Package, cache: Path) -> Path:
    """The folder with the model files of a package, downloaded unless all are there."""
    folder = cache / f"{package.name}-{package.version}"
    if not all((folder / each.path).exists() for each in package.files):
        with tempfile.TemporaryDirectory() as download:
            wanted = f"{package.name}=={package.version}"
            pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", download]
            subprocess.run([*pip, *PLATFORM, wanted], check=True, stdout=sys.stderr)
            (wheel,) = Path(download).iterdir()
            with zipfile.ZipFile(wheel) as archive:
                for name in archive.namelist():
                    if any(f"{name}/".startswith(f"{each.path}/") for each in package.files):
                        archive.extract(name, folder)
    for each in package.files:
        if digest(folder / each.path) != each.sha256:
            sys.exit(f"{folder / each.path}: sha256 is not the one in real_files.yaml")
    return folder


def measure(path: Path, runtime: str, file: ModelFile, registry: str) -> tuple[str, dict[str, Any]]:
    """``measured`` or the reason in the runtime's or latbench's words, and the artifact."""
    extra = [part for shape in file.shapes for part in ("--shape", shape)]
    extra += [part for content in file.inputs for part in ("--input", content)]
    command = [sys.executable, "-m", "latbench"]
    if runtime == "coreml":
        command += ["verify", str(path), "--json", *extra]
    else:
        command += ["run", str(path), "--backend", runtime, "--strict", "--json", *QUICK, *extra]
        command += ["--registry", registry]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        return short(done.stderr), {}
    record = answer.get("record", answer)
    artifact = record.get("artifact") or {}
    if done.returncode == 0:
        return "verified" if runtime == "coreml" else "measured", artifact
    failure = (record.get("outcome") or record).get("failure") or {}
    return short(failure.get("message") or done.stderr), artifact


def short(message: str) -> str:
    lines = [line for line in message.splitlines() if line.strip()]
    text = lines[0].removeprefix("latbench: ").replace("|", "/") if lines else "ended in silence"
    return text if len(text) <= 160 else text[:157] + "..."


def sizes_of(texts: Iterable[str]) -> dict[str, list[int]]:
    """Sizes by input name, which is empty for the only input."""
    named = (text.rpartition("=") for text in texts)
    return {name: [int(size) for size in sizes.split("x")] for name, _, sizes in named}


def contents(texts: Iterable[str]) -> dict[str, tuple[float, float]]:
    """The least and the largest value by input name."""
    found = {}
    for name, _, content in (text.rpartition("=") for text in texts):
        low, _, high = content.partition(":")
        found[name] = (float(low), float(high or low))
    return found


def array(name: str, shape: Iterable[int], dtype: Any, file: ModelFile) -> Any:
    """Noise, or values in the range that the list gives."""
    import numpy as np

    given = contents(file.inputs)
    low, high = given.get(name, given.get("", (0.0, 1.0)))
    return np.random.default_rng(0).uniform(low, high, tuple(shape)).astype(dtype)


def by_onnxruntime(path: str, file: ModelFile) -> None:
    import numpy as np
    import onnxruntime as ort

    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    sizes, feed = sizes_of(file.shapes), {}
    types = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32}
    for given in session.get_inputs():
        shape = sizes.get(given.name, sizes.get("", given.shape))
        feed[given.name] = array(given.name, shape, types[given.type], file)
    session.run(None, feed)


def by_openvino(path: str, file: ModelFile) -> None:
    import openvino as ov

    core = ov.Core()
    model, sizes = core.read_model(path), sizes_of(file.shapes)
    shapes = {
        port.any_name: sizes.get(port.any_name) or sizes.get("")
        for port in model.inputs
        if port.any_name in sizes or "" in sizes
    }
    if shapes:
        model.reshape(shapes)
    compiled = core.compile_model(model, "CPU")
    compiled(
        [
            array(port.any_name, port.shape, port.element_type.to_dtype(), file)
            for port in compiled.inputs
        ]
    )


def by_tflite(path: str, file: ModelFile) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=1)
    interpreter.allocate_tensors()
    for given in interpreter.get_input_details():
        value = array(given["name"], given["shape"], given["dtype"], file)
        interpreter.set_tensor(given["index"], value)
    interpreter.invoke()
    for given in interpreter.get_output_details():
        interpreter.get_tensor(given["index"])


PLAIN = {"onnxruntime": by_onnxruntime, "openvino": by_openvino, "tflite": by_tflite}


def executes(runtime: str, path: Path, file: ModelFile) -> bool:
    """Whether a runtime executes the file in a process of its own, which may crash."""
    if runtime not in PLAIN:
        return False
    command = [sys.executable, __file__, "--plain", runtime, str(path)]
    given = msgspec.json.encode(file).decode()
    return subprocess.run([*command, given], capture_output=True, check=False).returncode == 0


def macs(artifact: Mapping[str, Any]) -> str:
    if counts := artifact.get("counts"):
        return f"{counts['macs'] / 1e6:,.3g} M" if counts["macs"] < 1e8 else giga(counts["macs"])
    reason = artifact.get("details", {}).get("uncounted")
    return f"not counted: {short(reason)}" if reason else ""


def giga(count: int) -> str:
    return f"{count / 1e9:.3g} G"


def row(path: Path, file: ModelFile, source: str, registry: str) -> tuple[str, bool]:
    """The row of a file, and whether every runtime that executes it was measured."""
    cells, plain = dict.fromkeys(COLUMNS, ""), []
    artifact: dict[str, Any] = {}
    for runtime in RUNTIMES[path.suffix]:
        cells[runtime], found = measure(path, runtime, file, registry)
        artifact = artifact or found
        if executes(runtime, path, file):
            plain.append(runtime)
    given = artifact.get("inputs", ())
    inputs = ", ".join("x".join(map(str, each["shape"])) or "scalar" for each in given)
    shown = (path.name, f"{file.sha256[:8]}", source, inputs, macs(artifact), *cells.values())
    line = "| " + " | ".join((*shown, ", ".join(plain) or "none")) + " |"
    return line, all(cells[runtime] == "measured" for runtime in plain)


def shipped() -> Iterable[tuple[Path, ModelFile, str]]:
    """Files that ONNX Runtime's own package holds."""
    import onnxruntime

    for name in ("sigmoid.onnx", "logreg_iris.onnx"):
        path = Path(onnxruntime.__file__).parent / "datasets" / name
        yield path, ModelFile(name, digest(path)), f"onnxruntime {onnxruntime.__version__}"


def downloaded(cache: Path, only: str) -> Iterable[tuple[Path, ModelFile, str]]:
    listed = Path(__file__).with_suffix(".yaml").read_bytes()
    for package in msgspec.yaml.decode(listed, type=tuple[Package, ...]):
        chosen = [each for each in package.files if only in f"{package.name}/{each.path}"]
        folder = unpack(package, cache) if chosen else cache
        for each in chosen:
            yield folder / each.path, each, f"{package.name} {package.version}, {package.license}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "real-files")
    parser.add_argument("--only", default="", help="only files whose package/path contains this")
    parser.add_argument("--plain", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--smoke", action="store_true", help="two tiny files, without a download")
    args = parser.parse_args()
    if args.plain:
        runtime, path, given = args.plain
        PLAIN[runtime](path, msgspec.json.decode(given, type=ModelFile))
        return
    files = shipped() if args.smoke else downloaded(args.cache, args.only)
    heads = ("file", "sha256", "package", "inputs", "MACs", *COLUMNS, "without latbench")
    print("| " + " | ".join(heads) + " |")
    print("|" + "---|" * len(heads))
    right = True
    with tempfile.TemporaryDirectory() as folder:
        for path, file, source in files:
            line, good = row(path, file, source, f"{folder}/r.db")
            print(line, flush=True)
            right = right and good
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    main()
