"""Building the native worker: the cache, and what is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from latbench.errors import StageError, UsageError
from latbench.worker import native
from latbench.worker.native import SOURCES, build_native, native_libraries

pytestmark = pytest.mark.slow  # The program is compiled first.


def test_it_is_built_once(native_program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(*command: object) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr(native, "_build", compiled)
    assert build_native() == native_program
    monkeypatch.setattr(native, "latbench_version", lambda: "9.9.9")
    with pytest.raises(AssertionError, match="compiled again"):
        build_native()


def test_it_states_its_version_and_needs_the_c_library_only(native_program: Path) -> None:
    said = subprocess.run([native_program, "--version"], capture_output=True, text=True, check=True)
    assert said.stdout == f"latbench-native {native.latbench_version()}, protocol 2\n"
    loaded = subprocess.run(
        ["ldd", str(native_program)], capture_output=True, text=True, check=True
    )
    names = {line.split()[0].split("/")[-1].split(".")[0] for line in loaded.stdout.splitlines()}
    assert names <= {
        "linux-vdso",
        "libc",
        "libm",
        "libdl",
        "libpthread",
        "ld-linux-x86-64",
        "ld-linux-aarch64",
    }


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise native.PackageNotFoundError(name)

    monkeypatch.setattr(native, "version", absent)
    monkeypatch.setattr(native.shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    for target in (None, native.TARGETS[1]):
        with pytest.raises(StageError) as caught:
            build_native(target)
        assert caught.value.kind == "unavailable"
        assert "latbench[native]" in (caught.value.hint or "")


def test_an_unknown_target() -> None:
    with pytest.raises(UsageError, match="unknown target") as caught:
        build_native("sparc-solaris")
    assert "aarch64-linux-gnu" in (caught.value.hint or "")


def test_a_compiler_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nonexistent/c++ -O1")
    with pytest.raises(StageError, match="/nonexistent/c\\+\\+ cannot be started"):
        build_native()


def test_a_compiler_that_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text(
        f"#!{sys.executable}\nimport sys\n"
        "if '--version' in sys.argv: sys.exit(0)\n"
        "sys.exit('x.cpp:1: note: so\\nx.cpp:2: error: no such thing')\n"
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("LATBENCH_CACHE", str(tmp_path / "cache"))
    with pytest.raises(StageError, match="error: no such thing") as caught:
        build_native()
    assert caught.value.detail
    assert list((tmp_path / "cache/native").rglob("latbench-native*")) == []


def test_libraries_of_unpacked_packages(tmp_path: Path) -> None:
    assert native_libraries(tmp_path) == {}
    (tmp_path / "onnxruntime/capi").mkdir(parents=True)
    (tmp_path / "ai_edge_litert").mkdir()
    (tmp_path / "ai_edge_litert-2.3.1.dist-info").mkdir()
    (tmp_path / "ai_edge_litert-2.3.1.dist-info/METADATA").write_text(
        "Name: ai-edge-litert\nVersion: 2.3.1\n"
    )
    for name in ("onnxruntime/capi/libonnxruntime.so.1.32.0", "ai_edge_litert/libLiteRt.so"):
        (tmp_path / name).touch()
    assert native_libraries(tmp_path) == {
        "LATBENCH_ORT": str(tmp_path / "onnxruntime/capi/libonnxruntime.so.1.32.0"),
        "LATBENCH_LITERT": str(tmp_path / "ai_edge_litert/libLiteRt.so"),
        "LATBENCH_LITERT_VERSION": "2.3.1",
    }


def test_libraries_of_this_environment() -> None:
    found = native_libraries()
    assert Path(found["LATBENCH_ORT"]).stat().st_size > 1_000_000


def test_the_sources_use_nothing_that_androids_c_library_lacks() -> None:
    """At the API level that they are compiled for; what has a guard is allowed."""
    guarded = {"confstr": "#ifdef _CS_GNU_LIBC_VERSION"}
    lacking = (
        *("gnu_get_libc", "dlinfo(", "dlmopen(", "backtrace(", "program_invocation_", "execinfo"),
        *("confstr", "canonicalize_file_name", "pthread_setaffinity_np", "pthread_getaffinity_np"),
        *("memfd_create(", "close_range(", "preadv2(", "shm_open(", "secure_getenv", "error.h"),
        *("std::from_chars", "std::to_chars", "std::filesystem"),
    )
    for path in SOURCES.glob("*.*"):
        text = path.read_text()
        for name in lacking:
            assert name not in text or guarded.get(name, "\0") in text, (path.name, name)


def test_the_compiler_of_an_ndk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATBENCH_CACHE", str(tmp_path / "cache"))
    ndk = tmp_path / "ndk"
    target = native.ANDROID_TARGETS[0]
    with pytest.raises(StageError, match=f"has no compiler for {target}") as caught:
        build_native(target, ndk=ndk)
    assert caught.value.kind == "unavailable"
    with pytest.raises(UsageError, match="unknown target"):
        build_native("riscv64-linux-android29", ndk=ndk)
    compiler = ndk / f"toolchains/llvm/prebuilt/darwin-x86_64/bin/{target}-clang++"
    compiler.parent.mkdir(parents=True)
    compiler.write_text(
        f"#!{sys.executable}\nimport sys\n"
        "if '--version' in sys.argv: sys.exit(print('clang 18'))\n"
        "open(sys.argv[sys.argv.index('-o') + 1], 'w').write(' '.join(sys.argv))\n"
    )
    compiler.chmod(0o755)
    made = build_native(target, ndk=ndk)
    linked = made.read_text().split()
    assert {"-static-libstdc++", "-Wl,-z,max-page-size=16384"} <= set(linked)
    assert {f"{each.stem}.o" for each in SOURCES.glob("*.cpp")} <= {Path(o).name for o in linked}
    compiler.write_text("#!/bin/sh\n[ $1 = --version ] && echo clang 18 || exit 1\n")
    assert build_native(target, ndk=ndk) == made


def test_the_sources_use_no_shell_and_no_other_headers() -> None:
    """Only the C and C++ libraries and Linux."""
    text = "".join(path.read_text() for path in SOURCES.glob("*.*"))
    assert "system(" not in text
    assert "popen(" not in text
    for line in text.splitlines():
        if line.startswith("#include <"):
            assert ".." not in line
            assert not any(
                name in line for name in ("onnxruntime", "tensorflow", "litert", "boost")
            )
