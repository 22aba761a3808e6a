"""Packages for a device: latbench's own wheel, and those of others for its platform.

What is installed on a device is a folder of unpacked wheels: it needs neither pip nor a network.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import distribution, requires
from importlib.util import find_spec
from pathlib import Path

from latbench.api import InstallableRunner
from latbench.errors import StageError, UsageError
from latbench.plugins import load_runner
from latbench.version import latbench_version

OWN_PACKAGES = ("latbench", "latbench_runners")
"""What a worker imports of this project."""
NEEDED = ("msgspec", "numpy", "psutil")
"""What every Python worker imports of others."""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""Date of the files in latbench's own wheel: equal contents make equal wheels."""
DOWNLOAD_TIMEOUT_S = 900
REQUIREMENT = re.compile("[A-Za-z0-9._-]+")
MANYLINUX_MINORS = range(12, 60)
"""Versions 2.x of glibc that wheels are built for."""


@dataclass(frozen=True, kw_only=True)
class Platform:
    """What decides which wheels fit a device."""

    system: str
    """``Linux`` or ``Darwin``, as ``uname -s`` says."""
    architecture: str
    """As ``uname -m`` says."""
    python: tuple[int, int]
    libc: tuple[int, int] | None
    """Version of glibc; ``None`` without one."""
    macos: tuple[int, int] | None = None

    def tags(self) -> list[str]:
        """Platform tags of wheels that run there, the most specific first."""
        machine = self.architecture
        if self.system == "Darwin" and self.macos is not None:
            major, minor = self.macos
            # Since version 11 wheels name the major version only.
            return [f"macosx_{major}_{minor if major < 11 else 0}_{machine}"]
        if self.libc is not None:
            minors = [m for m in reversed(MANYLINUX_MINORS) if (2, m) <= self.libc]
            old = {17: "manylinux2014", 12: "manylinux2010"}
            tags = [f"manylinux_2_{minor}_{machine}" for minor in minors]
            tags += [f"{name}_{machine}" for minor, name in old.items() if minor in minors]
            return [*tags, f"linux_{machine}"]
        return [f"musllinux_1_2_{machine}", f"musllinux_1_1_{machine}"]


def requirements(backends: Iterable[str]) -> list[str]:
    """What a worker with these backends needs of other packages, with versions.

    Raises :class:`UsageError` for a backend that does not say what it needs.
    """
    return with_versions([*NEEDED, *packages_of(backends)])


def packages_of(backends: Iterable[str]) -> list[str]:
    """Names of the packages that executing on these backends needs. Raises :class:`UsageError`."""
    wanted: list[str] = []
    for backend in backends:
        runner = load_runner(backend)
        if not isinstance(runner, InstallableRunner):
            raise UsageError(
                f"backend {backend!r} cannot be put on a device",
                hint="install its runtime there by hand; its runner does not say what it needs",
            )
        wanted += runner.needs
    return wanted


def with_versions(names: Iterable[str]) -> list[str]:
    """Requirements of those names, with the versions that latbench declares, each once."""
    versions = _declared()
    return [versions.get(name, name) for name in dict.fromkeys(names)]


def fetch_wheels(
    wanted: Sequence[str], platform: Platform, folder: Path, *, alone: bool = False
) -> list[Path]:
    """Download wheels of ``wanted`` that run on ``platform``, and of what they need.

    With ``alone``, not of what they need. Raises :class:`StageError` with pip's own words.
    """
    if find_spec("pip") is None:
        raise StageError(
            "probe",
            "wheels for a device are fetched with pip, which is not installed here",
            hint="python -m ensurepip, or let the device fetch them: --from-index",
            kind="unavailable",
        )
    version = ".".join(map(str, platform.python))
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-input"]
    command += ["--only-binary=:all:", "--dest", str(folder), "--python-version", version]
    command += ["--implementation", "cp", *(["--no-deps"] if alone else [])]
    for tag in platform.tags():
        command += ["--platform", tag]
    try:
        done = subprocess.run(
            [*command, *wanted],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=DOWNLOAD_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StageError(
            "probe", f"the download of wheels took more than {DOWNLOAD_TIMEOUT_S} s", kind="timeout"
        ) from error
    if done.returncode != 0:
        raise _no_wheels(done.stderr, platform, version)
    return sorted(folder.glob("*.whl"))


def own_files() -> dict[str, bytes]:
    """What a worker needs of this project, by name: packages and metadata."""
    version = latbench_version()
    info = f"latbench-{version}.dist-info"
    entries: dict[str, bytes] = {}
    for package in OWN_PACKAGES:
        spec = find_spec(package)
        assert spec is not None
        for place in spec.submodule_search_locations or ():
            root = Path(place)
            for file in sorted(root.rglob("*")):
                inner = file.relative_to(root.parent).as_posix()
                if file.is_file() and "__pycache__" not in inner and not inner.endswith(".pyc"):
                    entries[inner] = file.read_bytes()
    runners = distribution("latbench").entry_points.select(group="latbench.runners")
    points = "".join(f"{each.name} = {each.value}\n" for each in runners)
    metadata = f"Metadata-Version: 2.1\nName: latbench\nVersion: {version}\n"
    entries[f"{info}/METADATA"] = metadata.encode()
    entries[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: latbench\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    entries[f"{info}/entry_points.txt"] = f"[latbench.runners]\n{points}".encode()
    entries[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in entries).encode()
    return entries


def own_sha256() -> str:
    """Digest of latbench as it is installed here: a worker on a device must be of the same."""
    total = hashlib.sha256()
    for name, content in own_files().items():
        total.update(f"{name} {len(content)}\n".encode() + content)
    return total.hexdigest()


def own_wheel(folder: Path) -> Path:
    """Build the wheel of latbench's worker from the installed files. Equal files, equal bytes."""
    path = folder / f"latbench-{latbench_version()}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in own_files().items():
            archive.writestr(zipfile.ZipInfo(name, EPOCH), content, zipfile.ZIP_DEFLATED)
    return path


def digest_of(wheels: Mapping[str, str]) -> str:
    """Digest of an environment: of the names and digests of its wheels."""
    text = "".join(f"{wheels[name]} {name}\n" for name in sorted(wheels))
    return hashlib.sha256(text.encode()).hexdigest()


def _declared() -> dict[str, str]:
    """Name -> requirement with versions, of latbench and its extras."""
    found: dict[str, str] = {}
    for text in requires("latbench") or ():
        requirement, _, _ = text.partition(";")
        name = REQUIREMENT.match(requirement)
        if name is not None and "[" not in requirement:
            found.setdefault(name[0], requirement.strip())
    return found


def _no_wheels(said: str, platform: Platform, version: str) -> StageError:
    told = [line for line in said.splitlines() if line.startswith("ERROR: ")]
    missing = re.search(r"No matching distribution found for (\S+)", said)
    where = f"{platform.system} {platform.architecture}, Python {version}"
    if platform.libc:
        where += f", glibc {'.'.join(map(str, platform.libc))}"
    if missing:
        return StageError(
            "probe",
            f"there is no wheel of {missing[1]} for {where}",
            hint="another Python on the device (--python), fewer backends (--backend), or the "
            "worker without Python (--worker native)",
            kind="unavailable",
            detail=said[-4000:],
        )
    last = told[-1].removeprefix("ERROR: ") if told else "see the detail"
    return StageError(
        "probe",
        f"wheels for {where} could not be fetched: {last}",
        hint="is there a package index? pip's configuration is used",
        kind="unavailable",
        detail=said[-4000:],
    )
