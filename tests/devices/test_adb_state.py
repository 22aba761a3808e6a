"""States of a phone that the real adbd of the test bed cannot be put into.

A stand-in of the adb *program* and its server answers as the real ones do; nothing here has seen a
phone.
"""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from latbench.devices.adb import AdbChannel, AdbTransport
from latbench.devices.adb_check import steps_of
from latbench.devices.adb_server import AdbServer, listed_by
from latbench.devices.adb_state import STATE_WORDS
from latbench.devices.connections import new_connection
from latbench.devices.opening import connect
from latbench.devices.transport import lost_connection
from latbench.errors import StageError
from support.command_line import Ended, in_process

ADB = """\
#!/bin/sh
case "$*" in
    version) echo "Android Debug Bridge version 1.0.41" ;;
    *kill-server) echo killed >> {log} ;;
    *) echo "$*" >> {log} ;;
esac
"""


class StandInServer:
    """An adb server of a given version that lists given devices."""

    def __init__(self, devices: str = "", *, version: int = 41, features: str = "shell_v2") -> None:
        self.devices = devices
        self._answers = {
            "host:version": f"{version:04x}",
            "features": features,
        }
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client:
                size = int(client.recv(4), 16)
                service = client.recv(size).decode()
                if service == "host:devices-l":
                    said = self.devices
                else:
                    said = next(text for name, text in self._answers.items() if name in service)
                client.sendall(f"OKAY{len(said):04x}{said}".encode())


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in of the program; what it was asked for."""
    program = tmp_path / "adb"
    program.write_text(ADB.format(log=tmp_path / "log"))
    program.chmod(0o755)
    (tmp_path / "log").touch()
    monkeypatch.setenv("LATBENCH_ADB", str(program))
    # The file by which processes share a server.
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(unused_port()))
    return tmp_path / "log"


@pytest.fixture
def server(log: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInServer]:
    made = StandInServer()
    monkeypatch.setenv("LATBENCH_ADB_PORT", str(made.port))
    yield made
    made.close()


def unused_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def refusal(address: str) -> StageError:
    with pytest.raises(StageError) as caught:
        connect(new_connection("pixel", address))
    assert caught.value.kind == "unavailable"
    assert caught.value.hint
    return caught.value


def latbench(*arguments: str) -> Ended:
    return in_process(list(arguments), dict(os.environ), Path.cwd())


@pytest.mark.parametrize("state", [*STATE_WORDS, "a-new-state"])
def test_each_state_has_words(
    state: str, server: StandInServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latbench.devices.adb_state.LISTED_WAIT_S", 0.1)
    server.devices = (
        f"R5CT   {state} (user in plugdev group; see [http://x]) usb:1-2 transport_id:4\n"
        if state == "no permissions"
        else f"R5CT   {state.replace('-', '')} usb:1-2 product:a model:Pixel_8 transport_id:4\n"
    )
    if state == "a-new-state":
        with pytest.raises(StageError, match="in the state 'anewstate' of adb"):
            connect(new_connection("pixel", "adb://R5CT"))
        return
    error = refusal("adb://R5CT")
    assert error.message == f"pixel: R5CT {STATE_WORDS[state][0]}"
    line = latbench("devices", "discover").out
    assert "adb://R5CT  # R5CT" in line
    assert STATE_WORDS[state][1] in line


def test_a_phone_that_is_absent(server: StandInServer) -> None:
    assert "adb sees no device R5CT" in refusal("adb://R5CT").message


def test_a_phone_that_the_users_server_holds(
    server: StandInServer, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = StandInServer(
        "R5CT  device usb:1-2 model:Pixel_8 transport_id:1\n10.0.0.5:5555 device transport_id:2\n"
    )
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(theirs.port))
    error = refusal("adb://R5CT")
    assert f"R5CT is held by the adb server at port {theirs.port}" in error.message
    assert f"LATBENCH_ADB_PORT={theirs.port}" in str(error.hint)
    (line,) = latbench("devices", "discover").out.splitlines()
    assert line.startswith("latbench devices add pixel_8 adb://R5CT  # held by the adb server")
    theirs.close()
    # The user's server was asked over its socket, and no adb was started for it.
    assert str(theirs.port) not in log.read_text()


def test_two_phones_with_one_serial(server: StandInServer) -> None:
    server.devices = (
        "0123456789ABCDEF device usb:1-2 model:Board transport_id:1\n"
        "0123456789ABCDEF device usb:1-4.3 model:Board transport_id:2\n"
    )
    error = refusal("adb://0123456789ABCDEF")
    assert "2 devices have the serial" in error.message
    assert "latbench devices add pixel adb://usb:1-2 or" in str(error.hint)
    lines = latbench("devices", "discover").out.splitlines()
    assert [line.split()[-1] for line in lines] == ["adb://usb:1-2", "adb://usb:1-4.3"]


def test_serials_with_spaces_and_none(server: StandInServer) -> None:
    """No device is lost from the list, and each has an address."""
    server.devices = (
        "adb-R5CT-ab (2)._adb-tls-connect._tcp device product:a model:Pixel_8 transport_id:1\n"
        "(no serial number)     device usb:1-7 model:Board transport_id:2\n"
        "(no serial number)     no permissions (user in plugdev group); see [http://x] usb:1-8\n"
    )
    found = listed_by(server.port) or ()
    assert [(each.serial, each.state, each.path) for each in found] == [
        ("adb-R5CT-ab (2)._adb-tls-connect._tcp", "device", None),
        ("(no serial number)", "device", "usb:1-7"),
        ("(no serial number)", "no permissions", "usb:1-8"),
    ]
    addresses = [shlex.split(each, comments=True)[-1] for each in
                 latbench("devices", "discover").out.splitlines()]  # fmt: skip
    assert addresses == [
        "adb://adb-R5CT-ab (2)._adb-tls-connect._tcp",
        "adb://usb:1-7",
        "adb://usb:1-8",
    ]
    for each in addresses:
        new_connection("pixel", each)


def test_an_old_android(server: StandInServer) -> None:
    server._answers["features"] = "cmd"
    server.devices = "R5CT device usb:1-2 transport_id:1\n"
    assert "Android 7 or newer" in str(refusal("adb://R5CT").hint)


def test_a_server_of_another_version_is_left_alone(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = StandInServer(version=39)
    monkeypatch.setenv("LATBENCH_ADB_PORT", str(made.port))
    error = refusal("adb://R5CT")
    assert "is of version 39" in error.message
    assert f"adb -P {made.port} kill-server" in str(error.hint)
    assert log.read_text() == ""
    made.close()


def test_servers_that_latbench_has_not_started_are_not_ended(
    server: StandInServer, log: Path
) -> None:
    AdbServer().close()
    assert log.read_text() == ""
    assert listed_by(server.port) == ()


def test_no_adb_and_no_server(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATBENCH_ADB_PORT", str(unused_port()))
    assert "adb does not start a server" in refusal("adb://R5CT").message
    for port in ("x", "0", "70000"):
        monkeypatch.setenv("LATBENCH_ADB_PORT", port)
        with pytest.raises(StageError, match="is not the number of a port"):
            connect(new_connection("pixel", "adb://R5CT"))
    monkeypatch.delenv("LATBENCH_ADB")
    monkeypatch.setenv("PATH", "/nowhere")
    assert "apt install adb" in str(refusal("adb://R5CT").hint)


def test_another_program_at_the_port(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setenv("LATBENCH_ADB_PORT", str(port))

        def answer() -> None:
            client, _ = other.accept()
            client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            client.close()

        threading.Thread(target=answer, daemon=True).start()
        error = refusal("adb://R5CT")
    assert f"what listens at port {port} is not an adb server" in error.message


TOLD = {
    "ro.product.manufacturer": "Google",
    "ro.product.model": "Pixel 8",
    "ro.build.version.release": "15",
    "ro.build.version.sdk": "35",
    "ro.product.cpu.abilist": "arm64-v8a",
    "adb_enabled": "1",
    "development_settings_enabled": "1",
    "kernel": "6.1.75-android14",
    "mWakefulness": "Asleep",
    "battery level": "11",
    "battery AC powered": "false",
    "battery USB powered": "true",
    "status": "2",
    "faked": "false",
}


def test_what_a_phone_says_of_itself() -> None:
    steps = {each.name: each for each in steps_of(TOLD)}
    found = {name: each.found for name, each in steps.items()}
    assert found == {
        "authorization": "this computer is allowed",
        "debugging": "developer options on, USB debugging on",
        "model": "Google Pixel 8",
        "Android": "15 (API level 35)",
        "kernel": "6.1.75-android14",
        "ABI": "arm64-v8a",
        "screen": "off (Asleep)",
        "charging": "powered by USB, 11 %",
        "thermal": "moderate",
    }
    hints = {name for name, each in steps.items() if each.hint}
    assert hints == {"screen", "charging", "thermal"}
    assert all(each.works is not False for each in steps.values())
    (wrong,) = [each for each in steps_of({**TOLD, "ro.product.cpu.abilist": "armeabi-v7a"})
                if each.works is False]  # fmt: skip
    assert wrong.name == "ABI"
    faked = {each.name: each.hint for each in steps_of({**TOLD, "faked": "true"})}
    assert "faked" in str(faked["thermal"])
    assert {each.found for each in steps_of({})} >= {"unknown"}


class LostTransport:
    """A transport whose connection is lost."""

    def is_lost(self) -> bool:
        return True

    def lost(self, detail: str | None = None) -> StageError:
        return lost_connection("pixel", detail)

    def end(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()


def test_a_closed_program_of_a_lost_connection_is_lost_too() -> None:
    """Or whoever asks it waits for an answer until the time is up."""
    program = subprocess.Popen(
        ["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    channel = AdbChannel(cast("AdbTransport", LostTransport()), program)
    channel.close()
    channel.close()
    with pytest.raises(StageError, match="the connection to pixel was lost"):
        channel.status(0)
