"""Read, check and write Core ML packages. Nothing is executed. Writing is deterministic:
the same model gives the same bytes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from latbench.api import StageError
from latbench_exporters.coreml.interface import unsupported
from latbench_exporters.coreml.quiet import quiet

MANIFEST = "Manifest.json"
DATA = "Data"
SPEC = PurePosixPath("com.apple.CoreML/model.mlmodel")
WEIGHTS = PurePosixPath("com.apple.CoreML/weights")
ITEMS = {
    "6c617462-656e-4368-8000-6d6f64656c00": ("model.mlmodel", "CoreML Model Specification", SPEC),
    "6c617462-656e-4368-8000-776569676874": ("weights", "CoreML Model Weights", WEIGHTS),
}
"""Identifier -> name, description and path. coremltools draws random identifiers."""
DATE = "com.github.apple.coremltools.conversion_date"
LARGEST_MANIFEST_BYTES = 1 << 20
KINDS = ("mlProgram", "neuralNetwork")
SCALE, BIAS = "latbench.image_scale", "latbench.image_bias"
"""Metadata keys for the mapping from a pixel to a normalized value."""


@dataclass(frozen=True, kw_only=True)
class Package:
    """A model and the location of its weights."""

    spec: Any
    """``Model_pb2.Model``."""
    weights: Path | None
    """Folder of weight files; ``None`` if the specification holds all weights."""

    @property
    def kind(self) -> str:
        """``mlProgram`` or ``neuralNetwork``."""
        return str(self.spec.WhichOneof("Type"))


@dataclass(frozen=True, kw_only=True)
class ImageMapping:
    """Maps a pixel (0 to 255) to the network's input: ``scale * pixel + bias`` per channel."""

    scale: float
    bias: tuple[float, ...]


IMAGENET = ImageMapping(
    scale=1 / (255 * 0.226), bias=(-0.485 / 0.226, -0.456 / 0.226, -0.406 / 0.226)
)
"""Mapping used by the authors of MobileViG (``convert_to_coreml.py``, 2023): ImageNet means per
channel and a standard deviation of one, since an image input has a single scale."""


def read(path: Path) -> Package:
    """Read and check the model at ``path``. Raises :class:`StageError`."""
    package = parse(path)
    _check_kind(path, package.spec)
    for name in _weight_files(package.spec):
        if package.weights is None or not (package.weights / name).is_file():
            raise bad(path, f"the weights file {name} is missing")
    return package


def parse(path: Path) -> Package:
    """Read the model at ``path``, of whatever kind. Raises :class:`StageError`."""
    if path.is_dir():
        model, weights = _parts(path)
    elif path.suffix.lower() == ".mlpackage":
        raise bad(path, "it is a file, but a package is a folder")
    else:
        model, weights = path, None
    package = Package(spec=_parsed(path, model), weights=weights)
    if package.spec.specificationVersion < 1 or package.spec.WhichOneof("Type") is None:
        raise bad(path, "it contains no model")
    return package


def write(spec: Any, weights: Path | None, out: Path) -> None:
    """Write a package at ``out`` with fixed identifiers, no dates, and only the files in use."""
    spec.description.metadata.userDefined.pop(DATE, None)
    names = sorted(_weight_files(spec))
    model = out / DATA / SPEC
    model.parent.mkdir(parents=True)
    model.write_bytes(spec.SerializeToString(deterministic=True))
    if names:
        assert weights is not None
        (out / DATA / WEIGHTS).mkdir()
        for name in names:
            shutil.copyfile(weights / name, out / DATA / WEIGHTS / name)
    entries = {
        identifier: {
            "author": "com.apple.CoreML",
            "description": description,
            "name": name,
            "path": str(path),
        }
        for identifier, (name, description, path) in ITEMS.items()
        if names or path == SPEC
    }
    manifest = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": entries,
        "rootModelIdentifier": next(iter(ITEMS)),
    }
    (out / MANIFEST).write_text(json.dumps(manifest, indent=4, sort_keys=True) + "\n")


def image_mapping(spec: Any) -> ImageMapping:
    """The mapping stored by the exporter, else ImageNet's: any mapping is valid for seeded
    images."""
    noted = spec.description.metadata.userDefined
    try:
        bias = tuple(float(part) for part in noted[BIAS].split(","))
        return ImageMapping(scale=float(noted[SCALE]), bias=bias)
    except (KeyError, ValueError):
        return IMAGENET


def note_image_mapping(spec: Any, mapping: ImageMapping) -> None:
    """Store the mapping in the package's metadata."""
    noted = spec.description.metadata.userDefined
    noted[SCALE], noted[BIAS] = repr(mapping.scale), ",".join(map(repr, mapping.bias))


def bad(path: Path, reason: str) -> StageError:
    """The error for a file that cannot be used."""
    return StageError(
        "export",
        f"{path.name} is not a usable Core ML model: {reason}",
        hint="truncated, corrupt, from a newer version, or not a Core ML file: export it again",
    )


def _parts(path: Path) -> tuple[Path, Path | None]:
    """The specification and the weights folder named by the manifest. Paths that leave the package
    are rejected."""
    for part in path.rglob("*"):
        if part.is_symlink():
            raise unsupported(
                f"{path.name} has symbolic links: {part.relative_to(path)}",
                hint=f"copy it with the files that they lead to: cp -RL {path.name} FOLDER",
            )
    manifest = path / MANIFEST
    try:
        if manifest.stat().st_size > LARGEST_MANIFEST_BYTES:
            raise bad(path, f"its {MANIFEST} is too large")
        content = json.loads(manifest.read_bytes())
        items = {
            key: _inside(path, entry["path"]) for key, entry in content["itemInfoEntries"].items()
        }
        model = items[content["rootModelIdentifier"]]
    except OSError as error:
        raise bad(path, f"cannot read its {MANIFEST}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise bad(path, f"its {MANIFEST} is damaged") from error
    if not model.is_file():
        raise bad(path, f"its {MANIFEST} names {model.relative_to(path)}, which is not a file")
    # Core ML resolves `@model_path` to the folder of the specification.
    weights = model.parent / "weights"
    return model, weights if weights.is_dir() else None


def _inside(path: Path, item: object) -> Path:
    where = PurePosixPath(str(item))
    if not isinstance(item, str) or where.is_absolute() or ".." in where.parts or "\\" in item:
        raise bad(path, f"its {MANIFEST} names {item!r}, which is outside the package")
    return path / DATA / where


def _parsed(path: Path, model: Path) -> Any:
    with quiet():
        from coremltools.proto import Model_pb2
        from google.protobuf.message import DecodeError

    spec = Model_pb2.Model()
    if not hasattr(spec.description, "functions"):
        raise StageError(
            "export",
            "this coremltools cannot describe functions and states, which packages may have",
            hint="pip install --upgrade 'latbench[coreml]' (coremltools 8 or later)",
            kind="unavailable",
        )
    try:
        spec.ParseFromString(model.read_bytes())
    except DecodeError as error:
        raise bad(path, "its specification is damaged") from error
    except OSError as error:
        raise bad(path, f"cannot read its specification: {error.strerror}") from error
    return spec


def _check_kind(path: Path, spec: Any) -> None:
    """Reject anything but one network. Arbitrary bytes often parse as an empty specification."""
    kind, description = spec.WhichOneof("Type"), spec.description
    if spec.specificationVersion < 1 or kind is None:
        raise bad(path, "it contains no model")
    if kind not in KINDS:
        raise unsupported(
            f"{path.name} contains a {kind}; only {' and '.join(KINDS)} can be timed",
            hint="save the network inside it to its own file"
            if kind.startswith("pipeline")
            else "convert the model again as an mlprogram",
        )
    for part in description.functions or (description,):
        if not part.input or not part.output:
            raise bad(path, "it has no inputs or no outputs")


def _weight_files(spec: Any) -> set[str]:
    """Names of the files that hold the program's constants, all in one folder."""
    names = set()
    for value in _values(spec.mlProgram) if spec.WhichOneof("Type") == "mlProgram" else ():
        if value.WhichOneof("value") == "blobFileValue":
            where = PurePosixPath(value.blobFileValue.fileName)
            if where.parts[:-1] != ("@model_path", "weights") or where.name in ("", ".", ".."):
                raise StageError(
                    "export",
                    f"the program reads constants from {str(where)!r}, outside its weights folder",
                    hint="export or download the package again",
                )
            names.add(where.name)
    return names


def _values(program: Any) -> Iterator[Any]:
    """All constants of all operations. Iterative, since the file determines the nesting depth."""
    pending = [
        block
        for function in program.functions.values()
        for block in function.block_specializations.values()
    ]
    while pending:
        for operation in pending.pop().operations:
            yield from operation.attributes.values()
            for argument in operation.inputs.values():
                for binding in argument.arguments:
                    if binding.WhichOneof("binding") == "value":
                        yield binding.value
            pending.extend(operation.blocks)
