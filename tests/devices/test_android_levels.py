"""What the native worker stands on where the device's own C library is another than glibc."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from latbench.devices import opening, runtime_libraries, setup
from latbench.devices.connections import find_connection
from latbench.files import content_sha256
from latbench.worker.native import native_libraries
from support.command_line import Ended, in_process
from support.command_transport import CommandTransport
from support.environment import TINY
from support.hosts import arm_root
from support.hosts.bed import why_unavailable
from support.hosts.empty_root import empty_root, packages
from support.zig import use_zig

pytestmark = [
    pytest.mark.slow,
    pytest.mark.torch,
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler"),
]
SHORT = (
    *("--protocol", "latbench-fixed@1", "--processes", "2", "--threads", "1"),
    *("--calls", "4", "--block-calls", "2", "--warmup", "1", "--registry", "r.db"),
)


def latbench(tmp_path: Path, *arguments: str) -> Ended:
    return in_process(list(arguments), dict(os.environ), tmp_path)


@pytest.fixture
def root(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[CommandTransport, list[str]]]:
    """A way to an empty system of the architecture that the test names, and ``--glibc`` for it."""
    architecture: str = request.param
    if reason := why_unavailable() or arm_root.why_unavailable():
        pytest.skip(reason)
    if architecture != os.uname().machine:
        use_zig(monkeypatch)
    try:
        shell, found = packages(Path(f"{os.environ['LATBENCH_CACHE']}-devices"), architecture)
    except RuntimeError as error:
        pytest.skip(f"no packages of Debian: {error}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "system").mkdir()
    with empty_root(tmp_path / "system", architecture, shell) as way:
        lead_to(way, monkeypatch)
        yield way, [part for each in found for part in ("--glibc", str(each))]


def lead_to(way: CommandTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every address lead there."""
    for module in (opening, setup):
        monkeypatch.setattr(module, "connect", lambda connection: way)


@pytest.mark.parametrize("root", ["x86_64", "aarch64"], indirect=True)
def test_an_empty_system_runs_the_worker_on_a_glibc_bundle(
    root: tuple[CommandTransport, list[str]], tmp_path: Path
) -> None:
    way, glibc = root
    assert latbench(tmp_path, "devices", "add", "phone", "adb://X1").status == 0
    done = latbench(tmp_path, "devices", "install", "phone", *glibc)
    if done.status == 3 and "is there a package index?" in done.err:
        pytest.skip(done.err)
    assert done.status == 0, done.err
    connection = find_connection("phone")
    assert connection is not None
    assert connection.installed is not None
    short = connection.installed.sha256[:12]
    assert done.out == (
        f"installed on phone: native worker {short} (glibc bundle) with onnxruntime\n"
    )
    folder = f"/data/local/tmp/latbench/native/{connection.installed.sha256}"
    loader = connection.installed.loader
    assert loader is not None
    assert loader.startswith(f"{folder}/ld-linux-")
    run = latbench(tmp_path, "run", "--model", TINY, "--device", "phone", "--json", *SHORT)
    assert run.status == 0, run.err
    command = (loader, "--library-path", folder, f"{folder}/latbench-native")
    assert set(way.started) == {command}
    record = run.json["record"]
    link, settings = record["environment"]["link"], record["runtime"]["settings"]
    assert link["level"] == "glibc bundle"
    assert link["worker_sha256"] == connection.installed.sha256
    assert settings["libc"] == "glibc 2.36"
    program = way.run(("sha256sum", f"{folder}/latbench-native"), timeout_s=30).stdout.decode()
    assert settings["worker_sha256"] == program.split()[0]
    assert record["outcome"]["checks"][0]["max_rel_error"] < 1e-4
    emulated = "aarch64" in loader
    assert record["environment"]["machine"].get("emulated", False) == emulated
    shown = latbench(tmp_path, "show", record["id"], "--registry", "r.db")
    assert "(glibc bundle)" in shown.out.splitlines()[0]
    assert "on a glibc bundle" in shown.out
    if emulated:
        assert "UNRELIABLE" in shown.out
        assert "the processor is emulated" in shown.out
    # What is there is not sent again.
    again = latbench(tmp_path, "devices", "install", "phone", *glibc)
    assert (again.status, again.err) == (0, "")


CLANG = """\
[ "$1" != --version ] || exec g++ --version
echo "$@" >> "$(dirname "$0")/log"
while [ "$1" != -o ]; do shift; done
cp {program} "$2"
"""
"""An NDK's compiler, which makes the program for this machine whatever it is given."""
NDK = "toolchains/llvm/prebuilt/linux-x86_64/bin"


@dataclass(frozen=True)
class Phone:
    """An Android device whose programs are this machine's, and an NDK that compiles for them."""

    way: CommandTransport
    programs: Path
    ndk: Path

    def told(self, sdk: str, abis: str) -> None:
        """Change what the device says of itself."""
        write_program(
            self.programs / "getprop",
            f"case $1 in *sdk) echo {sdk};; *abilist) echo {abis};; esac",
        )


def write_program(place: Path, text: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(f"#!/bin/sh\n{text}\n")
    place.chmod(0o755)


@pytest.fixture
def phone(tmp_path: Path, native_program: Path, monkeypatch: pytest.MonkeyPatch) -> Phone:
    if os.uname().machine != "x86_64":
        pytest.skip("the stand-in of an NDK is for x86-64")
    programs, home = tmp_path / "programs", tmp_path / "home"
    home.mkdir()
    variables = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(home), "TMPDIR": str(tmp_path)}
    way = CommandTransport((), variables, str(tmp_path / "device.lock"))
    made = Phone(way, programs, tmp_path / "ndk")
    made.told("34", "x86_64,x86")
    clang = CLANG.format(program=native_program)
    write_program(made.ndk / NDK / "x86_64-linux-android29-clang++", clang)
    lead_to(way, monkeypatch)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("ANDROID_NDK_HOME", raising=False)
    monkeypatch.delenv("ANDROID_NDK_ROOT", raising=False)
    assert latbench(tmp_path, "devices", "add", "phone", "adb://X1").status == 0
    return made


def test_the_level_of_the_ndk(
    phone: Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker compiled by the user's NDK, and the library of the user's AAR."""
    library = Path(native_libraries()["LATBENCH_ORT"])
    with zipfile.ZipFile(tmp_path / "ort.aar", "w") as archive:
        archive.write(library, "jni/x86_64/libonnxruntime.so")
    digest = content_sha256(tmp_path / "ort.aar")
    named = ("--library", f"onnxruntime={tmp_path / 'ort.aar'}@sha256:{digest}")
    monkeypatch.setenv("ANDROID_NDK_HOME", str(phone.ndk))
    refused = latbench(tmp_path, "devices", "install", "phone", "--ndk", *named)
    assert (refused.status, "libonnxruntime.so of" in refused.err) == (2, True)
    assert "was made for glibc" in refused.err
    # The library of this machine stands in for one of Android's.
    read = runtime_libraries.read_elf
    monkeypatch.setattr(
        runtime_libraries,
        "read_elf",
        lambda path: (found := read(path)) and replace(found, libc="other"),
    )
    done = latbench(tmp_path, "devices", "install", "phone", "--ndk", *named)
    assert done.status == 0, done.err
    assert done.out.endswith(" (ndk) with onnxruntime\n")
    arguments = (phone.ndk / NDK / "log").read_text()
    assert "-static-libstdc++" in arguments
    assert "-Wl,-z,max-page-size=16384" in arguments
    assert "-ffp-contract=off" in arguments
    run = latbench(tmp_path, "run", "--model", TINY, "--device", "phone", "--json", *SHORT)
    assert run.status == 0, run.err
    record = run.json["record"]
    assert record["environment"]["link"]["level"] == "ndk"
    assert record["runtime"]["settings"]["library_sha256"] == content_sha256(library)
    assert record["outcome"]["checks"][0]["max_rel_error"] < 1e-4
    shown = latbench(tmp_path, "show", record["id"], "--registry", "r.db")
    assert "compiled with Android's NDK" in shown.out
    assert "native worker" in latbench(tmp_path, "devices", "phone").out
    # Another level is told, and it needs no NDK.
    monkeypatch.setattr(runtime_libraries, "read_elf", read)
    other = latbench(tmp_path, "devices", "install", "phone", "--library", f"onnxruntime={library}")
    assert other.status == 0, other.err
    assert "phone had the level ndk before" in other.err


def test_phones_that_a_level_does_not_serve(phone: Phone, tmp_path: Path) -> None:
    def refused(*options: str) -> str:
        done = latbench(tmp_path, "devices", "install", "phone", *options)
        assert done.status in (2, 3)
        assert done.out == ""
        return done.err

    assert "ANDROID_NDK_HOME is not set" in refused("--ndk")
    assert "has no compiler for x86_64-linux-android29" in refused("--ndk", str(tmp_path))
    ndk = ("--ndk", str(phone.ndk))
    assert "--library onnxruntime=PATH.aar" in refused(*ndk)
    assert "--backend tflite" in refused(*("--library", "tflite=x.so", "--backend", "onnxruntime"))
    assert "are for the native worker" in refused(*ndk, "--worker", "python")
    assert "exclude each other" in refused(*ndk, "--glibc", str(tmp_path))
    phone.told("28", "x86_64,x86")
    assert "API level 28, the worker is compiled for 29" in refused(*ndk)
    phone.told("34", "armeabi-v7a,armeabi")
    assert "executes 32-bit programs only: armeabi-v7a, armeabi" in refused()
    phone.told("", "")
    assert "--ndk is for Android" in refused(*ndk)
    write_program(phone.programs / "uname", "case $1 in -s) echo Linux;; *) echo armv8l;; esac")
    assert "phone is Linux armv8l" in refused()
    write_program(phone.programs / "uname", "case $1 in -s) echo Linux;; *) echo aarch64;; esac")
    write_program(phone.programs / "getconf", "case $1 in LONG_BIT) echo 32;; *) exit 1;; esac")
    assert "has a 32-bit system, though its processor is aarch64" in refused()
