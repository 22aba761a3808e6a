"""Attribution on a device: what differs between two records of a board is switched there."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from latbench.attribution.subject import side_of
from latbench.bench.explain import explain
from latbench.bench.run import run
from latbench.schema.protocol_catalog import FIXED
from latbench.store.registry import Registry
from support.hosts import Host
from support.onnx_files import classifier

pytestmark = pytest.mark.slow
SHORT = msgspec.structs.replace(
    FIXED, processes=1, max_processes=1, warmup_calls=2, min_calls=4, block_calls=2
)


def test_settings_are_switched_on_the_device(device: Host, tmp_path: Path) -> None:
    model, registry = str(classifier(tmp_path / "net.onnx")), str(tmp_path / "registry.db")
    a, b = (
        side_of(
            run(
                model, device=device.name, threads=threads, protocol=SHORT, registry=registry
            ).record
        )
        for threads in (1, 2)
    )
    assert explain(a, b, rounds=1, registry=registry).records == ()
    found = explain(a, b, rounds=1, device=device.name, registry=registry)
    with Registry.open(registry) as store:
        measured = [store.get(id) for id in found.records]
    assert measured
    assert {each.request.device for each in measured} == {"board"}
    assert all(each.environment.link is not None for each in measured)
