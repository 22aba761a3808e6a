"""Open a file of weights: its tensors by name, and its other values."""

from __future__ import annotations

import errno
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from latbench.errors import StageError, UsageError, first_line
from latbench.file_names import shown_name
from latbench.zoo.checkpoint.inert_pickle import Opaque
from latbench.zoo.checkpoint.tensor import StoredTensor
from latbench.zoo.checkpoint.torch_file import read_torch_file
from latbench.zoo.checkpoint.values import array_tensor

DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, tarfile.TarError, struct.error),
    *(ValueError, LookupError, TypeError, AttributeError, EOFError, ArithmeticError),
    *(NotImplementedError, RuntimeError, MemoryError),
)
"""What reading a damaged file raises: its bytes determine which of them."""
MOST_PARTS = 1_000_000
SAFETENSORS_TYPES = {
    **{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"},
    **{"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "BOOL": "bool"},
    **{"I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8"},
    **{"U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8"},
}
MISTAKEN = (
    (b"version https://git-lfs", "a pointer of Git LFS", "fetch the file itself: git lfs pull"),
    (b"<", "a web page", "download the file itself, not the page that links to it"),
    (b"\x89HDF", "an HDF5 file of Keras", "save the weights from PyTorch"),
)
"""How a file begins that was taken for a checkpoint, what it is, and what to do."""


@dataclass(frozen=True, kw_only=True)
class CheckpointEntry:
    """One tensor of a file."""

    keys: str
    """Where its dictionary is, keys joined by dots; empty for the outermost one."""
    name: str
    """Its name in that dictionary."""
    tensor: StoredTensor

    @property
    def full(self) -> str:
        """Its name from the outermost dictionary on."""
        return _joined(self.keys, self.name)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The content of a file of weights."""

    path: Path
    format: str
    """``torch`` or ``safetensors``."""
    tree: object
    """Dictionaries, lists, scalars, tensors and objects of unknown classes, as they are nested."""
    entries: tuple[CheckpointEntry, ...]
    others: Mapping[str, str]
    """Name from the outermost dictionary on -> what is there instead of a tensor."""
    metadata: Mapping[str, str]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read which tensors and values ``path`` holds, without the tensors' elements.

    Raises :class:`UsageError` if the file is damaged, a program, or not a file of weights, and
    :class:`StageError` if a package for its format is missing.
    """
    with reading(path):
        with path.open("rb") as file:
            start = file.read(64)
        _check_start(path, start)
        metadata: Mapping[str, str] = {}
        safe = path.suffix == ".safetensors" or start[8:10] == b'{"'
        tree: object
        if safe:
            tree, metadata = _read_safetensors(path)
        else:
            tree = read_torch_file(path)
        entries, others = flattened(tree)
    return Checkpoint(
        path=path,
        format="safetensors" if safe else "torch",
        tree=tree,
        entries=tuple(entries),
        others=others,
        metadata=metadata,
    )


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what a damaged file raises into :class:`UsageError`."""
    try:
        yield
    except DAMAGE as error:
        raise _damaged(path, _reason(error)) from error
    except OSError as error:
        if error.errno == errno.EINVAL:  # a position in the file that is negative
            raise _damaged(path, "its table of contents is inconsistent") from error
        raise UsageError(f"cannot read {path}: {error.strerror or first_line(error)}") from error


def _damaged(path: Path, reason: str) -> UsageError:
    return UsageError(
        f"{path.name} is a damaged checkpoint: {reason}",
        hint="truncated, corrupt, or not a file of weights: save or download it again",
    )


def _reason(error: BaseException) -> str:
    """What a format's reader says, or a general reason for errors of the interpreter's own."""
    if isinstance(error, UnicodeError):
        return "its names are not text"
    if isinstance(error, LookupError | TypeError | AttributeError):
        return "its parts do not fit together"
    return first_line(error)


def nested(value: object) -> Mapping[object, object] | None:
    """What ``value`` contains by key: a dictionary, a list, or an object's attributes and items.

    The parameters, buffers and parts of a pickled ``torch.nn.Module`` count as the items of one
    dictionary, as in its state_dict. ``None`` for a value without parts.
    """
    if isinstance(value, dict):
        return value
    if isinstance(value, list | tuple):
        containers = (dict, list, tuple, Opaque, StoredTensor)
        # A list of numbers, such as the losses of all steps, is one value.
        return (
            dict(enumerate(value)) if any(isinstance(each, containers) for each in value) else None
        )
    if not isinstance(value, Opaque):
        return None
    own = _attributes(value)
    if isinstance(own.get("_modules"), dict):
        hidden = own.get("_non_persistent_buffers_set")
        hidden = hidden if isinstance(hidden, set) else set()
        parts = [own.get(each) for each in ("_parameters", "_buffers", "_modules")]
        return {
            key: part
            for each in parts
            if isinstance(each, dict)
            for key, part in each.items()
            if part is not None and key not in hidden
        }
    return {**own, **value.items, **dict(enumerate(value.elements))}


def described(value: object) -> str:
    """A value that is not a tensor, in a few words."""
    match value:
        case StoredTensor():
            return str(value)
        case Opaque():
            return value.name
        case bool() | int() | float() | None:
            return repr(value)
        case str():
            return repr(value if len(value) <= 40 else f"{value[:37]}...")
        case dict() | list() | tuple() | set() | frozenset():
            return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__


def _check_start(path: Path, start: bytes) -> None:
    if not start:
        raise UsageError(f"{path.name} is empty", hint="save or download it again")
    for mark, what, hint in MISTAKEN:
        if start.lstrip().startswith(mark):
            raise UsageError(f"{path.name} is {what}, not a file of weights", hint=hint)


def _read_safetensors(path: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    try:
        from safetensors import SafetensorError, safe_open
    except ModuleNotFoundError as error:
        raise StageError(
            "build",
            "reading .safetensors needs the safetensors package",
            hint="pip install 'latbench[export]'",
            kind="unavailable",
        ) from error

    def stored(name: str, part: object) -> StoredTensor:
        def load() -> object:
            with _utf8_name(path) as place, safe_open(place, framework="pt") as again:
                return again.get_tensor(name)

        kind = str(part.get_dtype())  # type: ignore[attr-defined]
        if kind not in SAFETENSORS_TYPES:
            raise ValueError(f"{name} has elements of type {kind}, which is not supported")
        return StoredTensor(
            dtype=SAFETENSORS_TYPES[kind],
            shape=tuple(part.get_shape()),  # type: ignore[attr-defined]
            place=name,
            load=load,  # type: ignore[arg-type]
        )

    try:
        with safe_open(path, framework="np") as file:
            tensors = {name: stored(name, file.get_slice(name)) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except SafetensorError as error:
        raise ValueError(first_line(error)) from error


@contextmanager
def _utf8_name(path: Path) -> Iterator[Path]:
    """A name for ``path`` that is UTF-8, which safetensors needs for tensors of torch."""
    if shown_name(str(path)) == str(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / "link.safetensors"
        link.symlink_to(path.absolute())
        yield link


def flattened(tree: object) -> tuple[list[CheckpointEntry], dict[str, str]]:
    """All tensors in the nested containers, and what else has a name, by name from the outermost
    container on.

    A container under two keys is listed under both. Raises :class:`ValueError` for more than
    :data:`MOST_PARTS` parts: a small file can refer to its containers very often.
    """
    entries: list[CheckpointEntry] = []
    others: dict[str, str] = {}
    parts_left = MOST_PARTS
    pending: list[_Place] = [_Place("", "", tree, False, frozenset())]
    while pending:
        keys, name, value, in_module, around = pending.pop()
        parts_left -= 1
        if parts_left < 0:
            raise ValueError(f"it has more than {MOST_PARTS:,} values")
        if isinstance(value, Opaque):
            value = array_tensor(value) or value
        if isinstance(value, StoredTensor):
            entries.append(CheckpointEntry(keys=keys, name=name, tensor=value))
            continue
        full = _joined(keys, name)
        parts = nested(value)
        if isinstance(value, Opaque) or not parts:
            others[full] = described(value)
        if not parts or id(value) in around:
            continue
        module = _is_module(value)
        # The parts of a pickled module belong to it: their names continue, as in a state_dict.
        whole = (keys, name) if module and in_module else (full, "")
        within = around | {id(value)}
        for key, part in reversed(list(parts.items())):
            place = _Place(whole[0], _joined(whole[1], str(key)), part, module, within)
            pending.append(place)
    return entries, others


class _Place(NamedTuple):
    """A value that is still to be listed."""

    keys: str
    name: str
    value: object
    in_module: bool
    around: frozenset[int]
    """The containers that it is in: one may be in itself."""


def _joined(one: str, other: str) -> str:
    return f"{one}.{other}" if one and other else one or other


def _is_module(value: object) -> bool:
    return isinstance(value, Opaque) and "_modules" in _attributes(value)


def _attributes(value: Opaque) -> dict[object, object]:
    """What a pickled object's ``__dict__`` or ``__slots__`` held."""
    state = value.state
    if isinstance(state, tuple) and len(state) == 2:
        return {k: v for part in state if isinstance(part, dict) for k, v in part.items()}
    return state if isinstance(state, dict) else {}
