"""Define the protocols that latbench ships."""

from __future__ import annotations

import msgspec

from latbench.schema.protocol import MS, S, Statistic, TimingProtocol

WARM = TimingProtocol(
    name="latbench-warm",
    version=1,
    what="typical warm latency to ±1 %, its warm-up found, beside a sentinel",
    source="latbench, docs/METHODOLOGY.md",
    # Six is the fewest processes with a distribution-free 95 % interval: see analysis.stats.
    processes=6,
    max_processes=60,
    warmup="found",
    warmup_calls=5,
    warmup_ns=20 * MS,
    warmup_limit_ns=3 * S,
    block_calls=500,
    block_ns=30 * MS,
    settle_calls=1,
    min_calls=40,
    min_ns=1 * S,
    max_ns=10 * S,
    target_ppm=10_000,
    budget_ns=60 * S,
    sentinel_ns=10 * MS,
    statistic=Statistic(kind="median"),
)


QUICK = msgspec.structs.replace(
    WARM,
    name="latbench-quick",
    what="a first look in a few seconds; aims at no precision, watches no sentinel",
    max_processes=6,
    block_ns=25 * MS,
    settle_calls=0,
    min_calls=20,
    min_ns=150 * MS,
    max_ns=3 * S,
    warmup_limit_ns=1 * S,
    target_ppm=None,
    budget_ns=15 * S,
    sentinel_ns=None,
)


COMPARE = msgspec.structs.replace(
    WARM,
    name="latbench-compare",
    what="two models timed in turn in short blocks, until their ratio is known to ±1 %",
    block_ns=20 * MS,
    min_ns=400 * MS,
    max_ns=6 * S,
    sentinel_ns=None,
)


WARM_2 = msgspec.structs.replace(
    WARM,
    version=2,
    what="typical warm latency to ±1 % over several loads in each process, beside a sentinel",
    # Loads vary more than processes do beyond that, and cost less: four are cheapest by Kalibera &
    # Jones where loads vary by 0.8 % and processes by 0.4 %.
    sessions=4,
    max_sessions=12,
    min_calls=20,
    min_ns=150 * MS,
)


QUICK_2 = msgspec.structs.replace(
    QUICK,
    version=2,
    what="a first look in a few seconds, at two loads in each process; aims at no precision",
    sessions=2,
    min_ns=75 * MS,
)


COMPARE_2 = msgspec.structs.replace(
    COMPARE,
    version=2,
    what="two models timed in turn over several loads, until their ratio is known to ±1 %",
    sessions=4,
    max_sessions=12,
    min_calls=20,
    min_ns=100 * MS,
)


FIXED = TimingProtocol(
    name="latbench-fixed",
    version=1,
    what="the same number of calls whatever the samples say: nothing found, nothing adapted",
    source="latbench, docs/METHODOLOGY.md",
    processes=6,
    max_processes=6,
    warmup="fixed",
    warmup_calls=20,
    warmup_limit_ns=5 * S,
    block_calls=20,
    min_calls=200,
    max_ns=20 * S,
    statistic=Statistic(kind="median"),
)


_OTHERS = (
    TimingProtocol(
        name="modelbench",
        version=1,
        what="mean of 20 rounds of 50, trimmed by 10 at either end, the model reloaded each round",
        source="github.com/apple/ml-mobileone, ModelBench app: rounds, inferences per round, "
        "low and high trim",
        assumed=(
            "one process",
            "the first inference after loading is the one warm-up of a round",
            "tensor input; the app hands over an image",
            "the mean is over the kept samples of all rounds",
        ),
        processes=1,
        max_processes=1,
        sessions=20,
        warmup="fixed",
        warmup_calls=0,
        warmup_limit_ns=60 * S,
        block_calls=50,
        min_calls=50,
        max_ns=60 * S,
        statistic=Statistic(kind="mean", trim_low=10, trim_high=10),
    ),
    TimingProtocol(
        name="coreml-performance",
        version=1,
        what="mean of 500 predictions after 50",
        source="github.com/vladimir-chernykh/coreml-performance, README; EfficientFormer used it "
        "(github.com/snap-research/EfficientFormer/issues/53)",
        assumed=(
            "one process",
            "the first prediction is one of the fifty",
            "each prediction timed; the app times all 500 by two readings of the clock",
        ),
        processes=1,
        max_processes=1,
        warmup="fixed",
        warmup_calls=49,
        warmup_limit_ns=600 * S,
        block_calls=500,
        min_calls=500,
        max_ns=600 * S,
        statistic=Statistic(kind="mean"),
    ),
    TimingProtocol(
        name="tflite-benchmark",
        version=1,
        what="mean of at least 50 runs and 1 s, after at least one run and 0.5 s",
        source="tensorflow/lite/tools/benchmark, benchmark_model: num_runs 50, min_secs 1, "
        "max_secs 150, warmup_runs 1, warmup_min_secs 0.5",
        assumed=("one process", "no delay between runs (run_delay -1)"),
        processes=1,
        max_processes=1,
        warmup="fixed",
        warmup_calls=0,
        warmup_ns=500 * MS,
        warmup_limit_ns=150 * S,
        block_calls=50,
        min_calls=50,
        min_ns=1 * S,
        max_ns=150 * S,
        statistic=Statistic(kind="mean"),
    ),
    TimingProtocol(
        name="loadgen-singlestream",
        version=1,
        what="90th percentile of one query at a time, for at least 60 s and 1,024 queries",
        source="MLPerf Inference rules and LoadGen, SingleStream: the next query when the last one "
        "is done; Reddi et al. 2020, ISCA",
        assumed=(
            "one process",
            "60 s, as the rules said until v1.0; later ones ask for 600 s",
            "no warm-up, as LoadGen itself has none; the first inference is kept apart",
            "the plain 90th percentile; LoadGen's early stopping gives an upper bound for it",
        ),
        processes=1,
        max_processes=1,
        warmup="fixed",
        warmup_calls=0,
        warmup_limit_ns=60 * S,
        block_calls=1024,
        block_ns=500 * MS,
        min_calls=1024,
        min_ns=60 * S,
        max_ns=600 * S,
        statistic=Statistic(kind="quantile", quantile_milli=900),
    ),
    TimingProtocol(
        name="trtexec",
        version=10,
        what="median of at least 10 iterations and 3 s, after 200 ms",
        source="NVIDIA TensorRT 10, samples/trtexec: --iterations 10 --duration 3 --warmUp 200",
        assumed=(
            "one process, one stream",
            "the median, of the statistics that it prints (mean, median, p90, p95, p99)",
            "on a backend that times itself on the device this is device time, as trtexec's "
            "'GPU Compute Time'; elsewhere it is the host's",
        ),
        processes=1,
        max_processes=1,
        warmup="fixed",
        warmup_calls=0,
        warmup_ns=200 * MS,
        warmup_limit_ns=60 * S,
        block_calls=1000,
        block_ns=200 * MS,
        min_calls=10,
        min_ns=3 * S,
        max_ns=60 * S,
        statistic=Statistic(kind="quantile", quantile_milli=500),
    ),
    TimingProtocol(
        name="timm",
        version=1,
        what="mean of 40 calls after 10",
        source="github.com/huggingface/pytorch-image-models, benchmark.py: --num-warm-iter 10, "
        "--num-bench-iter 40",
        assumed=("one process", "the first inference is one of the ten"),
        processes=1,
        max_processes=1,
        warmup="fixed",
        warmup_calls=9,
        warmup_limit_ns=600 * S,
        block_calls=40,
        min_calls=40,
        max_ns=600 * S,
        statistic=Statistic(kind="mean"),
    ),
    TimingProtocol(
        name="fai-pep",
        version=1,
        what="mean of 50 calls after one, on one thread pinned to one CPU",
        source="github.com/facebook/FAI-PEP, as Single-Path NAS used it (Stamoulis et al. 2019, "
        "ECML-PKDD): one thread, taskset",
        assumed=("one process", "the last CPU that may be used; on a phone it is a big core"),
        processes=1,
        max_processes=1,
        threads=1,
        pinned=True,
        warmup="fixed",
        warmup_calls=0,
        warmup_limit_ns=600 * S,
        block_calls=50,
        min_calls=50,
        max_ns=600 * S,
        statistic=Statistic(kind="mean"),
    ),
    TimingProtocol(
        name="levit-throughput",
        version=1,
        what="images per second over 60 s, after 10 s",
        source="github.com/facebookresearch/LeViT, speed_test.py: T0 = 10, T1 = 60",
        assumed=("one process", "the batch is the request's, the paper's tables use large ones"),
        processes=1,
        max_processes=1,
        warmup="fixed",
        warmup_calls=0,
        warmup_ns=10 * S,
        warmup_limit_ns=60 * S,
        block_calls=1000,
        block_ns=500 * MS,
        min_calls=1,
        min_ns=60 * S,
        max_ns=120 * S,
        statistic=Statistic(kind="throughput"),
    ),
    TimingProtocol(
        name="cold-start",
        version=1,
        what="load time and first inference together, in ten fresh processes",
        source="latbench, docs/METHODOLOGY.md",
        assumed=("the file is in the system's cache; starting the program is not counted",),
        processes=10,
        max_processes=10,
        warmup="fixed",
        warmup_calls=0,
        warmup_limit_ns=1 * S,
        block_calls=1,
        min_calls=0,
        max_ns=0,
        statistic=Statistic(kind="cold"),
    ),
    TimingProtocol(
        name="sustained",
        version=1,
        what="median of the last level of five minutes back to back, in one process",
        source="latbench, docs/METHODOLOGY.md",
        processes=1,
        max_processes=1,
        warmup="found",
        warmup_calls=5,
        warmup_limit_ns=10 * S,
        block_calls=2000,
        block_ns=500 * MS,
        min_calls=40,
        min_ns=300 * S,
        max_ns=300 * S,
        statistic=Statistic(kind="last level"),
    ),
    TimingProtocol(
        name="duty-cycle",
        version=1,
        what="median at 30 inferences a second with idle gaps, as for a camera, in six processes",
        source="latbench, docs/METHODOLOGY.md",
        assumed=("an inference that is late is followed at once by the next one",),
        processes=6,
        max_processes=6,
        warmup="found",
        warmup_calls=10,
        warmup_limit_ns=5 * S,
        period_ns=S // 30,
        block_calls=15,
        min_calls=90,
        max_ns=20 * S,
        statistic=Statistic(kind="median"),
    ),
)


SHIPPED = (WARM, QUICK, COMPARE, WARM_2, QUICK_2, COMPARE_2, FIXED, *_OTHERS)
"""All shipped protocols, with latbench's own first."""


def shipped(label: str | None) -> TimingProtocol | None:
    """Return the protocol with this label, such as ``timm@1``; ``None`` if there is none.

    A name without a version is not a label: it names a source's tool but not how it was used.
    """
    return next((protocol for protocol in SHIPPED if protocol.label == label), None)
