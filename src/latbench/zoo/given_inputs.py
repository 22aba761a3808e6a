"""The inputs that a request gives: their shapes, their contents, and the arrays of files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from zipfile import BadZipFile, ZipFile, is_zipfile

import msgspec

from latbench.errors import UsageError, listed
from latbench.file_names import restored_name
from latbench.files import content_sha256
from latbench.schema.artifact import TensorSpec
from latbench.schema.input_content import ANY, STORED, STRING, find_input, read_content
from latbench.schema.request import Request
from latbench.schema.seeded_inputs import make_inputs

if TYPE_CHECKING:
    from latbench.api import Array

T = TypeVar("T")

ARRAYS = (".npy", ".npz")
LARGE_BYTES, MOST_COMPRESSED = 100_000_000, 20
"""Arrays above so many bytes may not shrink by more."""
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


def identify_inputs(request: Request) -> dict[str, str]:
    """The contents that a request gives, by input, with digests in place of files.

    Reads the bytes of the files only. Raises :class:`UsageError`.
    """
    return {
        name: content if read_content(content) is not None else STORED + _sha256(_path(content))
        for name, content in sorted(request.inputs.items())
    }


def load_inputs(request: Request) -> GivenInputs:
    """Read what ``request`` gives, files included. Raises :class:`UsageError`."""
    contents, arrays, images = {}, {}, {}
    for name, content in identify_inputs(request).items():
        path = _path(request.inputs[name])
        if not content.startswith(STORED):
            contents[name] = content
        elif path.suffix.lower() in IMAGES:
            contents[name], images[name] = content, path
        else:
            for each, array in _arrays(name, path).items():
                if each in contents or (each in request.inputs and each != name):
                    raise UsageError(f"input {each!r} is given twice, also by {path}")
                member = f"#{each}" if path.suffix.lower() == ".npz" else ""
                contents[each], arrays[each] = content + member, array
    return GivenInputs(
        shapes=request.shapes,
        dtypes=request.dtypes,
        contents=contents,
        arrays=arrays,
        images=images,
    )


@dataclass(frozen=True, kw_only=True)
class GivenInputs:
    """Shapes, element types and contents by input, under the names that the user gave."""

    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)
    contents: Mapping[str, str] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)
    images: Mapping[str, Path] = field(default_factory=dict)

    def with_names(self, names: Mapping[str, str]) -> GivenInputs:
        """The same under the names that ``names`` maps to.

        Raises :class:`UsageError` if two names become one.
        """

        def renamed(given: Mapping[str, T]) -> dict[str, T]:
            found: dict[str, T] = {}
            for name, value in given.items():
                new = names.get(name, name)
                if new in found:
                    raise UsageError(f"input {new!r} is given twice", hint="omit one of the two")
                found[new] = value
            return found

        return GivenInputs(
            shapes=renamed(self.shapes),
            dtypes=renamed(self.dtypes),
            contents=renamed(self.contents),
            arrays=renamed(self.arrays),
            images=renamed(self.images),
        )

    def all_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes, and those of the arrays. Raises :class:`UsageError` if two disagree."""
        found = dict(self.shapes)
        for name, array in self.arrays.items():
            if found.setdefault(name, array.shape) != array.shape:
                raise UsageError(
                    f"input {name!r} has two sizes: {_shown(found[name])} by --shape, "
                    f"{_shown(array.shape)} by its file",
                    hint="omit --shape",
                )
        return found

    def applied(self, specs: Sequence[TensorSpec], what: str) -> FilledInputs:
        """``specs`` with the contents that are given, and the arrays of files.

        Raises :class:`UsageError` for an input that ``what`` does not have and for a content that
        does not fit.
        """
        names = [spec.name for spec in specs]
        for each in (*self.shapes, *self.dtypes):
            find_input(each, names, what=what)
        contents, stored = {}, {}
        if ANY in self.contents and ANY not in self.arrays and ANY not in self.images:
            contents = dict.fromkeys(names, self.contents[ANY])
        for given, content in self.contents.items():
            if given == ANY and contents:
                continue
            name = find_input(given, names, what=what)
            contents[name] = content
            spec = specs[names.index(name)]
            if given in self.arrays:
                stored[name] = _fitting(spec, self.arrays[given])
            elif given in self.images:
                stored[name] = _pixels(spec, self.images[given])
        filled = tuple(
            msgspec.structs.replace(spec, content=contents.get(spec.name)) for spec in specs
        )
        make_inputs(filled, 0, stored)  # refuses values that do not fit
        return FilledInputs(specs=filled, stored=stored)


@dataclass(frozen=True, kw_only=True)
class FilledInputs:
    """Inputs with their contents."""

    specs: tuple[TensorSpec, ...]
    stored: Mapping[str, Array] = field(default_factory=dict)
    """Arrays of the inputs that come from files, by name."""

    def arrays(self, seed: int) -> tuple[Array, ...]:
        """The arrays of all inputs, in order."""
        return make_inputs(self.specs, seed, self.stored)

    def renamed(self, specs: Sequence[TensorSpec]) -> FilledInputs:
        """The same contents for a file's own ``specs``, in the same order."""
        pairs = list(zip(specs, self.specs, strict=True))
        return FilledInputs(
            specs=tuple(msgspec.structs.replace(own, content=our.content) for own, our in pairs),
            stored={
                own.name: self.stored[our.name].astype(_numpy_type(own))
                for own, our in pairs
                if our.name in self.stored
            },
        )


def _path(content: str) -> Path:
    """The file that a request names."""
    return Path(restored_name(content))


def _sha256(path: Path) -> str:
    try:
        if path.suffix.lower() not in (*ARRAYS, *IMAGES):
            raise UsageError(
                f"cannot read the input {str(path)!r}",
                hint="VALUE, LOW:HIGH, random:SEED, text:STRING, or a file: "
                + listed((*ARRAYS, *IMAGES)),
            )
        return content_sha256(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read the input {path}: {reason}") from error


def _arrays(name: str, path: Path) -> dict[str, Array]:
    """The arrays of a file by input: those of an ``.npz`` file have names of their own."""
    import numpy as np

    try:
        with path.open("rb") as file:
            _check_compression(path)
            loaded = np.load(file, allow_pickle=False)
            if path.suffix.lower() == ".npy":
                if not isinstance(loaded, np.ndarray):
                    raise UsageError(f"{path} is not a .npy file")
                return {name: loaded}
            if isinstance(loaded, np.ndarray):
                raise UsageError(f"{path} is not a .npz file")
            found = {key: loaded[key] for key in loaded.files}
    except UsageError:
        raise
    except (OSError, ValueError, EOFError, BadZipFile, KeyError, MemoryError) as error:
        raise UsageError(
            f"cannot read the arrays of {path}: {error}",
            hint="save plain arrays with numpy.save or numpy.savez, without objects",
        ) from error
    if name == ANY:
        return found
    if name in found:
        return {name: found[name]}
    if len(found) == 1:
        return {name: next(iter(found.values()))}
    raise UsageError(f"{path} has no array {name!r}", hint=f"it has: {listed(found) or 'none'}")


def _check_compression(path: Path) -> None:
    """Refuse an archive that would fill the memory. Raises :class:`UsageError`."""
    if not is_zipfile(path):
        return
    with ZipFile(path) as archive:
        packed = sum(entry.compress_size for entry in archive.infolist())
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > max(LARGE_BYTES, MOST_COMPRESSED * packed):
        raise UsageError(
            f"{path} has {packed:,} bytes and unpacks to {unpacked:,}",
            hint="save large arrays with numpy.savez, which does not compress",
        )


def _fitting(spec: TensorSpec, array: Array) -> Array:
    """The array, if it has the type and the shape of the input."""
    import numpy as np

    if not (array.dtype.kind == "U" if spec.dtype == STRING else array.dtype == spec.dtype):
        raise UsageError(
            f"the array for input {spec.name!r} has type {array.dtype}, the input {spec.dtype}",
            hint=f"save it as {spec.dtype}: array.astype({_numpy_type(spec)!r})",
        )
    if array.shape != spec.shape:
        raise UsageError(
            f"the array for input {spec.name!r} is {_shown(array.shape)}, the input "
            f"{_shown(spec.shape)}"
        )
    return np.ascontiguousarray(array).reshape(spec.shape)


def _numpy_type(spec: TensorSpec) -> str:
    return "str" if spec.dtype == STRING else spec.dtype


def _pixels(spec: TensorSpec, path: Path) -> Array:
    """The image at the size of the input: 8-bit pixels as they are, floats normalized."""
    import numpy as np

    from latbench.zoo.images import normalized, read_image

    if spec.dtype == STRING:
        raise UsageError(f"input {spec.name!r} holds strings, not the pixels of {path}")
    shape = spec.shape
    first = 1 if len(shape) == 4 and shape[3] in (1, 3) and shape[1] not in (1, 3) else 2
    channels = (shape[1] if first == 2 else shape[3]) if len(shape) == 4 else 0
    if channels not in (1, 3):
        raise UsageError(
            f"input {spec.name!r} is {_shown(shape)}, which is not an image of 1 or 3 channels",
            hint="give its array in a .npy file",
        )
    pixels = read_image(path, *shape[first : first + 2], gray=channels == 1)
    if spec.dtype != "uint8":
        pixels = normalized(pixels)
    if first == 2:
        pixels = pixels.transpose(2, 0, 1)
    whole = np.broadcast_to(pixels.astype(spec.dtype), shape)
    return np.ascontiguousarray(whole)


def _shown(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"
