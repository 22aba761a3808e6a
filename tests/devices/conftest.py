"""A board that sees this checkout, as a device of the user's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.devices import add_with_checkout, use_home
from support.hosts import Bed, Host
from support.hosts.spec import CHECKOUT


@pytest.fixture
def device(ssh_bed: Bed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A device called ``board`` on which a worker is installed."""
    pytest.importorskip("asyncssh", reason="needs the `ssh` extra")
    with ssh_bed.started(name="board", visible=CHECKOUT) as host:
        use_home(tmp_path / "home", host, monkeypatch)
        add_with_checkout(host)
        yield host
