"""The state of a phone as a transaction: all or nothing, and back again from wherever it died."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from latbench.devices.preparation import (
    Clocks,
    Setting,
    Target,
    find_preparation,
    prepare_device,
    prepare_phone,
    restore_device,
)
from latbench.devices.preparation_android import PhoneState
from latbench.devices.transport import Completed
from latbench.errors import StageError, UsageError
from support.android.standins import SETTINGS, put_programs
from support.command_line import in_process

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a shell")

EVERYTHING = PhoneState(stay_awake=True, airplane=True, brightness=30, fixed_performance=True)


class PhoneShell:
    """This machine with the stand-ins, each command in a process group of its own."""

    kind = "adb"

    def __init__(self, programs: Path) -> None:
        self._path = f"{programs}:{os.environ['PATH']}"

    def run(self, command: Sequence[str], *, timeout_s: float, stdin: bytes = b"") -> Completed:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            timeout=timeout_s,
            start_new_session=True,
            env={**os.environ, "PATH": self._path},
            check=False,
        )
        return Completed(status=done.returncode, stdout=done.stdout, stderr=done.stderr)


class Phone:
    """A phone whose settings are files."""

    def __init__(self, root: Path) -> None:
        self.state = put_programs(root / "bin")
        self.journal = root / "data/local/tmp/latbench/prepared"
        self.boot = root / "proc/sys/kernel/random/boot_id"
        self.boot.parent.mkdir(parents=True)
        self.boot.write_text("first\n")
        (root / "data/local/tmp").mkdir(parents=True)
        shell = PhoneShell(root / "bin")
        self.target = Target(id="pixel", shell=shell, serial="38291FDJH00123", root=str(root))

    def settings(self) -> dict[str, str]:
        found = {
            str(path.relative_to(self.state)): path.read_text().strip()
            for space in ("global", "system")
            for path in sorted((self.state / space).glob("*"))
        }
        return found | ({"fixed": "on"} if (self.state / "fixed").exists() else {})

    def calls(self) -> int:
        path = self.state / "calls"
        return len(path.read_text().split()) if path.exists() else 0

    def die_at(self, call: int | None) -> None:
        """Kill the next command at its call number ``call`` of a program; ``None``: at none."""
        (self.state / "calls").unlink(missing_ok=True)
        path = self.state / "kill-at"
        path.unlink(missing_ok=True)
        if call is not None:
            path.write_text(str(call))


@pytest.fixture
def phone(tmp_path: Path) -> Phone:
    return Phone(tmp_path)


@pytest.fixture(params=["sh", "mksh"])
def any_phone(request: pytest.FixtureRequest, tmp_path: Path) -> Phone:
    """A phone with this machine's shell, and one with Android's if that is installed."""
    found = Phone(tmp_path)
    if request.param == "mksh":
        place = shutil.which("mksh")
        if place is None:
            pytest.skip("mksh, Android's shell, is not installed")
        (found.state.parent / "sh").symlink_to(place)
    return found


def test_everything_is_set_and_put_back(any_phone: Phone) -> None:
    phone = any_phone
    before = phone.settings()
    changed = prepare_phone(phone.target, EVERYTHING)
    now = {
        "global/stay_on_while_plugged_in": "15",
        "global/airplane_mode_on": "1",
        "system/screen_brightness_mode": "0",
        "system/screen_brightness": "30",
        "fixed": "on",
    }
    assert phone.settings() == now
    assert {each.path: (each.before, each.now) for each in changed} == {
        **{name: (SETTINGS[name], now[name]) for name in SETTINGS},
        "power/fixed_performance_mode": ("off", "on"),
    }
    left = find_preparation(phone.target)
    assert left is not None
    assert set(left.differing) == set(changed)
    with pytest.raises(StageError, match="earlier prepare of pixel has not been restored"):
        prepare_phone(phone.target, PhoneState(stay_awake=True))
    assert set(restore_device(phone.target) or ()) == set(changed)
    assert phone.settings() == before
    assert restore_device(phone.target) is None
    assert find_preparation(phone.target) is None
    assert [path.name for path in phone.journal.parent.iterdir()] in ([], ["lock"])


def test_a_phone_that_is_measured_on_is_left_alone(any_phone: Phone, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(StageError, match="pixel is in use"):
            prepare_phone(replace(any_phone.target, lock=str(lock)), EVERYTHING)
    assert any_phone.settings() == SETTINGS
    prepare_phone(replace(any_phone.target, lock=str(lock)), EVERYTHING)


def test_settings_that_did_not_exist_are_deleted_again(phone: Phone) -> None:
    for name in SETTINGS:
        (phone.state / name).unlink()
    prepare_phone(phone.target, EVERYTHING)
    assert len(phone.settings()) == 5
    restore_device(phone.target)
    assert phone.settings() == {}


def test_what_is_so_already_stays(phone: Phone) -> None:
    (phone.state / "global/stay_on_while_plugged_in").write_text("3\n")
    (phone.state / "global/airplane_mode_on").write_text("1\n")
    assert prepare_phone(phone.target, PhoneState(stay_awake=True, airplane=True)) == ()
    assert restore_device(phone.target) == ()
    assert phone.settings()["global/stay_on_while_plugged_in"] == "3"
    assert phone.settings()["global/airplane_mode_on"] == "1"


def test_a_reboot_ends_the_mode_but_no_setting(phone: Phone) -> None:
    before = phone.settings()
    prepare_phone(phone.target, EVERYTHING)
    (phone.state / "fixed").unlink()
    phone.boot.write_text("second\n")
    left = find_preparation(phone.target)
    assert left is not None
    assert len(left.differing) == 4
    restore_device(phone.target)
    assert phone.settings() == before


def test_all_or_nothing(phone: Phone) -> None:
    before = phone.settings()
    (phone.state / "no-fixed").touch()
    with pytest.raises(StageError, match="pixel has no fixed-performance mode"):
        prepare_phone(phone.target, EVERYTHING)
    assert phone.settings() == before
    (phone.state / "stuck-airplane").touch()
    with pytest.raises(StageError, match="did not accept global/airplane_mode_on"):
        prepare_phone(phone.target, PhoneState(stay_awake=True, airplane=True))
    assert phone.settings() == before
    assert find_preparation(phone.target) is None


def test_what_cannot_be_put_back_stays_in_the_journal(phone: Phone) -> None:
    before = phone.settings()
    prepare_phone(phone.target, PhoneState(airplane=True, brightness=5))
    (phone.state / "stuck-airplane").touch()
    with pytest.raises(StageError, match="could not put back on pixel: global/airplane_mode_on"):
        restore_device(phone.target)
    (phone.state / "stuck-airplane").unlink()
    restore_device(phone.target)
    assert phone.settings() == before


def test_a_phone_that_is_starting(phone: Phone) -> None:
    program = phone.state.parent / "settings"
    program.write_text('#!/bin/sh\necho "cmd: Can\'t find service: settings"; exit 20\n')
    with pytest.raises(StageError, match="does not report its setting global/stay_on"):
        prepare_phone(phone.target, EVERYTHING)
    assert not phone.journal.exists()
    program.unlink()
    with pytest.raises(StageError, match="no `settings`, `svc` and `cmd` programs"):
        prepare_phone(phone.target, EVERYTHING)


@pytest.mark.slow
def test_death_between_any_two_commands(phone: Phone) -> None:
    before = phone.settings()
    prepare_phone(phone.target, EVERYTHING)
    calls = phone.calls()
    phone.die_at(None)
    restore_device(phone.target)
    back = phone.calls()
    assert calls > 20
    for call in range(1, calls + 1):
        phone.die_at(call)
        with pytest.raises(StageError):
            prepare_phone(phone.target, EVERYTHING)
        if find_preparation(phone.target) is not None:
            phone.die_at(1 + call % back)
            try:
                restore_device(phone.target)
            except StageError:
                phone.die_at(None)
                restore_device(phone.target)
        phone.die_at(None)
        assert find_preparation(phone.target) is None, call
        assert phone.settings() == before, call


@pytest.mark.parametrize(
    ("asked", "serial", "message"),
    [
        (PhoneState(), "1", "nothing to set on pixel"),
        (PhoneState(brightness=256), "1", "brightness must be from 0 to 255"),
        (PhoneState(airplane=True), "192.168.0.7:5555", "through a network"),
        (PhoneState(airplane=True), "adb-1A2B-x._adb-tls-connect._tcp", "through a network"),
        (PhoneState(stay_awake=True), None, "not a phone that adb reaches: it has no `settings`"),
    ],
)
def test_what_is_refused(phone: Phone, asked: PhoneState, serial: str | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        prepare_phone(replace(phone.target, serial=serial), asked)
    assert phone.calls() == 0


def test_clocks_of_a_phone(phone: Phone) -> None:
    with pytest.raises(UsageError, match="needs root on a phone"):
        prepare_device(phone.target, Clocks())


def test_the_command(tmp_path: Path) -> None:
    for words, message in (
        (["--airplane", "--turbo", "off"], "not for phones"),
        (["--stay-awake"], "local is not a phone"),
    ):
        done = in_process(["devices", "prepare", "local", *words], dict(os.environ), tmp_path)
        assert done.status == 2
        assert message in done.err


def test_changed_settings_are_readable() -> None:
    setting = Setting(path="global/airplane_mode_on", before="0", now="1")
    assert setting.text == "global/airplane_mode_on 0 -> 1"
