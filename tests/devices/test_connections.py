"""The user's own devices: their file, their addresses, and what is found in ~/.ssh/config."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from latbench.devices.addresses import AdbAddress, Address, AppleAddress, SshAddress, read_address
from latbench.devices.connections import (
    Connection,
    Installed,
    check_folder,
    connections_path,
    load_connections,
    new_connection,
    save_connections,
    store_connection,
)
from latbench.devices.discovery import ssh_hosts
from latbench.devices.local import LocalDevice
from latbench.devices.opening import Devices
from latbench.errors import UsageError
from support.command_line import Ended, in_process

INSTALLED = Installed(
    worker="python",
    sha256="ab" * 32,
    latbench="cd" * 32,
    folder="/home/bench/.cache/latbench",
    python="/usr/bin/python3",
    backends=("onnxruntime", "tflite"),
)


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("LATBENCH_ADB", "/no/adb")


def latbench(*arguments: str) -> Ended:
    return in_process(list(arguments), dict(os.environ), Path.cwd())


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("ssh://pi5", ("pi5", None, None)),
        ("ssh://bench@pi5.local", ("pi5.local", "bench", None)),
        ("ssh://Me@Studio.local:2222/", ("Studio.local", "Me", 2222)),
        ("ssh://[fe80::1]:22", ("fe80::1", None, 22)),
        ("ssh://[::1]", ("::1", None, None)),
        ("ssh://UPPER_alias", ("UPPER_alias", None, None)),
    ],
)
def test_addresses(text: str, parts: tuple[str, str | None, int | None]) -> None:
    host, user, port = parts
    assert read_address(text) == SshAddress(host=host, user=user, port=port)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("adb://R5CT10ABCDE", AdbAddress(serial="R5CT10ABCDE")),
        ("adb://192.168.1.5:5555", AdbAddress(serial="192.168.1.5:5555")),
        ("apple://studio/00008110-0A", AppleAddress(mac="studio", identifier="00008110-0A")),
    ],
)
def test_addresses_of_phones(text: str, address: Address) -> None:
    assert read_address(text) == address


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pi5.local", "is not an address"),
        ("bench@pi5", "is not an address"),
        ("ftp://pi5", "unknown way to reach a device: ftp://"),
        ("adb://", "write adb://SERIAL"),
        ("adb://-s", "write adb://SERIAL"),
        ("apple://0000", "write apple://MAC/IDENTIFIER"),
        ("apple://studio/", "write apple://MAC/IDENTIFIER"),
        ("apple://studio/a/b", "write apple://MAC/IDENTIFIER"),
        ("ssh://", "is not an address"),
        ("ssh://@", "is not an address"),
        ("ssh://user:word@pi5", "an address with a password is not stored"),
        ("ssh://pi5/path", "is not an address"),
        ("ssh://pi5?x=1", "is not an address"),
        ("ssh://pi5:port", "is not an address"),
        ("ssh://pi5:99999", "is not an address"),
        ("ssh://-oProxyCommand=id", "is not an address"),
        ("ssh://-l@pi5", "is not an address"),
        ("local://here", "this machine needs no name"),
    ],
)
def test_addresses_that_are_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_address(text)
    assert words in f"{caught.value.message}; {caught.value.hint}"
    assert "word" not in caught.value.message.replace("password", "")


def test_the_file_keeps_everything() -> None:
    whole = Connection(
        id="pi5",
        address="ssh://bench@pi5.local:2222",
        same_as="jetson-orin",
        python="/opt/no",
        folder="disk/latbench",
        emulated=True,
        identity="0011",
        installed=INSTALLED,
    )
    plain = Connection(id="yes", address="ssh://1.2.3.4")
    save_connections([whole, plain])
    assert load_connections() == (whole, plain)
    text = connections_path().read_text()
    assert text.startswith("# ")
    assert "emulated: false" not in text
    other = Connection(id="yes", address="ssh://5.6.7.8")
    store_connection(other)
    assert load_connections() == (whole, other)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("schema: 99\nconnections: []\n", "upgrade latbench"),
        ("schema: 1\nconnections:\n- id: a\n", "address"),
        ("schema: 1\nconnections:\n- {id: a, address: 'ssh://a', adress: b}\n", "did you mean"),
        ("schema: 1\nconnections:\n- {id: a, address: 'ssh://u:p@a'}\n", "password"),
        ("schema: 1\nconnections:\n- {id: A B, address: 'ssh://a'}\n", "cannot name a device"),
        (
            "schema: 1\nconnections:\n- {id: a, address: 'ssh://a', folder: ../up}\n",
            "below the home folder",
        ),
        (
            "schema: 1\nconnections:\n- {id: a, address: 'ssh://a'}\n"
            "- {id: a, address: 'ssh://b'}\n",
            "stands here twice",
        ),
        ("schema: 1\nconnections: [\n", "connections.yaml:"),
        ("- x\n", "connections.yaml:"),
    ],
)
def test_a_damaged_file_is_told_with_its_line(text: str, words: str) -> None:
    connections_path().parent.mkdir(parents=True, exist_ok=True)
    connections_path().write_text(text)
    listed = latbench("devices")
    assert listed.status == 2
    assert words in listed.err
    assert "connections.yaml:" in listed.err
    assert "Traceback" not in listed.err


@pytest.mark.parametrize("folder", ["/abs", "~/x", "-x", "a/../b", ""])
def test_folders_that_are_refused(folder: str) -> None:
    with pytest.raises(UsageError, match="below the home folder"):
        check_folder(folder)


def test_a_device_is_the_same_as_a_row() -> None:
    with pytest.raises(UsageError, match="no device 'jetson-orim' is described") as caught:
        new_connection("mine", "ssh://x", same_as="jetson-orim")
    assert "jetson-orin" in (caught.value.hint or "")
    store_connection(new_connection("mine", "ssh://x", same_as="jetson-orin"))
    listed = latbench("devices", "mine", "--json").json[0]
    assert listed["id"] == "mine"
    assert listed["same_as"] == "jetson-orin"
    assert listed["name"] == "mine (NVIDIA Jetson Orin (module not named in the source))"
    assert listed["kind"] == "board"


def test_this_machine_gets_a_name() -> None:
    assert latbench("devices", "add", "bench1", "local://").out == "added bench1: local://\n"
    with Devices() as devices:
        device = devices.open("bench1")
        assert isinstance(device, LocalDevice)
        assert device.row.id == "bench1"
        assert device.link is None
        assert device.machine.identity == LocalDevice().machine.identity
    assert "this machine" in latbench("devices", "check", "bench1").out
    refused = latbench("devices", "install", "bench1")
    assert (refused.status, "nothing has to be installed" in refused.err) == (2, True)


def test_unknown_devices_are_told_with_the_nearest() -> None:
    store_connection(new_connection("pi5-left", "ssh://left"))
    for command in ("check", "install", "remove", "clean"):
        done = latbench("devices", command, "pi5-letf")
        assert done.status == 2
        assert "did you mean pi5-left?" in done.err
    run = latbench("run", "--model", "mobilevig_ti", "--device", "pi5-letf")
    assert run.status == 2
    assert "did you mean pi5-left?" in run.err
    phone = latbench("run", "--model", "mobilevig_ti", "--device", "iphone-13-mini")
    assert "my-iphone-13-mini apple://MAC/IDENTIFIER --same-as iphone-13-mini" in phone.err
    board = latbench("run", "--model", "mobilevig_ti", "--device", "jetson-orin")
    assert "latbench devices add my-jetson-orin ssh://USER@HOST --same-as jetson-orin" in board.err


def test_a_device_that_exists_is_changed_and_removed() -> None:
    store_connection(Connection(id="pi5", address="ssh://a", installed=INSTALLED, identity="1"))
    assert latbench("devices", "add", "pi5", "ssh://a", "--python", "/opt/py").status == 0
    (kept,) = load_connections()
    assert (kept.python, kept.installed) == ("/opt/py", INSTALLED)
    # What is installed at another address is not known.
    assert latbench("devices", "add", "pi5", "ssh://b").out.startswith("changed pi5: ssh://b\n")
    (moved,) = load_connections()
    assert (moved.installed, moved.identity) == (None, None)
    assert latbench("devices", "remove", "pi5").out == "removed pi5\n"
    assert load_connections() == ()


def test_hosts_of_the_ssh_configuration() -> None:
    folder = Path.home() / ".ssh"
    (folder / "more").mkdir(parents=True)
    (folder / "config").write_text(
        "Include more/*.conf\n"
        "Host pi5 Studio 'two words'\n  HostName 10.0.0.1\n"
        "host=gate\n"
        "Host *.lab !secret ?\n  User me\n"
        "Match host x\n"
    )
    (folder / "more" / "a.conf").write_text("Host nested # comment\nInclude more/*.conf\n")
    store_connection(new_connection("other", "ssh://Studio"))
    found = {each.host: each for each in ssh_hosts()}
    assert list(found) == ["nested", "pi5", "Studio", "two words", "gate"]
    assert [each.id for each in found.values()] == ["nested", "pi5", "studio", "two-words", "gate"]
    assert found["Studio"].added
    assert not found["pi5"].added
    assert "latbench devices add pi5 ssh://pi5\n" in latbench("devices", "discover").out


def test_no_ssh_configuration() -> None:
    done = latbench("devices", "discover")
    assert done.out == "no host is named in ~/.ssh/config, and adb sees no device\n"
    assert "phones are not listed: LATBENCH_ADB names /no/adb" in done.err
    assert (done.status, "platform-tools" in done.err) == (0, True)


@pytest.mark.parametrize(
    "address",
    ["ssh://a b", "ssh:// a", "ssh://a\nb", "ssh://@host", "ssh://host:0", "ssh://a\tb"],
)
def test_an_address_without_spaces(address: str) -> None:
    with pytest.raises(UsageError, match="is not an address"):
        read_address(address)


def test_an_ipv6_address_stands_in_brackets() -> None:
    with pytest.raises(UsageError) as caught:
        read_address("ssh://fe80::1")
    assert "ssh://[fe80::1]" in (caught.value.hint or "")


def test_an_id_that_names_something_else() -> None:
    """Else another machine is measured, or records decide claims about hardware they are not of."""
    with pytest.raises(UsageError, match="always names the machine that latbench runs on"):
        new_connection("local", "ssh://board")
    with pytest.raises(UsageError, match="is a row of facts") as caught:
        new_connection("iphone-13-mini", "ssh://board")
    assert "--same-as iphone-13-mini" in (caught.value.hint or "")
