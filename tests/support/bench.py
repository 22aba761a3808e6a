"""Jobs of the fake backend that take exactly as long as they say, timed live or by a script."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from latbench.api import ExportSpec, make_inputs
from latbench.bench.job import Job
from latbench.worker.job_folder import JobAbout, ScriptLine, write_script
from latbench.worker.script import look_at
from latbench_exporters.fake import exporter
from support.models import TinyModel
from support.records import make_artifact


def fake_job(folder: Path, latency_ns: int, **extra: str) -> Job:
    """A job with one input and 1000 outputs, whose reference is in the same folder."""
    path = folder / f"model-{latency_ns}.fake.json"
    exported = exporter().export(TinyModel(), ExportSpec(), path)
    path.write_text(f'{{"latency_ns": {latency_ns}, "outputs": [1, 1000]}}')
    np.savez(folder / "reference.npz", *make_inputs(exported.outputs, 0))
    return Job(
        backend="fake",
        artifact=make_artifact(path, exported, "fake"),
        path=path,
        reference=folder / "reference.npz",
        threads=1,
        seed=0,
        extra={"warmup": "0", "noise": "0", "between": "0", **extra},
    )


def put_job(folder: Path, script: Sequence[ScriptLine], **changes: Any) -> Path:
    """The folder of a job that can be started, with ``changes`` of what it is."""
    fields: dict[str, Any] = {
        "id": "01job",
        "what": "a model",
        "harness": "me@here",
        "lock": str(folder / "lock"),
        "created_unix_ns": 1,
        "limit_s": 60,
        "expected_s": 1,
        "protocol": "p@1",
        "protocol_sha256": "",
        "artifact_sha256": "",
    }
    about = JobAbout(**{**fields, **changes})
    place = folder / "jobs" / about.id
    place.mkdir(parents=True)
    (place / "job.json").write_bytes(msgspec.json.encode(about))
    (place / "script.jsonl").write_bytes(write_script(tuple(script)))
    return place


def until_ended(place: Path) -> None:
    """Wait until nothing runs the job."""
    end = time.monotonic() + 60
    while look_at(place).running:
        assert time.monotonic() < end
        time.sleep(0.02)
