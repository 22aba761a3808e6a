"""Each local runner compared with a plain loop on its runtime or with the runtime's own tool.

    python benchmarks/runners.py [--model M] [--backends NAME ...] [--pairs N] [--seconds S]
                                    [--smoke]

Either side executes the same file in a new process of one thread that warms up, then times single
inferences for S seconds and gives their median; pairs are in random order. The plain loops are
written against what each runtime documents, without latbench, except that the graph of torch.export
runs without its guards on both sides. ONNX Runtime's and ExecuTorch's plain loops fetch the outputs
with each inference, as their documentation does; latbench's sessions leave them where they are.
OpenVINO is also compared with its ``benchmark_app``, which times inside its C++ code. Goal: a ratio
of medians within 1 %, printed with its interval over pairs. It needs an idle machine.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import latbench
from latbench.analysis.stats import order_interval
from latbench.api import Artifact, RunOptions, make_inputs
from latbench.clock import time_calls
from latbench.plugins import load_runner
from support.environment import TINY

WARM_S = 0.5
BLOCK = 10
SIDES = {
    "onnxruntime": ("plain",),
    "openvino": ("plain", "benchmark_app"),
    "torch": ("plain",),
    "executorch": ("plain",),
    "ncnn": ("plain",),
    "tflite": ("plain",),
}
"""Backend -> what it is compared with."""


def plain(backend: str, path: str, inputs: list[np.ndarray]) -> Callable[[], object]:
    """One inference as the runtime's own documentation shows it, one thread."""
    match backend:
        case "onnxruntime":
            import onnxruntime as ort

            options = ort.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            feed = dict(zip((i.name for i in session.get_inputs()), inputs, strict=True))
            return lambda: session.run(None, feed)
        case "openvino":
            import openvino as ov

            settings = {
                "INFERENCE_NUM_THREADS": 1,
                "INFERENCE_PRECISION_HINT": "f32",
                "PERFORMANCE_HINT": "LATENCY",
            }
            request = ov.Core().compile_model(path, "CPU", settings).create_infer_request()
            for i, array in enumerate(inputs):
                request.set_input_tensor(i, ov.Tensor(array))
            return lambda: (request.start_async(), request.wait())
        case "torch":
            import torch

            torch.set_num_threads(1)
            torch.set_num_interop_threads(1)
            module = torch.export.load(path).module(check_guards=False)
            module._forward_pre_hooks.clear()
            tensors = [torch.from_numpy(array) for array in inputs]
            # Kept alive by the closure below: the mode ends when nothing refers to it.
            mode = torch.inference_mode()
            mode.__enter__()
            return lambda mode=mode: module(*tensors)
        case "executorch":
            import torch
            from executorch.extension.pybindings import portable_lib
            from executorch.runtime import Runtime

            portable_lib._unsafe_reset_threadpool(1)
            method = Runtime.get().load_program(Path(path)).load_method("forward")
            tensors = [torch.from_numpy(array) for array in inputs]
            return lambda: method.execute(tensors)
        case "ncnn":
            return _plain_ncnn(path, inputs)
        case "tflite":
            from ai_edge_litert.interpreter import Interpreter

            interpreter = Interpreter(model_path=path, num_threads=1)
            interpreter.allocate_tensors()
            for details, array in zip(interpreter.get_input_details(), inputs, strict=True):
                interpreter.set_tensor(details["index"], array)
            return interpreter.invoke
    raise SystemExit(f"no plain loop for {backend}")


def _plain_ncnn(path: str, inputs: list[np.ndarray]) -> Callable[[], object]:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.load_param(f"{path}/model.param")
    net.load_model(f"{path}/model.bin")
    (name,), (out,), mat = net.input_names(), net.output_names(), ncnn.Mat(inputs[0][0])

    def infer() -> object:
        with net.create_extractor() as extractor:
            extractor.input(name, mat)
            return extractor.extract(out)

    return infer


def loop(run: Callable[[], object], seconds: float) -> float:
    """Median nanoseconds of one call."""
    until = time.perf_counter() + WARM_S
    while time.perf_counter() < until:
        run()
    until, elapsed = time.perf_counter() + seconds, []
    while time.perf_counter() < until:
        start = time.perf_counter_ns()
        run()
        elapsed.append(time.perf_counter_ns() - start)
    return median(elapsed)


def ours(backend: str, path: Path, artifact: Artifact, seconds: float) -> float:
    """The same through latbench's session and clock."""
    runner = load_runner(backend)
    runner.prepare()
    inputs = make_inputs(artifact.inputs, 0)
    with runner.open(artifact, path, inputs, RunOptions(threads=1)) as session:
        until = time.perf_counter() + WARM_S
        while time.perf_counter() < until:
            session.run()
        until, elapsed = time.perf_counter() + seconds, []
        while time.perf_counter() < until:
            elapsed += time_calls(session.run, BLOCK)
    return median(elapsed)


def benchmark_app(path: str, seconds: float) -> float:
    """OpenVINO's own tool, synchronous, one request."""
    tool = Path(sys.executable).with_name("benchmark_app")
    command = [str(tool), "-m", path, "-d", "CPU", "-api", "sync", "-hint", "none"]
    command += ["-nthreads", "1", "-nstreams", "1", "-infer_precision", "f32"]
    command += ["-t", str(max(1, round(seconds)))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    line = next(line for line in done.stdout.splitlines() if "Median:" in line)
    return float(line.split()[-2]) * 1e6


def one_side(side: str, backend: str, path: str, description: str, seconds: float) -> float:
    """In this process."""
    artifact = msgspec.json.decode(Path(description).read_bytes(), type=Artifact)
    if side == "latbench":
        return ours(backend, Path(path), artifact, seconds)
    if side == "benchmark_app":
        return benchmark_app(path, seconds)
    return loop(plain(backend, path, list(make_inputs(artifact.inputs, 0))), seconds)


def compare(
    backend: str, other: str, path: str, description: str, pairs: int, seconds: float
) -> None:
    """One row of the table."""
    draw = random.Random(5)
    found: dict[str, list[float]] = {"latbench": [], other: []}
    for _ in range(pairs):
        for side in draw.sample(sorted(found), 2):
            command = [sys.executable, __file__, "--side", side, backend, path, description]
            done = subprocess.run(
                [*command, str(seconds)], check=True, capture_output=True, text=True
            )
            found[side].append(float(done.stdout.split()[-1]))
    ratios = sorted(a / b for a, b in zip(found["latbench"], found[other], strict=True))
    low, high = order_interval(ratios, 0.95) or (ratios[0], ratios[-1])
    print(
        f"| {backend} | {other} | {median(found['latbench']) / 1e6:.3f} ms | "
        f"{median(found[other]) / 1e6:.3f} ms | {median(ratios):.4f} | {low:.4f} to {high:.4f} |",
        flush=True,
    )


def main() -> None:
    if sys.argv[1:2] == ["--side"]:
        side, backend, path, description, seconds = sys.argv[2:]
        print(one_side(side, backend, path, description, float(seconds)))
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="timm:mobilenetv2_100")
    parser.add_argument("--backends", nargs="+", default=list(SIDES), choices=list(SIDES))
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--smoke", action="store_true", help="run every step once, with tiny sizes")
    args = parser.parse_args()
    if args.smoke:
        args.model, args.backends, args.pairs, args.seconds = TINY, ["onnxruntime"], 1, 0.05
    print("| backend | compared with | latbench | that | ratio, median of pairs | 95 % interval |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for backend in args.backends:
            exported = latbench.export(args.model, format=load_runner(backend).formats[0])
            description = Path(folder) / f"{backend}.json"
            description.write_bytes(msgspec.json.encode(exported.artifact))
            for other in SIDES[backend]:
                compare(
                    backend, other, str(exported.path), str(description), args.pairs, args.seconds
                )


if __name__ == "__main__":
    main()
