"""Content digests, arrays in files, and writing files next to their destination before renaming
them."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

from latbench.errors import LatbenchError, Stage, StageError

if TYPE_CHECKING:
    from latbench.api import Array


def copy_beside(source: Path, target: Path) -> Path:
    """Copy the file or folder ``source`` to ``target``, by way of a temporary name next to it.

    If ``target`` is a folder, the copy keeps its own name in it, unless the folder is such an
    artifact itself: it has the same extension and contains nothing but what ``source`` contains.
    Raises :class:`LatbenchError`.
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
    """Let ``write`` create a file next to ``target``, then rename it: no partial file exists.

    A folder at ``target`` is replaced only with ``over_folder``; otherwise it is an error, because
    its contents would be lost. Raises :class:`LatbenchError`.
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
        replace_path(beside, target)
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        _remove(beside)


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Let other programs of this machine that use the same file ``lock`` wait until the end.

    On Windows nothing waits. Raises :class:`LatbenchError` where the file cannot be made.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    try:
        file = lock.open("w")
    except OSError as error:
        raise _unwritable(lock, error) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _place(source: Path, target: Path) -> Path:
    """The path of a copy of ``source``: ``target`` or a name in it."""
    if target.is_dir() and not (source.is_dir() and target.suffix == source.suffix):
        target /= source.name
    if target.is_dir() and source.is_dir():
        own = {part.name for part in source.iterdir()}
        if strange := sorted(part.name for part in target.iterdir() if part.name not in own):
            raise LatbenchError(
                f"{target} is a folder with other things in it, such as {strange[0]}",
                hint="choose another place, or a folder with another extension to put it into",
            )
    return target


def _unwritable(target: Path, error: OSError) -> LatbenchError:
    return LatbenchError(
        f"cannot write {target}: {_reason(error)}",
        hint="name a folder that exists and has room",
    )


def _reason(error: OSError) -> str:
    """The reason in words. For several files :mod:`shutil` raises a list."""
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
            name = os.fsencode(part.relative_to(path).as_posix())
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


def replace_path(source: Path, target: Path) -> None:
    """Rename ``source`` to ``target``, which is replaced. A folder cannot replace another one, so
    an older one is renamed first."""
    if not target.is_dir():
        os.replace(source, target)  # noqa: PTH105 - says what it does
        return
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    os.replace(target, old)  # noqa: PTH105
    try:
        os.replace(source, target)  # noqa: PTH105
    except BaseException:
        # If the old one cannot be restored, another program has created a new one.
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


def read_arrays(path: Path, stage: Stage, what: str) -> dict[str, Array]:
    """The arrays of an ``.npz`` file of the artifact cache, in order.

    Raises :class:`StageError` for ``stage``, in which ``what`` names the arrays.
    """
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, BadZipFile) as error:
        raise StageError(
            stage,
            f"{what} cannot be read: {path}: {error}",
            hint="the artifact cache was changed during the run; run it again",
        ) from error
