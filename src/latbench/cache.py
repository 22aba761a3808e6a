"""Artifacts, addressed by content, and the keys under which they are found again.

``artifacts/<sha256><suffix>`` is the file or the folder of files, ``references/<sha256>.npz`` the
outputs that it must give and ``keys/<key>.json`` what was made from what. Everything is written
beside its place and renamed, so a reader never sees half a file. A file whose digest no longer fits
is set aside, never used.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from latbench.core.errors import LatbenchError
from latbench.core.records import Artifact
from latbench.core.values import Value

STALE_S = 24 * 3600


class Entry(Value, frozen=True, kw_only=True):
    """What is stored under a key."""

    artifact: Artifact
    reference_sha256: str


@dataclass(frozen=True, kw_only=True)
class Cached:
    """An artifact and where its files are."""

    artifact: Artifact
    path: Path
    reference: Path


class ArtifactCache:
    """The cache below one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def find(self, key: str, suffix: str) -> Cached | None:
        """The artifact under ``key`` if it is there and whole.

        Raises :class:`Changed` where a file is there and is not what was written: it has been set
        aside by then, so that looking again finds nothing.
        """
        try:
            entry = msgspec.json.decode(self._key(key).read_bytes(), type=Entry)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise LatbenchError(f"cannot read {self._key(key)}: {error.strerror}") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._set_aside(self._key(key), str(error)) from error
        cached = self._cached(entry, suffix)
        for path, digest in (
            (cached.path, entry.artifact.sha256),
            (cached.reference, entry.reference_sha256),
        ):
            try:
                actual = content_sha256(path)
            except FileNotFoundError:
                return None
            except OSError as error:
                raise LatbenchError(f"cannot read {path}: {error.strerror}") from error
            except ValueError as error:
                raise self._set_aside(path, str(error)) from error
            if actual != digest:
                raise self._set_aside(path, f"sha256 is {actual[:12]}…, not {digest[:12]}…")
        return cached

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """A folder of one's own on the cache's file system, removed at the end."""
        try:
            (self._root / "tmp").mkdir(parents=True, exist_ok=True)
            self._sweep()
            folder = Path(tempfile.mkdtemp(dir=self._root / "tmp"))
        except OSError as error:
            raise LatbenchError(
                f"cannot write to the artifact cache {self._root}: {error.strerror}",
                hint="make room or permit writing there, or set LATBENCH_CACHE to another folder",
            ) from error
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove the workspaces of programs that were killed a day ago or more."""
        for left in (self._root / "tmp").iterdir():
            with suppress(FileNotFoundError):  # another program may end meanwhile
                if time.time() - left.stat().st_mtime > STALE_S:
                    shutil.rmtree(left, ignore_errors=True)

    def store(
        self, key: str, artifact: Artifact, suffix: str, made: Path, reference: Path
    ) -> Cached:
        """Move the files of a workspace to their places; the key comes last."""
        entry = Entry(artifact=artifact, reference_sha256=content_sha256(reference))
        cached = self._cached(entry, suffix)
        written = made.with_name("key.json")
        try:
            written.write_bytes(msgspec.json.encode(entry))
            for source, target in (
                (made, cached.path),
                (reference, cached.reference),
                (written, self._key(key)),
            ):
                target.parent.mkdir(parents=True, exist_ok=True)
                if not (target.is_dir() and self._whole(target, artifact)):
                    self._put(source, target, artifact)
        except OSError as error:
            raise LatbenchError(
                f"cannot write to the artifact cache {self._root}: {error.strerror}",
                hint="make room there, or set LATBENCH_CACHE to another folder",
            ) from error
        return cached

    def _put(self, source: Path, target: Path, artifact: Artifact) -> None:
        try:
            _move(source, target)
        except OSError:
            # Another program may have put the same folder there meanwhile.
            if not (target.is_dir() and self._whole(target, artifact)):
                raise

    def _whole(self, target: Path, artifact: Artifact) -> bool:
        """Whether a folder is there already and is the artifact. Unlike a file it cannot be
        replaced in one step, and another worker may be reading it."""
        with suppress(OSError, ValueError):
            return content_sha256(target) == artifact.sha256
        return False

    def _cached(self, entry: Entry, suffix: str) -> Cached:
        return Cached(
            artifact=entry.artifact,
            path=self._root / "artifacts" / f"{entry.artifact.sha256}{suffix}",
            reference=self._root / "references" / f"{entry.reference_sha256}.npz",
        )

    def _key(self, key: str) -> Path:
        return self._root / "keys" / f"{key}.json"

    def _set_aside(self, path: Path, reason: str) -> Changed:
        aside = path.with_name(path.name + ".changed")
        try:
            # Another program that found it changed may have set it aside before.
            with suppress(FileNotFoundError):
                _move(path, aside)
        except OSError as error:
            raise LatbenchError(
                f"{path} was changed on disk ({reason}) and cannot be set aside: {error.strerror}",
                hint="remove it, or set LATBENCH_CACHE to another folder",
            ) from error
        return Changed(f"{path} was changed on disk ({reason}); set aside as {aside.name}")


class Changed(LatbenchError):
    """A file of the cache is not what was written."""


def copy_beside(source: Path, target: Path) -> Path:
    """Copy the file or folder ``source`` to ``target``, beside it first, then renamed.

    Into a folder it goes by its own name, unless that folder is itself such an artifact: one of the
    same ending, with nothing in it that ``source`` has not. Raises :class:`LatbenchError`.
    """
    try:
        target = _place(source, target)
    except OSError as error:
        raise _unwritable(target, error) from error
    copy = shutil.copytree if source.is_dir() else shutil.copyfile
    write_beside(target, lambda beside: copy(source, beside), over_folder=source.is_dir())
    return target


def write_beside(
    target: Path, write: Callable[[Path], object], *, over_folder: bool = False
) -> None:
    """Have ``write`` make a file beside ``target``, then rename it: never half of one.

    A folder at ``target`` is replaced only ``over_folder``; else it is an error, as all that is in
    it would be lost. Raises :class:`LatbenchError`.
    """
    try:
        folder = target.is_dir()
    except OSError as error:
        raise _unwritable(target, error) from error
    if folder and not over_folder:
        raise LatbenchError(f"cannot write {target}: it is a folder", hint="name a file in it")
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        write(beside)
        _move(beside, target)
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        _remove(beside)


def _place(source: Path, target: Path) -> Path:
    """Where in, or instead of, ``target`` a copy of ``source`` goes."""
    if target.is_dir() and not (source.is_dir() and target.suffix == source.suffix):
        target /= source.name
    if target.is_dir() and source.is_dir():
        own = {part.name for part in source.iterdir()}
        if strange := sorted(part.name for part in target.iterdir() if part.name not in own):
            raise LatbenchError(
                f"{target} is a folder with other things in it, such as {strange[0]}",
                hint="name another place, or a folder of another ending to put it into",
            )
    return target


def _unwritable(target: Path, error: OSError) -> LatbenchError:
    return LatbenchError(
        f"cannot write {target}: {_reason(error)}",
        hint="name a folder that exists and has room",
    )


def _reason(error: OSError) -> str:
    """In words. Of several files at once :mod:`shutil` raises a list of its own."""
    if isinstance(error, shutil.Error) and error.args and error.args[0]:
        return str(error.args[0][0][-1])
    return error.strerror or str(error)


def content_sha256(path: Path) -> str:
    """Hexadecimal digest of a file, or of the names and contents of all files in a folder.

    Raises :class:`ValueError` for a folder with a link in it: what it points to is elsewhere.
    """
    if not path.is_dir():
        return _file_sha256(path)
    total = hashlib.sha256()
    for part in sorted(path.rglob("*")):
        if part.is_symlink():
            raise ValueError(f"{part.relative_to(path)} in {path.name} is a link")
        if part.is_file():
            name = part.relative_to(path).as_posix().encode()
            total.update(len(name).to_bytes(8, "little") + name)
            total.update(bytes.fromhex(_file_sha256(part)))
    return total.hexdigest()


def content_bytes(path: Path) -> int:
    """Size of a file, or of all files in a folder."""
    if not path.is_dir():
        return path.stat().st_size
    return sum(part.stat().st_size for part in path.rglob("*") if part.is_file())


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _move(source: Path, target: Path) -> None:
    """Rename ``source`` to ``target``, which is replaced. A folder can only replace none, so an
    older one is renamed away first."""
    if not target.is_dir():
        os.replace(source, target)  # noqa: PTH105 - says what it does
        return
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    os.replace(target, old)  # noqa: PTH105
    try:
        os.replace(source, target)  # noqa: PTH105
    except BaseException:
        # Where the old one cannot go back, another program has put a new one there.
        with suppress(OSError):
            os.replace(old, target)  # noqa: PTH105
        raise
    finally:
        _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
