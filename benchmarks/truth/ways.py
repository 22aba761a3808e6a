"""Measure the latency of an ONNX file in one way, in this process, and print nanoseconds.

    python benchmarks/truth/ways.py WAY FILE THREADS SECONDS | --smoke

Each way gets the same wall time, counted from here: one that ends sooner is repeated, and the mean
of what it reports is taken.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "tests"))


def open_session(path: str, threads: int) -> Callable[[], object]:
    """The file as latbench's runner opens it."""
    import onnxruntime as ort

    from latbench.api import TensorSpec, make_inputs

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    specs = [
        TensorSpec(name=i.name, shape=tuple(i.shape), dtype="float32") for i in session.get_inputs()
    ]
    values = [ort.OrtValue.ortvalue_from_numpy(array) for array in make_inputs(specs, 0)]
    for spec, value in zip(specs, values, strict=True):
        binding.bind_ortvalue_input(spec.name, value)
    for output in session.get_outputs():
        binding.bind_output(output.name)
    return lambda: (session.run_with_iobinding(binding), values)


def loop(run: Callable[[], object], warm: int, calls: int) -> float:
    for _ in range(warm):
        run()
    times = []
    for _ in range(calls):
        start = time.perf_counter_ns()
        run()
        times.append(time.perf_counter_ns() - start)
    return mean(times)


def repeated(measure: Callable[[], float], until: float) -> float:
    results, longest = [], 0.0
    while not results or time.perf_counter() + longest < until:
        begun = time.perf_counter()
        results.append(measure())
        longest = max(longest, time.perf_counter() - begun)
    return mean(results)


def loadgen(run: Callable[[], object], until: float) -> tuple[float, float]:
    """SingleStream: its median and its 90th percentile."""
    import mlperf_loadgen as lg

    def issue(samples: list[object]) -> None:
        for sample in samples:
            run()
            lg.QuerySamplesComplete([lg.QuerySampleResponse(sample.id, 0, 0)])  # type: ignore[attr-defined]

    settings = lg.TestSettings()
    settings.scenario = lg.TestScenario.SingleStream
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_duration_ms = round((until - time.perf_counter()) * 1000)
    settings.min_query_count = 64
    with tempfile.TemporaryDirectory() as folder:
        out = lg.LogOutputSettings()
        out.outdir = folder
        log = lg.LogSettings()
        log.log_output = out
        sut = lg.ConstructSUT(issue, lambda: None)
        qsl = lg.ConstructQSL(1, 1, lambda _: None, lambda _: None)
        lg.StartTestWithLogSettings(sut, qsl, settings, log)
        lg.DestroyQSL(qsl)
        lg.DestroySUT(sut)
        lines = (Path(folder) / "mlperf_log_summary.txt").read_text().splitlines()

    def value(name: str) -> float:
        return float(next(line for line in lines if line.startswith(name)).split(":")[1])

    return value("50.00 percentile latency (ns)"), value("90.00 percentile latency (ns)")


def pyperf_scheme(path: str, threads: int, until: float) -> float:
    """pyperf's: fresh processes, in each one warm-up value and three values of 0.1 s; the mean."""
    values: list[float] = []
    longest = 0.0
    while not values or time.perf_counter() + longest < until:
        begun = time.perf_counter()
        done = subprocess.run(
            [sys.executable, __file__, "pyperf-worker", path, str(threads), "0"],
            check=True,
            capture_output=True,
            text=True,
        )
        values += [float(value) for value in done.stdout.split()]
        longest = max(longest, time.perf_counter() - begun)
    return mean(values)


def pyperf_worker(run: Callable[[], object]) -> list[float]:
    run()
    start = time.perf_counter_ns()
    run()
    loops = max(1, round(1e8 / (time.perf_counter_ns() - start)))
    values = []
    for _ in range(4):
        start = time.perf_counter_ns()
        for _ in range(loops):
            run()
        values.append((time.perf_counter_ns() - start) / loops)
    return values[1:]


def smoke() -> None:
    """Run the ways that need nothing but ONNX Runtime, on a tiny file."""
    from support import onnx_files

    with tempfile.TemporaryDirectory() as folder:
        path = str(onnx_files.identity(Path(folder) / "tiny.onnx"))
        for way in ("pyperf", "timm", "timm-once", "fixed-100", "long"):
            measure(way, path, 1, 0.05)


def main() -> None:
    if sys.argv[1:] == ["--smoke"]:
        smoke()
        return
    way, path, threads, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    measure(way, path, threads, seconds)


def measure(way: str, path: str, threads: int, seconds: float) -> None:
    """Print what one way reports."""
    until = time.perf_counter() + seconds
    if way == "pyperf":
        print(pyperf_scheme(path, threads, until))
        return
    run = open_session(path, threads)
    if way == "pyperf-worker":
        print(*pyperf_worker(run))
    elif way == "timm":
        print(repeated(lambda: loop(run, 10, 50), until))
    elif way == "timm-once":
        print(loop(run, 10, 40))
    elif way == "fixed-100":
        print(repeated(lambda: loop(run, 10, 100), until))
    elif way == "loadgen":
        print(*loadgen(run, until))
    elif way == "torch":
        from torch.utils.benchmark import Timer

        timer = Timer("run()", globals={"run": run})
        left = max(0.2, until - time.perf_counter())
        print(timer.blocked_autorange(min_run_time=left).median * 1e9)
    elif way == "long":
        for _ in range(20):
            run()
        times = []
        while time.perf_counter() < until:
            start = time.perf_counter_ns()
            run()
            times.append(time.perf_counter_ns() - start)
        print(median(times), sorted(times)[len(times) // 10])


if __name__ == "__main__":
    main()
