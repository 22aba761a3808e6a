"""Outputs of other benchmark tools, in their formats, with values of our own."""

from __future__ import annotations

import json
import struct
from typing import Any

BENCHMARK_MODEL = """\
INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Min num runs: [40]
INFO: Num threads: [4]
INFO: Graph: [/data/local/tmp/net_a.tflite]
INFO: Use gpu: [0]
INFO: Loaded model /data/local/tmp/net_a.tflite
INFO: Replacing 61 out of 64 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 2 \
partitions for the whole graph.
INFO: The input model file size (MB): 3.5
INFO: Initialized session in 21.5ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds
INFO: count=37 first=14100 curr=13300 min=13200 max=14100 avg=13502.7 std=110

INFO: Running benchmark for at least 40 iterations and at least 1 seconds
INFO: count=75 first=13310 curr=13290 min=13190 max=15012 avg=1.33333e+04 std=163 p5=13201 \
median=13305 p95=13800

INFO: Inference timings in us: Init: 21500, First inference: 14100, Warmup (avg): 13502.7, \
Inference (avg): 1.33333e+04
INFO: Memory footprint delta from the start of the tool (MB): init=4.5 overall=12.25
INFO: Number of nodes executed: 3
INFO: count=75 curr=9 avg=9 std=0
"""
OLD_BENCHMARK_MODEL = """\
STARTING!
Min num runs: [50]
Num threads: [1]
count=50 first=9000 curr=8800 min=8700 max=9100 avg=8810.5 std=60
Average inference timings in us: Warmup: 8900.5, Init: 1200, no stats: 8810.5
"""
GPU_BENCHMARK_MODEL = """\
STARTING!
Log parameter values verbosely: [0]
Min num runs: [200]
Num threads: [1]
Graph: [C:\\nets\\net_a.tflite]
Signature to run: [detect]
Enable op profiling: [1]
Use gpu: [1]
Loaded model C:\\nets\\net_a.tflite
INFO: Created TensorFlow Lite delegate for GPU.
Explicitly applied GPU delegate, and the model graph will be completely executed by the delegate.
Initialized session in 812.5ms.
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding \
150 seconds.
count=60 first=9100 curr=8200 min=8100 max=9100 avg=8260.25 std=120

Running benchmark for at least 200 iterations and at least 1 seconds but terminate if exceeding \
150 seconds.
count=200 first=8150 curr=8111 min=8050 max=8600 avg=8150.5 std=44

Inference timings in us: Init: 812500, First inference: 9100, Warmup (avg): 8260.25, \
Inference (avg): 8150.5
Profiling Info for Benchmark Initialization:
Timings (microseconds): count=1 curr=700000
Operator-wise Profiling Info for Regular Benchmark Runs:
Timings (microseconds): count=200 first=8140 curr=8100 min=8040 max=8590 avg=8141 std=44
"""
"""With a GPU, profiling and a signature, as a version of 2022 writes it."""
LITERT_MODEL = """\
INFO: [benchmark_model.cc:203] Graph: [/data/local/tmp/net_a.tflite]
INFO: [benchmark_model.cc:203] Num threads: [4]
INFO: [benchmark_model.cc:203] Use gpu: [1]
INFO: count=12 first=3300 curr=2500 min=2450 max=3300 avg=2600.5 std=90

INFO: count=64 first=2510 curr=2490 min=2400 max=2900 avg=2512.25 std=63 p5=2410 median=2500 \
p95=2700

INFO: [benchmark_litert_model.h:90]
========== BENCHMARK RESULTS ==========
INFO: [benchmark_litert_model.h:92] Signature name:       detect
INFO: [benchmark_litert_model.h:94] Model initialization: 45.25 ms
INFO: [benchmark_litert_model.h:96] Warmup (first):       3.30 ms
INFO: [benchmark_litert_model.h:98] Warmup (avg):         2.60 ms (12 runs)
INFO: [benchmark_litert_model.h:100] Inference (avg):      2.51 ms (64 runs)
INFO: [benchmark_litert_model.h:104] Inference (min):      2.40 ms
INFO: [benchmark_litert_model.h:106] Inference (max):      2.90 ms
INFO: [benchmark_litert_model.h:108] Inference (std):      0.06
INFO: [benchmark_litert_model.h:115] Throughput:           230.50 MB/s
INFO: [benchmark_litert_model.h:124]
Memory Usage:
INFO: [benchmark_litert_model.h:126] Init footprint:       20.50 MB
INFO: [benchmark_litert_model.h:128] Overall footprint:    24.00 MB
INFO: [benchmark_litert_model.h:135] Peak memory usage not available. (peak_mem_mb <= 0)
INFO: [benchmark_litert_model.h:140] ======================================
"""
"""The program in C++ of LiteRT's own interface."""
RUN_MODEL = """\
I0000 00:00:1772600767.123 4711 run_model.cc:190] Model: /data/local/tmp/net_a.tflite
I0000 00:00:1772600767.223 4711 run_model.cc:201] Signature index: 0
I0000 00:00:1772600767.323 4711 run_model.cc:232] Run model for 20 times
I0000 00:00:1772600767.423 4711 run_model.cc:241] First run took 9100 microseconds
I0000 00:00:1772600767.423 4711 run_model.cc:242] Slowest run took 9100 microseconds
I0000 00:00:1772600767.423 4711 run_model.cc:245] Fastest run took 2400 microseconds
I0000 00:00:1772600767.423 4711 run_model.cc:248] All runs took average 2790 microseconds
I0000 00:00:1772600767.423 4711 run_model.cc:262] Model run completed
"""
EXECUTOR_RUNNER = """\
I 00:00:00.001201 executorch:executor_runner.cpp:330] Resetting threadpool with num threads = 4
I 00:00:00.002101 executorch:executor_runner.cpp:371] Model file net_f.pte is loaded.
I 00:00:00.002111 executorch:executor_runner.cpp:380] Using method forward
I 00:00:00.003101 executorch:executor_runner.cpp:455] Model loaded in 12.500000 ms.
I 00:00:00.013101 executorch:executor_runner.cpp:590] Iteration 1 of 3: 9.000000 ms
I 00:00:00.018101 executorch:executor_runner.cpp:590] Iteration 2 of 3: 4.500000 ms
I 00:00:00.023101 executorch:executor_runner.cpp:590] Iteration 3 of 3: 4.250000 ms
I 00:00:00.023111 executorch:executor_runner.cpp:600] Model executed successfully 3 time(s) in \
17.750000 ms.
I 00:00:00.023121 executorch:executor_runner.cpp:609] 1 outputs:
OutputX 0: tensor(sizes=[1, 10], [0.5, ])
"""
EXECUTOR_RUNNER_2024 = """\
I 00:00:00.002101 executorch:executor_runner.cpp:82] Model file net_f.pte is loaded.
I 00:00:00.002111 executorch:executor_runner.cpp:91] Using method forward
I 00:00:00.003101 executorch:executor_runner.cpp:162] Method loaded.
I 00:00:00.003111 executorch:executor_runner.cpp:168] Inputs prepared.
I 00:00:00.043111 executorch:executor_runner.cpp:180] Model executed successfully 8 time(s) in \
36.000000 ms.
"""
EXECUTOR_RUNNER_2023 = EXECUTOR_RUNNER_2024.replace(" 8 time(s) in 36.000000 ms", "")
"""Without a time."""
QNN_RUNNER = """\
I 00:00:00.002101 executorch:qnn_executor_runner.cpp:232] Model file net_f.pte is loaded.
I 00:00:00.002111 executorch:qnn_executor_runner.cpp:242] Using method forward
I 00:00:00.203101 executorch:qnn_executor_runner.cpp:313] Method loaded.
I 00:00:00.303101 executorch:qnn_executor_runner.cpp:459] 100 inference took 87.500000 ms, avg \
0.875000 ms
"""
LITERT_BENCHMARK = """\
2026-03-04 05:06:07 INFO benchmark_litert_model: Model:           /models/net_a.tflite
2026-03-04 05:06:07 INFO benchmark_litert_model: Num threads:     2
========================================
 BENCHMARK RESULTS
========================================
Model initialization:  9.25 ms
Warmup (first):        3.50 ms
Warmup (avg):          2.75 ms (5 runs)
Inference (avg):       2.25 ms (30 runs)
Inference (min):       2.10 ms
Inference (max):       2.90 ms
Inference (median):    2.20 ms
Inference (std):       0.05 ms
Inference (p5):        2.12 ms
Inference (p95):       2.70 ms
Throughput:            512.25 MB/s
Fully accelerated:     True
========================================
"""
LITERT_JSON = json.dumps(
    {
        "model": "/models/net_a.tflite",
        "accelerators": ["CPU"],
        "fully_accelerated": True,
        "num_threads": 2,
        "latency": {
            **{"init_ms": 9.25, "warmup_first_ms": 3.5, "warmup_avg_ms": 2.75, "avg_ms": 2.25},
            **{"min_ms": 2.1, "max_ms": 2.9, "median_ms": 2.2, "std_ms": 0.05, "p5_ms": 2.12},
            **{"p95_ms": 2.7, "num_runs": 30, "num_warmup_runs": 5},
        },
        "throughput_mb_s": 512.25,
    }
)
TRTEXEC = """\
&&&& RUNNING TensorRT.trtexec [TensorRT v100300] [b26] # trtexec --onnx=/m/net_b.onnx --fp16
[03/04/2026-05:06:07] [I] === Model Options ===
[03/04/2026-05:06:07] [I] Format: ONNX
[03/04/2026-05:06:07] [I] Model: /m/net_b.onnx
[03/04/2026-05:06:07] [I] === Build Options ===
[03/04/2026-05:06:07] [I] Precision: FP32+FP16
[03/04/2026-05:06:07] [I] === Inference Options===
[03/04/2026-05:06:07] [I] Batch: Explicit
[03/04/2026-05:06:07] [I] Streams: 1
[03/04/2026-05:06:07] [I] === Device Information ===
[03/04/2026-05:06:07] [I] Selected Device: Board GPU 7
[03/04/2026-05:06:57] [I] Engine built in 49.5 sec.
[03/04/2026-05:06:57] [I] Engine deserialized in 0.0125 sec.
[03/04/2026-05:07:00] [I] Warmup completed 55 queries over 200 ms
[03/04/2026-05:07:00] [I] Timing trace has 801 queries over 3.0021 s
[03/04/2026-05:07:00] [I] === Trace details ===
[03/04/2026-05:07:00] [I] === Performance summary ===
[03/04/2026-05:07:00] [I] Throughput: 266.813 qps
[03/04/2026-05:07:00] [I] Latency: min = 3.70001 ms, max = 4.1 ms, mean = 3.75 ms, \
median = 3.74 ms, percentile(90%) = 3.8 ms, percentile(99%) = 4.05 ms
[03/04/2026-05:07:00] [I] Enqueue Time: min = 0.2 ms, max = 0.5 ms, mean = 0.25 ms, \
median = 0.24 ms, percentile(90%) = 0.3 ms, percentile(99%) = 0.4 ms
[03/04/2026-05:07:00] [I] GPU Compute Time: min = 3.6 ms, max = 3.9 ms, mean = 3.65 ms, \
median = 3.64 ms, percentile(90%) = 3.7 ms, percentile(99%) = 3.8 ms
[03/04/2026-05:07:00] [I] Total Host Walltime: 3.0021 s
&&&& PASSED TensorRT.trtexec [TensorRT v100300] [b26] # trtexec --onnx=/m/net_b.onnx --fp16
"""
TRTEXEC_8 = """\
&&&& RUNNING TensorRT.trtexec [TensorRT v8201] # trtexec --loadEngine=/m/net_b.plan --int8
[03/04/2022-05:06:07] [I] Load engine: /m/net_b.plan
[03/04/2022-05:06:07] [I] Batch: 1
[03/04/2022-05:06:07] [I] Precision: INT8
[03/04/2022-05:06:07] [I] Selected Device: Board GPU 5
[03/04/2022-05:06:08] [I] Engine loaded in 0.25 sec.
[03/04/2022-05:06:11] [I] Warmup completed 155 queries over 200 ms
[03/04/2022-05:06:11] [I] Timing trace has 2100 queries over 3.001 s
[03/04/2022-05:06:11] [I] === Performance summary ===
[03/04/2022-05:06:11] [I] Throughput: 699.75 qps
[03/04/2022-05:06:11] [I] Latency: min = 1.4 ms, max = 2.1 ms, mean = 1.45 ms, median = 1.44 ms, \
percentile(99%) = 1.75 ms
[03/04/2022-05:06:11] [I] End-to-End Host Latency: min = 1.5 ms, max = 2.9 ms, mean = 2.75 ms, \
median = 2.8 ms, percentile(99%) = 2.85 ms
[03/04/2022-05:06:11] [I] GPU Compute Time: min = 1.3 ms, max = 2.0 ms, mean = 1.35 ms, \
median = 1.34 ms, percentile(99%) = 1.6 ms
&&&& PASSED TensorRT.trtexec [TensorRT v8201] # trtexec --loadEngine=/m/net_b.plan --int8
"""
TRTEXEC_TIMES = """[
  { "startEnqMs" : 0.1, "endEnqMs" : 0.3, "startComputeMs" : 0.2, "endComputeMs" : 3.7, \
"h2dMs" : 0.05, "computeMs" : 3.5, "d2hMs" : 0.05, "latencyMs" : 3.6 }
, { "startEnqMs" : 4.1, "endEnqMs" : 4.3, "startComputeMs" : 4.2, "endComputeMs" : 7.6, \
"h2dMs" : 0.05, "computeMs" : 3.4, "d2hMs" : 0.05, "latencyMs" : 3.5 }
]"""
TRTEXEC_PROFILE = """[
  { "count" : 800 }
, { "name" : "conv1 + relu1", "timeMs" : 160, "averageMs" : 0.2, "medianMs" : 0.19, \
"percentage" : 40 }
, { "name" : "fc", "timeMs" : 240, "averageMs" : 0.3, "medianMs" : 0.29, "percentage" : 60 }
]"""
PERF_TEST = """\
Setting intra_op_num_threads to 2
Session creation time cost: 0.125 s
First inference time cost: 7 ms
Total inference time cost: 1.25 s
Total inference requests: 250
Average inference time cost total: 5.000123 ms
Total inference run time: 1.26 s
Number of inferences per second: 198.5
Avg CPU usage: 99 %
Peak working set size: 73400320 bytes
Min Latency: 0.0048 s
Max Latency: 0.0099 s
P50 Latency: 0.00495 s
P90 Latency: 0.0052 s
P95 Latency: 0.0055 s
P99 Latency: 0.0071 s
P999 Latency: 0.0099 s
"""
OLD_PERF_TEST = """\
Setting thread pool size to 0
Total time cost: 1.25
Total iterations: 250
Average time cost: 5.000123 ms
Total run time: 1.26 s
Min Latency is 0.0048sec
Max Latency is 0.0099sec
P50 Latency is 0.00495sec
"""
PERF_TEST_FILE_2025 = """\
net_c,0.00101,0.00501,73400320,99,0
net_c,0.00102,0.00492,73400320,99,1
net_c,0.00103,0.00499,73400320,99,2

Min Latency: 0.00492 s
Max Latency: 0.00501 s
P50 Latency: 0.00499 s
"""
"""With the time of the submission before that of the inference."""
PERF_TEST_FILE = """\
net_c,0.00501,73400320,99,0
net_c,0.00492,73400320,99,1
net_c,0.00499,73400320,99,2

Min Latency: 0.00492 s
Max Latency: 0.00501 s
P50 Latency: 0.00499 s
"""
BENCHMARK_APP = """\
[Step 1/11] Parsing and validating input arguments
[ INFO ] Parsing input parameters
[Step 2/11] Loading OpenVINO Runtime
[ INFO ] OpenVINO:
[ INFO ] Build ................................. 2026.4.1-22982-e213a147257-releases/2026/4
[Step 4/11] Reading model files
[ INFO ] Read model took 12.50 ms
[ INFO ] Model batch size: 1
[ INFO ] Compile model took 150.25 ms
[ INFO ] Compile model ram used 2048 KB
[ INFO ]   INFERENCE_NUM_THREADS: 2
[ INFO ]   INFERENCE_PRECISION_HINT: <Type: 'float32'>
[ INFO ]   PERFORMANCE_HINT: THROUGHPUT
[ INFO ]   EXECUTION_DEVICES: ['CPU']
[Step 10/11] Measuring performance (Start inference asynchronously, 2 inference requests, limits: \
1000 ms duration)
[ INFO ] First inference took 11.50 ms
[Step 11/11] Dumping statistics report
[ INFO ] Execution Devices:['CPU']
[ INFO ] Count:            200 iterations
[ INFO ] Duration:         1001.50 ms
[ INFO ] Latency:
[ INFO ]    Median:        9.75 ms
[ INFO ]    Average:       9.80 ms
[ INFO ]    Min:           950.25 us
[ INFO ]    Max:           12.25 ms
[ INFO ] Throughput:   199.70 FPS
"""
BENCHMARK_APP_2020 = """\
[Step 1/11] Parsing and validating input arguments
[ WARNING ]  -nstreams default value is determined automatically for a device.
[Step 2/11] Loading Inference Engine
[ INFO ] InferenceEngine:
         API version............. 2.1.2020.4.0-359-21e092122f4-releases/2020/4
[ INFO ] Device info
         CPU
         MKLDNNPlugin............ version 2.1
         Build................... 2020.4.0-359-21e092122f4-releases/2020/4

[Step 4/11] Reading the Intermediate Representation network
[ INFO ] Read network took 110.50 ms
[ INFO ] Network batch size: 1
[ INFO ] Load network took 1990.25 ms
[Step 10/11] Measuring performance (Start inference asyncronously, 4 inference requests using 4 \
streams for CPU, limits: 60000 ms duration)
[Step 11/11] Dumping statistics report
Count:      156 iterations
Duration:   62618.50 ms
Latency:    1587.25 ms
Throughput: 2.49 FPS
"""
BENCHMARK_APP_2022 = """\
[Step 1/11] Parsing and validating input arguments
[ INFO ] OpenVINO Runtime
[Step 10/11] Measuring performance (Start inference asynchronously, 4 inference requests using 4 \
streams for CPU, limits: 60000 ms duration)
[ INFO ] First inference took 26.25 ms
[Step 11/11] Dumping statistics report
[ INFO ] Count:      6640 iterations
[ INFO ] Duration:   60039.50 ms
[ INFO ] Latency:
[ INFO ]        Median:  35.25 ms
[ INFO ]        Avg:    36.50 ms
[ INFO ]        Min:    18.75 ms
[ INFO ]        Max:    88.50 ms
[ INFO ] Throughput: 110.59 FPS
"""
BENCHMARK_APP_CSV = """\
Command line parameters
-m;/m/net_d.xml
-nthreads;4

Configuration setup
topology;Model1
target device;CPU
API;sync
precision;UNSPECIFIED
batch size;1
number of iterations;20
number of parallel infer requests;1
duration (ms);1000

Execution results
read model time (ms);12.50
compile model time (ms);150.25
first inference time (ms);11.50
total execution time (ms);1001.50
total number of iterations;200
latency (90 percentile) (ms);5.25
avg latency;5.01
min latency;4.80
max latency;9.50
throughput;199.70

"""
BENCHMARK_APP_JSON = json.dumps(
    {
        "cmd_options": {"m": "/m/net_d.xml"},
        "configuration_setup": {"target_device": "NPU", "batch_size": 1, "nireq": 4},
        "execution_results": {
            **{"read_model_time": 12.5, "load_model_time": 150.25, "first_inference_time": 11.5},
            **{"execution_time": 1001.5, "iterations_num": 200, "latency_median": 4.9},
            **{"percentile_boundary": 50, "latency_avg": 5.0, "latency_min": 4.8},
            **{"latency_max": 9.5, "throughput": 800.1},
        },
    }
)
XCODE: dict[str, Any] = {
    "modelMetadata": {"fileName": "NetE", "size": 1200},
    "deviceInfo": {
        "modelName": "Phone 9",
        "displayName": "Ada's phone",
        "serialNumber": "SECRET",
        "osNameAndVersionWithoutBuildNumber": "iOS 99.1",
    },
    "computeUnit": 2,
    "deviceResults": {
        "predict": {"samples": [0.0012, 0.0011, 0.0013], "numOperations": 2},
        "load": {"samples": [0.05, 0.04]},
        "modelStructure": {
            "program": {
                "_0": {
                    "functions": {
                        "main": {
                            "block": {
                                "operations": [
                                    {"operatorName": "const", "outputs": [{"name": "w"}]},
                                    {
                                        "operatorName": "ios17.conv",
                                        "outputs": [{"name": "y"}],
                                        "deviceUsage": {
                                            "preferred": {"deviceType": {"neuralEngine": {}}}
                                        },
                                    },
                                ]
                            }
                        }
                    }
                }
            }
        },
    },
}
AIHUB: dict[str, Any] = {
    "execution_summary": {
        "estimated_inference_time": 730,
        "estimated_inference_peak_memory": 4096,
        "first_load_time": 90000,
        "warm_load_time": 40000,
        "compile_time": 0,
        "inference_memory_peak_range": [1000, 2000],
        "all_inference_times": [760, 730, 745],
        "all_warm_load_times": [40000],
    },
    "execution_detail": [
        {"name": "conv", "type": "Conv", "compute_unit": "NPU", "execution_time": 400},
        {"name": "softmax", "type": "Softmax", "compute_unit": "CPU", "execution_time": 300},
    ],
}
XCODE_WITHOUT_UNITS: dict[str, Any] = {
    "modelMetadata": {"fileName": "NetE ", "size": 1200},
    "deviceInfo": {
        "modelName": "Tablet 9",
        "osNameAndVersionWithoutBuildNumber": "iPadOS 99.2",
    },
    "computeUnit": 3,
    "deviceResults": {
        "predict": {"samples": [0.002, 0.0021], "numOperations": 40},
        "modelStructure": {"neuralNetwork": {}},
        "availableComputeDevices": [{"deviceType": {"cpu": {}}}],
    },
}
"""A report that does not say where operations run."""
AIHUB_MAJOR_0: dict[str, Any] = {
    "execution_summary": {
        "estimated_inference_time": 950,
        "estimated_inference_peak_memory": None,
        "first_load_time": 80000,
        "first_load_peak_memory": None,
        "warm_load_time": None,
        "warm_load_peak_memory": None,
        "compile_time": None,
        "compile_peak_memory": None,
    },
    "execution_detail": [{"name": "conv", "type": "Conv", "compute_unit": "NPU"}],
}
"""As AI Hub's client writes profiles before its version 1: no single times, and none of layers."""


def _field(number: int, value: float | bytes) -> bytes:
    if isinstance(value, bytes):
        return bytes([number << 3 | 2, len(value)]) + value
    if isinstance(value, int):
        return bytes([number << 3, value])
    return bytes([number << 3 | 5]) + struct.pack("<f", value)


MESSAGE = _field(1, b"run 1") + b"".join(
    _field(number, b"".join(_field(key, value) for key, value in fields.items()))
    for number, fields in {
        2: {1: 2.25, 2: 2.125, 5: 2.1875, 8: 9.25, 9: 3.5, 10: 2.75},
        3: {1: 64, 3: 12.5},
        4: {2: 30, 3: 5, 4: 512.25},
    }.items()
)
"""The protobuf message BenchmarkResult."""
OUTPUTS: dict[str, tuple[str, bytes]] = {
    "log of benchmark_model": ("benchmark_model", BENCHMARK_MODEL.encode()),
    "old log of benchmark_model": ("benchmark_model", OLD_BENCHMARK_MODEL.encode()),
    "protobuf of benchmark_model": ("benchmark_model", MESSAGE),
    "log of benchmark_model with a GPU": ("benchmark_model", GPU_BENCHMARK_MODEL.encode()),
    "log of LiteRT's benchmark_model": ("benchmark_model", LITERT_MODEL.encode()),
    "text of run_model": ("run_model", RUN_MODEL.encode()),
    "log of executor_runner": ("executor_runner", EXECUTOR_RUNNER.encode()),
    "log of executor_runner, 2024": ("executor_runner", EXECUTOR_RUNNER_2024.encode()),
    "log of qnn_executor_runner": ("executor_runner", QNN_RUNNER.encode()),
    "text of litert-benchmark": ("benchmark_model", LITERT_BENCHMARK.encode()),
    "JSON of litert-benchmark": ("benchmark_model", LITERT_JSON.encode()),
    "log of trtexec": ("trtexec", TRTEXEC.encode()),
    "log of trtexec 8": ("trtexec", TRTEXEC_8.encode()),
    "times of trtexec": ("trtexec", TRTEXEC_TIMES.encode()),
    "profile of trtexec": ("trtexec", TRTEXEC_PROFILE.encode()),
    "text of perf_test": ("perf_test", PERF_TEST.encode()),
    "old text of perf_test": ("perf_test", OLD_PERF_TEST.encode()),
    "file of perf_test, 2025": ("perf_test", PERF_TEST_FILE_2025.encode()),
    "file of perf_test": ("perf_test", PERF_TEST_FILE.encode()),
    "text of benchmark_app": ("benchmark_app", BENCHMARK_APP.encode()),
    "text of benchmark_app, 2020": ("benchmark_app", BENCHMARK_APP_2020.encode()),
    "text of benchmark_app, 2022": ("benchmark_app", BENCHMARK_APP_2022.encode()),
    "CSV of benchmark_app": ("benchmark_app", BENCHMARK_APP_CSV.encode()),
    "JSON of benchmark_app": ("benchmark_app", BENCHMARK_APP_JSON.encode()),
    "report of Xcode": ("xcode", json.dumps(XCODE).encode()),
    "report of Xcode without units": ("xcode", json.dumps(XCODE_WITHOUT_UNITS).encode()),
    "early profile of AI Hub": ("aihub", json.dumps(AIHUB_MAJOR_0).encode()),
    "profile of AI Hub": ("aihub", json.dumps(AIHUB).encode()),
}
"""Name -> the tool as `--from` takes it, and a file."""
