"""The native worker for AArch64, cross-compiled and emulated.

Nothing is timed. Needs the `native` extra, ``qemu-aarch64-static`` and Debian's
``libc6-arm64-cross``. Runtimes are executed if ``LATBENCH_TEST_AARCH64`` names a folder into which
packages for AArch64 were unpacked::

    pip download --no-deps --only-binary=:all: --platform manylinux_2_28_aarch64 onnxruntime
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from latbench.errors import StageError
from latbench.files import content_sha256
from latbench.worker.native import LITERT, ONNXRUNTIME, build_native, native_libraries
from latbench.worker.process import python_module
from support import onnx_files, tflite_files
from support.native_talk import Talk, given, open_fields, spec

SYSROOT = Path("/usr/aarch64-linux-gnu")
EMULATOR = "qemu-aarch64-static"
CPUINFO = "processor : 0\nFeatures : fp asimd\nCPU implementer : 0x41\nCPU part : 0xd08\n"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def aarch64_program() -> Path:
    try:
        return build_native("aarch64-linux-gnu.2.28")
    except StageError as error:
        if error.kind != "unavailable":
            raise
        pytest.skip(error.message)


@pytest.fixture
def emulated(aarch64_program: Path, tmp_path: Path) -> Sequence[str]:
    """The command of the program, which sees an ARM processor: ONNX Runtime reads /proc/cpuinfo and
    crashes with one of x86."""
    if shutil.which(EMULATOR) is None or not SYSROOT.exists():
        pytest.skip(f"{EMULATOR} and libc6-arm64-cross are required")
    command = [EMULATOR, "-L", str(SYSROOT), str(aarch64_program)]
    info = tmp_path / "cpuinfo"
    info.write_text(CPUINFO)
    shell = 'mount --bind "$0" /proc/cpuinfo && exec "$@"'
    apart = ["unshare", "-m", "sh", "-c", shell, str(info)]
    if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting in a namespace of its own requires root")
    return [*apart, *command]


def test_it_needs_an_old_c_library_only(aarch64_program: Path) -> None:
    content = aarch64_program.read_bytes()
    assert content[18:20] == b"\xb7\x00"  # the number of AArch64 in an ELF header
    assert b"GLIBC_2.17" in content
    assert not [minor for minor in range(18, 60) if f"GLIBC_2.{minor}\0".encode() in content]
    assert b"libstdc++.so" not in content
    assert len(content) < 1_500_000


def test_it_holds_a_conversation(emulated: Sequence[str]) -> None:
    with Talk(emulated) as worker:
        machine = worker.ask("machine")["machine"]
        assert machine["architecture"] == "aarch64"
        assert machine["cpu_features"] == ["asimd", "fp"]
        assert worker.ask("time", calls=1)["type"] == "failed"
        worker.hang_up()
        worker.ended()


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    named = os.environ.get("LATBENCH_TEST_AARCH64")
    if not named:
        pytest.skip("LATBENCH_TEST_AARCH64 names no folder")
    return native_libraries(Path(named))


def test_onnx_runtime_computes_the_same(
    emulated: Sequence[str], aarch64_program: Path, packages: dict[str, str], tmp_path: Path
) -> None:
    """Inputs are equal bit for bit: a fused product and sum would show here."""
    path = onnx_files.identity(tmp_path / "i.onnx")
    for content in (None, "-1.7:0.3", "0.1"):
        fields = open_fields(path, [spec("x", 4, content=content)], [spec("y", 4)], seed=3)
        answers = []
        for command in (emulated, python_module("latbench.worker.inference").command):
            library = packages[ONNXRUNTIME]
            with Talk(command, **{ONNXRUNTIME: library}) as worker:
                opened = worker.ask("open", **fields)
                assert opened["type"] == "opened", opened
                worker.ask("time", calls=1)
                answers.append(worker.ask("outputs")["tensors"])
                if command is emulated:
                    assert opened["settings"]["worker_sha256"] == content_sha256(aarch64_program)
                    assert opened["settings"]["library_sha256"] == content_sha256(Path(library))
        assert answers[0] == answers[1]


def test_litert_computes_the_same(
    emulated: Sequence[str], packages: dict[str, str], tmp_path: Path
) -> None:
    pytest.importorskip("ai_edge_litert")
    if LITERT not in packages:
        pytest.skip("the folder has no ai-edge-litert")
    path = tflite_files.adder(tmp_path / "a.tflite")
    fields = open_fields(path, [spec("x", 1, 4, content="1")], [spec("y", 1, 4)], format="tflite")
    with Talk(emulated, **packages) as worker:
        opened = worker.ask("open", **{**fields, "backend": "tflite"})
        assert opened["type"] == "opened", opened
        assert worker.ask("time", calls=2)["type"] == "timed"
        assert given(worker.ask("outputs"))[0].tolist() == [[1.0, 2.0, 3.0, 4.0]]
