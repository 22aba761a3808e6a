"""latbench from Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import latbench
from latbench.events import Events
from latbench.schema.protocol_catalog import FIXED
from support import onnx_files

QUICK = msgspec.structs.replace(
    FIXED, processes=1, max_processes=1, warmup_calls=2, min_calls=6, block_calls=3
)


def test_run_and_read_back(tmp_path: Path) -> None:
    path = onnx_files.classifier(tmp_path / "c.onnx")
    seen: list[tuple[int, int]] = []
    result = latbench.run(
        str(path),
        threads=1,
        protocol=QUICK,
        registry=str(tmp_path / "r.db"),
        events=Events(progress=lambda done, total: seen.append((done, total))),
    )
    assert result.record.outcome.status == "measured"
    assert result.summary is not None
    assert result.summary.samples == 6
    assert seen == [(1, 2), (2, 2)]
    with latbench.Registry.open(str(tmp_path / "r.db")) as registry:
        record = registry.get(result.record.id)
        assert record == result.record
        assert latbench.summarize(record) == result.summary
    assert latbench.decode_record(latbench.encode_record(record)) == record


def test_what_cannot_be_compared_survives_storage(tmp_path: Path) -> None:
    result = latbench.run(
        "mobilevig_ti",
        backend="fake",
        protocol=QUICK,
        options={"misbehave": "nan"},
        registry=str(tmp_path / "r.db"),
    )
    assert result.record.outcome.status == "failed"
    with latbench.Registry.open(str(tmp_path / "r.db")) as registry:
        assert registry.get(result.record.id) == result.record
    assert latbench.decode_record(latbench.encode_record(result.record)) == result.record


@pytest.mark.parametrize(
    "arguments",
    [
        {"model": "nothing"},
        {"model": "mobilevig_ti", "backend": "nothing"},
        {"model": "mobilevig_ti", "threads": 0},
        {"model": "mobilevig_ti", "seed": -1},
        {"model": "mobilevig_ti", "batch": 0},
        {"model": "mobilevig_ti", "resolution": 0},
        {"model": "mobilevig_ti", "timeout_s": float("nan")},
        {"model": "mobilevig_ti", "timeout_s": float("inf")},
        {"model": "mobilevig_ti", "dims": {"N": 0}},
        {"model": "mobilevig_ti", "protocol": msgspec.structs.replace(QUICK, block_calls=0)},
    ],
)
def test_requests_that_make_no_sense(tmp_path: Path, arguments: dict[str, object]) -> None:
    with pytest.raises(latbench.UsageError):
        latbench.run(**{"registry": str(tmp_path / "r.db"), "backend": "fake", **arguments})  # type: ignore[arg-type]
    assert not (tmp_path / "r.db").exists()


def test_importing_loads_nothing_and_names_everything() -> None:
    code = (
        "import sys, latbench; print(sorted({'numpy', 'msgspec', 'sqlalchemy'} & set(sys.modules)));"
        "[getattr(latbench, name) for name in dir(latbench)]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError):
        latbench.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_a_budget_and_a_target_change_the_protocol(tmp_path: Path) -> None:
    request = latbench.make_request("mobilevig_ti", backend="fake")
    place = str(tmp_path / "r.db")
    result = latbench.run_request(request, protocol=QUICK, budget_s=5, registry=place)
    assert result.record.protocol.budget_ns == 5 * 10**9
    asked = result.record.request
    assert (asked.protocol, asked.device) == (QUICK.label, "local")
    with pytest.raises(latbench.UsageError, match="budget"):
        latbench.compare(request, request, protocol=QUICK, budget_s=0, registry=place)
    with pytest.raises(latbench.UsageError, match="target"):
        latbench.run("mobilevig_ti", backend="fake", target=-1, registry=place)


def test_a_failure_is_raised_after_it_is_stored(tmp_path: Path) -> None:
    place = str(tmp_path / "r.db")
    with pytest.raises(latbench.StageError, match="record "):
        latbench.run(
            "mobilevig_ti",
            backend="fake",
            protocol=QUICK,
            options={"misbehave": "nan"},
            registry=place,
            raise_on_failure=True,
        )
    with latbench.Registry.open(place) as registry:
        assert registry.count() == 1
