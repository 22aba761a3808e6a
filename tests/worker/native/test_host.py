"""Facts, conditions and readings of the native worker: what the Python worker reads."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from latbench.host import cgroup
from latbench.host.counters import between, snapshot
from latbench.host.info import read_conditions, read_machine
from latbench.host.sensors import find_sensors, temperature_mc
from latbench.schema.environment import Conditions, Machine
from latbench.schema.trace import Readings
from support.android.phone import PHONE

pytestmark = pytest.mark.slow  # The program is compiled first.

CPU = "sys/devices/system/cpu"
STAT = "cpu  10 20 30 400 50 6 7 8 0 0\ncpu0 1 2 3 4\n"
INTEL = (
    "processor\t: 0\nmodel name\t: Intel(R)   Xeon(R) CPU\nflags\t\t: sse avx2  fma hypervisor\n"
    "model name\t: another\n"
)
ROOTS: dict[str, dict[str, str]] = {
    "nothing": {},
    "server": {
        "etc/os-release": 'NAME="x"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n',
        "proc/cpuinfo": INTEL,
        "proc/stat": STAT,
        "proc/self/task/1/schedstat": "500 20 3",
        "proc/self/task/2/schedstat": "100 5 1\n",
        "proc/self/cgroup": "0::/a/b\n",
        "sys/fs/cgroup/a/b/cpu.stat": "usage_usec 5\nthrottled_usec 77\n",
        "sys/fs/cgroup/a/b/cpu.max": "max 100000",
        "sys/fs/cgroup/a/cpu.max": "150000 100000",
        "sys/fs/cgroup/cpu.max": "400000 100000",
        "sys/fs/cgroup/a/b/memory.events": "low 0\noom 3\noom_kill 2\n",
        "sys/class/dmi/id/sys_vendor": "Amazon EC2",
        "sys/class/dmi/id/product_name": "m5.metal",
        f"{CPU}/smt/active": "1",
        f"{CPU}/intel_pstate/no_turbo": "1",
        **{f"{CPU}/cpu{i}/topology/physical_package_id": f"{i % 2}" for i in range(12)},
        **{f"{CPU}/cpu{i}/topology/core_id": f"{i // 4}" for i in range(12)},
        **{f"{CPU}/cpu{i}/cpufreq/scaling_governor": f"g{i}\n" for i in range(12)},
        **{f"{CPU}/cpu{i}/cpufreq/scaling_cur_freq": f"{1000 + i}\n" for i in range(12)},
        **{f"{CPU}/cpu0/cache/index{i}/level": f"{i}" for i in range(3)},
        **{f"{CPU}/cpu0/cache/index{i}/type": "Unified" for i in (0, 2)},
        f"{CPU}/cpu0/cache/index0/size": "32K",
        f"{CPU}/cpu0/cache/index2/size": "1M",
        f"{CPU}/cpu0/cache/index2/shared_cpu_list": "0-3,8,10-11",
        "sys/class/hwmon/hwmon0/name": "coretemp",
        "sys/class/hwmon/hwmon0/temp1_input": "41000",
        "sys/class/hwmon/hwmon0/temp2_input": "52000\n",
        "sys/class/hwmon/hwmon0/temp3_input": "900000",
        "sys/class/hwmon/hwmon1/name": "nvme",
        "sys/class/hwmon/hwmon1/temp1_input": "80000",
        "sys/class/thermal/thermal_zone0/type": "acpitz",
        "sys/class/thermal/thermal_zone0/temp": "90000",
    },
    "board": {
        "etc/os-release": "PRETTY_NAME=Raspbian\n",
        "proc/cpuinfo": "processor : 0\nFeatures : fp asimd\nCPU implementer : 0x41\nCPU part : 0xd08\n",
        "proc/device-tree/model": "Raspberry Pi 4 Model B\0",
        "proc/stat": "cpu 1 2 3 4 5 6 7\n",
        "proc/self/cgroup": "3:cpu,cpuacct:/docker/x\n2:memory:/y\n",
        "sys/fs/cgroup/cpu/docker/x/cpu.stat": "nr_throttled 1\nthrottled_time 123456\n",
        "sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us": "-1",
        "sys/fs/cgroup/cpu/docker/x/cpu.cfs_period_us": "100000",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        f"{CPU}/cpufreq/boost": "1",
        f"{CPU}/smt/active": "7",
        f"{CPU}/cpu0/topology/physical_package_id": "0",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
        "sys/class/thermal/thermal_zone0/temp": "61234",
        "sys/class/thermal/thermal_zone1/type": "SoC-thermal",
        "sys/class/thermal/thermal_zone1/temp": "-5000",
    },
    "hot board": {
        **{f"{CPU}/cpufreq/policy{i}/scaling_cur_freq": f"{900000 + i}\n" for i in (0, 4, 10)},
        "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
        "sys/class/hwmon/hwmon0/name": "soctherm_oc",
        **{f"sys/class/hwmon/hwmon0/oc{i}_event_cnt": f"{i + 3}" for i in (1, 2, 3)},
        "sys/class/hwmon/hwmon0/oc2_throt_en": "0",
        **{
            f"sys/class/thermal/cooling_device{i}/{name}": text
            for i, kind, state in (
                *((0, "pwm-fan", 9), (1, "thermal-cpufreq-0", 1), (2, "devfreq-gpu", 2)),
                *((3, "hot-surface-alert", 7), (11, "cpu-throttle-alert", 3)),
            )
            for name, text in (("type", kind), ("cur_state", f"{state}\n"))
        },
    },
    "throttled server": {
        **{f"{CPU}/cpu{i}/thermal_throttle/core_throttle_count": f"{i + 1}" for i in range(12)},
        **{f"{CPU}/cpu{i}/thermal_throttle/package_throttle_count": "100" for i in range(12)},
        **{f"{CPU}/cpu{i}/thermal_throttle/package_throttle_total_time_ms": "7" for i in (0, 1)},
        **{f"{CPU}/cpu{i}/topology/thread_siblings_list": f"{i // 2}" for i in range(12)},
        **{f"{CPU}/cpu{i}/topology/physical_package_id": f"{i // 6}" for i in range(12)},
        **{f"{CPU}/cpu{i}/cpufreq/cpuinfo_max_freq": "3600000" for i in range(12)},
    },
    "old Raspberry Pi": {
        "sys/class/hwmon/hwmon2/name": "rpi_volt",
        "sys/class/hwmon/hwmon2/in0_lcrit_alarm": "1",
        f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "600000",
        f"{CPU}/cpu1/cpufreq/scaling_cur_freq": "700000",
    },
    "phone": PHONE,
    "odd": {
        "etc/os-release": 'PRETTY_NAME="a"b"\n',
        "proc/cpuinfo": "model name :\nCPU implementer: 0x41\nCPU part: 0xd0b\nflagship: x\n",
        "proc/stat": "intr 5\n",
        "proc/self/cgroup": "0::/../x\nnonsense\n",
        "sys/fs/cgroup/cpu.max": "1 0",
        "sys/hypervisor/type": "xen",
        f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "12345678901234567890123",
        f"{CPU}/cpux/cpufreq/scaling_cur_freq": "5",
        f"{CPU}/cpu0/cache/index0/level": "x",
    },
}
ELSEWHERE = frozenset(
    {"hostname", "kernel", "libc", "architecture", "logical_cpus", "memory_bytes", "unix_ns"}
    | {"affinity", "memory_available_bytes", "load_1m_milli", "on_battery"}
)
"""Fields that the Python reader takes from the system and not from a root."""


def ask(program: Path, root: Path | str) -> dict[str, Any]:
    done = subprocess.run([program, "host", str(root)], capture_output=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text.encode("latin-1"))
    return root


def plain(value: object) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(value)
    return found


def compare(found: dict[str, Any], root: Path) -> None:
    msgspec.convert(found["machine"], Machine)
    msgspec.convert(found["conditions"], Conditions)
    for name, right in (("machine", read_machine(root)), ("conditions", read_conditions(root))):
        expected = plain(right)
        assert found[name].keys() == expected.keys()
        for field in expected.keys() - ELSEWHERE:
            assert found[name][field] == json.loads(json.dumps(expected[field])), field


@pytest.mark.parametrize("name", ROOTS)
def test_what_is_read_from_a_root(probe_program: Path, tmp_path: Path, name: str) -> None:
    root = tree(tmp_path, ROOTS[name])
    found = ask(probe_program, root)
    compare(found, root)
    readings = msgspec.convert(found["readings"], Readings)
    right = between(snapshot(root), snapshot(root), root)
    assert found["readings"].keys() == plain(right).keys()
    for field in plain(right).keys() - {"wall_ns", "cpu_ns", "involuntary_switches", "others_ns"}:
        assert getattr(readings, field) == getattr(right, field), field
    assert (readings.others_ns is None) == (right.others_ns is None)
    assert found["oom_kills"] == (2 if name == "server" else None)


def test_what_is_expected_of_a_root(probe_program: Path, tmp_path: Path) -> None:
    """The comparison above is not one of nothing with nothing."""
    found = ask(probe_program, tree(tmp_path, ROOTS["server"]))
    assert found["machine"]["cpu_model"] == "Intel(R) Xeon(R) CPU"
    assert found["machine"]["hypervisor"] == "Amazon EC2 m5.metal"
    assert found["machine"]["caches"][1] == {
        **{"level": 2, "type": "unified"},
        **{"size_bytes": None, "shared_by": 7},
    }
    assert found["machine"]["physical_cores"] == 6
    assert found["conditions"]["cpu_quota_milli"] == 1500
    assert found["conditions"]["governor"] == [f"g{i}" for i in range(12)]
    assert found["readings"]["temperature_mc"] == 52000
    assert found["readings"]["frequency_khz"] == 1011
    assert cgroup.throttled_ns(tmp_path) == found["conditions"]["throttled_ns"] == 77_000


def test_this_machine(probe_program: Path) -> None:
    found = ask(probe_program, "")
    compare(found, Path("/"))
    machine, conditions = read_machine(), read_conditions()
    assert msgspec.convert(found["machine"], Machine) == machine
    told = msgspec.convert(found["conditions"], Conditions)
    assert told.affinity == conditions.affinity
    assert abs(told.unix_ns - conditions.unix_ns) < 60_000_000_000
    assert told.memory_available_bytes is not None
    assert found["readings"].keys() == plain(between(snapshot(), snapshot())).keys()
    assert all(
        isinstance(found["readings"][name], int) for name in ("wall_ns", "cpu_ns", "others_ns")
    )


BATTERY, MAINS = {"BAT0/type": "Battery\n"}, {"AC/type": "Mains\n"}


@pytest.mark.parametrize(
    ("files", "on_battery"),
    [
        ({}, None),
        ({**MAINS, "AC/online": "0"}, None),
        ({**BATTERY, "BAT0/status": "Discharging\n", "BAT0/capacity": "50"}, True),
        ({**BATTERY, "BAT0/status": "Charging", "BAT0/capacity": "51"}, False),
        ({**BATTERY, **MAINS, "BAT0/status": "Discharging", "AC/online": "1\n"}, True),
        ({**BATTERY, **MAINS, "BAT0/status": "Unknown", "AC/online": "0"}, True),
        ({**BATTERY, "BAT0/present": "0", "BAT0/status": "Discharging"}, None),
        ({**BATTERY, "BAT0/scope": "Device", "BAT0/status": "Discharging"}, None),
        (
            {**BATTERY, "BAT0/capacity": "5", "BAT1/type": "Battery", "BAT1/capacity": "8"},
            None,
        ),
    ],
)
def test_batteries(
    probe_program: Path, tmp_path: Path, files: dict[str, str], on_battery: bool | None
) -> None:
    supplies = tmp_path / "sys/class/power_supply"
    supplies.mkdir(parents=True)
    tree(supplies, files)
    found = msgspec.convert(ask(probe_program, tmp_path)["conditions"], Conditions)
    right = read_conditions(tmp_path)
    assert found.on_battery is right.on_battery is on_battery
    assert found.battery_percent == right.battery_percent


def test_odd_contents_are_never_more_than_unknown(probe_program: Path, tmp_path: Path) -> None:
    draw = random.Random(1)
    names = sorted({name for files in ROOTS.values() for name in files})
    for i in range(25):
        noise = [b"", b"\xff\xfe", b"-5", b"9" * 40, b"a:b:c\n::\n0::", b"cpu 1 2", b"\0\0", b"0-"]
        root = tmp_path / str(i)
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(draw.choice(noise) * draw.randint(1, 3))
        found = ask(probe_program, root)
        msgspec.convert(found["machine"], Machine)
        msgspec.convert(found["conditions"], Conditions)
        msgspec.convert(found["readings"], Readings)
        assert found["readings"]["temperature_mc"] == temperature_mc(find_sensors(root))
