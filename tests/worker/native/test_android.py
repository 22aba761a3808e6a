"""What the native worker reads from Android's own programs, which stand-ins replace."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from support.android import phone

pytestmark = pytest.mark.slow  # The program is compiled first.


def device(root: Path, says: dict[str, str], files: dict[str, str] | None = None) -> Path:
    """A root with ``files``, ``getprop`` and a ``dumpsys`` that says ``says`` of each service."""
    for name, text in (files or {}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    programs = root / "system/bin"
    programs.mkdir(parents=True)
    for name, text in says.items():
        (programs / name).write_text(text)
    here = 'here=$(dirname "$0"); [ -z "$LD_LIBRARY_PATH" ] || exit 1\n'
    # As the real one: an unknown service is a line, and the status is 0.
    dumpsys = f'{here}echo "$1" >>"$here/asked"; cat "$here/$1" 2>/dev/null || echo "no $1"\n'
    for name, text in (("dumpsys", dumpsys), ("getprop", f'{here}cat "$here/properties"\n')):
        (programs / name).write_text(f"#!/bin/sh\n{text}")
        (programs / name).chmod(0o755)
    return root


def ask(program: Path, root: Path) -> dict[str, Any]:
    done = subprocess.run(
        [program, "host", str(root)],
        capture_output=True,
        check=True,
        env={"LD_LIBRARY_PATH": "/nowhere"},
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_phone(probe_program: Path, tmp_path: Path) -> None:
    says = {
        "thermalservice": phone.thermal(1),
        "battery": phone.battery(5),
        "power": phone.power(saver=True),
        "properties": phone.PROPERTIES,
    }
    root = device(tmp_path, says, phone.PHONE)
    found = ask(probe_program, root)
    machine, conditions, readings = (found[n] for n in ("machine", "conditions", "readings"))
    assert machine["os"] == "Android 15"
    assert machine["cpu_model"] == "Google Tensor G3"
    assert machine["product"] == "Google Pixel 8"
    assert len(machine["identity"]) == 16
    assert [each["cpus"] for each in machine["clusters"]] == [[0, 1, 2, 3], [4, 5, 6], [7]]
    assert conditions["thermal_status"] == readings["thermal_status"] == "light"
    assert conditions["thermal_override"] is False
    assert conditions["temperature_mc"] == readings["temperature_mc"] == 47000
    # A file of the system has it, and the service only the skin's.
    assert "temperature_sensor" not in conditions
    assert conditions["skin_temperature_mc"] == readings["skin_temperature_mc"] == 34351
    # The files of the battery are believed more than the service, which others can set.
    assert (conditions["battery_percent"], conditions["charging"]) == (76, True)
    assert (conditions["screen_on"], conditions["low_power_mode"]) == (True, True)
    assert readings["cluster_khz"] == [1604000, 2267000, 2814000]
    asked = (root / "system/bin/asked").read_text().split()
    # Once for the conditions and once for the readings around a block.
    assert sorted(asked) == ["power", "thermalservice", "thermalservice"]


@pytest.mark.parametrize(
    ("thermal", "status", "override", "temperature"),
    [
        (phone.thermal(0), "none", False, 57900),
        (phone.thermal(6), "shutdown", False, 57900),
        (phone.thermal(3, faked=True), None, True, 57900),
        (phone.thermal(0, cpu="0.0"), "none", False, None),
        (phone.thermal(0, cpu="-5.5", skin="NaN"), "none", False, -5500),
        (phone.thermal(0, cpu="NaN", skin="0.0"), "none", False, None),
        (phone.thermal(9), None, False, 57900),
        (phone.thermal(2).split("Current temperatures")[0], "moderate", False, None),
        ("Can't find service: thermalservice\n", None, None, None),
        ("", None, None, None),
    ],
)
def test_thermal_texts(
    probe_program: Path,
    tmp_path: Path,
    thermal: str,
    status: str | None,
    override: bool | None,
    temperature: int | None,
) -> None:
    found = ask(probe_program, device(tmp_path, {"thermalservice": thermal}))["conditions"]
    assert found.get("thermal_status") == status
    assert found.get("thermal_override") is override
    assert found["temperature_mc"] == temperature
    # The skin's temperature is a value of its own, never the CPU's.
    skin = 34351 if "mValue=34.351, mType=3, mName=VIRTUAL-SKIN" in thermal else None
    assert found.get("skin_temperature_mc") == skin
    assert found.get("temperature_sensor") == (None if temperature is None else "BIG")


@pytest.mark.parametrize(
    ("battery", "expected"),
    [
        (phone.battery(50, 2), (False, True, 50)),
        (phone.battery(50, 3, usb=False), (True, False, 50)),
        (phone.battery(50, 3), (True, False, 50)),
        (phone.battery(100, 5), (False, False, 100)),
        (phone.battery(80, 4), (False, False, 80)),
        (phone.battery(80, 1), (False, None, 80)),
        (phone.battery(10, 3, faked=True), (None, None, None)),
        (phone.battery().replace("level: 76", "level: 760"), (False, True, None)),
        ("Can't find service: battery\n", (None, None, None)),
    ],
)
def test_battery_texts(
    probe_program: Path, tmp_path: Path, battery: str, expected: tuple[object, ...]
) -> None:
    found = ask(probe_program, device(tmp_path, {"battery": battery}))["conditions"]
    names = ("on_battery", "charging", "battery_percent")
    assert tuple(found.get(name) for name in names) == expected


@pytest.mark.parametrize(
    ("power", "on"),
    [
        (phone.power("Awake"), True),
        (phone.power("Dreaming"), True),
        (phone.power("Asleep"), False),
        (phone.power("Dozing"), False),
        (phone.power("Awake", display="OFF"), False),
        (phone.power("Asleep", display="ON"), True),
        ("", None),
    ],
)
def test_screen_texts(probe_program: Path, tmp_path: Path, power: str, on: bool | None) -> None:
    found = ask(probe_program, device(tmp_path, {"power": power}))["conditions"]
    assert found.get("screen_on") is on


@pytest.mark.parametrize("ending", ["exec sleep 60", "echo partly; exit 3", "kill -9 $$"])
def test_programs_that_hang_or_fail(probe_program: Path, tmp_path: Path, ending: str) -> None:
    root = device(tmp_path, {})
    program = root / "system/bin/dumpsys"
    program.write_text(f"#!/bin/sh\necho 'Thermal Status: 3'\n{ending}\n")
    begun = time.monotonic()
    found = ask(probe_program, root)
    # Four questions, each given up after three seconds.
    assert time.monotonic() - begun < 50
    assert "thermal_status" not in found["conditions"]
    assert "thermal_status" not in found["readings"]
