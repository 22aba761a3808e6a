"""The environment reader, on this machine and on kept trees of /proc and /sys."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latbench.host import cgroup, linux
from latbench.host.info import (
    read_conditions,
    read_machine,
    read_software,
    this_device,
    usable_cpus,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and /sys")

TREE = {
    "etc/os-release": 'NAME="X"\nPRETTY_NAME="Example Linux 3"\n',
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: Example(R)  CPU @ 3 GHz\nflags\t\t: fpu avx2 hypervisor\n",
    "proc/stat": "cpu  10 20 30 40 50 60 70 123 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n",
    "proc/self/cgroup": "0::/lab/job\n",
    "sys/fs/cgroup/lab/job/cpu.max": "150000 100000\n",
    "sys/fs/cgroup/lab/cpu.max": "max 100000\n",
    "sys/fs/cgroup/lab/job/cpu.stat": "usage_usec 5\nthrottled_usec 77\n",
    "sys/class/dmi/id/sys_vendor": "QEMU\n",
    "sys/class/dmi/id/product_name": "Standard PC\n",
    "sys/class/hwmon/hwmon0/name": "k10temp\n",
    "sys/class/hwmon/hwmon0/temp1_input": "61500\n",
    "sys/class/hwmon/hwmon1/name": "nvme\n",
    "sys/class/hwmon/hwmon1/temp1_input": "90000\n",
    "sys/class/thermal/thermal_zone0/type": "x86_pkg_temp\n",
    "sys/class/thermal/thermal_zone0/temp": "63000\n",
    "sys/devices/system/cpu/smt/active": "1\n",
    "sys/devices/system/cpu/cpufreq/boost": "0\n",
    "sys/devices/system/cpu/cpu0/cache/index0/level": "1\n",
    "sys/devices/system/cpu/cpu0/cache/index0/type": "Data\n",
    "sys/devices/system/cpu/cpu0/cache/index0/size": "48K\n",
    "sys/devices/system/cpu/cpu0/cache/index0/shared_cpu_list": "0-1,4\n",
}
for cpu, (package, core) in enumerate([(0, 0), (0, 0), (0, 1), (1, 0)]):
    here = f"sys/devices/system/cpu/cpu{cpu}"
    TREE[f"{here}/topology/physical_package_id"] = f"{package}\n"
    TREE[f"{here}/topology/core_id"] = f"{core}\n"
    TREE[f"{here}/cpufreq/scaling_governor"] = "powersave\n"
    TREE[f"{here}/cpufreq/scaling_cur_freq"] = f"{1_000_000 + cpu}\n"


def plant(root: Path, tree: dict[str, str]) -> Path:
    for name, content in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_a_kept_tree_is_read(tmp_path: Path) -> None:
    root = plant(tmp_path, TREE)
    machine, now = read_machine(root), read_conditions(root)
    assert machine.os == "Example Linux 3"
    assert machine.cpu_model == "Example(R) CPU @ 3 GHz"
    assert machine.cpu_features == ("avx2", "fpu", "hypervisor")
    assert machine.hypervisor == "QEMU Standard PC"
    assert (machine.sockets, machine.physical_cores, machine.smt) == (2, 3, True)
    assert machine.caches is not None
    assert msgspec.structs.astuple(machine.caches[0]) == (1, "data", 48 * 1024, 3)
    assert now.cpu_quota_milli == 1500
    assert now.usable_cpus == 1
    assert now.throttled_ns == 77_000
    assert now.steal_ns == 123 * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    assert now.governor == ("powersave",) * 4
    assert now.frequency_khz == (1_000_000, 1_000_001, 1_000_002, 1_000_003)
    assert now.turbo is False
    assert now.temperature_mc == 63_000  # the CPU's hottest, not the disk's


def test_nothing_is_guessed_where_nothing_is_told(tmp_path: Path) -> None:
    machine, now = read_machine(tmp_path), read_conditions(tmp_path)
    for value in (machine.os, machine.cpu_model, machine.cpu_features, machine.caches):
        assert value is None
    for value in (machine.sockets, machine.physical_cores, machine.smt, machine.hypervisor):
        assert value is None
    for value in (now.governor, now.frequency_khz, now.turbo, now.temperature_mc):
        assert value is None
    assert (now.cpu_quota_milli, now.throttled_ns, now.steal_ns) == (None, None, None)
    assert now.usable_cpus >= 1


@pytest.mark.parametrize(
    ("tree", "milli"),
    [
        ({"sys/fs/cgroup/a/b/cpu.max": "max 100000"}, None),
        ({"sys/fs/cgroup/a/b/cpu.max": "50000 100000", "sys/fs/cgroup/a/cpu.max": "25000 100000"}, 250),
        ({"sys/fs/cgroup/cpu.max": "300000 100000"}, 3000),
        ({"proc/self/cgroup": "3:cpu,cpuacct:/x\n0::/\n", "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us": "200000", "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us": "100000"}, 2000),
        ({"proc/self/cgroup": "3:cpu:/x\n", "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000"}, None),
        ({"sys/fs/cgroup/a/b/cpu.max": "garbage"}, None),
    ],
)  # fmt: skip
def test_quotas_of_both_versions(tmp_path: Path, tree: dict[str, str], milli: int | None) -> None:
    root = plant(tmp_path, {"proc/self/cgroup": "0::/a/b\n", **tree})
    assert cgroup.cpu_quota_milli(root) == milli


def test_a_whole_number_of_cpus_is_usable() -> None:
    now = read_conditions()
    assert now.usable_cpus == usable_cpus()
    assert 1 <= usable_cpus() <= (os.cpu_count() or 1)
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert usable_cpus() == 1
        assert read_conditions().affinity == (min(allowed),)
    finally:
        os.sched_setaffinity(0, allowed)


def test_arm_is_called_what_it_says(tmp_path: Path) -> None:
    root = plant(
        tmp_path,
        {"proc/cpuinfo": "CPU implementer\t: 0x41\nCPU part\t: 0xd0c\nFeatures\t: fp asimd\n"},
    )
    assert linux.cpu_model(root) == "ARM implementer 0x41 part 0xd0c"
    assert linux.cpu_features(root) == ("asimd", "fp")
    plant(tmp_path, {"proc/device-tree/model": "Raspberry Pi 5\0"})
    assert linux.cpu_model(root) == "Raspberry Pi 5"


@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60
)
@given(st.dictionaries(st.sampled_from(sorted(TREE)), st.binary(max_size=40)))
def test_garbage_is_unknown_not_a_crash(tmp_path: Path, garbage: dict[str, bytes]) -> None:
    root = plant(tmp_path, TREE)
    for name, content in garbage.items():
        (root / name).write_bytes(content)
    msgspec.json.encode((read_machine(root), read_conditions(root)))


def test_an_unplausible_temperature_is_unknown(tmp_path: Path) -> None:
    root = plant(tmp_path, {**TREE, "sys/class/hwmon/hwmon0/temp1_input": "9999999"})
    assert read_conditions(root).temperature_mc == 63_000


def test_reading_conditions_starts_nothing_and_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    read_conditions()
    monkeypatch.setattr("subprocess.Popen", forbidden)
    begun = time.process_time()
    for _ in range(10):
        read_conditions()
    assert time.process_time() - begun < 2


def test_this_machine_has_a_row() -> None:
    device = this_device(read_machine())
    assert device.transport == "local"
    assert device.id == this_device(read_machine()).id
    assert device.cpu is None or device.cpu.source


def test_software_names_what_is_installed_only() -> None:
    software = read_software(["msgspec", "no-such-package"])
    assert list(software.packages) == ["msgspec"]
    assert software.python.startswith("CPython 3.")


def test_the_commit_is_that_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import subprocess

    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert read_software([]).commit is None
    git("init")
    assert read_software([]).commit is None
    Path("a").write_text("1")
    git("add", "a")
    git("commit", "-m", "x")
    commit = read_software([]).commit
    assert commit is not None
    assert len(commit) == 40
    Path("untracked").write_text("1")
    assert read_software([]).commit == commit
    Path("a").write_text("2")
    assert read_software([]).commit == f"{commit}+dirty"
    monkeypatch.setenv("PATH", "")
    assert read_software([]).commit is None
