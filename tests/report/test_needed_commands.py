"""What somebody must have and type to measure the value of a claim."""

from __future__ import annotations

from typing import Literal

import msgspec

from latbench.claims.model import Claim
from latbench.report.text.verdict import needed_commands
from latbench.schema.environment import Device

TREE = {
    "id": "a-claim",
    "model": "one",
    "says": {"kind": "value", "metric": "latency", "figure": "2.30", "unit": "ms"},
    "source": {"id": "s", "where": "Table 1"},
    "conditions": {"device": "pi", "backend": "tflite"},
    "by": "authors",
}
CLAIM = msgspec.convert(TREE, Claim)


def row(transport: Literal["ssh", "adb", "apple"]) -> Device:
    return Device(id="pi", name="A Board", kind="board", transport=transport)


def test_commands_for_a_device_that_one_does_not_have_yet() -> None:
    assert needed_commands(CLAIM, row("ssh"), []) == [
        "to measure it on a device of yours (A Board):",
        "    latbench devices add my-pi ssh://USER@HOST --same-as pi",
        "    latbench devices install my-pi --backend tflite",
        "    latbench claims check a-claim --measure --device my-pi",
    ]


def test_one_command_for_a_device_that_one_has() -> None:
    (line,) = needed_commands(CLAIM, row("ssh"), ["left", "right"])
    assert line.endswith("latbench claims check a-claim --measure --device left")


def test_phones_are_reached_in_their_own_ways() -> None:
    for device, address in (
        (row("adb"), "adb://SERIAL"),
        (row("apple"), "apple://MAC/IDENTIFIER"),
    ):
        commands = needed_commands(CLAIM, device, [])
        assert f"    latbench devices add my-pi {address} --same-as pi" in commands


def test_nothing_is_needed_where_nothing_can_be_measured() -> None:
    assert needed_commands(CLAIM, None, []) == []
    nobody = msgspec.structs.replace(CLAIM, unverifiable="nobody knows")
    assert needed_commands(nobody, row("ssh"), []) == []
