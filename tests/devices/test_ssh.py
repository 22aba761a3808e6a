"""The way to a device over ssh: what is refused, and what each refusal says."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

import latbench
from latbench.devices.connections import (
    Connection,
    find_connection,
    known_connection,
    store_connection,
)
from latbench.devices.installation import look_around
from latbench.devices.jobs import connect_to_jobs
from latbench.devices.opening import connect
from latbench.devices.transport import Transport
from latbench.errors import StageError
from support.command_line import Ended, in_process
from support.devices import add_with_checkout, use_home
from support.hosts import Bed, Host
from support.hosts.spec import CHECKOUT

pytest.importorskip("asyncssh", reason="needs the `ssh` extra")


def to(host: Host, **changes: str) -> Transport:
    return connect(Connection(id=host.name, address=changes.get("address", f"ssh://{host.name}")))


def refused(host: Host, **changes: str) -> tuple[str, str]:
    """Message and hint of a refused connection."""
    with pytest.raises(StageError) as caught:
        to(host, **changes)
    assert (caught.value.stage, caught.value.kind) == ("probe", "unavailable")
    return caught.value.message, caught.value.hint or ""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_commands_keep_their_words_statuses_and_streams(
    board: Host, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_home(home, board, monkeypatch)
    transport = to(board)
    odd = "a 'b' \"c\" $HOME `id` ; & | \\ * \t ü"
    done = transport.run(("printf", "%s|", odd, ""), timeout_s=20)
    assert done.stdout.decode() == f"{odd}||"
    done = transport.run(("sh", "-c", "echo out; echo err >&2; exit 7"), timeout_s=20)
    assert (done.status, done.stdout, done.stderr) == (7, b"out\n", b"err\n")
    assert transport.run(("cat",), timeout_s=20, stdin=b"x" * 3_000_000).stdout == b"x" * 3_000_000
    assert transport.run(("sh", "-c", "kill -SEGV $$"), timeout_s=20).status == -11
    with pytest.raises(StageError, match=r"did not end within 0\.2 s") as caught:
        transport.run(("sleep", "100"), timeout_s=0.2)
    assert caught.value.kind == "timeout"
    transport.close()
    transport.close()


def test_files_arrive_complete_or_not_at_all(
    ssh_bed: Bed, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "it's a file"
    source.write_bytes(bytes(range(256)) * 8000)
    with ssh_bed.started(name="small", disk_bytes=8 * 2**20) as host:
        use_home(home, host, monkeypatch)
        transport = to(host)
        target = f"{host.spec.home}/a b/{source.name}"
        transport.push(source, target)
        assert host.path(target).read_bytes() == source.read_bytes()
        host.fill_disk()
        with pytest.raises(StageError, match="No space left on device") as caught:
            transport.push(source, f"{host.spec.home}/other")
        assert "latbench devices check" in (caught.value.hint or "")
        assert [each.name for each in host.path(host.spec.home).glob("other*")] == []
        with pytest.raises(StageError, match="cannot write /proc/nowhere"):
            transport.push(source, "/proc/nowhere/file")
        transport.close()


def test_an_unknown_host_key_is_refused(
    board: Host, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_home(home, board, monkeypatch)
    known = board.known_hosts.read_text()
    try:
        board.known_hosts.write_text("")
        message, hint = refused(board)
    finally:
        board.known_hosts.write_text(known)
    assert message.endswith("the host key of board is unknown")
    assert "compare its fingerprint and accept it: ssh board" in hint


def test_a_changed_host_key_is_refused(
    board: Host, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_home(home, board, monkeypatch)
    board.change_host_key()
    message, hint = refused(board)
    assert message.endswith("the host key of board has changed since it was first seen")
    assert "ssh-keygen -R" in hint


def test_a_key_that_is_not_accepted(
    board: Host, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_home(home, board, monkeypatch)
    another = home / "another"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", another], check=True)
    config = home / ".ssh" / "config"
    config.write_text(config.read_text().replace(str(board.key), str(another)))
    message, hint = refused(board)
    assert message.endswith("board accepts none of the keys for this user")
    assert "ssh-copy-id board" in hint


@pytest.mark.parametrize("who", ["inner", "gate"])
def test_a_host_whose_key_would_not_be_checked(
    inner: Host, home: Path, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    """Of a jump host either."""
    use_home(home, inner, monkeypatch)
    config = home / ".ssh" / "config"
    config.write_text(f"Host {who}\n  UserKnownHostsFile none\n{config.read_text()}")
    message, hint = refused(inner)
    assert f"the check of host keys is turned off for {who}" in message
    assert "UserKnownHostsFile none" in hint


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("Host *\n  ProxyJump gate\n", "leads to gate through gate itself"),
        ("Host board\n  ProxyJump board\n", "leads to board through board itself"),
        (
            "Host board\n  ProxyJump a\nHost a\n  ProxyJump u@b:22\nHost b\n  ProxyJump a\n",
            "to a t",
        ),
        ("Host board\n  ProxyJump [::1]:22\nHost ::1\n  ProxyJump board\n", "leads to board"),
        ("Host board\n  IdentityFile ~/.ssh/none\n", "/.ssh/none, which cannot be read: No such"),
    ],
)
def test_a_configuration_that_leads_nowhere(
    board: Host, home: Path, monkeypatch: pytest.MonkeyPatch, lines: str, words: str
) -> None:
    use_home(home, board, monkeypatch)
    config = home / ".ssh" / "config"
    config.write_text(lines + config.read_text())
    message, hint = refused(board)
    assert words in message
    assert hint


def test_what_does_not_answer(gone: Host, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_home(home, gone, monkeypatch)
    monkeypatch.setattr("latbench.devices.ssh._CONNECT_TIMEOUT_S", 1.0)
    message, hint = refused(gone)
    assert "gone does not answer within" in message
    assert "is it on" in hint
    message, hint = refused(gone, address="ssh://no-such-name.invalid")
    assert "no-such-name.invalid cannot be reached" in message


def test_a_device_behind_another_one(
    inner: Host, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_home(home, inner, monkeypatch)
    transport = to(inner)
    assert transport.run(("hostname",), timeout_s=20).stdout == b"inner\n"
    transport.close()


def test_a_device_that_greets_and_has_another_time(
    ssh_bed: Bed, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    greets = {"banner": "Property of the lab\n", "chatter": "welcome\n{not json\n"}
    if shutil.which("cc") is None:
        pytest.skip("a device with another time needs a C compiler")
    with ssh_bed.started(name="chatty", visible=CHECKOUT, clock_offset_s=3600, **greets) as host:
        use_home(home, host, monkeypatch)
        host.ssh("printf 'printf \"no line break\"\\n' >> .bashrc", check=True)
        assert host.ssh("echo x").stdout == "welcome\n{not json\n\nno line breakx\n"
        add_with_checkout(host)
        assert look_around(known_connection("chatty"), to(host)).system == "Linux"
        assert connect_to_jobs(known_connection("chatty")).listed() == ()
        place = str(tmp_path / "registry.db")
        result = latbench.run(
            "mobilevig_ti", backend="fake", device="chatty", budget_s=1, registry=place
        )
        assert result.record.outcome.status == "measured"
        link, before = result.record.environment.link, result.record.environment.before
        assert link is not None
        assert 3500e9 < link.clock_offset_ns < 3700e9
        assert before.unix_ns - result.record.created_unix_ns > 3500e9


def test_check_says_what_is_missing(
    bare: Host, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_home(home, bare, monkeypatch)

    def latbench(*arguments: str) -> Ended:
        return in_process(list(arguments), dict(os.environ), tmp_path)

    added = latbench("devices", "add", "bare", "ssh://bare")
    assert added.out == (
        "added bare: ssh://bare\nnext: latbench devices check bare; latbench devices install bare\n"
    )
    checked = latbench("devices", "check", "bare")
    assert checked.status == 3
    assert checked.out.startswith(
        "bare cannot be measured on\n  ok      connection    ssh://bare\n"
    )
    assert "bare has no python3" in checked.out
    assert "--worker native" in checked.out
    run = latbench("run", "--model", "mobilevig_ti", "--device", "bare", "--registry", "r.db")
    assert run.status == 3
    assert "latbench is not installed on bare" in run.out
    shown = latbench("history", "--device", "bare", "--registry", "r.db")
    assert "latbench is not installed on bare" in shown.out


def test_a_worker_of_another_state_is_refused(
    device: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = find_connection("board")
    assert connection is not None
    assert connection.installed is not None
    older = msgspec.structs.replace(connection.installed, latbench="0" * 64)
    store_connection(msgspec.structs.replace(connection, installed=older))
    record = latbench.run(
        "mobilevig_ti", backend="fake", device="board", registry=str(tmp_path / "r.db")
    ).record
    failure = record.outcome.failure
    assert failure is not None
    assert failure.message == "another state of latbench is installed on board than here"
    assert failure.hint == "latbench devices install board"


def test_a_folder_that_cannot_be_written(
    board: Host, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_home(home, board, monkeypatch)
    store_connection(Connection(id="board", address="ssh://board"))
    board.ssh("mkdir -p .cache && chmod 500 .cache", check=True)
    checked = in_process(["devices", "check", "board"], dict(os.environ), tmp_path)
    assert checked.status == 3
    assert "/home/bench/.cache/latbench on board cannot be written: mkdir: " in checked.out
    assert "latbench devices add --folder" in checked.out
