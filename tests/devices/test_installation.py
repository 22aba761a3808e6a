"""Installing a worker on devices without internet, from wheels that are fetched here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from latbench.devices.connections import find_connection
from latbench.devices.wheels import Platform, fetch_wheels, own_sha256, own_wheel, requirements
from latbench.errors import StageError
from support.command_line import Ended, in_process
from support.devices import use_home
from support.environment import TINY
from support.hosts import Bed, Host
from support.hosts.spec import CHECKOUT

pytest.importorskip("asyncssh", reason="needs the `ssh` extra")
SHORT = (
    *("--protocol", "latbench-fixed@1", "--processes", "2"),
    *("--calls", "5", "--block-calls", "5", "--warmup", "1", "--registry", "r.db"),
)
PLATFORM = Platform(system="Linux", architecture="aarch64", python=(3, 11), libc=(2, 36))


def latbench(tmp_path: Path, *arguments: str) -> Ended:
    return in_process(list(arguments), dict(os.environ), tmp_path)


def install(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ended:
    """Add the device and install on it."""
    use_home(tmp_path / "home", host, monkeypatch)
    assert latbench(tmp_path, "devices", "add", host.name, f"ssh://{host.name}").status == 0
    return latbench(tmp_path, "devices", "install", host.name)


def needs_packages(done: Ended) -> None:
    """Skip where no package index can be reached."""
    if done.status == 3 and "is there a package index?" in done.err:
        pytest.skip(done.err)


@pytest.mark.slow
def test_a_board_without_internet(
    board: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = install(board, tmp_path, monkeypatch)
    needs_packages(done)
    assert done.status == 0, done.err
    assert "MB to board for 8 wheels" in done.err
    assert done.out.startswith("installed on board: python worker ")
    connection = find_connection("board")
    assert connection is not None
    assert connection.installed is not None
    assert connection.identity is not None
    run = latbench(tmp_path, "run", "--model", TINY, "--device", "board", *SHORT)
    assert run.status == 0, run.err
    assert "board (" in run.out.splitlines()[0]

    again = latbench(tmp_path, "devices", "install", "board")
    assert (again.status, again.err) == (0, "")
    (tmp_path / "home" / ".ssh" / "config").open("a").write(
        f"Host twin\n  HostName {board.address}\n  User bench\n  IdentityFile {board.key}\n"
        f"  UserKnownHostsFile {board.known_hosts}\n"
    )
    latbench(tmp_path, "devices", "add", "twin", "ssh://twin")
    twin = latbench(tmp_path, "devices", "install", "twin")
    assert "twin is the same machine as board" in twin.err

    cleaned = latbench(tmp_path, "devices", "clean", "board")
    assert cleaned.status == 0, cleaned.err
    checked = latbench(tmp_path, "devices", "check", "board")
    assert checked.status == 0
    assert "board is the same machine as twin" in checked.out
    removed = latbench(tmp_path, "devices", "remove", "board", "--purge")
    assert removed.out == "removed board\n"
    assert not board.path("/home/bench/.cache/latbench").exists()
    lost = latbench(tmp_path, "run", "--model", TINY, "--device", "twin", *SHORT)
    assert lost.status == 3
    assert "latbench devices install twin" in lost.out


@pytest.mark.slow
def test_an_emulated_arm_board(arm: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its wheels are for another architecture than this machine's, and its times are no evidence."""
    done = install(arm, tmp_path, monkeypatch)
    needs_packages(done)
    assert done.status == 0, done.err
    checked = latbench(tmp_path, "devices", "check", "arm")
    assert "Linux aarch64, glibc 2." in checked.out
    assert "the processor is emulated" in checked.out
    run = latbench(tmp_path, "run", "--model", TINY, "--device", "arm", *SHORT)
    assert run.status == 0, run.err
    assert run.out.startswith("UNRELIABLE")
    assert "the processor is emulated" in run.out


def test_too_little_space_is_told_before_anything_is_sent(
    ssh_bed: Bed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ssh_bed.started(name="small", disk_bytes=20 * 2**20) as host:
        done = install(host, tmp_path, monkeypatch)
        needs_packages(done)
        assert done.status == 3
        assert "small has 2" in done.err
        assert "MB free, the worker needs" in done.err
        assert not host.path("/home/bench/.cache/latbench/wheels").exists()


def test_equal_files_make_equal_wheels(tmp_path: Path) -> None:
    places = [tmp_path / "a", tmp_path / "b"]
    for place in places:
        place.mkdir()
    one, two = (own_wheel(place).read_bytes() for place in places)
    assert one == two
    assert own_sha256() == own_sha256()


def test_a_backend_brings_its_packages() -> None:
    plain = [each.partition("<")[0] for each in requirements(["onnxruntime"])]
    assert plain == ["msgspec", "numpy", "psutil", "onnxruntime"]
    more = [each.partition("<")[0] for each in requirements(["tflite", "coreml", "fake"])]
    assert more == ["msgspec", "numpy", "psutil", "ai-edge-litert", "coremltools"]


def test_tags_of_platforms() -> None:
    assert PLATFORM.tags()[0] == "manylinux_2_36_aarch64"
    assert "manylinux_2_37_aarch64" not in PLATFORM.tags()
    assert {"manylinux2014_aarch64", "linux_aarch64"} <= set(PLATFORM.tags())
    mac = Platform(system="Darwin", architecture="arm64", python=(3, 12), libc=None, macos=(14, 5))
    assert mac.tags() == ["macosx_14_0_arm64"]
    alpine = Platform(system="Linux", architecture="x86_64", python=(3, 12), libc=None)
    assert alpine.tags() == ["musllinux_1_2_x86_64", "musllinux_1_1_x86_64"]


def test_an_architecture_without_wheels(tmp_path: Path) -> None:
    riscv = Platform(system="Linux", architecture="riscv128", python=(3, 11), libc=(2, 36))
    with pytest.raises(StageError) as caught:
        fetch_wheels(["msgspec"], riscv, tmp_path)
    assert "Linux riscv128, Python 3.11, glibc 2.36" in caught.value.message
    assert caught.value.kind == "unavailable"


def test_a_device_fetches_its_packages_itself(
    ssh_bed: Bed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From an index that it has, here a folder of wheels; without one it says so."""
    index = tmp_path / "index"
    index.mkdir()
    here = Platform(system="Linux", architecture="x86_64", python=(3, 11), libc=(2, 36))
    try:
        fetch_wheels(requirements(["fake"]), here, index)
    except StageError as error:
        pytest.skip(error.message)
    index.chmod(0o755)
    with ssh_bed.started(name="alone", visible=(*CHECKOUT, index)) as host:
        use_home(tmp_path / "home", host, monkeypatch)
        added = ("devices", "add", "alone", "ssh://alone", "--python", sys.executable)
        assert latbench(tmp_path, *added).status == 0
        install = ("devices", "install", "alone", "--backend", "fake", "--from-index")
        refused = latbench(tmp_path, *install)
        assert refused.status == 3
        assert "alone could not fetch packages" in refused.err
        config = f"[global]\nno-index = true\nfind-links = {index}\n"
        host.ssh("mkdir -p .config/pip && cat > .config/pip/pip.conf", input=config, check=True)
        done = latbench(tmp_path, *install)
        assert done.status == 0, done.err
        checked = latbench(tmp_path, "devices", "check", "alone")
        assert "ok      backend       fake 1" in checked.out
