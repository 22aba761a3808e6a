"""Artifacts, addressed by content, and the keys under which they are found.

``artifacts/<sha256><suffix>`` is the file or the folder of files, ``references/<sha256>.npz`` the
expected outputs, ``inputs/<sha256>.npz`` the arrays of inputs that come from files, and
``keys/<key>.json`` the artifact of a key. Everything is written next to its
destination and renamed, so a reader never sees a partial file. A file whose digest does not match
is set aside and never used.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from latbench.errors import LatbenchError
from latbench.files import content_sha256, replace_path
from latbench.schema.artifact import Artifact
from latbench.schema.value import Value

STALE_S = 24 * 3600


class Entry(Value, frozen=True, kw_only=True):
    """The value stored under a key."""

    artifact: Artifact
    reference_sha256: str
    inputs_sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class CachedArtifact:
    """An artifact and the paths of its files."""

    artifact: Artifact
    path: Path
    reference: Path
    inputs: Path | None = None
    """Arrays of the inputs that come from files; ``None`` if there are none."""


class ArtifactCache:
    """The cache below one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def find(self, key: str, suffix: str) -> CachedArtifact | None:
        """The artifact under ``key``; ``None`` if it is missing.

        Raises :class:`ArtifactChanged` if a file is not what was written. The file has then been
        set aside, so the next call returns ``None``.
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
            (cached.inputs, entry.inputs_sha256),
        ):
            if path is None or digest is None:
                continue
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
        """A temporary folder on the file system of the cache, removed at the end."""
        try:
            (self._root / "tmp").mkdir(parents=True, exist_ok=True)
            self._sweep()
            folder = Path(tempfile.mkdtemp(dir=self._root / "tmp"))
        except OSError as error:
            raise LatbenchError(
                f"cannot write to the artifact cache {self._root}: {error.strerror}",
                hint="free space or permit writing there, or set LATBENCH_CACHE to another folder",
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
        self,
        key: str,
        artifact: Artifact,
        suffix: str,
        made: Path,
        reference: Path,
        inputs: Path | None = None,
    ) -> CachedArtifact:
        """Move the files of a workspace to their destinations, the key last."""
        entry = Entry(
            artifact=artifact,
            reference_sha256=content_sha256(reference),
            inputs_sha256=None if inputs is None else content_sha256(inputs),
        )
        cached = self._cached(entry, suffix)
        written = made.with_name("key.json")
        try:
            written.write_bytes(msgspec.json.encode(entry))
            for source, target in (
                (made, cached.path),
                (reference, cached.reference),
                (inputs, cached.inputs),
                (written, self._key(key)),
            ):
                if source is None or target is None:
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                if not (target.is_dir() and self._whole(target, artifact)):
                    self._put(source, target, artifact)
        except OSError as error:
            raise LatbenchError(
                f"cannot write to the artifact cache {self._root}: {error.strerror}",
                hint="free space there, or set LATBENCH_CACHE to another folder",
            ) from error
        return cached

    def _put(self, source: Path, target: Path, artifact: Artifact) -> None:
        try:
            replace_path(source, target)
        except OSError:
            # Another program may have put the same folder there meanwhile.
            if not (target.is_dir() and self._whole(target, artifact)):
                raise

    def _whole(self, target: Path, artifact: Artifact) -> bool:
        """Whether the folder exists and is the artifact. Unlike a file, a folder cannot be replaced
        in one step, and another worker may be reading it."""
        with suppress(OSError, ValueError):
            return content_sha256(target) == artifact.sha256
        return False

    def _cached(self, entry: Entry, suffix: str) -> CachedArtifact:
        return CachedArtifact(
            artifact=entry.artifact,
            path=self._root / "artifacts" / f"{entry.artifact.sha256}{suffix}",
            reference=self._root / "references" / f"{entry.reference_sha256}.npz",
            inputs=None
            if entry.inputs_sha256 is None
            else self._root / "inputs" / f"{entry.inputs_sha256}.npz",
        )

    def _key(self, key: str) -> Path:
        return self._root / "keys" / f"{key}.json"

    def _set_aside(self, path: Path, reason: str) -> ArtifactChanged:
        aside = path.with_name(path.name + ".changed")
        try:
            # Another program that found it changed may have set it aside before.
            with suppress(FileNotFoundError):
                replace_path(path, aside)
        except OSError as error:
            raise LatbenchError(
                f"{path} was changed on disk ({reason}) and cannot be set aside: {error.strerror}",
                hint="remove it, or set LATBENCH_CACHE to another folder",
            ) from error
        return ArtifactChanged(f"{path} was changed on disk ({reason}); set aside as {aside.name}")


class ArtifactChanged(LatbenchError):
    """A file of the cache is not what was written."""
