"""From the name of a model to its identity, and to the model when it is asked for.

Resolving is light: it imports no torch and executes nothing of the user's, so that an artifact in
the cache is found without either.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from latbench.cache import content_sha256
from latbench.core.errors import UsageError
from latbench.core.records import Counts, ModelIdentity, TensorSpec
from latbench.plugins import read_suffixes
from latbench.zoo import catalog
from latbench.zoo.source import architecture_digest, find_module

if TYPE_CHECKING:
    from torch import nn

    from latbench.zoo.build import Built

TIMM = "timm:"
Form = Literal["deploy", "trained"]
"""Branches fused and BatchNorm folded, or as the authors train it."""
FORMS: dict[str, Form] = {form: form for form in get_args(Form)}


@dataclass(frozen=True, kw_only=True)
class ResolvedModel:
    """An ``api.Model``: known by identity at once, built on first use."""

    identity: ModelIdentity
    weights: Path | None
    seed: int
    entry: catalog.ZooModel | None = None
    """Of the zoo's own models."""
    path: Path | None = None
    """Of a ready file, which needs no building."""
    source: Path | None = None
    """Of a user's own: the file that holds the factory."""
    factory: str | None = None
    search: tuple[str, ...] = ()
    """Where a user's own finds its imports."""
    form: Form = "deploy"

    def module(self) -> nn.Module:
        """The network in its form, in eval mode. Raises :class:`StageError`."""
        return self._built.module

    def inputs(self) -> tuple[TensorSpec, ...]:
        """One image tensor, NCHW, float32."""
        return self._built.inputs

    def counts(self) -> Counts:
        """Of that form at the input's shape."""
        return self._built.counts

    def trained_parameters(self) -> int:
        """Parameters before fusion and folding, all heads included."""
        return self._built.trained_parameters

    @cached_property
    def _built(self) -> Built:
        from latbench.zoo.build import build

        return build(self)


def resolve(
    name: str,
    *,
    weights: Path | None,
    batch: int | None,
    resolution: tuple[int, int] | None,
    seed: int,
) -> ResolvedModel:
    """The model called ``name``. Raises :class:`UsageError` where there is no such thing.

    ``name`` is an entry of the zoo, ``timm:NAME``, ``package.module:factory``,
    ``path/to/file.py:factory`` or a ready file of a format that an exporter reads.
    """
    if batch is not None and batch < 1:
        raise UsageError(f"batch must be at least 1, not {batch}")
    if resolution is not None and min(resolution) < 1:
        raise UsageError(f"resolution must be at least 1, not {min(resolution)}")

    def identity(source: Source, architecture: str, paper: str | None = None) -> ModelIdentity:
        return ModelIdentity(
            name=name,
            source=source,
            architecture=architecture,
            weights=_weights(weights, seed) if source != "file" else "file",
            batch=batch,
            resolution=resolution,
            paper=paper,
        )

    if ready_suffix(name):
        if weights is not None:
            raise UsageError("a ready file has its weights; --weights is for a model to export")
        path = Path(name)
        return ResolvedModel(
            identity=identity("file", f"sha256:{_sha256(path, 'model')}"),
            weights=None,
            seed=seed,
            path=path.absolute(),
        )
    if name.startswith(TIMM):
        return ResolvedModel(
            identity=identity("timm", f"timm {_timm_version()} {name.removeprefix(TIMM)}"),
            weights=weights,
            seed=seed,
            factory=name.removeprefix(TIMM),
        )
    if ":" in name:
        return _users_own(name, weights, seed, identity)
    entry = catalog.find(name)
    module = entry.factory.partition(":")[0]
    source = find_module(module, sys.path)
    assert source is not None, "the zoo's own modules are beside this one"
    return ResolvedModel(
        identity=identity("zoo", architecture_digest(source, module, sys.path), entry.paper),
        weights=weights,
        seed=seed,
        entry=entry,
    )


if TYPE_CHECKING:
    from collections.abc import Callable

    Source = Literal["zoo", "timm", "user", "file"]


def _users_own(
    name: str, weights: Path | None, seed: int, identity: Callable[[Source, str], ModelIdentity]
) -> ResolvedModel:
    """``package.module:factory`` or ``path/to/file.py:factory``."""
    where, _, factory = name.rpartition(":")
    if not factory.isidentifier():
        raise UsageError(
            f"{factory!r} is not the name of a factory in {name!r}",
            hint="package.module:factory or path/to/file.py:factory",
        )
    if where.endswith(".py"):
        path = Path(where).absolute()
        if not path.is_file():
            raise UsageError(f"there is no file {where}")
        search, module = (str(path.parent), *sys.path), path.stem
    else:
        # The working directory, as for `python -m`; console scripts leave it out of sys.path.
        search, module = (str(Path.cwd()), *sys.path), where
        found = find_module(module, search)
        if found is None:
            raise UsageError(
                f"there is no module {where!r}",
                hint="it is looked for in the working directory and among installed packages",
            )
        path = found
    return ResolvedModel(
        identity=identity("user", architecture_digest(path, module, search)),
        weights=weights,
        seed=seed,
        source=path,
        factory=f"{module}:{factory}",
        search=search,
    )


def read_form(text: str) -> Form:
    """The form of that name. Raises :class:`UsageError`."""
    if (form := FORMS.get(text)) is None:
        raise UsageError(f"form cannot be {text!r}", hint=f"one of: {', '.join(FORMS)}")
    return form


def ready_suffix(name: str) -> str | None:
    """The ending of a ready file's name; ``None`` for a model that is built.

    A colon, as in ``timm:NAME``, tells the two apart; it may stand in a folder's name, or after the
    letter of a drive. An ending that no exporter reads is part of a name, unless there is such a
    file.
    """
    suffix = Path(name).suffix.lower()
    if not suffix or ":" in Path(name).name:
        return None
    return suffix if suffix in read_suffixes() or Path(name).exists() else None


def _weights(path: Path | None, seed: int) -> str:
    return f"seed:{seed}" if path is None else f"sha256:{_sha256(path, 'weights')}"


def _sha256(path: Path, what: str) -> str:
    if path.is_dir() and (what == "weights" or not any(path.rglob("*"))):
        raise UsageError(f"cannot read the {what} file {path}: it is a folder")
    try:
        return content_sha256(path)
    except ValueError as error:
        raise UsageError(f"cannot take the {what} {path}: {error}") from error
    except OSError as error:
        raise UsageError(f"cannot read the {what} file {path}: {error.strerror}") from error


def _timm_version() -> str:
    try:
        return version("timm")
    except PackageNotFoundError:
        return "(not installed)"
