"""claims.yaml: the shipped claims, and a user's own beside them.

An invalid entry does not affect the others: it is left out and reported with file, line and field.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from latbench.claims.model import (
    Claim,
    ClaimConditions,
    ClaimedModel,
    ClaimSource,
)
from latbench.claims.quantity_validation import Problem
from latbench.claims.statements import KINDS
from latbench.claims.validation import Known, claim_problems, model_problems
from latbench.errors import UsageError, suggest
from latbench.files import write_beside
from latbench.paths import config_folder
from latbench.schema.environment import Device
from latbench.schema.value import Value
from latbench.schema.yaml_document import Document, parse
from latbench.zoo.catalog import ZOO

SCHEMA = 1
CLAIM_EXTENSIONS = (".yaml", ".yml")
T = TypeVar("T", ClaimSource, ClaimedModel, Claim)
TRUST = "code that a claims file names is executed only with --trust-code"
TOP = ("schema", "sources", "models", "claims")


class ClaimLibrary(Value, frozen=True, kw_only=True):
    """The valid entries of all files, and errors about the others."""

    sources: dict[str, ClaimSource]
    models: dict[str, ClaimedModel]
    claims: tuple[Claim, ...]
    errors: tuple[str, ...]
    """Each has file, line and field; a hint follows on a separate line."""
    devices: tuple[str, ...]

    def find(self, id: str) -> Claim:
        """Return the claim with that id. Raises :class:`UsageError` with the nearest ids."""
        known = {claim.id: claim for claim in self.claims}
        if id not in known:
            raise UsageError(f"unknown claim {id!r}", hint=_near(id, known))
        return known[id]

    def models_called(self, name: str) -> set[str]:
        """Return the ids of models with that id, builder or name, or that prefix (a family)."""
        low = name.lower()
        found = {
            model.id
            for model in self.models.values()
            if low in (model.id.lower(), model.name.lower(), (model.build or "").lower())
        } or {model.id for model in self.models.values() if model.name.lower().startswith(low)}
        if not found:
            known = [model.name for model in self.models.values()]
            raise UsageError(f"no claim is about a model {name!r}", hint=_near(name, known))
        return found

    def require_device(self, id: str) -> None:
        """Raise :class:`UsageError` for an unknown id."""
        if id not in self.devices:
            raise UsageError(f"unknown device {id!r}", hint=suggest(id, self.devices))

    def require_source(self, id: str) -> None:
        """Raise :class:`UsageError` for an unknown id."""
        if id not in self.sources:
            raise UsageError(f"unknown source {id!r}", hint=suggest(id, self.sources))


def load_claims(
    devices: Iterable[Device],
    own: Iterable[Path] = (),
    *,
    shipped: bool = True,
    trust_code: bool = True,
) -> ClaimLibrary:
    """Read the shipped claims, then those of the files in ``own``.

    Without ``trust_code``, networks that the files in ``own`` build from code of theirs count as
    absent, and claims that name such code as a host are errors. Raises :class:`UsageError` only if
    the shipped file is not valid YAML.
    """
    reading = _Reading({device.id: device for device in devices})
    if shipped:
        content = files("latbench.data").joinpath("claims.yaml").read_bytes()
        reading.read(parse(content, "claims.yaml"))
    for path in own:
        try:
            reading.read(parse(_bytes(path), str(path)), trust_code=trust_code)
        except UsageError as error:
            reading.report(error)
    return reading.library()


def user_claims() -> tuple[Path, ...]:
    """Return the user's own files.

    ``LATBENCH_CLAIMS`` names a file or a folder; the default is the folder ``claims`` of the
    configuration folder.
    """
    place = user_claims_place()
    if place.is_dir():
        return tuple(sorted(path for path in place.iterdir() if path.suffix in CLAIM_EXTENSIONS))
    # A folder may be missing; a named file must exist.
    return (place,) if place.exists() or place.suffix in CLAIM_EXTENSIONS else ()


def user_claims_place() -> Path:
    """Return the file or folder that is searched, and that `claims add` writes to."""
    named = os.environ.get("LATBENCH_CLAIMS")
    return Path(named) if named else config_folder() / "claims"


def names_code(build: str | None) -> bool:
    """Whether building a network executes a module or a file that ``build`` names.

    The zoo, timm and pre-exported files are not code of the one who names them.
    """
    return build is not None and ":" in build and not build.startswith("timm:")


def add_file(
    path: Path, devices: Iterable[Device], *, trust_code: bool = False
) -> tuple[Path, tuple[str, ...]]:
    """Copy a file of valid claims to the user's own; return the new path and the ids in it.

    Checking the user's own claims executes the code that they name, so a file that names code is
    refused without ``trust_code``. Raises :class:`UsageError` with every problem of the file, and
    then copies nothing.
    """
    content = _bytes(path)
    before = load_claims(devices, user_claims())
    after = load_claims(devices, (*user_claims(), path))
    # Errors of the user's other files are among these.
    if wrong := [error for error in after.errors if error.startswith(f"{path}:")]:
        raise UsageError("\n".join(wrong), hint="nothing was added")
    code = [model.build for model in after.models.values() if model.id not in before.models]
    if not trust_code and (named := [build for build in code if build and names_code(build)]):
        raise UsageError(
            f"{path} names code, which `latbench claims check` would execute: {', '.join(named)}",
            hint="read that code, then repeat the command with --trust-code",
        )
    new = {claim.id for claim in before.claims}
    ids = tuple(claim.id for claim in after.claims if claim.id not in new)
    if not ids:
        raise UsageError(f"{path} contains no claims", hint="`latbench claims add --template`")
    folder = user_claims_place()
    if folder.is_file():
        raise UsageError(
            f"LATBENCH_CLAIMS names a file: {folder}", hint="name a folder to add claims to it"
        )
    place = folder / f"{path.stem}.yaml"
    if place.exists():
        raise UsageError(f"{place} exists already", hint="rename your file")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_beside(place, lambda beside: beside.write_bytes(content))
    except OSError as error:
        raise UsageError(f"cannot write {place}: {error.strerror}") from error
    return place, ids


class _Reading:
    """Collects entries of several documents."""

    def __init__(self, devices: dict[str, Device]) -> None:
        self._devices = devices
        self._sources: dict[str, ClaimSource] = {}
        self._models: dict[str, ClaimedModel] = {}
        self._claims: list[tuple[Document, int, Claim]] = []
        self._taken: dict[tuple[str, str], str] = {}
        self._errors: list[str] = []

    def report(self, error: UsageError) -> None:
        self._errors.append(
            f"{error.message}\n  hint: {error.hint}" if error.hint else error.message
        )

    def read(self, document: Document, *, trust_code: bool = True) -> None:
        tree = document.tree
        if not isinstance(tree, dict):
            raise document.error((), "expected a mapping", f"with {', '.join(TOP)}")
        found = tree.get("schema")
        if type(found) is not int or found < 1:  # `true` is an int to Python
            raise document.error(
                ("schema",), "missing, or not a positive whole number", f"schema: {SCHEMA}"
            )
        if found > SCHEMA:
            raise document.error(
                ("schema",),
                f"the file has schema {found}; this latbench reads up to {SCHEMA}",
                "upgrade latbench",
            )
        for key in tree:
            if key not in TOP:
                self.report(document.error((key,), "unknown key", f"known: {', '.join(TOP)}"))
        for _, source in self._entries(document, "sources", ClaimSource):
            self._sources[source.id] = source
        for i, model in self._entries(document, "models", ClaimedModel):
            problems = [*model_problems(model), *_not_in_the_zoo(model)]
            if not self._reported(document, ("models", i), problems):
                self._models[model.id] = model if trust_code else _without_code(model)
        for i, claim in self._entries(document, "claims", Claim):
            hosts = () if trust_code else getattr(claim.says, "hosts", ())
            problems = [
                Problem(path=("says", "hosts"), message=f"names code: {host}", hint=TRUST)
                for host in hosts
                if names_code(host)
            ]
            if not self._reported(document, ("claims", i), problems):
                self._claims.append((document, i, claim))

    def library(self) -> ClaimLibrary:
        """Check the claims, last because one may name a model of another file."""
        known = Known(models=self._models, devices=self._devices, sources=frozenset(self._sources))
        good = []
        for document, i, claim in self._claims:
            problems = claim_problems(claim, known)
            for j, id in enumerate(claim.conflicts):
                if ("claims", id) not in self._taken:
                    close = _near(id, [name for kind, name in self._taken if kind == "claims"])
                    problems.append(
                        Problem(path=("conflicts", j), message=f"unknown claim {id!r}", hint=close)
                    )
            if not self._reported(document, ("claims", i), problems):
                good.append(claim)
        return ClaimLibrary(
            sources=self._sources,
            models=self._models,
            claims=tuple(good),
            errors=tuple(self._errors),
            devices=tuple(self._devices),
        )

    def _reported(
        self, document: Document, at: tuple[str | int, ...], problems: list[Problem]
    ) -> bool:
        for problem in problems:
            self.report(document.error((*at, *problem.path), problem.message, problem.hint))
        return bool(problems)

    def _entries(self, document: Document, key: str, type: type[T]) -> Iterator[tuple[int, T]]:
        """The entries of the right structure; of two with the same id, the second is an error."""
        assert isinstance(document.tree, dict)
        rows = document.tree.get(key) or []
        if not isinstance(rows, list):
            self.report(document.error((key,), "expected a list"))
            return
        for i, row in enumerate(rows):
            try:
                entry = msgspec.convert(row, type)
            except msgspec.ValidationError as error:
                self.report(_explained(document, (key, i), str(error)))
                # Other entries may still refer to it: one mistake is reported once.
                if isinstance(row, dict):
                    self._taken.setdefault((key, str(row.get("id"))), "")
                continue
            if entry in (self._sources.get(entry.id), self._models.get(entry.id)):
                continue  # files of several people may name the same paper
            if (taken := self._taken.get((key, entry.id))) is not None:
                at = f": {taken}" if taken else ""
                self.report(
                    document.error(
                        (key, i, "id"), f"the id {entry.id!r} is taken{at}", "choose another id"
                    )
                )
                continue
            self._taken[key, entry.id] = document.place((key, i, "id"))
            yield i, entry


def _not_in_the_zoo(model: ClaimedModel) -> Iterator[Problem]:
    """Unknown names of zoo models; other names (`timm:NAME`, a factory, a file) are not checked."""
    names = [entry.name for entry in ZOO]
    if model.build is not None and not re.search("[:./]", model.build) and model.build not in names:
        yield Problem(
            path=("build",),
            message=f"unknown model {model.build!r}",
            hint=suggest(model.build, names),
        )


def _without_code(model: ClaimedModel) -> ClaimedModel:
    if not names_code(model.build):
        return model
    reason = f"its code, {model.build}, was not executed: {TRUST}"
    return msgspec.structs.replace(model, build=None, absent=reason)


def _explained(document: Document, at: tuple[str | int, ...], message: str) -> UsageError:
    """Locate an error; msgspec names the place inside the entry as ``$.says.figure``."""
    text, _, place = message.partition(" - at `$")
    inside = tuple(
        int(index) if index else name
        for name, index in re.findall(r"\.([^.\[`]+)|\[(\d+)\]", place)
    )
    if unknown := re.search(r"unknown field `(.+)`$", text):
        return document.error(
            (*at, *inside, unknown[1]), "unknown key", suggest(unknown[1], sorted(_all_fields()))
        )
    if "got `float`" in text or "got `int`" in text:
        return document.error((*at, *inside), _small(text), 'in quotes, as printed: "2.30"')
    return document.error((*at, *inside), _small(text))


def _near(id: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(id, list(known), n=3)
    return f"did you mean {', '.join(close)}?" if close else "`latbench claims list` shows all"


def _small(text: str) -> str:
    return text[:1].lower() + text[1:]


def _all_fields() -> set[str]:
    types: list[Any] = [ClaimSource, ClaimedModel, Claim, ClaimConditions, *KINDS.values()]
    return {name for type in types for name in type.__struct_fields__} | {"kind"}


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the claims file {path}: {error.strerror}") from error
