"""Phones over adb: a real adbd on x86-64 Debian, which is the way to a phone and no phone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import latbench
from latbench.devices.adb_server import listed_by
from latbench.devices.opening import connect
from latbench.events import SILENT, Events
from latbench.schema.protocol_catalog import FIXED
from latbench.schema.record import Record
from latbench.store.record_filter import RecordFilter
from latbench.store.registry import Registry
from support import onnx_files
from support.broken_links import at_round, disconnected, no_orphans
from support.command_line import Ended, in_process
from support.devices import use_home
from support.environment import child_environment
from support.hosts import Bed, Host
from support.phones import WORKER, add_with_native

pytestmark = pytest.mark.slow
SHORT = msgspec.structs.replace(
    FIXED, processes=2, max_processes=2, warmup_calls=3, min_calls=400, block_calls=50
)
"""Two processes of eight blocks."""
SHORT_OPTIONS = (
    *("--protocol", "latbench-fixed@1", "--processes", "2"),
    *("--warmup", "3", "--calls", "20", "--block-calls", "5", "--threads", "1"),
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_home(tmp_path / "home", None, monkeypatch)
    return tmp_path / "home"


@pytest.fixture
def pixel(phone: Host, home: Path) -> Host:
    """A phone called ``pixel`` with a worker."""
    add_with_native(phone, "pixel")
    return phone


def command(tmp_path: Path, *arguments: str) -> Ended:
    return in_process(list(arguments), dict(os.environ), tmp_path)


def measured(tmp_path: Path, events: Events = SILENT) -> Record:
    model = onnx_files.stack(tmp_path / "model.onnx", side=36)
    return latbench.run(
        str(model),
        device="pixel",
        threads=1,
        protocol=SHORT,
        registry=str(tmp_path / "registry.db"),
        events=events,
    ).record


def test_from_an_address_to_a_latency(phone: Host, home: Path, tmp_path: Path) -> None:
    """Every command that the page about Android tells its reader to type."""
    found = command(tmp_path, "devices", "discover")
    assert "no host is named" in found.out
    added = command(tmp_path, "devices", "add", "pixel", f"adb://{phone.serial}")
    assert added.out.startswith("added pixel: adb://")
    checked = command(tmp_path, "devices", "check", "pixel")
    assert checked.status == 3
    for line in ("authorization", "screen        unknown", "thermal       unknown", "kernel"):
        assert line in checked.out
    assert "latbench is not installed on pixel" in checked.out
    done = command(tmp_path, "devices", "install", "pixel")
    if done.status == 3 and "is there a package index?" in done.err:
        pytest.skip(done.err)
    assert done.status == 0, done.err
    assert "native worker" in done.out
    assert phone.path("/data/local/tmp/latbench/native").is_dir()
    assert command(tmp_path, "devices", "check", "pixel").status == 0
    model = str(onnx_files.classifier(tmp_path / "model.onnx"))
    run = command(tmp_path, "run", model, "--device", "pixel", "--json", *SHORT_OPTIONS)
    assert run.status == 0, run.err
    record = run.json["record"]
    link = record["environment"]["link"]
    assert (link["transport"], link["address"]) == ("adb", f"adb://{phone.serial}")
    assert link["worker"].startswith("latbench-native ")
    assert record["device"]["transport"] == "adb"
    assert record["environment"]["machine"]["hostname"] == "pixel"
    assert record["outcome"]["checks"][0]["max_rel_error"] < 1e-4
    assert command(tmp_path, "devices", "remove", "pixel", "--purge").status == 0
    assert not phone.path("/data/local/tmp/latbench").exists()


def test_faults_of_the_way(pixel: Host, tmp_path: Path) -> None:
    """A cable, power, a reboot: what was measured is kept, nobody stays, the next run works."""
    for fault, mend in (
        (pixel.cut, pixel.mend),
        (pixel.stop, pixel.start),
        (pixel.reboot, lambda: None),
    ):
        record = measured(tmp_path, at_round(3, fault))
        disconnected(record)
        if pixel.running:
            no_orphans(pixel, WORKER)
        mend()
        assert measured(tmp_path).outcome.status == "measured"


def test_a_short_cut_costs_nothing(pixel: Host, tmp_path: Path) -> None:
    def blink() -> None:
        pixel.cut()
        time.sleep(3)
        pixel.mend()

    assert measured(tmp_path, at_round(3, blink)).outcome.status == "measured"
    no_orphans(pixel, WORKER)


def until_workers(host: Host, number: int) -> list[int]:
    """Wait for so many workers, the agent among them; their processes there, the oldest first."""
    end = time.monotonic() + 60
    while len(found := workers(host)) < number:
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def workers(host: Host) -> list[int]:
    """Without the shells that wait for their ends."""
    return [each.pid for each in host.processes(WORKER) if "sh -c" not in each.command]


def test_killed_programs(pixel: Host, tmp_path: Path) -> None:
    """A worker, the harness, the shell of a worker, and the harness with its cable cut."""

    def kill_worker() -> None:
        pixel.inside("kill", "-9", str(until_workers(pixel, 2)[1]))

    record = measured(tmp_path, at_round(3, kill_worker))
    failure = record.outcome.failure
    assert failure is not None
    assert (failure.kind, failure.stage) == ("crash", "time")
    assert "SIGKILL" in failure.message
    no_orphans(pixel, WORKER)
    model = onnx_files.stack(tmp_path / "model.onnx", side=36)
    for cut in (False, True):
        harness = subprocess.Popen(
            [
                *(sys.executable, "-m", "latbench", "run", str(model), "--device", "pixel"),
                *("--threads", "1", "--registry", str(tmp_path / "other.db"), "--budget", "60"),
            ],
            env=child_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        until_workers(pixel, 3)
        if not cut:
            second = measured(tmp_path).outcome.failure
            assert second is not None
            assert (second.kind, second.stage) == ("unavailable", "probe")
            assert "in use by" in second.message
        if cut:
            pixel.cut()
        harness.send_signal(signal.SIGKILL)
        harness.communicate(timeout=30)
        no_orphans(pixel, WORKER)
        if cut:
            pixel.mend()
        assert measured(tmp_path).outcome.status == "measured"


def test_a_sweep_and_a_comparison_over_a_cut(pixel: Host, tmp_path: Path) -> None:
    one = str(onnx_files.stack(tmp_path / "one.onnx", side=36))
    two = str(onnx_files.classifier(tmp_path / "two.onnx"))
    compared = command(tmp_path, "compare", one, two, "--device", "pixel", *SHORT_OPTIONS)
    assert compared.out.startswith("INCONCLUSIVE: 2 pairs of processes"), compared.err

    def mend() -> None:
        """Pull the cable once the first point is measured, for longer than a connection lasts."""
        until_workers(pixel, 2)
        pixel.cut()
        time.sleep(9)
        pixel.mend()

    thread = threading.Thread(target=mend)
    thread.start()
    settings = ("--device", "pixel", "--threads", "1", "--threads", "2", *SHORT_OPTIONS[:-2])
    swept = command(tmp_path, "run", one, *settings, "--json", "--registry", "sweep.db")
    thread.join()
    with Registry.open(str(tmp_path / "sweep.db")) as registry:
        rows = registry.find(RecordFilter(devices=("pixel",)))
        ended = [registry.get(row.id).outcome for row in rows]
    assert sorted(each.status for each in ended) == ["failed", "measured"], swept.err
    kinds = {each.failure.kind for each in ended if each.failure}
    assert kinds == {"disconnected"}


def test_two_phones_and_the_users_own_server(
    ssh_bed: Bed,
    adbd_files: Path,
    pixel: Host,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two measure at once; the server that the user runs keeps its process and its devices."""
    port = free_port()
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
    usual = ("adb", "-P", str(port))
    with ssh_bed.started(name="galaxy", adbd=adbd_files) as galaxy:
        try:
            subprocess.run([*usual, "start-server"], check=True, timeout=30)
            subprocess.run(
                [*usual, "connect", galaxy.serial], check=True, timeout=30, capture_output=True
            )
            process, devices = server_process(port), listed_by(port)
            assert devices
            add_with_native(galaxy, "galaxy")
            model = str(onnx_files.stack(tmp_path / "m.onnx", side=36))
            runs = [
                subprocess.Popen(
                    [
                        *(sys.executable, "-m", "latbench", "run", model, "--device", name),
                        *("--registry", str(tmp_path / f"{name}.db"), *SHORT_OPTIONS),
                    ],
                    env=child_environment(),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
                for name in ("pixel", "galaxy")
            ]
            ended = [each.communicate(timeout=120) for each in runs]
            assert [each.returncode for each in runs] == [0, 0], ended
            assert (server_process(port), listed_by(port)) == (process, devices)
            # Nobody uses latbench's own server any more.
            assert listed_by(int(os.environ["LATBENCH_ADB_PORT"])) is None
        finally:
            subprocess.run([*usual, "kill-server"], capture_output=True, check=False, timeout=30)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def server_process(port: int) -> str:
    """The process that serves ``port``."""
    found = subprocess.run(
        ["pgrep", "-f", f"adb -L tcp:(localhost:)?{port} "],
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout


@pytest.fixture
def emulator(pixel: Host) -> Iterator[str]:
    """The serial of ``pixel`` as an emulator of this machine: its port leads to the phone."""
    for port in range(5585, 5555, -2):
        try:
            server = socket.create_server(("127.0.0.1", port))
        except OSError:
            continue
        break
    else:
        pytest.skip("all ports of emulators are in use")

    def serve() -> None:
        while True:
            try:
                here, _ = server.accept()
            except OSError:
                return
            there = socket.create_connection((pixel.address, 5555))
            for source, target in ((here, there), (there, here)):
                threading.Thread(target=copy, args=(source, target), daemon=True).start()

    def copy(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(2**16):
                target.sendall(data)
        except OSError:
            pass
        target.close()

    threading.Thread(target=serve, daemon=True).start()
    yield f"emulator-{port - 1}"
    server.close()


def test_an_emulator_is_listed_once(
    emulator: str, pixel: Host, adb_port: int, tmp_path: Path
) -> None:
    port = int(emulator.partition("-")[2]) + 1
    subprocess.run(["adb", "-P", str(adb_port), "start-server"], check=True, timeout=30)
    connected = f"127.0.0.1:{port}"
    subprocess.run(
        ["adb", "-P", str(adb_port), "connect", connected],
        check=True,
        timeout=30,
        capture_output=True,
    )
    serials = {each.serial for each in listed_by(adb_port) or ()}
    assert {emulator, connected} <= serials
    lines = command(tmp_path, "devices", "discover").out.splitlines()
    assert [line for line in lines if str(port) in line or emulator in line] == [
        f"latbench devices add 127.0.0.1-{port} adb://{connected}"
    ]
    add_with_native(pixel, "pixel", f"adb://{emulator}")
    assert measured(tmp_path).outcome.status == "measured"


def test_commands_files_and_statuses(pixel: Host, tmp_path: Path) -> None:
    transport = connect(add_with_native(pixel, "pixel"))
    try:
        odd = "a b'c\"d$HOME`x`\n*;&|\\"
        said = transport.run(("printf", "%s", odd), timeout_s=20)
        assert (said.stdout.decode(), said.status, said.stderr) == (odd, 0, b"")
        assert transport.run(("sh", "-c", "exit 255"), timeout_s=20).status == 255
        assert transport.run(("sh", "-c", "kill -9 $$"), timeout_s=20).status == -9
        assert transport.run(("cat",), stdin=b"x" * 100_000, timeout_s=20).stdout == b"x" * 100_000
        assert transport.run(("no-such-program",), timeout_s=20).status == 127
        with pytest.raises(latbench.LatbenchError, match="did not end within"):
            transport.run(("sleep", "60"), timeout_s=0.5)
        file = tmp_path / "file"
        file.write_bytes(os.urandom(3_000_000))
        target = "/data/local/tmp/a folder/it's"
        transport.push(file, target)
        assert pixel.path(target).read_bytes() == file.read_bytes()
        with pytest.raises(latbench.LatbenchError, match="cannot write /proc/no/file on pixel"):
            transport.push(file, "/proc/no/file")
    finally:
        transport.close()
