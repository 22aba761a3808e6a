"""The declarations of ONNX Runtime's C interface, compared with a published header."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from latbench.worker.native import SOURCES

pytestmark = pytest.mark.slow  # The program is compiled first.

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PACKAGE = "libonnxruntime-dev"


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of ``onnxruntime_c_api.h``, from Debian's package of it. apt gets folders of its
    own, so that nothing of the system's changes."""
    if shutil.which("apt-get") is None or not KEYRING.exists():
        pytest.skip("the header comes from a Debian package")
    place = tmp_path_factory.mktemp("apt")
    for name in ("lists/partial", "cache/archives/partial", "parts"):
        (place / name).mkdir(parents=True)
    (place / "status").touch()
    source = f"deb [signed-by={KEYRING}] http://deb.debian.org/debian trixie main\n"
    (place / "sources.list").write_text(source)
    (place / "apt.conf").write_text(
        f'Dir::State "{place}";\nDir::State::lists "{place}/lists";\n'
        f'Dir::State::status "{place}/status";\nDir::Cache "{place}/cache";\n'
        f'Dir::Etc::sourcelist "{place}/sources.list";\nDir::Etc::sourceparts "{place}/parts";\n'
        'APT::Sandbox::User "root";\n'
    )
    environment = {**os.environ, "APT_CONFIG": str(place / "apt.conf")}
    for command in (["apt-get", "update", "-qq"], ["apt-get", "download", "-qq", PACKAGE]):
        done = subprocess.run(
            command,
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        if done.returncode != 0:
            pytest.skip(f"{PACKAGE} cannot be had here: {done.stderr[-300:]}")
    (package,) = place.glob(f"{PACKAGE}_*.deb")
    subprocess.run(["dpkg-deb", "-x", str(package), str(place / "root")], check=True)
    return place / "root/usr/include/onnxruntime"


def checking(header: Path, declared: Path) -> list[str]:
    """The command that checks the declarations in ``declared``."""
    command = ["g++", "-std=c++17", "-fsyntax-only", f"-I{header}", f"-I{declared}"]
    return [*command, str(Path(__file__).with_name("slots.cpp"))]


def test_each_function_is_where_the_header_has_it(header: Path) -> None:
    done = subprocess.run(checking(header, SOURCES), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_wrong_place_would_be_found(header: Path, tmp_path: Path) -> None:
    text = (SOURCES / "onnxruntime_slots.h").read_text()
    for right, wrong in (
        ("X(36, SessionGetInputName", "X(37, SessionGetInputName"),
        ("(Handle*, int))", "(Handle*))"),
    ):
        (tmp_path / "onnxruntime_slots.h").write_text(text.replace(right, wrong, 1))
        done = subprocess.run(
            checking(header, tmp_path), capture_output=True, text=True, check=False
        )
        assert "static assertion failed" in done.stderr


def test_places_are_distinct_and_every_declared_function_is_called() -> None:
    text = (SOURCES / "onnxruntime_slots.h").read_text()
    found = re.findall(r"X\((\d+), (\w+),", text)
    places = [int(place) for place, _ in found]
    assert places == sorted(set(places))
    code = (SOURCES / "onnxruntime.cpp").read_text()
    assert [name for _, name in found if f"call.{name}" not in code] == []
