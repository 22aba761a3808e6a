"""``latbench inspect``: say what is in a model file or checkpoint. Nothing is executed."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from latbench.api import FileContent, InspectingExporter, OpenTensor
from latbench.errors import StageError, UsageError, first_line
from latbench.file_names import shell_word, stored_name
from latbench.files import content_bytes
from latbench.plugins import loaded_exporters, read_suffixes, who_reads
from latbench.schema.input_content import STRING, TEXT
from latbench.zoo.checkpoint.read import (
    DAMAGE,
    CheckpointEntry,
    flattened,
    reading,
)
from latbench.zoo.checkpoint.shards import checkpoint_files, open_checkpoint
from latbench.zoo.checkpoint.torch_file import is_program, read_archive

OPTIMIZER = re.compile(r"optim|sched|scaler|exp_avg", re.IGNORECASE)
"""Keys of tensors that are not weights."""
MOST_COMMANDS = 3
FACTORY = "path/to/model.py:factory"
IMAGE_AXES, OPEN_PIXELS, OPEN_LENGTH = 4, 224, 128
"""Sizes that a suggested command has for open axes."""


@dataclass(frozen=True, kw_only=True)
class StoredWeights:
    """The tensors under one key of a checkpoint."""

    key: str
    """Keys joined by dots; empty for the outermost dictionary."""
    tensors: int
    elements: int
    size_bytes: int
    dtypes: tuple[str, ...]
    prefix: str
    """What all names begin with; empty if nothing."""


@dataclass(frozen=True, kw_only=True)
class NamedTensor:
    """One tensor of a checkpoint."""

    name: str
    """From the outermost dictionary on."""
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What is in a file, and what can be done with it."""

    path: str
    kind: str
    """``model``, ``checkpoint`` or ``program``."""
    format: str
    size_bytes: int
    content: FileContent | None = None
    """Of a model."""
    weights: tuple[StoredWeights, ...] = ()
    """Of a checkpoint or program."""
    tensors: tuple[NamedTensor, ...] = ()
    others: Mapping[str, str] = field(default_factory=dict)
    """Name -> what else a checkpoint holds."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    next: tuple[str, ...] = ()
    """Commands to run, or what to do first."""


def inspect(path: str | Path) -> Inspection:
    """Read the file or package at ``path``.

    Raises :class:`~latbench.UsageError` if there is none or it is a damaged checkpoint, and
    :class:`~latbench.StageError` if it is not a file of the format that its extension names.
    """
    place = Path(path)
    if not os.access(place, os.R_OK):
        what = "cannot be read" if place.exists() else "does not exist"
        raise UsageError(f"{place} {what}", hint="name a model file or a checkpoint")
    exporter = _inspecting(place)
    if exporter is not None:
        content = _described(exporter, place)
        return Inspection(
            path=stored_name(str(path)),
            kind="model",
            format=exporter.format,
            size_bytes=content_bytes(place),
            content=content,
            next=_for_model(str(path), content),
        )
    _refuse_others(place)
    return _program(place) if _is_program(place) else _checkpoint(place)


def _described(exporter: InspectingExporter, path: Path) -> FileContent:
    try:
        return exporter.inspect(path)
    except (*DAMAGE, OSError) as error:  # the file's bytes determine which
        raise StageError(
            "export",
            f"{path.name} is not a valid {exporter.format} file: {first_line(error)}",
            hint="truncated, corrupt, or of another format: export or download it again",
        ) from error


def _inspecting(path: Path) -> InspectingExporter | None:
    """The exporter for the file's extension, preferably one that also writes such files."""
    suffix = path.suffix.lower()
    able = [each for each in loaded_exporters()[0] if isinstance(each, InspectingExporter)]
    return next(
        (each for each in able if each.suffix == suffix),
        next((each for each in able if suffix in each.reads), None),
    )


def _refuse_others(path: Path) -> None:
    """Refuse what is surely not a checkpoint. Raises :class:`UsageError`."""
    if path.suffix == ".py":
        raise UsageError(
            f"{path} is Python code, not a model file",
            hint=f"to measure a network that one of its functions returns: {path}:FUNCTION",
        )
    if path.suffix.lower() == ".mlmodelc":
        # A folder, which would be taken for one of a checkpoint.
        raise UsageError(f"{path} cannot be described", hint=who_reads(path.suffix.lower()))
    others = {each.suffix for each in loaded_exporters()[0]} | read_suffixes()
    if path.suffix.lower() in others:
        raise UsageError(
            f"{path}: files with the extension {path.suffix} cannot be described",
            hint=f"`latbench verify {path}` executes it, if the format can be executed here",
        )


def _is_program(path: Path) -> bool:
    with reading(path):
        return path.is_file() and is_program(path)


def _program(path: Path) -> Inspection:
    with reading(path):
        entries, _ = flattened(read_archive(path))
        with zipfile.ZipFile(path) as archive:
            code = [name for name in archive.namelist() if name.endswith(".py")]
    return Inspection(
        path=stored_name(str(path)),
        kind="program",
        format="torchscript",
        size_bytes=content_bytes(path),
        weights=_grouped(
            [CheckpointEntry(keys="", name=each.full, tensor=each.tensor) for each in entries]
        ),
        tensors=_named(entries),
        others={"code": f"{len(code)} files"},
        next=(
            "TorchScript is not executed: convert it with torch.onnx.export, or give latbench the "
            "network's Python factory",
        ),
    )


def _checkpoint(path: Path) -> Inspection:
    found = open_checkpoint(path)
    weights = _grouped(found.entries)
    return Inspection(
        path=stored_name(str(path)),
        kind="checkpoint",
        format=found.format,
        size_bytes=sum(map(content_bytes, checkpoint_files(path))),
        weights=weights,
        tensors=_named(found.entries),
        others={name: what for name, what in found.others.items() if name},
        metadata=found.metadata,
        next=_for_checkpoint(path, weights),
    )


def _named(entries: Iterable[CheckpointEntry]) -> tuple[NamedTensor, ...]:
    return tuple(
        NamedTensor(name=each.full, shape=each.tensor.shape, dtype=each.tensor.dtype)
        for each in entries
    )


def _grouped(entries: Iterable[CheckpointEntry]) -> tuple[StoredWeights, ...]:
    """Tensors by key. Numbered ones, as in the state of an optimizer, are one group."""
    groups: dict[str, list[CheckpointEntry]] = {}
    for entry in entries:
        parts = entry.keys.split(".")
        number = next((i for i, part in enumerate(parts) if i and part.isdecimal()), len(parts))
        groups.setdefault(".".join(parts[:number]), []).append(entry)
    return tuple(
        StoredWeights(
            key=key,
            tensors=len(held),
            elements=sum(each.tensor.elements for each in held),
            size_bytes=sum(each.tensor.size_bytes for each in held),
            dtypes=tuple(sorted({each.tensor.dtype for each in held})),
            prefix=_common([each.name for each in held]),
        )
        for key, held in groups.items()
    )


def _common(names: list[str]) -> str:
    """The parts, dots included, that all names begin with, if there are several names."""
    if len(names) < 2:
        return ""
    first, last = (each.split(".")[:-1] for each in (min(names), max(names)))
    pairs = zip(first, last, strict=False)
    return "".join(f"{one}." for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _for_checkpoint(path: Path, weights: tuple[StoredWeights, ...]) -> tuple[str, ...]:
    if not weights:
        return ("it holds no tensor: save the state_dict of the network",)
    command = f"latbench run {FACTORY} --weights {shell_word(str(path))}"
    keys = [each.key for each in weights if each.key and not OPTIMIZER.search(each.key)]
    chosen = keys[:MOST_COMMANDS] if len(keys) > 1 else []
    return (command, *(f"{command} --weights-key {shell_word(key)}" for key in chosen))


def _for_model(path: str, content: FileContent) -> tuple[str, ...]:
    if content.problem is not None:
        return (f"it cannot be measured: {content.problem}",)
    shapes = [
        f"--shape {shell_word(f'{each.name}={_filled(each)}')}"
        for each in content.inputs
        if each.shape is not None and not each.fixed
    ]
    values = [
        f"--input {shell_word(f'{each.name}={kind}VALUE')}"
        for each in content.inputs
        if each.decides or each.dtype == STRING
        for kind in [TEXT if each.dtype == STRING else ""]
    ]
    return (" ".join(("latbench run", shell_word(path, argument=True), *shapes, *values)),)


def _filled(tensor: OpenTensor) -> str:
    """Sizes to start with: a batch of one, an image of 224 pixels or a length of 128."""
    shape = tensor.shape or ()
    inner = OPEN_PIXELS if len(shape) == IMAGE_AXES else OPEN_LENGTH
    return "x".join(
        str(size) if isinstance(size, int) else str(1 if axis == 0 else inner)
        for axis, size in enumerate(shape)
    )
