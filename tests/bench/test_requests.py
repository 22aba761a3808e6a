"""Every way of measuring passes the whole request on: no field is lost on the way."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

import latbench
from latbench.attribution.setup import Setup, setup_of
from latbench.audit import measure
from latbench.bench import explain_rounds, opening, plan, sweep
from latbench.bench.context import RunContext
from latbench.defaults import COMPARE_PROTOCOL, RUN_PROTOCOL
from latbench.devices.local import LocalDevice
from latbench.devices.opening import Devices
from latbench.schema.protocol_catalog import COMPARE, FIXED, WARM
from latbench.schema.request import Request, make_request
from support.records import make_record

FULL = Request(
    model="mobilevig_ti",
    backend="fake",
    device="some-device",
    weights="weights.safetensors",
    batch=2,
    resolution=(192, 256),
    precision="int8",
    threads=3,
    seed=7,
    options={"form": "trained"},
    dims={"N": 5},
    protocol=FIXED.label,
    calibration="images",
    shapes={"x": (1, 3, 8, 8)},
    dtypes={"x": "float16"},
    inputs={"x": "0:1"},
    signature="encode",
    tolerance=0.25,
    arguments={"depth": "2"},
    imports=("package",),
    nondeterministic=True,
    require=("npu",),
    cpus="0,4-7",
    weights_key="model_ema",
)
PLAIN = make_request("model")
FIELDS = Request.__struct_fields__


class Resolved(Exception):
    """Carries the request that was to be resolved, and ends the measurement there."""


def resolve(request: Request, device: object) -> None:
    raise Resolved(request)


def trial(request: Request) -> None:
    registry: Any = None
    context = RunContext(device=LocalDevice(), registry=registry)
    measure.measure_trial(measure.Trial(requests=(request,), protocol=FIXED, claims=()), context)


def explained(request: Request) -> None:
    setup = Setup(request=request, protocol=FIXED)
    explain_rounds.Measuring({frozenset(): setup}, 1.0, LocalDevice()).resolved(frozenset())


def keywords(request: Request) -> None:
    fields = {name: getattr(request, name) for name in FIELDS}
    latbench.run(fields.pop("model"), **fields)


WAYS: dict[str, Callable[[Request], object]] = {
    "run": keywords,
    "run_request": lambda request: latbench.run_request(request, protocol=FIXED),
    "compare": lambda request: latbench.compare(request, request, protocol=FIXED),
    "sweep": lambda request: latbench.sweep([request], protocol=FIXED),
    "plan": lambda request: plan.make_plan(request, protocol=FIXED),
    "explain": explained,
    "trial": trial,
}


def test_the_request_differs_from_the_plain_one_in_every_field() -> None:
    assert [name for name in FIELDS if getattr(FULL, name) == getattr(PLAIN, name)] == []


def test_run_has_a_parameter_for_every_field() -> None:
    assert set(FIELDS) <= set(inspect.signature(latbench.run).parameters)


@pytest.mark.parametrize("way", WAYS)
def test_no_field_of_a_request_is_lost(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (opening, sweep, explain_rounds, measure):
        monkeypatch.setattr(module, "resolve_request", resolve)
    monkeypatch.setattr(Devices, "open", lambda devices, name: LocalDevice())
    with pytest.raises(Resolved) as caught:
        WAYS[way](FULL)
    assert caught.value.args == (FULL,)


def test_a_record_is_measured_again_with_its_whole_request() -> None:
    """But on this machine, with the backend and the number of threads that it really had."""
    record = msgspec.structs.replace(make_record(), request=FULL)
    request = setup_of(record).request
    really = ("device", "backend", "threads")
    assert {name: getattr(request, name) for name in FIELDS if name not in really} == {
        name: getattr(FULL, name) for name in FIELDS if name not in really
    }


def test_the_default_protocols_are_shipped() -> None:
    assert (WARM.label, COMPARE.label) == (RUN_PROTOCOL, COMPARE_PROTOCOL)
