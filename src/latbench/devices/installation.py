"""Installing a worker on a device: what is there, what is needed, and putting it in place."""

from __future__ import annotations

import re
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from latbench.devices.connections import Connection, Installed
from latbench.devices.transport import COMMAND_TIMEOUT_S, Transport
from latbench.devices.wheels import (
    Platform,
    digest_of,
    fetch_wheels,
    own_sha256,
    own_wheel,
    requirements,
)
from latbench.errors import StageError
from latbench.events import Warn
from latbench.files import content_sha256

UNPACK_TIMEOUT_S = 600.0
OLDEST_PYTHON = (3, 11)
SPARE_BYTES = 50 * 2**20
LOOK = r"""
# A shell of Android has no home folder of its own.
mkdir -p "$HOME/$2" 2>/dev/null || [ ! -d /data/local/tmp ] || HOME=/data/local/tmp
echo "system=$(uname -s)"; echo "architecture=$(uname -m)"; echo "home=$HOME"
echo "android=$(getprop ro.build.version.sdk 2>/dev/null)"
echo "abis=$(getprop ro.product.cpu.abilist 2>/dev/null)"
echo "bits=$(getconf LONG_BIT 2>/dev/null)"
libc=$(getconf GNU_LIBC_VERSION 2>/dev/null) ||
    libc=$("$1" -c 'import platform; print(*platform.libc_ver())' 2>/dev/null) ||
    libc=$(ldd --version 2>/dev/null | sed -n '1s/.*LIBC.* \([0-9.]*\)$/glibc \1/p')
echo "libc=$libc"
echo "macos=$(sw_vers -productVersion 2>/dev/null)"
echo "interpreter=$(command -v "$1" 2>/dev/null)"
echo "python=$("$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>&1 | tail -n 1)"
mkdir -p "$HOME/$2" 2>&1 | sed 's/^/refused=/'
[ -w "$HOME/$2" ] && echo "writable=yes"
echo "free=$(df -Pk "$HOME/$2" 2>/dev/null | awk 'NR == 2 { print $4 }')"
"""
"""Shell program that tells about a device, one ``name=value`` on a line."""
UNPACK = r"""
import os, shutil, sys, zipfile
target, *wheels = sys.argv[1:]
part = target + ".part"
shutil.rmtree(part, ignore_errors=True)
for wheel in wheels:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(part)
for name in os.listdir(part):
    if name.endswith(".data"):
        for kind in ("purelib", "platlib"):
            place = os.path.join(part, name, kind)
            if os.path.isdir(place):
                shutil.copytree(place, part, dirs_exist_ok=True)
        shutil.rmtree(os.path.join(part, name))
shutil.rmtree(target, ignore_errors=True)
os.rename(part, target)
"""
"""Python program that unpacks wheels into a folder, complete or not at all."""
FETCH = r"""
import hashlib, os, shutil, subprocess, sys, tempfile
root, *wanted = sys.argv[1:]
os.makedirs(root, exist_ok=True)
with tempfile.TemporaryDirectory(dir=root) as part:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--dest", part, *wanted]
    done = subprocess.run(command, stdout=2)
    if done.returncode:
        sys.exit(done.returncode)
    for name in os.listdir(part):
        with open(os.path.join(part, name), "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.makedirs(os.path.join(root, digest), exist_ok=True)
        os.replace(os.path.join(part, name), os.path.join(root, digest, name))
        print("wheel=" + digest, name)
"""
"""Python program with which a device fetches wheels itself, into folders by digest."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a device has, before anything is installed."""

    system: str
    architecture: str
    home: str
    python: tuple[int, int, int] | None
    interpreter: str | None
    """Absolute path."""
    libc: tuple[int, int] | None
    macos: tuple[int, int] | None
    writable: bool
    """Whether latbench's folder there can be written."""
    refused: str | None
    free_bytes: int | None
    android: int | None
    """Android's API level."""
    abis: tuple[str, ...]
    """What Android executes, in its own names."""
    bits: int | None
    """Of the system's programs, whatever the kernel can execute."""

    @property
    def platform(self) -> Platform:
        """What decides which wheels fit. There must be an interpreter."""
        assert self.python is not None
        return Platform(
            system=self.system,
            architecture=self.architecture,
            python=self.python[:2],
            libc=self.libc,
            macos=self.macos,
        )


def look_around(connection: Connection, transport: Transport) -> Surroundings:
    """Ask the device's shell. Raises :class:`StageError`."""
    command = ("sh", "-c", LOOK, "sh", connection.python, connection.folder)
    done = transport.run(command, timeout_s=COMMAND_TIMEOUT_S)
    lines = done.stdout.decode(errors="replace").splitlines()
    told = dict(line.split("=", 1) for line in lines if re.match(r"[a-z]+=", line))
    if "system" not in told or not told.get("home", "").startswith("/"):
        raise StageError(
            "probe",
            f"{connection.id} does not execute commands: {done.said}",
            hint="its user needs a login shell that executes `sh -c`, and no forced command",
            kind="unavailable",
        )
    python = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", told.get("python", ""))
    libc = re.fullmatch(r"glibc (\d+)\.(\d+).*", told.get("libc", ""))
    macos = re.match(r"(\d+)\.(\d+)", told.get("macos", ""))
    return Surroundings(
        system=told["system"],
        architecture=told.get("architecture", ""),
        home=told["home"],
        python=(int(python[1]), int(python[2]), int(python[3])) if python else None,
        interpreter=told.get("interpreter") or None,
        libc=(int(libc[1]), int(libc[2])) if libc else None,
        macos=(int(macos[1]), int(macos[2])) if macos else None,
        writable=told.get("writable") == "yes",
        refused=told.get("refused"),
        free_bytes=None if (free := _number(told.get("free"))) is None else free * 1024,
        android=_number(told.get("android")),
        abis=tuple(filter(None, told.get("abis", "").split(","))),
        bits=_number(told.get("bits")),
    )


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def check_surroundings(connection: Connection, found: Surroundings) -> None:
    """Refuse a device that no Python worker runs on. Raises :class:`StageError`."""
    name = connection.id
    if not found.writable:
        raise _unfit(
            f"{found.home}/{connection.folder} on {name} cannot be written"
            + (f": {found.refused}" if found.refused else ""),
            "latbench devices add --folder names another folder below the home folder",
        )
    if found.python is None or found.interpreter is None:
        raise _unfit(
            f"{name} has no {connection.python}",
            "install Python 3.11 or newer there, name one (latbench devices add --python), or use "
            "the worker without Python: latbench devices install --worker native",
        )
    if found.python[:2] < OLDEST_PYTHON:
        version = ".".join(map(str, found.python))
        raise _unfit(
            f"{connection.python} on {name} is {version}; the worker needs 3.11 or newer",
            "name another one (latbench devices add --python), or use the worker without Python: "
            "latbench devices install --worker native",
        )


def install_python_worker(
    connection: Connection,
    transport: Transport,
    backends: Sequence[str],
    *,
    from_index: bool = False,
    warn: Warn,
) -> Installed:
    """Put a Python worker with ``backends`` on the device, from wheels that are fetched here.

    With ``from_index``, the device's own pip fetches them. What is there already is not sent again.
    Raises :class:`StageError`.
    """
    found = look_around(connection, transport)
    check_surroundings(connection, found)
    assert found.interpreter is not None
    root = PurePosixPath(found.home, connection.folder)
    place = _Place(connection, transport, root, found.interpreter)
    with tempfile.TemporaryDirectory(prefix="latbench-wheels-") as temporary:
        folder = Path(temporary)
        own = own_wheel(folder)
        if from_index:
            wheels = place.downloaded(requirements(backends))
            wheels[own.name] = content_sha256(own)
        else:
            fetched = fetch_wheels(requirements(backends), found.platform, folder)
            wheels = {wheel.name: content_sha256(wheel) for wheel in fetched}
        sha256 = digest_of(wheels)
        if not place.has(f"environments/{sha256}"):
            if not from_index:
                _check_room(connection, found, sorted(folder.glob("*.whl")))
            sent = place.send([folder / name for name in wheels if (folder / name).exists()])
            warn(f"sent {sent / 1e6:.1f} MB to {connection.id} for {len(wheels)} wheels")
            place.unpack(sha256, wheels)
    return Installed(
        worker="python",
        sha256=sha256,
        latbench=own_sha256(),
        folder=str(root),
        python=found.interpreter,
        backends=tuple(backends),
    )


class _Place:
    """latbench's folder on a device. Wheels lie in it by digest."""

    def __init__(
        self, connection: Connection, transport: Transport, root: PurePosixPath, interpreter: str
    ) -> None:
        self._id = connection.id
        self._transport = transport
        self._root = root
        self._interpreter = interpreter

    def has(self, name: str) -> bool:
        """Whether it holds that file or folder."""
        command = ("test", "-e", str(self._root / name))
        return self._transport.run(command, timeout_s=COMMAND_TIMEOUT_S).status == 0

    def send(self, wheels: Sequence[Path]) -> int:
        """Send the wheels that are not there yet; how many bytes that were."""
        sent = 0
        for wheel in wheels:
            name = f"wheels/{content_sha256(wheel)}/{wheel.name}"
            if not self.has(name):
                self._transport.push(wheel, str(self._root / name))
                sent += wheel.stat().st_size
        return sent

    def downloaded(self, wanted: Sequence[str]) -> dict[str, str]:
        """Let the device fetch wheels; their names and digests. Raises :class:`StageError`."""
        command = (self._interpreter, "-I", "-c", FETCH, str(self._root / "wheels"), *wanted)
        done = self._transport.run(command, timeout_s=UNPACK_TIMEOUT_S)
        if done.status != 0:
            raise StageError(
                "probe",
                f"{self._id} could not fetch packages: {done.said}",
                hint="it needs pip and a package index; without --from-index they are fetched here",
                kind="unavailable",
                detail=done.stderr.decode(errors="replace")[-4000:],
            )
        lines = done.stdout.decode(errors="replace").splitlines()
        found = [re.fullmatch(r"wheel=([0-9a-f]{64}) (\S+\.whl)", line) for line in lines]
        return {each[2]: each[1] for each in found if each}

    def unpack(self, sha256: str, wheels: Mapping[str, str]) -> None:
        """Unpack wheels, given by name and digest. Raises :class:`StageError`."""
        places = [str(self._root / "wheels" / wheels[name] / name) for name in sorted(wheels)]
        target = str(self._root / "environments" / sha256)
        command = (self._interpreter, "-I", "-c", UNPACK, target, *places)
        done = self._transport.run(command, timeout_s=UNPACK_TIMEOUT_S)
        if done.status != 0:
            raise StageError(
                "probe",
                f"the worker could not be unpacked on {self._id}: {done.said}",
                hint="free space there, and try again",
                detail=done.stderr.decode(errors="replace")[-4000:],
            )


def _check_room(connection: Connection, found: Surroundings, wheels: Sequence[Path]) -> None:
    """Refuse what would not fit: wheels, and what is in them. Raises :class:`StageError`."""
    needed = SPARE_BYTES
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            needed += wheel.stat().st_size + sum(each.file_size for each in archive.infolist())
    if found.free_bytes is not None and found.free_bytes < needed:
        raise _unfit(
            f"{connection.id} has {found.free_bytes / 1e6:.0f} MB free, the worker needs "
            f"{needed / 1e6:.0f} MB",
            "free space there, or install fewer backends: --backend onnxruntime",
        )


def _unfit(message: str, hint: str) -> StageError:
    return StageError("probe", message, hint=hint, kind="unavailable")
