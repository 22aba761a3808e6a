"""The wait before the timing: rest, temperature, and what the record tells of them."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

import latbench
from latbench.bench.plan import make_plan
from latbench.bench.rest import Cooldown, check_rest, cooldown, rest
from latbench.devices.local import LocalDevice
from latbench.errors import StageError, UsageError
from latbench.events import Events
from latbench.schema.environment import Conditions
from latbench.schema.protocol_catalog import FIXED
from latbench.schema.protocol_options import changed_protocol
from latbench.schema.thermal import ThermalStatus
from support.command_line import in_process
from support.records import make_conditions

QUICK = changed_protocol(FIXED, processes=1, warmup_calls=1, calls=3)


class Oven(LocalDevice):
    """This machine with the given temperatures, in degrees, one each time it is asked."""

    def __init__(self, *degrees: float | None) -> None:
        super().__init__()
        self._degrees = list(degrees)

    def conditions(self) -> Conditions:
        now = self._degrees.pop(0) if len(self._degrees) > 1 else self._degrees[0]
        mc = None if now is None else round(now * 1000)
        return msgspec.structs.replace(make_conditions(), temperature_mc=mc)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only sleeping moves; the durations that were slept."""
    slept: list[float] = []
    monkeypatch.setattr("latbench.bench.rest.time.monotonic", lambda: sum(slept))
    monkeypatch.setattr("latbench.bench.rest.time.sleep", slept.append)
    return slept


def test_a_rest_lasts_as_long_as_asked(clock: list[float]) -> None:
    told: list[str] = []
    done = rest(Oven(None), Cooldown(idle_s=2.5), Events(waiting=told.append))
    assert clock == [1, 1, 0.5]
    assert (done.waited_ns, done.start_mc, done.end_mc) == (2_500_000_000, None, None)
    assert told == ["resting, 3 s left", "resting, 2 s left", "resting, 1 s left"]
    check_rest(done)


def test_the_temperature_is_waited_for_after_the_rest(clock: list[float]) -> None:
    told: list[str] = []
    asked = Cooldown(idle_s=1, max_temperature_c=60)
    done = rest(Oven(80, 70, 65, 60), asked, Events(waiting=told.append))
    assert (done.waited_ns, done.start_mc, done.end_mc) == (3_000_000_000, 80_000, 60_000)
    assert told[0] == "resting, 1 s left; the CPU is at 80.0 °C, waiting for 60 °C"
    assert told[2] == "the CPU is at 65.0 °C, waiting for 60 °C"
    check_rest(done)


def test_a_cool_device_is_not_waited_for(clock: list[float]) -> None:
    assert rest(Oven(40), Cooldown(max_temperature_c=60), Events()).waited_ns == 0
    assert clock == []


def test_what_never_cools_down_fails_with_words(clock: list[float]) -> None:
    done = rest(Oven(80, 71.5), Cooldown(idle_s=5, max_temperature_c=60), Events())
    assert sum(clock) == 605
    with pytest.raises(
        StageError, match=r"at 71\.5 °C, above 60 °C, after 605 s of rest"
    ) as caught:
        check_rest(done)
    assert (caught.value.stage, caught.value.kind) == ("probe", "timeout")


def test_without_a_sensor_nobody_waits(clock: list[float]) -> None:
    done = rest(Oven(None), Cooldown(idle_s=5, max_temperature_c=60), Events())
    assert clock == []
    with pytest.raises(StageError, match="does not report the temperature") as caught:
        check_rest(done)
    assert caught.value.kind == "unavailable"


@pytest.mark.parametrize(
    ("idle_s", "max_c"), [(-1, None), (float("nan"), None), (0, 0), (0, 200), (0, float("nan"))]
)
def test_an_impossible_wait_is_refused(idle_s: float, max_c: float | None) -> None:
    with pytest.raises(UsageError):
        cooldown(idle_s, max_c)


def test_the_record_tells_the_wait(tmp_path: Path) -> None:
    registry = str(tmp_path / "r.db")
    quick = {"backend": "fake", "protocol": QUICK, "registry": registry}
    record = latbench.run("mobilevig_ti", cooldown_s=0.05, **quick).record
    found = record.environment.rest
    assert found is not None
    assert (found.idle_ns, found.max_temperature_mc) == (50_000_000, None)
    assert found.waited_ns >= 50_000_000
    assert latbench.run("mobilevig_ti", **quick).record.environment.rest is None


def test_a_device_without_a_sensor_is_a_failed_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalDevice, "conditions", lambda _: Oven(None).conditions())
    words = ["run", "mobilevig_ti", "--backend", "fake", "--registry", str(tmp_path / "r.db")]
    done = in_process([*words, "--max-temperature", "60"], dict(os.environ), tmp_path)
    assert done.status == 3
    assert "FAILED at probe (unavailable): the device does not report the temperature" in done.out
    assert "resting" not in done.err


def test_each_point_of_a_sweep_waits(tmp_path: Path) -> None:
    swept = latbench.sweep(
        [f"mobilevig_ti,backend=fake,threads={n}" for n in (1, 2)],
        protocol=QUICK,
        cooldown_s=0.01,
        registry=str(tmp_path / "r.db"),
    )
    rests = [point.record and point.record.environment.rest for point in swept.points]
    assert all(each is not None and each.idle_ns == 10_000_000 for each in rests)


def test_a_comparison_and_a_plan_wait(tmp_path: Path) -> None:
    sides = [f"mobilevig_ti,backend=fake,threads={n}" for n in (1, 2)]
    registry = str(tmp_path / "r.db")
    done = latbench.compare(
        *sides,
        protocol=changed_protocol(FIXED, processes=2, warmup_calls=1, calls=3),
        cooldown_s=0.01,
        registry=registry,
    )
    for record in (done.a, done.b):
        assert record.environment.rest is not None
    planned = make_plan(sides[0], protocol=QUICK, cooldown_s=0.01, registry=registry)
    assert planned.pilots[0].environment.rest is not None


def test_a_low_battery_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    low = msgspec.structs.replace(make_conditions(), on_battery=True, battery_percent=12)
    monkeypatch.setattr(LocalDevice, "conditions", lambda _: low)
    told: list[str] = []
    latbench.run(
        "mobilevig_ti",
        backend="fake",
        protocol=QUICK,
        registry=str(tmp_path / "r.db"),
        events=Events(warn=told.append),
    )
    assert told == ["on battery, at 12 %: systems save power then; connect the power supply"]


class Phone(LocalDevice):
    """A phone with the given thermal statuses, one each time it is asked."""

    def __init__(self, *statuses: ThermalStatus | None) -> None:
        super().__init__()
        self._statuses = list(statuses)

    def conditions(self) -> Conditions:
        now = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
        return msgspec.structs.replace(make_conditions(), thermal_status=now)


def test_a_thermal_status_is_waited_for(clock: list[float]) -> None:
    told: list[str] = []
    asked = Cooldown(max_thermal_status="light")
    done = rest(Phone("severe", "moderate", "light"), asked, Events(waiting=told.append))
    assert clock == [1, 1]
    assert (done.start_thermal_status, done.end_thermal_status) == ("severe", "light")
    assert told[0] == "the thermal status is severe, waiting for light"
    check_rest(done)


@pytest.mark.parametrize(
    ("status", "limit", "message"),
    [
        ("moderate", "none", "the thermal status is moderate, above none, after 600 s of rest"),
        (None, "none", "reports no thermal status, which cannot be compared with none"),
        ("fair", "light", "reports the thermal status fair, which cannot be compared with light"),
        ("nominal", "none", "reports the thermal status nominal, which cannot be compared"),
        ("critical", "serious", "is critical, above serious"),
        ("critical", "emergency", None),
    ],
)
def test_statuses_that_are_not_reached(
    clock: list[float],
    status: ThermalStatus | None,
    limit: ThermalStatus,
    message: str | None,
) -> None:
    done = rest(Phone(status), Cooldown(max_thermal_status=limit), Events())
    if message is None:
        check_rest(done)
        return
    with pytest.raises(StageError, match=message):
        check_rest(done)


def test_names_of_statuses() -> None:
    with pytest.raises(UsageError, match="'warm' is not a thermal status"):
        cooldown(0, None, "warm")
    asked = cooldown(0, None, "fair")
    assert asked is not None
    # Sweeps from before there were statuses are resumed under the same key.
    assert (asked.values, Cooldown(idle_s=1).values) == ([0, None, "fair"], [1, None])
