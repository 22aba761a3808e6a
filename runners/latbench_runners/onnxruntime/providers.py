"""Execution providers of ONNX Runtime: names, options, memory and precision."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping

from latbench.api import StageError, UsageError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
OPENVINO = "OpenVINOExecutionProvider"
TENSORRT = ("TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider")
"""Providers that take minutes to load, so no second session is created to observe placement."""
THREADS = {
    OPENVINO: "num_of_threads",
    "XnnpackExecutionProvider": "intra_op_num_threads",
}
"""Providers with their own threads -> option that sets the number."""


KINDS = {
    **dict.fromkeys(("CPU", "Xnnpack", "Dnnl", "ACL", "ArmNN"), ("cpu",)),
    **dict.fromkeys(("CUDA", "Tensorrt", "NvTensorRTRTX", "ROCM", "MIGraphX", "WebGpu"), ("gpu",)),
    **dict.fromkeys(("VitisAI",), ("npu",)),
    # These run on one of several units, which ONNX Runtime does not report.
    **dict.fromkeys(("CoreML", "QNN", "OpenVINO", "Dml", "Nnapi", "Azure"), ()),
}
"""Provider -> kind of its unit, where it has only one."""
UNIT_NAMES = {f"{name}ExecutionProvider": (name.lower(), *kind) for name, kind in KINDS.items()}


def full_name(asked: str) -> str:
    """``cuda`` -> ``CUDAExecutionProvider``. Raises :class:`StageError` if not available."""
    import onnxruntime as ort

    present = ort.get_available_providers()
    for name in present:
        if asked.lower() in (name.lower(), name.removesuffix("ExecutionProvider").lower()):
            return str(name)
    raise StageError(
        "open",
        f"this onnxruntime has no provider {asked}",
        hint=f"available: {', '.join(present)}; others are in separate packages, such as "
        "onnxruntime-gpu",
        kind="unavailable",
    )


def given(settings: Mapping[str, str]) -> dict[str, str]:
    """Options of the provider itself. Raises :class:`UsageError`."""
    # CUDA computes fp32 products in TF32 by default, a precision other than the file's.
    found = {"use_tf32": "0"} if settings["provider"] == CUDA else {}
    if settings["provider"] == CPU and settings["provider_options"].strip():
        raise UsageError("provider_options requires a provider other than CPU")
    if option := THREADS.get(settings["provider"]):
        found[option] = settings["threads"]
    for pair in filter(None, (part.strip() for part in settings["provider_options"].split(";"))):
        key, is_pair, value = pair.partition("=")
        if not is_pair or not key.strip():
            raise UsageError(
                f"provider_options: {pair!r} is not of the form key=value",
                hint="for example provider_options='device_id=0;use_tf32=1'",
            )
        if key.strip() in THREADS.values():
            raise UsageError(f"provider_options cannot set {key.strip()}", hint="use --threads N")
        found[key.strip()] = value.strip()
    return found


def place(provider: str, provider_options: Mapping[str, str]) -> tuple[str, int]:
    """Kind of memory and device index of the GPU or CPU that executes."""
    if provider not in (CUDA, *TENSORRT):
        return "cpu", 0
    device = provider_options.get("device_id", "0")
    if not device.isdecimal():
        raise UsageError(f"device_id must be a non-negative integer, not {device!r}")
    return "cuda", int(device)


def other_precision(precision: str, provider: str, options: Mapping[str, str]) -> str | None:
    """The precision that the provider uses, or may use, instead of the file's ``precision``. It
    cannot be read back."""
    if provider == CPU and precision == "fp16":
        # On x86 it casts to fp32 and back around every operator; on Arm it has some fp16 kernels.
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
