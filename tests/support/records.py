"""Records for tests: valid, and small."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from latbench.api import Exported
from latbench.errors import Failure
from latbench.files import content_bytes
from latbench.schema.artifact import (
    Artifact,
    Counts,
    ModelIdentity,
    Parity,
    TensorSpec,
)
from latbench.schema.environment import (
    Cache,
    Conditions,
    Device,
    Environment,
    Fact,
    Machine,
    Software,
)
from latbench.schema.protocol import protocol_sha256
from latbench.schema.protocol_catalog import FIXED
from latbench.schema.record import (
    SCHEMA,
    Outcome,
    Record,
    Runtime,
)
from latbench.schema.request import Request
from latbench.schema.trace import (
    Block,
    OutputCheck,
    Placement,
    Trace,
)

MACHINE = Machine(
    hostname="bench-1",
    os="Debian GNU/Linux 12 (bookworm)",
    kernel="Linux 6.1.0",
    libc="glibc 2.36",
    architecture="x86_64",
    hypervisor=None,
    cpu_model="Example CPU",
    cpu_features=("avx2", "fma"),
    caches=(Cache(level=1, type="data", size_bytes=32768, shared_by=1),),
    sockets=1,
    physical_cores=2,
    logical_cpus=2,
    smt=False,
    memory_bytes=8_000_000_000,
)


def make_trace(process: int = 0, values: Sequence[int] = (6_400_000, 6_410_000)) -> Trace:
    """One process, its samples in blocks of ten."""
    blocks = [values[i : i + 10] for i in range(0, len(values), 10)]
    return Trace(
        process=process,
        load_ns=84_000_000,
        first_ns=9_100_000,
        warmup_ns=(7_000_000, 6_500_000),
        blocks=tuple(
            Block(start_ns=100_000_000 * (i + 1), sample_ns=tuple(block))
            for i, block in enumerate(blocks)
        ),
        peak_rss_bytes=180_000_000,
    )


def make_conditions(unix_ns: int = 1_790_000_000_000_000_000) -> Conditions:
    """A quiet machine."""
    return Conditions(
        unix_ns=unix_ns,
        affinity=(0, 1),
        cpu_quota_milli=None,
        usable_cpus=2,
        governor=None,
        turbo=None,
        frequency_khz=None,
        temperature_mc=None,
        memory_available_bytes=7_000_000_000,
        load_1m_milli=120,
        throttled_ns=0,
        steal_ns=0,
        on_battery=None,
    )


def make_artifact(path: Path, exported: Exported, format: str) -> Artifact:
    """What a worker is told of a file that an exporter has just made."""
    return Artifact(
        sha256="0" * 64,
        size_bytes=content_bytes(path),
        format=format,
        precision="fp32",
        inputs=exported.inputs,
        outputs=exported.outputs,
        counts=exported.counts,
        model_counts=None,
        trained_parameters=None,
        parity=None,
        details=dict(exported.details),
        toolchain={},
    )


def make_record(
    *,
    id: str = "01m86kmv4b6a5884ma62zcdt3x",
    created_unix_ns: int = 1_790_000_000_000_000_000,
    model: str = "mobilevig_ti",
    device: str = "example-cpu-2cpu",
    backend: str = "onnxruntime",
    status: Literal["measured", "failed", "interrupted"] = "measured",
    traces: Sequence[Trace] | None = None,
    machine: Machine = MACHINE,
) -> Record:
    """A record that could have been measured."""
    image = TensorSpec(name="image", shape=(1, 3, 224, 224), dtype="float32")
    counts = Counts(
        macs=661_630_336,
        parameters=4_724_012,
        parameter_bytes=18_896_048,
        operators={"conv": 47, "linear": 0},
    )
    return Record(
        schema=SCHEMA,
        id=id,
        created_unix_ns=created_unix_ns,
        request=Request(
            model=model,
            backend=backend,
            device="local",
            weights=None,
            batch=None,
            resolution=None,
            precision="fp32",
            threads=None,
            seed=0,
            options={},
            dims={},
        ),
        model=ModelIdentity(
            name=model,
            source="zoo",
            architecture="sha256:0",
            weights="seed:0",
            batch=None,
            resolution=None,
            paper="A paper",
        ),
        backend=backend,
        device=Device(
            id=device,
            name="Example CPU, 2 CPUs",
            kind="unknown",
            transport="local",
            cpu=Fact(value="Example CPU", source="/proc and /sys"),
        ),
        artifact=None
        if status == "failed"
        else Artifact(
            sha256="ab" * 32,
            size_bytes=18_950_000,
            format="onnx",
            precision="fp32",
            inputs=(image,),
            outputs=(TensorSpec(name="logits", shape=(1, 1000), dtype="float32"),),
            counts=counts,
            model_counts=counts,
            trained_parameters=5_271_074 if model == "mobilevig_ti" else None,
            parity=Parity(
                reference="torch 2.13.0",
                seed=0,
                max_abs_error=1e-7,
                max_rel_error=3e-7,
                tolerance=1e-4,
            ),
            details={"opset": "20"},
            toolchain={"onnx": "1.23.2"},
        ),
        runtime=None
        if status == "failed"
        else Runtime(
            name=backend,
            version="1.32.0",
            settings={"threads": "2", "provider": "CPUExecutionProvider"},
            placement=Placement(units={"CPUExecutionProvider": None}, known="proven"),
        ),
        environment=Environment(
            machine=machine,
            software=Software(
                latbench="0.1.0", python="CPython 3.11.7", packages={"numpy": "2.3.5"}, commit=None
            ),
            before=make_conditions(created_unix_ns),
            after=make_conditions(created_unix_ns + 10_000_000_000),
        ),
        protocol=FIXED,
        protocol_sha256=protocol_sha256(FIXED),
        sentinel=None,
        interleaved=None,
        fallback=None,
        sweep=None,
        outcome=Outcome(
            status=status,
            traces=tuple(traces)
            if traces is not None
            else ()
            if status == "failed"
            else tuple(make_trace(i) for i in range(2)),
            checks=()
            if status == "failed"
            else (
                OutputCheck(
                    process=0, finite=True, denormals=0, max_rel_error=3e-7, tolerance=1e-4
                ),
            ),
            failure=Failure(
                stage="export",
                kind="crash",
                message="the runtime crashed (SIGSEGV)",
                hint="try another version",
                detail="last words",
            )
            if status == "failed"
            else None,
        ),
    )
