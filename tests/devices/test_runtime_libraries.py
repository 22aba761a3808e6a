"""Libraries of runtimes that the user names: files and packages for Android."""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pytest

from latbench.devices.runtime_libraries import NamedLibrary, read_named_library, runtime_files
from latbench.errors import UsageError
from support.elf import elf

ORT = elf("aarch64", b"", "libc.so", "OrtGetApiBase")
LITERT = elf("aarch64", b"", "libc.so", "LiteRtCreateCompiledModel")


def aar(place: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(place, "w") as archive:
        archive.writestr("AndroidManifest.xml", "<manifest/>")
        for name, content in files.items():
            archive.writestr(name, content)
    return place


def taken(
    tmp_path: Path,
    *texts: str,
    architecture: str = "aarch64",
    libc: Literal["glibc", "other"] = "other",
) -> tuple[dict[str, bytes], dict[str, str]]:
    named = [read_named_library(text) for text in texts]
    files, variables = runtime_files(named, architecture, libc, tmp_path)
    return {name: path.read_bytes() for name, path in files.items()}, variables


def refusal(tmp_path: Path, *texts: str, **how: str) -> str:
    with pytest.raises(UsageError) as caught:
        taken(tmp_path, *texts, **how)  # type: ignore[arg-type]
    return f"{caught.value.message}\n{caught.value.hint}"


def test_what_names_a_library() -> None:
    digest = "0123456789abcdef" * 4
    assert read_named_library(f"onnxruntime=a=b@c.aar@sha256:{digest.upper()}") == NamedLibrary(
        backend="onnxruntime", path=Path("a=b@c.aar"), sha256=digest
    )
    assert read_named_library("tflite=libLiteRt.so").sha256 is None
    for text in ("x.so", "onnxruntime=", "onnxruntime=a.so@sha256:12", "=a.so", "ncnn=a.so"):
        with pytest.raises(UsageError):
            read_named_library(text)


def test_a_package_for_android(tmp_path: Path) -> None:
    """All of its libraries go to the device; the one that has the runtime is named."""
    place = aar(
        tmp_path / "litert-2.3.1.aar",
        {
            "jni/arm64-v8a/liblitert_jni.so": elf("aarch64", b"", "libc.so"),
            "jni/arm64-v8a/libLiteRt.so": LITERT,
            "jni/x86_64/libLiteRt.so": elf("x86_64", b"", "LiteRtCreateCompiledModel"),
        },
    )
    files, variables = taken(tmp_path, f"tflite={place}")
    assert set(files) == {"liblitert_jni.so", "libLiteRt.so"}
    assert files["libLiteRt.so"] == LITERT
    assert variables == {
        "LATBENCH_LITERT": "libLiteRt.so",
        "LATBENCH_LITERT_VERSION": "2.3.1",
    }


def test_accelerators_of_other_packages(tmp_path: Path) -> None:
    """Several packages and files of one backend; the one with the runtime tells the version."""
    runtime = aar(tmp_path / "litert-2.3.0.aar", {"jni/arm64-v8a/libLiteRt.so": LITERT})
    own = elf("aarch64", b"", "libc.so", "LiteRtAcceleratorImpl")
    gpu = aar(tmp_path / "litert-gpu-9.9.9.aar", {"jni/arm64-v8a/libLiteRtGpuAccelerator.so": own})
    npu = tmp_path / "libLiteRtDispatch_Qualcomm.so"
    npu.write_bytes(own)
    for texts in ([runtime, gpu, npu], [npu, gpu, runtime]):
        files, variables = taken(tmp_path, *(f"tflite={each}" for each in texts))
        assert set(files) == {
            *("libLiteRt.so", "libLiteRtGpuAccelerator.so", "libLiteRtDispatch_Qualcomm.so")
        }
        assert variables == {
            "LATBENCH_LITERT": "libLiteRt.so",
            "LATBENCH_LITERT_VERSION": "2.3.0",
        }
    assert "has the function LiteRtCreateCompiledModel" in refusal(tmp_path, f"tflite={gpu}")


def test_a_library_beside_the_runtime(tmp_path: Path) -> None:
    (tmp_path / "libonnxruntime.so").write_bytes(ORT)
    (tmp_path / "libQnnHtp.so").write_bytes(elf("aarch64"))
    texts = [f"onnxruntime={tmp_path / name}" for name in ("libQnnHtp.so", "libonnxruntime.so")]
    files, variables = taken(tmp_path, *texts)
    assert set(files) == {"libQnnHtp.so", "libonnxruntime.so"}
    assert variables == {"LATBENCH_ORT": "libonnxruntime.so"}


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    arm32 = aar(
        tmp_path / "arm32.aar", {"jni/armeabi-v7a/libonnxruntime.so": b"", "jni/x86/a.so": b""}
    )
    words = refusal(tmp_path, f"onnxruntime={arm32}")
    assert "has no library for arm64-v8a, only for armeabi-v7a, x86" in words
    empty = aar(tmp_path / "empty.aar", {})
    assert "has no library for arm64-v8a\n" in refusal(tmp_path, f"onnxruntime={empty}")
    assert "is not a file" in refusal(tmp_path, f"onnxruntime={tmp_path}/none.aar")
    plain = tmp_path / "libonnxruntime.so"
    plain.write_bytes(ORT)
    digest = hashlib.sha256(ORT).hexdigest()
    taken(tmp_path, f"onnxruntime={plain}@sha256:{digest}")
    words = refusal(tmp_path, f"onnxruntime={plain}@sha256:{'0' * 64}")
    assert f"its sha256 is {digest}" in words
    words = refusal(tmp_path, f"onnxruntime={plain}", architecture="x86_64")
    assert "is for aarch64, the device is x86_64" in words
    words = refusal(tmp_path, f"onnxruntime={plain}", libc="glibc")
    assert "was made for Android's or another C library" in words
    assert "--ndk" in words
    plain.write_bytes(elf("aarch64", b"", "libc.so.6", "OrtGetApiBase"))
    assert "was made for glibc" in refusal(tmp_path, f"onnxruntime={plain}")
    plain.write_bytes(b"not a library")
    assert "neither a library of Linux nor an AAR" in refusal(tmp_path, f"onnxruntime={plain}")
    plain.write_bytes(elf("aarch64", b"", "libc.so", "something"))
    assert "has the function OrtGetApiBase" in refusal(tmp_path, f"onnxruntime={plain}")
    damaged = aar(tmp_path / "damaged.aar", {"jni/arm64-v8a/a.so": ORT})
    damaged.write_bytes(damaged.read_bytes().replace(b"OrtGetApiBase", b"OrtGetApi\0\0\0\0"))
    assert "cannot unpack" in refusal(tmp_path, f"onnxruntime={damaged}")
    for content, words in (
        (b"", "is empty"),
        (damaged.read_bytes()[:40], "is a package without its end"),
    ):
        plain.write_bytes(content)
        assert words in refusal(tmp_path, f"onnxruntime={plain}")
    page = aar(tmp_path / "page.aar", {"jni/arm64-v8a/libonnxruntime.so": b"<html>"})
    assert f"libonnxruntime.so of {page} is not a library" in refusal(
        tmp_path, f"onnxruntime={page}"
    )
    # A copy that was cut: its segments and its table of sections end behind it.
    whole = Path(sys.executable).resolve().read_bytes()
    plain.write_bytes(whole[: len(whole) // 2])
    machine = os.uname().machine
    words = refusal(tmp_path, f"onnxruntime={plain}", architecture=machine, libc="glibc")
    assert "is cut: its headers list more than it holds" in words


def test_the_older_interface_of_tflite_is_told(tmp_path: Path) -> None:
    old = elf("aarch64", b"", "libc.so", "TfLiteInterpreterCreate")
    place = aar(tmp_path / "litert-1.4.1.aar", {"jni/arm64-v8a/libtensorflowlite_jni.so": old})
    words = refusal(tmp_path, f"tflite={place}")
    assert "libtensorflowlite_jni.so" in words
    assert "LiteRT 1 (TfLite*); the native worker uses that of LiteRT 2" in words
