"""What the native worker stands on where the device's own C library is another than glibc."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from latbench.devices import opening, remote, setup
from latbench.devices.connections import find_connection
from support.command_line import Ended, in_process
from support.command_transport import CommandTransport
from support.environment import TINY
from support.hosts import arm_root
from support.hosts.bed import why_unavailable
from support.hosts.empty_root import empty_root, packages
from support.zig import use_zig

pytestmark = [
    pytest.mark.slow,
    pytest.mark.torch,
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler"),
]
SHORT = (
    *("--protocol", "latbench-fixed@1", "--processes", "2", "--threads", "1"),
    *("--calls", "4", "--block-calls", "2", "--warmup", "1", "--registry", "r.db"),
)


def latbench(tmp_path: Path, *arguments: str) -> Ended:
    return in_process(list(arguments), dict(os.environ), tmp_path)


@pytest.fixture
def root(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[CommandTransport, list[str]]]:
    """A way to an empty system of the architecture that the test names, and ``--glibc`` for it."""
    architecture: str = request.param
    if reason := why_unavailable() or arm_root.why_unavailable():
        pytest.skip(reason)
    if architecture != os.uname().machine:
        use_zig(monkeypatch)
    try:
        shell, found = packages(Path(f"{os.environ['LATBENCH_CACHE']}-devices"), architecture)
    except RuntimeError as error:
        pytest.skip(f"no packages of Debian: {error}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(remote, "DEVICE_LOCK", CommandTransport.device_lock, raising=False)
    with ExitStack() as stack:
        folder = tmp_path / "system"
        folder.mkdir()
        way = stack.enter_context(empty_root(folder, architecture, shell))
        for module in (opening, setup):
            monkeypatch.setattr(module, "connect", lambda connection: way)
        yield way, [part for each in found for part in ("--glibc", str(each))]


@pytest.mark.parametrize("root", ["x86_64", "aarch64"], indirect=True)
def test_an_empty_system_runs_the_worker_on_a_glibc_bundle(
    root: tuple[CommandTransport, list[str]], tmp_path: Path
) -> None:
    way, glibc = root
    assert latbench(tmp_path, "devices", "add", "phone", "adb://X1").status == 0
    done = latbench(tmp_path, "devices", "install", "phone", *glibc)
    if done.status == 3 and "is there a package index?" in done.err:
        pytest.skip(done.err)
    assert done.status == 0, done.err
    connection = find_connection("phone")
    assert connection is not None
    assert connection.installed is not None
    short = connection.installed.sha256[:12]
    assert done.out == (
        f"installed on phone: native worker {short} (glibc bundle) with onnxruntime\n"
    )
    folder = f"/data/local/tmp/.cache/latbench/native/{connection.installed.sha256}"
    loader = connection.installed.loader
    assert loader is not None
    assert loader.startswith(f"{folder}/ld-linux-")
    run = latbench(tmp_path, "run", "--model", TINY, "--device", "phone", "--json", *SHORT)
    assert run.status == 0, run.err
    command = (loader, "--library-path", folder, f"{folder}/latbench-native")
    assert set(way.started) == {command}
    record = run.json["record"]
    link, settings = record["environment"]["link"], record["runtime"]["settings"]
    assert link["level"] == "glibc bundle"
    assert link["worker_sha256"] == connection.installed.sha256
    assert settings["libc"] == "glibc 2.36"
    program = way.run(("sha256sum", f"{folder}/latbench-native"), timeout_s=30).stdout.decode()
    assert settings["worker_sha256"] == program.split()[0]
    assert record["outcome"]["checks"][0]["max_rel_error"] < 1e-4
    emulated = "aarch64" in loader
    assert record["environment"]["machine"].get("emulated", False) == emulated
    shown = latbench(tmp_path, "show", record["id"], "--registry", "r.db")
    assert "(glibc bundle)" in shown.out.splitlines()[0]
    assert "on a glibc bundle" in shown.out
    if emulated:
        assert "UNRELIABLE" in shown.out
        assert "the processor is emulated" in shown.out
    # What is there is not sent again.
    again = latbench(tmp_path, "devices", "install", "phone", *glibc)
    assert (again.status, again.err) == (0, "")
