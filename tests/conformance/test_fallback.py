"""What happens where a backend cannot run: for every installed one, first-party or not."""

from __future__ import annotations

from pathlib import Path

import pytest

import latbench
from latbench.analysis.settings import own_options
from latbench.api import Capability, Runner
from latbench.defaults import FALLBACK
from latbench.events import Events
from latbench.plugins import load_runner, runner_names
from latbench.schema.protocol_catalog import FIXED
from latbench.schema.protocol_options import changed_protocol
from latbench.schema.record import Record
from support.environment import TINY

OTHERS = [name for name in runner_names() if name != FALLBACK]
QUICK = changed_protocol(FIXED, processes=1, warmup_calls=1, calls=3)
ABSENT = Capability(available=False, reason="it is unplugged", hint="plug it in")


@pytest.fixture
def unplugged(monkeypatch: pytest.MonkeyPatch) -> None:
    """No runner but the portable one can run here."""

    def load(name: str) -> Runner:
        found = load_runner(name)
        if name != FALLBACK:
            kind = type(found)
            away = {"probe": lambda self: ABSENT}
            found.__class__ = type(kind.__name__, (kind,), away)
        return found

    monkeypatch.setattr("latbench.bench.prepare.load_runner", load)


def measured(
    name: str, folder: Path, *, strict: bool = False, options: dict[str, str] | None = None
) -> tuple[Record, list[str]]:
    said: list[str] = []
    result = latbench.run(
        TINY,
        backend=name,
        protocol=QUICK,
        strict=strict,
        options=options,
        registry=str(folder / "registry.db"),
        events=Events(warn=said.append),
    )
    return result.record, said


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.usefixtures("unplugged")
@pytest.mark.parametrize("name", OTHERS)
def test_another_backend_is_used_and_never_counts_as_it(name: str, tmp_path: Path) -> None:
    record, said = measured(name, tmp_path)
    assert record.outcome.status == "measured"
    assert said[0].startswith(
        f"{name} cannot run here: it is unplugged. What follows is {FALLBACK}"
    )
    assert (record.request.backend, record.backend) == (name, FALLBACK)
    assert record.runtime is not None
    assert record.runtime.name == FALLBACK
    assert record.artifact is not None
    assert record.artifact.format == "onnx"
    assert record.fallback is not None
    assert (record.fallback.reason, record.fallback.hint) == ("it is unplugged", "plug it in")
    # Exported and checked all the same, unless the exporter cannot work here either.
    if record.fallback.failure is None:
        assert record.fallback.artifact is not None
        assert record.fallback.artifact.format in load_runner(name).formats
        assert record.fallback.artifact.counts == record.fallback.artifact.model_counts or (
            name == "fake"
        )
    else:
        assert record.fallback.failure.kind == "unavailable", record.fallback.failure


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.usefixtures("unplugged")
def test_options_of_one_format_are_not_those_of_another(tmp_path: Path) -> None:
    """Core ML's routes are not ONNX's; the form of the network means the same to both."""
    record, _ = measured("coreml", tmp_path, options={"route": "trace", "form": "trained"})
    assert record.outcome.status == "measured", record.outcome.failure
    assert record.request.options == {"route": "trace", "form": "trained"}
    assert record.artifact is not None
    assert record.artifact.details["form"] == "trained"


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.usefixtures("unplugged")
def test_options_of_the_same_format_are_kept(tmp_path: Path) -> None:
    record, _ = measured("openvino", tmp_path, options={"opset": "18"})
    assert record.outcome.status == "measured", record.outcome.failure
    assert record.artifact is not None
    assert record.artifact.details["opset"] == "18"
    assert own_options(record) == {"opset": "18"}


@pytest.mark.usefixtures("unplugged")
def test_options_that_were_not_taken_are_not_told_as_the_records_own(tmp_path: Path) -> None:
    record, _ = measured("coreml", tmp_path, options={"route": "trace", "compute_units": "all"})
    assert record.outcome.status == "measured", record.outcome.failure
    assert own_options(record) == {}


@pytest.mark.usefixtures("unplugged")
@pytest.mark.parametrize("name", OTHERS)
def test_strict_fails_and_says_what_to_do(name: str, tmp_path: Path) -> None:
    record, said = measured(name, tmp_path, strict=True)
    assert said == []
    assert record.outcome.status == "failed"
    assert record.backend == record.request.backend == name
    assert record.fallback is None
    failure = record.outcome.failure
    assert failure is not None
    assert (failure.stage, failure.kind) == ("probe", "unavailable")
    assert failure.hint is not None
    assert failure.hint.startswith("plug it in")
    if name in ("coreml", "tflite"):
        assert "devices that could: " in failure.hint
