"""devices.yaml as shipped, and a user's own beside it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from latbench.devices.catalog import find_device, load_devices, user_devices_path
from latbench.errors import UsageError
from latbench.schema.environment import Device, Fact

ROW = "- id: {id}\n  name: Mine\n  kind: board\n"


def own(tmp_path: Path, rows: str, schema: str = "1") -> Path:
    path = tmp_path / "devices.yaml"
    path.write_text(f"schema: {schema}\ndevices:\n{rows}")
    return path


def test_every_fact_has_a_source() -> None:
    for device in load_devices():
        for name in Device.__struct_fields__:
            fact = getattr(device, name)
            if isinstance(fact, Fact):
                assert len(fact.source) > 10, f"{device.id}.{name}"
                assert fact.value != "", f"{device.id}.{name}"


def test_ids_are_unique_slugs() -> None:
    ids = [device.id for device in load_devices()]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", id) for id in ids)


@pytest.mark.parametrize(
    "id", ["iphone-13-mini", "iphone-12", "iphone-14-pro-max", "pixel-1", "galaxy-s8", "rtx-4090", "jetson-nano-4gb", "intel-xeon-e5-2680", "mac-m3-max"]
)  # fmt: skip
def test_machines_of_published_claims_are_there(id: str) -> None:
    assert find_device(load_devices(), id).id == id


def test_the_claims_headline_phone() -> None:
    phone = find_device(load_devices(), "iphone-13-mini")
    assert phone.soc is not None
    assert phone.soc.value == "Apple A15"
    assert "2307.00395" in phone.soc.source
    assert phone.memory_bytes is None


def test_a_users_file_extends(tmp_path: Path) -> None:
    devices = load_devices(own(tmp_path, ROW.format(id="shelf-7")))
    assert len(devices) == len(load_devices()) + 1
    assert find_device(devices, "shelf-7").name == "Mine"


@pytest.mark.parametrize(
    ("rows", "line", "words"),
    [
        (ROW.format(id="iphone-12"), 3, "the id 'iphone-12' is taken: devices.yaml:"),
        (ROW.format(id="a") * 2, 6, "the id 'a' is taken"),
        (ROW.format(id="a") + "  sco: null\n", 6, "devices[0].sco: unknown key"),
        (ROW.format(id="a") + "  soc: Apple A99\n", 6, "devices[0].soc"),
        (ROW.format(id="a") + "  soc: {value: x}\n", 6, "missing required field `source`"),
        (ROW.format(id="a").replace("board", "toaster"), 5, "devices[0].kind"),
        ("- name: x\n  kind: board\n", 3, "missing required field `id`"),
    ],
)
def test_errors_name_file_line_and_key(tmp_path: Path, rows: str, line: int, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_devices(own(tmp_path, rows))
    assert caught.value.message.startswith(f"{tmp_path / 'devices.yaml'}:{line}: ")
    assert words in caught.value.message


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="schema 2; this latbench reads up to 1"):
        load_devices(own(tmp_path, "", schema="2"))


def test_unknown_ids_offer_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        find_device(load_devices(), "iphone13mini")
    assert "iphone-13-mini" in (caught.value.hint or "")


def test_where_the_users_file_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("LATBENCH_DEVICES", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert user_devices_path() is None
    (tmp_path / "latbench").mkdir()
    (tmp_path / "latbench/devices.yaml").write_text("schema: 1\ndevices: []\n")
    assert user_devices_path() == tmp_path / "latbench/devices.yaml"
    monkeypatch.setenv("LATBENCH_DEVICES", str(tmp_path / "named.yaml"))
    with pytest.raises(UsageError, match=r"cannot read the devices file .*named.yaml"):
        load_devices(user_devices_path())
