"""Damaged files of every kind: no traceback, crash or hang, and an exit status that fits.

    python benchmarks/fuzz.py [--inputs N] [--seed S] [--kinds KIND ...] [--smoke]

Each input is a sound file that was damaged, the same one for the same kind, seed and number. It is
read in this interpreter, as the command would do it; every hundredth also by the command line in a
process of its own. A kind runs in a child process, so that a crash of native code is a finding.
Findings are printed with the number that reproduces them (`--first N --inputs 1`); status 1 if
there are any.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import io
import json
import os
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
import traceback
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

HANG_S = 60
STATUSES = (0, 2, 3, 4)
"""1 is the "no" of a gate or of `bundle verify`; no damaged file gives it elsewhere."""
NUMBERS = ("0", "-1", "1e999", "NaN", "null", '""', "true", "[]", "{}", "0.5", "9" * 19, "9" * 40)
TEXTS = ("", "\0", "\x1b[2J", "\ud800", "a" * 10_000, "é", "../../x", "|<&>'\"", "\n", "-1", "=1")
BYTES = (b"\0", b"\xff", b"\x80", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\n", b"\x1b", b"[" * 5000)
SWEEP = "schema: 1\nmodels: [fake_a, fake_b]\nbackends: [fake]\nbatches: [1, 2]\nthreads: [1]\n"


def damaged_bytes(draw: random.Random, data: bytes) -> bytes:
    """One to four changes: bytes replaced, inserted, removed, repeated, or the end cut off."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(changed) + 1)
        length = min(draw.choice((1, 1, 2, 4, 16, 256)), len(changed) - at)
        match draw.randrange(6):
            case 0:
                changed[at : at + length] = draw.randbytes(length)
            case 1:
                changed[at:at] = draw.choice(BYTES)
            case 2:
                del changed[at : at + length]
            case 3:
                changed[at:at] = changed[at : at + length]
            case 4 if changed:
                changed[at % len(changed)] ^= 1 << draw.randrange(8)
            case _:
                del changed[at : None if draw.random() < 0.2 else at + 1]
    return bytes(changed)


def damaged_tree(draw: random.Random, tree: Any) -> Any:
    """One to three values of a JSON document replaced, removed or moved."""
    for _ in range(draw.randint(1, 3)):
        places = list(_places(tree))
        if not places:
            return tree
        holder, key = draw.choice(places)
        match draw.randrange(8):
            case 0 if isinstance(holder, dict):
                del holder[key]
            case 1:
                holder[key] = draw.choice(TEXTS[:3] + TEXTS[4:])
            case 2:
                holder[key] = draw.choice(
                    (-1, 0, 2**31, 2**62, 2**63, 2**64, 2**70, 1.5, None, True)
                )
            case 3:
                other, name = draw.choice(places)
                holder[key] = json.loads(
                    json.dumps(other.get(name) if isinstance(other, dict) else other[name])
                )
            case 4 if isinstance(holder, list):
                holder.insert(key, holder[key])
            case 5:
                deep: Any = 1
                for _ in range(draw.choice((3, 300))):
                    deep = [deep]
                holder[key] = deep
            case 6 if isinstance(holder[key], int):
                holder[key] = holder[key] + draw.choice((-1, 1, 2**40))
            case _:
                holder[key] = draw.choice(([], {}, "x"))
    return tree


def _places(tree: Any) -> Any:
    if isinstance(tree, dict | list):
        for key in tree if isinstance(tree, dict) else range(len(tree)):
            yield tree, key
            yield from _places(tree[key])


def damaged_text(draw: random.Random, text: str) -> bytes:
    """Words and numbers of a text replaced, lines removed or moved, bytes damaged."""
    import re

    if draw.random() < 0.3:
        return damaged_bytes(draw, text.encode())
    lines = text.splitlines(keepends=True)
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(lines))
        words = list(re.finditer(r"[\w.+-]+", lines[at]))
        if words and draw.random() < 0.8:
            word = draw.choice(words)
            new = draw.choice(
                NUMBERS + TEXTS + ("&a", "*a", "!!python/object:os.system", "<<", ": :")
            )
            lines[at] = lines[at][: word.start()] + new + lines[at][word.end() :]
        elif draw.random() < 0.5:
            lines.insert(at, draw.choice(lines))
        elif len(lines) > 1:
            del lines[at]
    return "".join(lines).encode(errors="surrogatepass")


@dataclass(kw_only=True)
class Kind:
    """One kind of file."""

    damage: Callable[[random.Random, Path], Path]
    """Write a damaged file into a folder."""
    read: Callable[[Path, Path], None]
    """Read it in this interpreter; raises :class:`Finding` or what latbench raised."""
    command: Callable[[Path], list[str]]
    """The command line that reads it."""


class Finding(Exception):
    """A result that no input may have."""


def call(arguments: list[str], *, may: tuple[int, ...] = STATUSES, **environment: str) -> str:
    """Run a command in this interpreter; return its output."""
    from latbench.cli import _status
    from latbench.cli.streams import standard_streams

    out, err = io.StringIO(), io.StringIO()
    kept = sys.argv, dict(os.environ)
    sys.argv = ["latbench", *arguments]
    os.environ.update(environment, LATBENCH_TRACEBACK="1")
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), standard_streams():
            status = _status()
    finally:
        sys.argv = kept[0]
        os.environ.clear()
        os.environ.update(kept[1])
    if status not in may:
        raise Finding(f"{arguments[0]}: status {status}: {err.getvalue()[:300]}")
    if status in (2, 3) and not err.getvalue().startswith("latbench: "):
        raise Finding(f"{arguments[0]}: status {status} without a reason")
    if "--json" not in arguments and any(c in out.getvalue() for c in "\x1b\x07\x00"):
        raise Finding(f"{arguments[0]}: a control character in the output")
    return out.getvalue()


def kinds(seeds: Path) -> dict[str, Kind]:
    """All kinds; their sound files are written to ``seeds``."""
    from latbench.bundle.evidence import Evidence, pack_evidence
    from latbench.schema.codec import decode_record
    from latbench.store.registry import Registry

    records = sorted((ROOT / "tests" / "golden" / "records").glob("*.json"))
    decoded = [decode_record(path.read_bytes()) for path in records]
    decoded = [each for i, each in enumerate(decoded) if each.id not in {e.id for e in decoded[:i]}]
    empty, full = seeds / "empty.db", seeds / "full.db"
    for path, content in ((empty, []), (full, decoded)):
        with Registry.open(str(path)) as store:
            store.add_many(content)
        with sqlite3.connect(path) as connection:
            connection.execute("pragma journal_mode = delete")
        connection.close()
    packed = pack_evidence(Evidence(records=tuple(decoded)), key=None)
    claims = (ROOT / "src/latbench/data/claim_template.yaml").read_text()
    devices = "schema: 1\ndevices:\n" + "".join(
        (ROOT / "devices.yaml").read_text().split("devices:\n", 1)[1].splitlines(keepends=True)[:40]
    )

    def written(folder: Path, name: str, data: bytes) -> Path:
        path = folder / name
        path.write_bytes(data)
        return path

    def record(draw: random.Random, folder: Path) -> Path:
        data = draw.choice(records).read_bytes()
        if draw.random() < 0.8:
            tree = json.loads(data)
            if draw.random() < 0.1:
                tree = {"record": tree, "summary": None}
            data = json.dumps(damaged_tree(draw, tree)).encode()
        else:
            data = damaged_bytes(draw, data)
        return written(folder, "record.json", data)

    def read_record(path: Path, folder: Path) -> None:
        shutil.copy(empty, folder / "import.db")
        registry = ("--registry", str(folder / "import.db"))
        call(["import", str(path), *registry])
        call(["show", *registry])
        call(["table", *registry])
        ids = call(["import", str(path), "--json", "--registry", str(folder / "import2.db")])
        if ids.strip().startswith("["):
            for id in json.loads(ids):
                call(["show", id, *registry])
                call(["show", id, "--verbose", *registry], may=(*STATUSES,))

    def bundle(draw: random.Random, folder: Path) -> Path:
        if draw.random() < 0.5:
            return written(folder, "bundle.zip", damaged_bytes(draw, packed))
        content = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(packed)) as old, zipfile.ZipFile(content, "w", 8) as new:
            changed = draw.choice(old.namelist())
            for name in old.namelist():
                data = old.read(name)
                if name == changed:
                    data = json.dumps(damaged_tree(draw, json.loads(data))).encode()
                new.writestr(name, data)
        return written(folder, "bundle.zip", content.getvalue())

    def registry(draw: random.Random, folder: Path) -> Path:
        path = folder / "registry.db"
        if draw.random() < 0.4:
            return written(folder, path.name, damaged_bytes(draw, full.read_bytes()))
        shutil.copy(full, path)
        with sqlite3.connect(path) as connection:
            columns = connection.execute(
                "select m.name, c.name from sqlite_master m, pragma_table_info(m.name) c "
                "where m.type = 'table' order by 1, 2"
            ).fetchall()
            table, column = draw.choice(columns)
            new: Any = draw.choice((None, -1, 0, 2**62, 1.5, "", "x", b"", b"\xff", b"\0" * 40))
            (old,) = connection.execute(f'select "{column}" from "{table}"').fetchone() or (None,)
            if isinstance(old, bytes) and draw.random() < 0.7:
                new = damaged_bytes(draw, old)
            elif isinstance(old, str) and old.startswith("{") and draw.random() < 0.8:
                new = json.dumps(damaged_tree(draw, json.loads(old)))
            with contextlib.suppress(sqlite3.Error):
                connection.execute(f'update "{table}" set "{column}" = ?', (new,))
        connection.close()
        return path

    def read_registry(path: Path, folder: Path) -> None:
        place = ("--registry", str(path))
        call(["show", *place])
        call(["table", *place])
        call(["show", decoded[0].id, *place])

    def yaml(text: str, name: str) -> Callable[[random.Random, Path], Path]:
        return lambda draw, folder: written(folder, name, damaged_text(draw, text))

    def read_sweep(path: Path, folder: Path) -> None:
        from latbench.bench.sweep_spec import read_sweep, requests_of
        from latbench.errors import LatbenchError
        from latbench.schema.yaml_document import parse

        with contextlib.suppress(LatbenchError):
            requests_of(read_sweep(parse(path.read_bytes(), path.name)), lambda backend: {})

    def onnx(draw: random.Random, folder: Path) -> Path:
        from support.onnx_files import classifier

        if not (seeds / "model.onnx").exists():
            classifier(seeds / "model.onnx")
        data = (seeds / "model.onnx").read_bytes()
        return written(folder, "model.onnx", damaged_bytes(draw, data))

    def tflite(draw: random.Random, folder: Path) -> Path:
        from support.tflite_files import adder

        if not (seeds / "model.tflite").exists():
            adder(seeds / "model.tflite")
        data = (seeds / "model.tflite").read_bytes()
        return written(folder, "model.tflite", damaged_bytes(draw, data))

    def package(draw: random.Random, folder: Path) -> Path:
        """A Core ML package, one file of which is damaged."""
        if not (seeds / "model.mlpackage").exists():
            import coremltools as ct
            import numpy as np
            from coremltools.converters.mil import Builder as mb

            @mb.program(input_specs=[mb.TensorSpec(shape=(1, 4))])
            def program(x: Any) -> Any:
                return mb.linear(x=x, weight=np.ones((64, 4), np.float32))

            ct.convert(program, convert_to="mlprogram").save(str(seeds / "model.mlpackage"))
        path = folder / "model.mlpackage"
        shutil.copytree(seeds / "model.mlpackage", path)
        part = draw.choice(sorted(each for each in path.rglob("*") if each.is_file()))
        part.write_bytes(damaged_bytes(draw, part.read_bytes()))
        return path

    def model_file(format: str) -> Callable[[Path, Path], None]:
        """Describe a model file, and adopt it."""

        def read(path: Path, folder: Path) -> None:
            from latbench.api import ExportSpec, InspectingExporter
            from latbench.errors import LatbenchError
            from latbench.plugins import load_exporter

            exporter = load_exporter(format)
            assert isinstance(exporter, InspectingExporter)
            with contextlib.suppress(LatbenchError):
                exporter.inspect(path)
            with contextlib.suppress(LatbenchError):
                exporter.adopt(path, ExportSpec(), folder / f"out{exporter.suffix}")

        return read

    def checkpoint(draw: random.Random, folder: Path) -> Path:
        import torch

        if draw.random() < 0.5:
            table = b'{"0.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}'
            data = struct.pack("<Q", len(table)) + table + bytes(16)
            return written(folder, "weights.safetensors", damaged_bytes(draw, data))
        if not (seeds / "weights.pth").exists():
            torch.save({"0.weight": torch.zeros(2, 2)}, seeds / "weights.pth")
        data = (seeds / "weights.pth").read_bytes()
        return written(folder, "weights.pth", damaged_bytes(draw, data))

    def read_checkpoint(path: Path, folder: Path) -> None:
        import torch

        from latbench.errors import LatbenchError
        from latbench.zoo.weights import load_weights

        with contextlib.suppress(LatbenchError):
            load_weights(torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False)), path)

    return {
        "record": Kind(
            damage=record,
            read=read_record,
            command=lambda path: ["import", str(path)],
        ),
        "bundle": Kind(
            damage=bundle,
            read=lambda path, folder: void(call(["bundle", "show", str(path)], may=(0, 1, 2))),
            command=lambda path: ["bundle", "verify", str(path)],
        ),
        "registry": Kind(
            damage=registry,
            read=read_registry,
            command=lambda path: ["show", "--registry", str(path)],
        ),
        "claims": Kind(
            damage=yaml(claims, "claims.yaml"),
            read=lambda path, folder: void(call(["claims", "validate", str(path)])),
            command=lambda path: ["claims", "validate", str(path)],
        ),
        "devices": Kind(
            damage=yaml(devices, "devices.yaml"),
            read=lambda path, folder: void(call(["devices"], LATBENCH_DEVICES=str(path))),
            command=lambda path: ["claims", "validate", str(path)],
        ),
        "sweep": Kind(
            damage=yaml(SWEEP, "sweep.yaml"),
            read=read_sweep,
            command=lambda path: ["run", "--sweep", str(path), "--protocol", "latbench-quick@1"],
        ),
        "onnx": Kind(
            damage=onnx,
            read=model_file("onnx"),
            command=lambda path: ["run", str(path), "--protocol", "latbench-quick@1"],
        ),
        "tflite": Kind(
            damage=tflite,
            read=model_file("tflite"),
            command=lambda path: ["run", str(path), "--protocol", "latbench-quick@1"],
        ),
        "package": Kind(
            damage=package,
            read=model_file("coreml"),
            command=lambda path: ["verify", str(path)],
        ),
        "checkpoint": Kind(
            damage=checkpoint,
            read=read_checkpoint,
            command=lambda path: ["inspect", str(path)],
        ),
    }


NAMES = (
    *("record", "bundle", "registry", "claims", "devices", "sweep"),
    *("onnx", "tflite", "package", "checkpoint"),
)
OPTIONAL = {
    "onnx": "onnx",
    "tflite": "ai_edge_litert",
    "package": "coremltools",
    "checkpoint": "torch",
}
"""Kind -> package without which it is left out."""


def void(_: object) -> None:
    """Drop a value."""


def by_command_line(arguments: list[str], folder: Path) -> str | None:
    """What is wrong with the command in a process of its own; ``None`` if nothing is."""
    done = subprocess.run(
        [sys.executable, "-m", "latbench", *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        cwd=folder,
        timeout=300,
        env={**os.environ, "LATBENCH_REGISTRY": str(folder / "cli.db"), "LATBENCH_TRACEBACK": ""},
    )
    may = (*STATUSES, 1) if arguments[0] == "bundle" else STATUSES
    if done.returncode not in may or "Traceback" in done.stderr or "internal error" in done.stderr:
        return f"command line: status {done.returncode}: {done.stderr[-300:]}"
    return None


def run_kind(name: str, seed: int, first: int, inputs: int, every: int) -> int:
    """Read the inputs of one kind; print findings, return how many different ones there are."""
    found: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as place:
        seeds = Path(place) / "seeds"
        seeds.mkdir()
        kind = kinds(seeds)[name]
        for number in range(first, first + inputs):
            folder = Path(place) / "input"
            folder.mkdir()
            faulthandler.dump_traceback_later(HANG_S, exit=True)
            print(f"{name} {number}", file=sys.stderr, flush=True)
            draw = random.Random(f"{name} {seed} {number}")
            path = kind.damage(draw, folder)
            problem = None
            try:
                kind.read(path, folder)
            except Finding as error:
                problem = str(error)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
                frame = traceback.extract_tb(error.__traceback__)[-1]
                ours = [
                    f
                    for f in traceback.extract_tb(error.__traceback__)
                    if "/latbench" in f.filename
                ]
                at = ours[-1] if ours else frame
                problem = (
                    f"{type(error).__name__} at {Path(at.filename).name}:{at.lineno}: {error}"[:300]
                )
            faulthandler.cancel_dump_traceback_later()
            if problem is None and every and number % every == every - 1:
                problem = by_command_line(kind.command(path), folder)
            if problem is not None and (key := problem[:70]) not in found:
                found[key] = number
                print(f"{name} --seed {seed} --first {number}: {problem}", flush=True)
            shutil.rmtree(folder, ignore_errors=True)
    return len(found)


def main() -> int:
    """Run each kind in a child process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--inputs", type=int, default=20_000, help="number over all kinds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--child", choices=NAMES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    inputs = 160 if given.smoke and not given.child else given.inputs
    every = 100
    if given.child:
        return min(99, run_kind(given.child, given.seed, given.first, inputs, every))
    total = 0
    share = max(1, inputs // len(given.kinds))
    for name in given.kinds:
        if (package := OPTIONAL.get(name)) and not _installed(package):
            print(f"{name}: left out, {package} is not installed")
            continue
        with tempfile.TemporaryFile("w+") as log:
            done = subprocess.run(
                [
                    *(sys.executable, __file__, "--child", name, "--seed", str(given.seed)),
                    *("--first", str(given.first), "--inputs", str(share)),
                ],
                stderr=log,
                check=False,
            )
            log.seek(0)
            last = log.read()[-3000:]
        if done.returncode < 0 or "Timeout (" in last or "Traceback" in last:
            print(f"{name}: the process ended with {done.returncode}:\n{last}")
            total += 1
        else:
            total += done.returncode
        print(f"{name}: {share} inputs", flush=True)
    print(f"{total} findings")
    return 1 if total else 0


def _installed(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


if __name__ == "__main__":
    sys.exit(main())
