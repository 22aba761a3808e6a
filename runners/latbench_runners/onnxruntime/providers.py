"""Execution providers of ONNX Runtime: their names, options, memory and precision."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping

from latbench.api import StageError, UsageError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
OPENVINO = "OpenVINOExecutionProvider"
TENSORRT = ("TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider")
"""They take minutes to load, so nothing is loaded twice to see what ran where."""
THREADS = {
    OPENVINO: "num_of_threads",
    "XnnpackExecutionProvider": "intra_op_num_threads",
}
"""Providers with threads of their own -> the option that says how many."""


def full_name(asked: str) -> str:
    """``cuda`` -> ``CUDAExecutionProvider``. Raises :class:`StageError` where it is not here."""
    import onnxruntime as ort

    present = ort.get_available_providers()
    for name in present:
        if asked.lower() in (name.lower(), name.removesuffix("ExecutionProvider").lower()):
            return str(name)
    raise StageError(
        "open",
        f"this onnxruntime has no {asked}",
        hint=f"it has: {', '.join(present)}; others are in packages of their own, such as "
        "onnxruntime-gpu",
        kind="unavailable",
    )


def given(settings: Mapping[str, str]) -> dict[str, str]:
    """The provider's own options."""
    # CUDA computes fp32 products in TF32 by default, which is another precision than the file's.
    found = {"use_tf32": "0"} if settings["provider"] == CUDA else {}
    if settings["provider"] == CPU and settings["provider_options"].strip():
        raise UsageError("provider_options: the CPU's provider has none", hint="name a provider")
    if option := THREADS.get(settings["provider"]):
        found[option] = settings["threads"]
    for pair in filter(None, (part.strip() for part in settings["provider_options"].split(";"))):
        key, is_pair, value = pair.partition("=")
        if not is_pair or not key.strip():
            raise UsageError(
                f"provider_options: {pair!r} is no key=value",
                hint="such as provider_options='device_id=0;use_tf32=1'",
            )
        if key.strip() in THREADS.values():
            raise UsageError(
                f"provider_options: {key.strip()} is the number of threads", hint="use --threads N"
            )
        found[key.strip()] = value.strip()
    return found


def place(provider: str, provider_options: Mapping[str, str]) -> tuple[str, int]:
    """Kind of memory, and which device's: that of the GPU that executes."""
    if provider not in (CUDA, *TENSORRT):
        return "cpu", 0
    device = provider_options.get("device_id", "0")
    if not device.isdecimal():
        raise UsageError(f"device_id must be a whole number from 0, not {device!r}")
    return "cuda", int(device)


def other_precision(precision: str, provider: str, options: Mapping[str, str]) -> str | None:
    """What the provider computes in instead of the file's ``precision``, or may compute in: it
    cannot be read back."""
    if provider == CPU and precision == "fp16":
        # On x86 it casts to fp32 and back around every operator; on Arm it has kernels for some.
        return "fp32" if platform.machine().lower() in ("x86_64", "amd64") else None
    if precision != "fp32":
        return None

    def on(name: str, otherwise: str = "0") -> bool:
        return options.get(name, otherwise).lower() in ("1", "true")

    tf32 = None if os.environ.get("NVIDIA_TF32_OVERRIDE") == "0" else "tf32"
    match provider:
        case "CUDAExecutionProvider":
            return tf32 if on("use_tf32") else None
        case "TensorrtExecutionProvider":
            return "fp16" if on("trt_fp16_enable") else tf32
        case "NvTensorRTRTXExecutionProvider":
            return tf32
        case "CoreMLExecutionProvider":
            return "fp16"
        case "QNNExecutionProvider":
            return "fp16" if on("enable_htp_fp16_precision", "1") else None
        case "OpenVINOExecutionProvider":
            device = options.get("device_type", "CPU").upper()
            exact = options.get("precision", "").upper() in ("FP32", "ACCURACY")
            return "fp16" if not exact and ("GPU" in device or "NPU" in device) else None
    return None
