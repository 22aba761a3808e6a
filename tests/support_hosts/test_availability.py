"""Where devices cannot be made, tests are skipped and the reason helps."""

from __future__ import annotations

import os
import shutil

import pytest

from support.hosts import arm_root, bed


def test_only_root_can_make_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    assert bed.why_unavailable() == "devices in namespaces need Linux and root"


def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setattr(
        shutil, "which", lambda name, **_: None if name == "sshd" else f"/usr/bin/{name}"
    )
    assert "sshd: not installed (Debian: openssh-server" in (bed.why_unavailable() or "")


def test_a_missing_emulator_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arm_root, "EMULATOR", arm_root.EMULATOR.with_name("missing"))
    assert "qemu-user-static" in (arm_root.why_unavailable() or "")
