"""Resolve the name of a model to its identity.

Resolving imports no torch and executes no code of the user's, so that an artifact in the cache is
found without either.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from mmap import ACCESS_READ, mmap
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import msgspec

from latbench.errors import UsageError
from latbench.file_names import restored_name
from latbench.files import content_sha256
from latbench.plugins import read_suffixes
from latbench.schema.artifact import ModelIdentity
from latbench.schema.codec import digest
from latbench.schema.request import Request
from latbench.zoo import catalog
from latbench.zoo.checkpoint.shards import checkpoint_files
from latbench.zoo.fingerprint import architecture_digest, find_module
from latbench.zoo.imports import imported_modules
from latbench.zoo.in_memory import InMemory, find_module_in_memory
from latbench.zoo.model import ResolvedModel, Source

if TYPE_CHECKING:
    from collections.abc import Callable

TIMM = "timm:"
LOCATION = re.compile(rb"\x0a\x08location\x12([\x00-\x7f]|[\x80-\xff][\x00-\x7f])")
"""The protobuf encoding of the key ``location`` and of its value's size, 7 bits per byte."""


def resolve(
    name: str,
    *,
    weights: Path | None,
    batch: int | None,
    resolution: tuple[int, int] | None,
    seed: int,
    arguments: Mapping[str, str] | None = None,
    imports: Sequence[str] = (),
    weights_key: str | None = None,
) -> ResolvedModel:
    """The model called ``name``. Raises :class:`UsageError` if there is none.

    ``name`` is an entry of the zoo, ``timm:NAME``, ``package.module:factory``,
    ``path/to/file.py:factory`` or a pre-exported file of a format that an exporter reads.
    """
    if batch is not None and batch < 1:
        raise UsageError(f"batch must be at least 1, not {batch}")
    if resolution is not None and min(resolution) < 1:
        raise UsageError(f"resolution must be at least 1, not {min(resolution)}")

    def identity(source: Source, architecture: str, paper: str | None = None) -> ModelIdentity:
        listed = ", ".join(f"{key}={value}" for key, value in sorted((arguments or {}).items()))
        digests = [_imported(package) for package in imports]
        return ModelIdentity(
            name=f"{name}({listed})" if listed else name,
            source=source,
            architecture=digest([architecture, *digests]) if digests else architecture,
            weights=_weights(weights, weights_key, seed) if source != "file" else "file",
            batch=batch,
            resolution=resolution,
            paper=paper,
        )

    if (given := find_module_in_memory(name)) is not None:
        return _in_memory(name, given, identity, weights, seed)
    if (arguments or imports) and (artifact_extension(name) is not None or ":" not in name):
        raise UsageError(
            f"--model-arg and --import do not apply to {name}",
            hint="they are for timm:NAME and for factories of your own",
        )
    if artifact_extension(name) is not None:
        if weights is not None:
            raise UsageError(
                "--weights applies to a model that is exported, and a pre-exported file has its own"
            )
        path = Path(restored_name(name))
        return ResolvedModel(
            identity=identity("file", f"sha256:{_file_sha256(path)}"),
            weights=None,
            seed=seed,
            path=path.absolute(),
        )
    if name.startswith(TIMM):
        return ResolvedModel(
            identity=identity("timm", f"timm {_timm_version()} {name.removeprefix(TIMM)}"),
            weights=weights,
            weights_key=weights_key,
            seed=seed,
            factory=name.removeprefix(TIMM),
            arguments=arguments or {},
            imports=tuple(imports),
            search=_module_search() if imports else (),
        )
    if ":" in name:
        own = _users_own(name, weights, seed, identity)
        return replace(
            own, arguments=arguments or {}, imports=tuple(imports), weights_key=weights_key
        )
    entry = catalog.find(name)
    module = entry.factory.partition(":")[0]
    source = find_module(module, sys.path)
    assert source is not None, "the zoo's own modules are beside this one"
    return ResolvedModel(
        identity=identity("zoo", architecture_digest(source, module, sys.path), entry.paper),
        weights=weights,
        weights_key=weights_key,
        seed=seed,
        entry=entry,
    )


def _in_memory(
    name: str,
    found: InMemory,
    identity: Callable[[Source, str], ModelIdentity],
    weights: Path | None,
    seed: int,
) -> ResolvedModel:
    """A module that was given to this process."""
    if weights is not None:
        raise UsageError(f"weights do not apply to {name}: a module has its own")
    described = identity("user", found.architecture)
    return ResolvedModel(
        identity=msgspec.structs.replace(described, name=found.name, weights=found.weights),
        weights=None,
        seed=seed,
        module=found.module,
        given=found.given,
    )


def _users_own(
    name: str, weights: Path | None, seed: int, identity: Callable[[Source, str], ModelIdentity]
) -> ResolvedModel:
    """A model of the user's own: ``package.module:factory`` or ``path/to/file.py:factory``."""
    where, _, factory = name.rpartition(":")
    if not factory.isidentifier():
        raise UsageError(
            f"{factory!r} is not the name of a factory in {name!r}",
            hint="package.module:factory or path/to/file.py:factory",
        )
    if where.endswith(".py"):
        path = Path(restored_name(where)).absolute()
        if not (_exists(path) and path.is_file()):
            raise UsageError(f"no such file: {where}")
        root, module = _package_of(path)
        # Its own package and its own folder come before whatever PYTHONPATH has of that name.
        search = (*dict.fromkeys((str(root), str(path.parent))), *sys.path)
    else:
        search, module = _module_search(), where
        found = find_module(module, search)
        if found is None:
            raise UsageError(
                f"no module {where!r}",
                hint="modules are searched in the working directory and in installed packages",
            )
        path = found
    return ResolvedModel(
        identity=identity("user", architecture_digest(path, module, search)),
        weights=weights,
        seed=seed,
        source=path,
        by_path=where.endswith(".py"),
        factory=f"{module}:{factory}",
        search=search,
    )


def _module_search() -> tuple[str, ...]:
    """The working directory, as for `python -m`; console scripts leave it out of sys.path."""
    return (str(Path.cwd()), *sys.path)


def _imported(package: str) -> str:
    """Digest of a package that is imported first. Raises :class:`UsageError` if there is none."""
    path = find_module(package, _module_search())
    if path is None:
        raise UsageError(
            f"no module {package!r} to import",
            hint="modules are searched in the working directory and in installed packages",
        )
    return architecture_digest(path, package, _module_search())


def _package_of(path: Path) -> tuple[Path, str]:
    """The folder that a file's imports start from, and the name of its module there.

    A file of a package is imported as a part of it, so that its relative and absolute imports find
    its own neighbors. A folder without ``__init__.py`` is a package for a file that imports from it
    by its name or relatively.
    """
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").is_file() and root.name.isidentifier():
        parts.insert(0, root.name)
        root = root.parent
    if len(parts) == 1 and root.name.isidentifier() and _imports_from(path, root.name):
        return root.parent, f"{root.name}.{path.stem}"
    return root, ".".join(parts)


def _imports_from(path: Path, folder: str) -> bool:
    """Whether a file imports from its folder as a package. Broken sources are reported later."""
    try:
        names = imported_modules(path.read_bytes(), f"{folder}.{path.stem}", is_package=False)
    except (OSError, SyntaxError, ValueError):
        return False
    return any(name.partition(".")[0] == folder for name in names)


def artifact_extension(name: str) -> str | None:
    """The extension of a pre-exported file's name; ``None`` for a model that is built.

    A colon, as in ``timm:NAME``, marks a model that is built, unless it is part of a folder's name
    or follows the letter of a drive, or a file of that name exists and an exporter reads such
    files. Any other name with an extension is a file if it exists or if an exporter reads such
    files. The exporters are loaded only where they decide.

    ``name`` is a text of a request (:func:`~latbench.file_names.stored_name`).
    """
    path = Path(restored_name(name))
    extension = path.suffix.lower()
    if not extension or (":" in path.name and not _exists(path)):
        return None
    if ":" not in path.name and _exists(path):
        return extension
    return extension if extension in read_suffixes() else None


def _weights(path: Path | None, key: str | None, seed: int) -> str:
    if path is None:
        return f"seed:{seed}"
    files = checkpoint_files(path)
    found = [(each.name, _sha256(each, "weights")) for each in files]
    identity = found[0][1] if len(found) == 1 else digest(found)
    return f"sha256:{identity}" + ("" if key is None else f"#{key}")


def _exists(path: Path) -> bool:
    """Whether a file or folder exists and can be accessed."""
    try:
        return path.exists()
    except OSError:  # a name that is too long, or a folder without permission
        return False


def _file_sha256(path: Path) -> str:
    """Digest of a pre-exported file and of the files next to it that hold its tensors, if any."""
    own = _sha256(path, "model")
    if path.is_dir():
        return own
    try:
        parts = [
            (name, content_sha256(path.parent / name))
            for name in _external_data(path)
            if (path.parent / name).is_file()
        ]
    except OSError as error:
        raise UsageError(f"cannot read {error.filename}: {error.strerror}") from error
    return digest([own, parts]) if parts else own


def _external_data(path: Path) -> list[str]:
    """The sorted file names in the ``external_data`` entries of an ONNX file.

    They are found without a parser, because importing one takes longer than a cache hit. A name
    found by mistake does no harm: if such a file exists, it is hashed too. Paths that lead out of
    the folder are left out: a file with such a path is refused when it is read.
    """
    if not path.stat().st_size:
        return []
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        found = {_value(content, entry) for entry in LOCATION.finditer(content)}
    names = {name.decode(errors="ignore") for name in found}
    return sorted(
        name
        for name in names
        if name and not PurePath(name).is_absolute() and ".." not in PurePath(name).parts
    )


def _value(content: mmap, entry: re.Match[bytes]) -> bytes:
    size = sum((byte & 0x7F) << (7 * i) for i, byte in enumerate(entry[1]))
    return content[entry.end() : entry.end() + size]


def _sha256(path: Path, what: str) -> str:
    try:
        if path.is_dir() and (what == "weights" or not any(path.rglob("*"))):
            raise UsageError(f"cannot read the {what} file {path}: it is a folder")
        return content_sha256(path)
    except ValueError as error:
        raise UsageError(f"cannot use the {what} {path}: {error}") from error
    except OSError as error:
        raise UsageError(f"cannot read the {what} file {path}: {error.strerror}") from error


def _timm_version() -> str:
    try:
        return version("timm")
    except PackageNotFoundError:
        return "(not installed)"


def resolve_model(request: Request) -> ResolvedModel:
    """The model that ``request`` names, not built yet. Raises :class:`UsageError`."""
    batch, resolution = _sizes(request)
    return resolve(
        request.model,
        weights=None if request.weights is None else Path(restored_name(request.weights)),
        weights_key=request.weights_key,
        batch=batch,
        resolution=resolution,
        seed=request.seed,
        arguments=request.arguments,
        imports=request.imports,
    )


def _sizes(request: Request) -> tuple[int | None, tuple[int, int] | None]:
    """Batch and resolution: those of the shape, if the model is built for a single image.

    Raises :class:`UsageError` if the request gives two sizes for one of them.
    """
    shape = next(iter(request.shapes.values()), ())
    image = len(request.shapes) == 1 and len(shape) == 4
    if not image or artifact_extension(request.model) is not None:
        return request.batch, request.resolution
    batch, height, width = shape[0], shape[2], shape[3]
    shown = "x".join(map(str, shape))
    for option, asked, found in (
        ("--batch", request.batch, batch),
        ("--resolution", request.resolution, (height, width)),
    ):
        if asked is not None and asked != found:
            size = "x".join(map(str, asked)) if isinstance(asked, tuple) else asked
            raise UsageError(f"{option} {size} contradicts --shape {shown}", hint=f"omit {option}")
    return batch, (height, width)


def identify(request: Request) -> ModelIdentity:
    """The identity of the model that ``request`` names. Raises :class:`UsageError`."""
    return resolve_model(request).identity
