"""What devicectl says, in the words of its JSON files as public reports have them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from latbench.devices.apple_control import DeviceControl, read_phone
from latbench.devices.apple_errors import BUILD_PROBLEMS, error_lines, in_words
from latbench.devices.apple_scripts import split
from latbench.devices.transport import Completed
from latbench.errors import StageError
from latbench.worker import messages
from latbench.worker.job_folder import ScriptLine

CORE = "com.apple.dt.CoreDeviceError"
OLD = {
    "identifier": "8648BE6E",
    "connectionProperties": {"pairingState": "paired", "tunnelState": "disconnected"},
    "deviceProperties": {
        "ddiServicesAvailable": False,
        "developerModeStatus": "enabled",
        "name": "A phone",
        "osVersionNumber": "18.5",
    },
    "hardwareProperties": {"platform": "iOS", "productType": "iPhone14,5", "udid": "U"},
}
NEW = {
    "identifier": "8648BE6E",
    "properties": {
        "connection": {"pairingState": "paired", "state": "disconnected"},
        "hardware": {
            "platform": "iOS",
            "productType": "iPhone14,5",
            "reality": "physical",
            "udid": "U",
        },
        "software": {"osVersionNumber": {"components": [27, 0], "stringValue": "27.0"}},
        "state": {"developerModeStatus": {"enabled": {"mode": 1}}, "name": "A phone"},
    },
}


class Told:
    """A Mac on which devicectl always says the same."""

    def __init__(self, stdout: bytes = b"", stderr: bytes = b"", status: int = 0) -> None:
        self.done = Completed(status=status, stdout=stdout, stderr=stderr)
        self.lines: list[Sequence[str]] = []

    def run(self, command: Sequence[str], *, timeout_s: float, stdin: bytes = b"") -> Completed:
        if command[0] != "sh":
            return Completed(status=0, stdout=b"/tmp/x\n", stderr=b"")
        self.lines.append(command[5:])
        return self.done

    def push(self, source: Path, target: str) -> None:
        """Nothing is pushed here."""

    def close(self) -> None:
        """Nothing is open."""


def control(document: Any = None, said: str = "", status: int = 1) -> DeviceControl:
    out = b"" if document is None else msgspec.json.encode(document)
    words = {"phone": "my-iphone", "id": "my-iphone", "device": "U"}
    return DeviceControl(Told(out, said.encode(), status), "studio", words)


def failed(code: int, text: str, *below: tuple[str, int, dict[str, str]]) -> dict[str, Any]:
    about: dict[str, Any] = {"NSLocalizedDescription": {"string": text}}
    at = about
    for domain, number, texts in below:
        nested: dict[str, Any] = {name: {"string": value} for name, value in texts.items()}
        told = {"domain": domain, "code": number, "userInfo": nested}
        at["NSUnderlyingError"] = {"error": told}
        at = nested
    error = {"domain": CORE, "code": code, "userInfo": about}
    return {"info": {"outcome": "failed", "version": "518.31"}, "error": error}


@pytest.mark.parametrize(("tree", "system"), [(OLD, "iOS 18.5"), (NEW, "iOS 27.0")])
def test_both_forms_of_a_phone_are_read(tree: dict[str, Any], system: str) -> None:
    phone = read_phone(tree)
    assert (phone.udid, phone.product, phone.system) == ("U", "iPhone14,5", system)
    assert (phone.pairing, phone.connection) == ("paired", "disconnected")
    assert (phone.developer_mode, phone.reality) == ("enabled", "physical")
    assert phone.disk_image is (False if tree is OLD else None)
    assert phone.is_called("8648be6e")


def test_simulators_are_not_phones() -> None:
    simulator = {**NEW, "identifier": "S", "properties": {"hardware": {"reality": "simulated"}}}
    document = {"info": {"outcome": "success"}, "result": {"devices": [OLD, simulator]}}
    (phone,) = control(document, status=0).phones()
    assert phone.udid == "U"


def test_options_come_before_what_belongs_to_the_app() -> None:
    mac = Told(msgspec.json.encode({"info": {"outcome": "success"}, "result": {}}))
    DeviceControl(mac, "studio", {"device": "U"}).launch("b.c", ("run", "01", "0:5"), timeout_s=9)
    (line,) = mac.lines
    assert line[:5] == ("xcrun", "devicectl", "device", "process", "launch")
    assert line[-4:] == ("b.c", "run", "01", "0:5")
    assert "--timeout" not in line
    assert not any(word.startswith("-") for word in line[line.index("b.c") :])


LOCKED = (
    ("FBSOpenApplicationServiceErrorDomain", 1, {}),
    ("FBSOpenApplicationErrorDomain", 7, {"BSErrorCodeDescription": "Locked"}),
)
UNTRUSTED = (
    "FBSOpenApplicationErrorDomain",
    3,
    {
        "NSLocalizedFailureReason": "Unable to launch it because it has an invalid code signature, "
        "inadequate entitlements or its profile has not been explicitly trusted by the user."
    },
)
UNSIGNED = ("MIInstallerErrorDomain", 13, {"NSLocalizedDescription": "No code signature found."})
LAUNCH = "The application failed to launch."


@pytest.mark.parametrize(
    ("document", "words", "hint", "kind"),
    [
        (failed(10002, LAUNCH, *LOCKED), "is locked", "unlock it", "unavailable"),
        (failed(10002, LAUNCH, UNTRUSTED), "does not trust", "VPN & Device", "unavailable"),
        (
            failed(10002, LAUNCH, ("NSOSStatusErrorDomain", -10814, {})),
            "latbench's app is not installed on my-iphone",
            "latbench devices install my-iphone",
            "unavailable",
        ),
        (
            failed(7000, "x", ("ContainerLookupErrorDomain", -1, {})),
            "has no data folder",
            "latbench devices install my-iphone",
            "unavailable",
        ),
        (failed(10005, "x"), "developer mode is off", "Privacy & Security", "unavailable"),
        (
            failed(12040, "The developer disk image could not be mounted on this device."),
            "disk image is not mounted",
            "Xcode",
            "unavailable",
        ),
        (failed(3002, "Failed to install.", UNSIGNED), "is not signed", "--team", "unavailable"),
        (
            failed(1000, "The specified device was not found. (Name: U)"),
            "studio knows no device U",
            "discover --on",
            "unavailable",
        ),
        (
            failed(4, "The tunnel failed.", ("com.apple.dt.RemotePairingError", 4, {})),
            "the connection from studio to my-iphone was lost",
            "cable",
            "disconnected",
        ),
        (
            failed(7000, "x", ("NSPOSIXErrorDomain", 60, {})),
            "was lost",
            "cable",
            "disconnected",
        ),
        (
            {"info": {"outcome": "timeout"}},
            "was lost",
            "cable",
            "disconnected",
        ),
        (
            failed(7000, "x", ("NSPOSIXErrorDomain", 28, {})),
            "my-iphone has no space left",
            "latbench devices clean my-iphone",
            "unavailable",
        ),
        (failed(10004, "App terminated due to signal 9."), "by iOS", "memory", "crash"),
        (failed(3002, "DeviceOSVersionTooLow"), "too old", "iOS 17", "unavailable"),
        (failed(99, "The device is busy."), "still preparing my-iphone", "ready", "unavailable"),
        (failed(99, "Something new."), "Something new.", None, "error"),
    ],
)
def test_errors_in_words(document: Any, words: str, hint: str | None, kind: str) -> None:
    with pytest.raises(StageError) as raised:
        control(document).details()
    failure = raised.value.failure
    assert words in failure.message
    assert failure.kind == kind
    assert (failure.hint is None) if hint is None else (hint in (failure.hint or ""))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ('xcrun: error: unable to find utility "devicectl", not a developer tool', "has no Xcode"),
        ("sh: 1: xcrun: not found", "has no Xcode"),
        ("You have not agreed to the Xcode license agreements.", "license of Xcode"),
        ("Segmentation fault", "Segmentation fault"),
        ("", "devicectl on studio cannot do `device info details`"),
    ],
)
@pytest.mark.parametrize("document", [None, [], {"result": None}])
def test_without_a_result_what_was_printed_says_why(document: Any, said: str, words: str) -> None:
    with pytest.raises(StageError, match=words):
        control(document, said).details()


def test_nested_errors_end() -> None:
    error: dict[str, Any] = {"domain": "D", "code": 1, "userInfo": {}}
    error["userInfo"]["NSUnderlyingError"] = {"error": error}
    assert error_lines(error).count("D 1") < 20
    assert error_lines("nothing") == ""


@pytest.mark.parametrize(
    ("said", "words", "hint"),
    [
        ('error: No Account for Team "X".', "no account of the team T is in Xcode", "10 letters"),
        ("error: No profiles for 'dev.latbench' were found", "no profile", "registers the phone"),
        ("codesign: errSecInternalComponent", "keychain of studio is locked", "unlock-keychain"),
        ('Signing for "L" requires a development team.', "was not signed", "--team TEAMID"),
        (
            "error: Unable to process request - PLA Update available\n"
            "error: No profiles for 'dev.latbench' were found",
            "license agreement that the team T",
            "developer.apple.com/account",
        ),
        ("error: Your session has expired. Please log in.", "is signed out", "Accounts"),
        ("error: Your maximum App ID limit has been reached.", "used up", "seven days"),
        (
            "xcodebuild: error: Unable to find a destination matching the provided specifier\n"
            "{ platform:iOS, id:1, error:iOS 18.5 is not installed. Please download and install "
            "the platform from Xcode > Settings > Components. }",
            "has no components for this phone's iOS",
            "-downloadPlatform iOS",
        ),
        ("error: Unable to find a destination matching {id:1}", "not find the phone", "cable"),
        ("error: You already have a current iOS Development certificate", "certificates", "revoke"),
        ("error: No space left on device", "studio has no space left", "gigabytes"),
        ("error: use of undeclared type", "use of undeclared type", None),
    ],
)
def test_a_build_that_fails_in_words(said: str, words: str, hint: str | None) -> None:
    names = {"mac": "studio", "team": "T", "id": "my-iphone", "phone": "my-iphone"}
    error = in_words(BUILD_PROBLEMS, said, "the app cannot be built", names)
    assert words in error.message
    assert (error.hint is None) if hint is None else (hint in (error.hint or ""))


def test_each_process_is_a_launch_of_its_own() -> None:
    asks = messages.ReadConditions()
    around = ScriptLine(role="conditions", timeout_s=1, request=asks)
    close = ScriptLine(worker="model", role="close", timeout_s=1, request=messages.Close())
    block = ScriptLine(worker="model", role="block", timeout_s=1, request=messages.Time(calls=1))
    assert split((around, block, close, block, close, around)) == [(0, 3), (3, 6)]
    assert split((around, around)) == [(0, 2)]
    # Model and sentinel of a process are closed one after the other.
    other = ScriptLine(worker="sentinel", role="close", timeout_s=1, request=messages.Close())
    assert split((around, block, close, other, block, close, other, around)) == [(0, 4), (4, 8)]
