"""Each device of the test bed is what it says."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from latbench.host import linux
from latbench.host.sensors import find_sensors, temperature_mc
from support.environment import ROOT
from support.hosts import Bed, Host, until
from support.hosts.spec import CHECKOUT, LAB

SOURCES = os.pathsep.join(str(ROOT / each) for each in ("src", "exporters", "runners"))
IN_CHECKOUT = f"PYTHONPATH={SOURCES} {sys.executable}"
"""Python on a device that sees the checkout."""


def open_ssh(host: Host, command: str, *options: str) -> subprocess.Popen[str]:
    """A client that stays connected, after the command's first line of output."""
    client = subprocess.Popen(
        host.ssh_command(f"echo started; {command}", options=options),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert client.stdout.readline() == "started\n"
    return client


def end(client: subprocess.Popen[str]) -> None:
    client.kill()
    client.communicate()


def test_a_board_runs_commands(board: Host) -> None:
    done = board.ssh("hostname; id -un; uname -m; echo wrong >&2; exit 7")
    assert done.returncode == 7
    assert done.stdout.split() == ["board", "bench", "x86_64"]
    assert done.stderr == "wrong\n"
    assert board.ssh("cat", input="sent\n").stdout == "sent\n"
    assert (
        board.ssh("python3 -c 'import sys; print(sys.executable)'").stdout == "/usr/bin/python3\n"
    )


def test_a_device_sees_nothing_of_this_machine(
    board: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATBENCH_REGISTRY", "/here")
    here = Path("/tmp/latbench-hosts-probe")
    here.touch()
    try:
        assert board.ssh(f"ls {here} {ROOT}").returncode == 2
    finally:
        here.unlink()
    assert "LATBENCH" not in board.ssh("env").stdout
    assert "Network is unreachable" in board.ssh("python3 -c 'import socket as s;"
        "s.create_connection((\"192.0.2.1\", 80), 1)'").stderr  # fmt: skip
    assert board.processes() == ()


def test_folders_can_be_made_visible(ssh_bed: Bed, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("seen")
    with ssh_bed.started(name="seeing", user="root", visible=(tmp_path,)) as host:
        assert host.ssh(f"cat {tmp_path}/file").stdout == "seen"
        assert host.ssh(f"touch {tmp_path}/file").returncode == 1


def test_devices_differ(ssh_bed: Bed, board: Host) -> None:
    what = "cat /etc/machine-id /proc/sys/kernel/random/boot_id /etc/ssh/host_key.pub"
    with ssh_bed.started(name="other", user="root") as other:
        pairs = zip(board.ssh(what).stdout.split(), other.ssh(what).stdout.split(), strict=True)
        same = [one for one, two in pairs if one == two]
        assert same == ["ssh-ed25519"]
        assert other.ssh("id -un; pwd").stdout.split() == ["root", "/root"]
        assert board.ssh(f"ping -c1 {other.address} || exec 3<>/dev/tcp/{other.address}/22")


def test_a_reboot_ends_connections_and_keeps_the_home_folder(board: Host) -> None:
    client = open_ssh(board, "touch kept /tmp/lost; cat")
    keys = board.ssh("cat /etc/machine-id").stdout, board.host_key
    boot_id = board.boot_id
    board.reboot()
    client.communicate(timeout=20)
    assert client.returncode == 255
    assert board.ssh("ls; ls /tmp").stdout == "kept\n"
    assert (board.ssh("cat /etc/machine-id").stdout, board.host_key) == keys
    assert board.ssh("cat /proc/sys/kernel/random/boot_id").stdout.strip() == board.boot_id
    assert board.boot_id != boot_id


def test_clocks_since_boot_are_those_of_the_device(board: Host) -> None:
    clock = "import time; print(time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME))"
    up = board.ssh(f"cut -d' ' -f1 /proc/uptime; python3 -c '{clock}'").stdout.split()
    # The machine itself may have started a minute ago; the device did after it.
    assert all(float(each) < time.clock_gettime(time.CLOCK_BOOTTIME) for each in up)
    assert all(float(each) < 120 for each in up)


def test_a_power_cut_is_silent(board: Host) -> None:
    client = open_ssh(board, "cat")
    board.stop()
    time.sleep(0.3)
    assert client.poll() is None
    assert not board.running
    assert board.processes() == ()
    board.start()
    # What the client sends now reaches a machine that knows of no connection.
    client.communicate("more\n", timeout=20)
    assert client.returncode == 255
    assert board.ssh("true").returncode == 0


def test_a_cut_cable_loses_packets_until_it_is_back(board: Host) -> None:
    client = open_ssh(board, "cat")
    board.cut()
    client.stdin.write("sent while cut\n")
    client.stdin.flush()
    time.sleep(0.3)
    assert client.poll() is None
    assert len(board.processes("cat")) == 1
    board.mend()
    assert client.stdout.readline() == "sent while cut\n"
    end(client)


def test_a_client_with_keep_alives_notices_a_cut_cable(board: Host) -> None:
    options = ("-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=1")
    client = open_ssh(board, "sleep 1000", *options)
    board.cut()
    _, errors = client.communicate(timeout=30)
    assert client.returncode == 255
    assert "not responding" in errors
    assert len(board.processes("sleep")) == 1


def test_a_silent_process_survives_its_killed_client(board: Host) -> None:
    client = open_ssh(board, "exec sleep 1000")
    client.send_signal(signal.SIGKILL)
    client.communicate()
    until(lambda: board.connections() == 0)
    (orphan,) = board.processes("sleep 1000")
    assert board.ssh(f"kill {orphan.pid}").returncode == 0
    until(lambda: board.processes() == ())


def test_orphans_do_not_stay_as_zombies(board: Host) -> None:
    board.ssh("(sleep 0.1 &) ; (sleep 0.2 & exit 0) > /dev/null 2>&1")
    until(lambda: board.processes() == ())
    assert "Z" not in board.ssh("cat /proc/[0-9]*/stat | cut -d' ' -f3").stdout


def test_a_hanging_device_accepts_connections_and_says_nothing(board: Host) -> None:
    client = open_ssh(board, "cat")
    board.hang()
    with socket.create_connection((board.address, 22), timeout=5) as connection:
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)
    board.wake()
    assert client.communicate("late\n", timeout=20)[0] == "late\n"
    assert client.returncode == 0


def test_a_slow_cable_delays_packets(board: Host) -> None:
    board.limit_rate(2_000)
    assert board.ssh("wc -c", input="x" * 100_000).stdout == "100000\n"
    assert board.delayed_packets() > 0
    board.limit_rate(None)
    assert board.ssh("wc -c", input="x" * 100_000).stdout == "100000\n"
    assert board.delayed_packets() == 0


def test_another_host_key_is_refused(board: Host) -> None:
    assert board.ssh("true").returncode == 0
    board.change_host_key()
    done = board.ssh("true")
    assert done.returncode == 255
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in done.stderr
    board.reboot()
    assert board.ssh("true").returncode == 255


def test_a_device_reports_its_quota_and_is_throttled(ssh_bed: Bed) -> None:
    read = (
        "import pathlib; from latbench.host import cgroup as group; root = pathlib.Path('/');"
        "print(group.cpu_quota_milli(root), group.throttled_ns(root))"
    )
    with ssh_bed.started(name="measured", cpus=0.2, visible=CHECKOUT) as host:
        quota, throttled = host.ssh(f'{IN_CHECKOUT} -c "{read}"').stdout.split()
        assert quota == "200"
        # Starting Python takes longer than the 4 ms of each 20 that the device has.
        assert int(throttled) > 0
        host.slow_by(None)
        assert host.ssh(f'{IN_CHECKOUT} -c "{read}"').stdout.split()[0] == "None"


def test_the_slow_device_works(slow: Host) -> None:
    assert slow.spec.cpus == 0.5
    assert slow.ssh("hostname").stdout == "slow\n"


def test_a_bare_device_has_no_python(bare: Host) -> None:
    assert bare.ssh("uname").stdout == "Linux\n"
    assert bare.ssh("python3 -V").returncode == 127
    assert bare.ssh("ls /usr/bin/python* /usr/local/bin/*").stdout == ""


def test_nothing_answers_at_an_address_of_nobody(gone: Host) -> None:
    with pytest.raises(TimeoutError):
        socket.create_connection((gone.address, 22), timeout=0.5)
    gone.start()  # its answers reach nobody: packets to it vanish
    with pytest.raises(TimeoutError):
        socket.create_connection((gone.address, 22), timeout=0.5)


def test_an_inner_device_is_reached_through_the_gate(inner: Host, gate: Host) -> None:
    done = inner.ssh("hostname; echo $SSH_CONNECTION")
    name, client, *_ = done.stdout.split()
    assert (name, client) == ("inner", gate.addresses[1])
    with pytest.raises(OSError):
        socket.create_connection((inner.address, 22), timeout=0.5)
    gate.cut()
    assert inner.ssh("true", options=("-o", "ConnectTimeout=1")).returncode == 255


def test_a_disk_can_be_full(ssh_bed: Bed) -> None:
    with ssh_bed.started(name="full", disk_bytes=8 * 2**20) as host:
        assert host.ssh("head -c 1000000 /dev/zero > file").returncode == 0
        host.fill_disk()
        done = host.ssh("echo more > other")
        assert "No space left on device" in done.stderr
        assert "No space left on device" in host.ssh("echo more > /tmp/other").stderr
        host.free_disk()
        assert host.ssh("echo more > other").returncode == 0


def test_a_device_can_chatter(ssh_bed: Bed) -> None:
    with ssh_bed.started(name="chatty", banner="Keep out.\n", chatter="It's 5 o'clock") as host:
        done = host.ssh("echo result")
        assert done.stdout == "It's 5 o'clock\nresult\n"
        assert done.stderr == "Keep out.\n"


def test_a_device_without_sftp(ssh_bed: Bed, board: Host, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("sent")
    with ssh_bed.started(name="old", sftp=False) as old:
        copied = [
            subprocess.run(["scp", "-F", host.config, file, f"{host.name}:"], capture_output=True)
            for host in (board, old)
        ]
    assert [each.returncode == 0 for each in copied] == [True, False]
    assert board.ssh("cat file").stdout == "sent"


def test_readings_are_those_of_given_files(ssh_bed: Bed) -> None:
    zone, chip = "/sys/class/thermal/thermal_zone0", "/sys/class/hwmon/hwmon0"
    cpufreq = "/sys/devices/system/cpu/cpu0/cpufreq"
    files = {
        f"{zone}/type": "cpu-thermal\n",
        f"{zone}/temp": "61234\n",
        f"{chip}/name": "coretemp\n",
        f"{chip}/temp1_input": "60000\n",
        f"{cpufreq}/scaling_governor": "performance\n",
        f"{cpufreq}/scaling_cur_freq": "1800000\n",
        "/proc/cpuinfo": "CPU implementer\t: 0x41\nCPU part\t: 0xd08\n",
        "/etc/os-release": 'PRETTY_NAME="Board 1"\n',
    }
    with ssh_bed.started(name="hot", files=files) as host:
        assert host.ssh(f"cat {' '.join(files)}").stdout == "".join(files.values())
        root = host.path("/")
        assert temperature_mc(find_sensors(root)) == 61234
        assert linux.governors(root) == ("performance",)
        assert linux.cpu_model(root) == "ARM implementer 0x41 part 0xd08"
        assert linux.os_name(root) == "Board 1"
        host.write(f"{zone}/temp", "70000\n")
        assert host.ssh(f"cat {zone}/temp").stdout == "70000\n"
        assert {"hwmon", "net", "thermal"} < set(host.ssh("ls /sys/class").stdout.split())
    assert linux.os_name(Path("/")) != "Board 1"


def test_a_wall_clock_can_be_wrong(ssh_bed: Bed, compiler: str) -> None:
    with ssh_bed.started(name="late", clock_offset_s=-86_400) as host:
        clocks = "import time; print(time.time(), time.time_ns() // 10**9, time.monotonic())"
        told = host.ssh(f"date +%s; python3 -c '{clocks}'").stdout.split()
        behind = [time.time() - float(each) for each in told[:3]]
        assert all(86_390 < each < 86_460 for each in behind)
        assert float(told[3]) < 120


def test_a_device_without_a_cable_can_be_looked_into(board: Host) -> None:
    board.cut()
    assert board.inside("hostname").stdout == "board\n"
    assert board.inside("cat", "/etc/hostname").stdout == "board\n"


def test_names_and_networks_of_a_spec_are_checked(ssh_bed: Bed, board: Host) -> None:
    assert board.spec.networks == (LAB,)
    with pytest.raises(AssertionError, match="board"), ssh_bed.started(name="board"):
        pass


def test_the_checkout_can_be_run_on_a_device(ssh_bed: Bed) -> None:
    with ssh_bed.started(name="ready", visible=CHECKOUT) as host:
        client = open_ssh(host, f"{IN_CHECKOUT} -P -m latbench.worker.inference")
        assert json.loads(client.stdout.readline())["type"] == "hello"
        client.communicate(timeout=20)  # the end of its input is the end of the worker
        until(lambda: host.processes() == ())
