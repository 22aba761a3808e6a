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


@pytest.mark.slow
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


@pytest.mark.torch
def test_a_network_in_memory(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the `export` extra")

    class Sum(torch.nn.Module):  # type: ignore[name-defined, misc, unused-ignore]
        def __init__(self, value: float) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 4)
            torch.nn.init.constant_(self.layer.weight, value)

        def forward(self, a: object, b: object) -> object:
            return self.layer(a) + b

    given = (torch.full((1, 4), 2.0), torch.ones(1, 4))
    common = {"threads": 1, "protocol": QUICK, "registry": str(tmp_path / "r.db")}
    network = Sum(1.0).train()
    result = latbench.run(network, example_inputs=given, **common)
    record = result.record
    assert record.outcome.status == "measured"
    assert network.training, "the caller's module stays as it is"
    assert (record.model.name, record.model.source) == ("Sum", "user")
    assert record.artifact is not None
    assert [tensor.name for tensor in record.artifact.inputs] == ["a", "b"]
    assert record.artifact.parity is not None
    assert record.artifact.parity.max_rel_error < 1e-5
    again = latbench.run(network, example_inputs={"b": given[1], "a": given[0]}, **common)
    assert again.record.artifact == record.artifact, "equal networks and inputs are one artifact"
    for other, inputs in ((Sum(3.0), given), (network, (given[0] + 1, given[1]))):
        changed = latbench.run(other, example_inputs=inputs, **common).record
        assert (changed.model.weights, changed.artifact) != (record.model.weights, record.artifact)
    exported = latbench.export(network, example_inputs=given)
    assert exported.artifact.sha256 == record.artifact.sha256


@pytest.mark.torch
def test_two_networks_in_memory_are_compared(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the `export` extra")
    sides = [torch.nn.Sequential(*[torch.nn.Linear(8, 8) for _ in range(n)]) for n in (1, 3)]
    done = latbench.compare(
        *sides,
        example_inputs=torch.rand(1, 8),
        threads=1,
        protocol=QUICK,
        registry=str(tmp_path / "r.db"),
    )
    macs = [record.artifact and record.artifact.counts for record in (done.a, done.b)]
    assert [counts.macs for counts in macs if counts] == [64, 192]
    assert done.a.request.threads == done.b.request.threads == 1


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(latbench.UsageError, match="int is not a model"):
        latbench.run(3)  # type: ignore[arg-type]
    with pytest.raises(latbench.UsageError, match="example_inputs are for"):
        latbench.run("mobilevig_ti", example_inputs=3)  # type: ignore[arg-type]
    with pytest.raises(latbench.UsageError, match="given to another process"):
        latbench.run("module:Net#12345678")
