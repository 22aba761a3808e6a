"""What `xcrun devicectl` and `xcodebuild` report, in words and with what to do about it.

The tools describe an error as nested values of a domain, a code and texts. The pairs below are
those that public reports of users show; the texts decide where a code is not known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from latbench.errors import FailureKind, StageError

DEEPEST_ERROR = 8
"""How many errors may be nested."""
ENDED_BY_SYSTEM = (
    "iOS ends an app that takes too much memory, whose phone runs empty, or that somebody closes; "
    "its crash report is on the phone: Settings, Privacy & Security, Analytics"
)
UNLOCK = "unlock it, and let it stay so: Settings, Display & Brightness, Auto-Lock, Never"


class KnownProblem(NamedTuple):
    """A known error: how it is recognized, and the words for it."""

    pattern: str
    """Of the lines ``DOMAIN CODE text`` of an error and of those below it."""
    message: str
    """``{phone}`` and ``{mac}`` are replaced."""
    hint: str
    kind: FailureKind = "unavailable"


PROBLEMS = (
    KnownProblem(
        r"unable to find utility|xcrun: not found|xcrun: command not found|"
        r"No such file or directory: '?xcrun",
        "{mac} has no Xcode that drives phones: xcrun does not find devicectl",
        "install Xcode 15 or newer there and choose it: "
        "sudo xcode-select -s /Applications/Xcode.app/Contents/Developer",
    ),
    KnownProblem(
        r"agree(d)? to the Xcode license",
        "the license of Xcode was not accepted on {mac}",
        "on the Mac: sudo xcodebuild -license accept",
    ),
    KnownProblem(
        r"BSErrorCodeDescription.*Locked|FBSOpenApplicationErrorDomain 7\b|"
        r"could not be, unlocked|device is locked|passcode.protected|DeviceLocked",
        "{phone} is locked",
        UNLOCK,
    ),
    KnownProblem(
        r"Developer Mode is (disabled|not enabled)|CoreDeviceError 10005\b",
        "developer mode is off on {phone}",
        "on the phone: Settings, Privacy & Security, Developer Mode; then restart it",
    ),
    KnownProblem(
        r"explicitly trusted by the user|FBSOpenApplicationErrorDomain 3\b",
        "{phone} does not trust the developer of the app",
        "on the phone: Settings, General, VPN & Device Management, trust your developer account; "
        "seven days after a free account signed it: latbench devices install {id} --team TEAMID",
    ),
    KnownProblem(
        r"due to signal 9\b|SIGKILL",
        "latbench's app was ended by iOS on {phone}",
        ENDED_BY_SYSTEM,
        "crash",
    ),
    KnownProblem(
        r"NSPOSIXErrorDomain 28\b|NSCocoaErrorDomain 640\b|No space left|not enough (free )?space|"
        r"insufficient storage",
        "{phone} has no space left",
        "delete something there; `latbench devices clean {id}` deletes the models of earlier runs",
    ),
    KnownProblem(
        r"DeviceOSVersionTooLow|newer version of iOS|MIInstallerErrorDomain 45\b",
        "the iOS of {phone} is too old for latbench's app",
        "update it: iOS 17 or newer is needed",
    ),
    KnownProblem(
        r"device is busy|busy \(|Preparing .* for development|is still being prepared",
        "{mac} is still preparing {phone}",
        "wait until Window, Devices and Simulators in Xcode shows it as ready, and repeat",
    ),
    KnownProblem(
        r"CoreDeviceError 12040\b|developer disk image|MobileImageMounter",
        "the developer disk image is not mounted on {phone}",
        "unlock the phone, connect it by cable, and open Window, Devices and Simulators in Xcode: "
        "it prepares the phone",
    ),
    KnownProblem(
        r"NSOSStatusErrorDomain -10814\b|is not installed",
        "latbench's app is not installed on {phone}",
        "latbench devices install {id} --team TEAMID",
    ),
    KnownProblem(
        r"ContainerLookupErrorDomain",
        "latbench's app has no data folder on {phone}: it is not installed, or was never opened",
        "latbench devices install {id} --team TEAMID",
    ),
    KnownProblem(
        r"maximum number of (installed )?apps|maximum number of apps for free",
        "{phone} holds as many apps of a free developer account as it may",
        "delete one of them on the phone",
    ),
    KnownProblem(
        r"No code signature found|MIInstallerErrorDomain 13\b|ApplicationVerificationFailed|"
        r"0xe80080(12|15|16)|valid provisioning profile",
        "{phone} refuses the app: it is not signed for this phone",
        "latbench devices install {id} --team TEAMID signs it; the team must include this phone",
    ),
    KnownProblem(
        r"not paired|must be paired|pairing (is )?required|CoreDeviceError 2\b",
        "{phone} is not paired with {mac}",
        "connect it by cable, unlock it and tap Trust; or: xcrun devicectl manage pair --device ID",
    ),
    KnownProblem(
        r"CoreDeviceError 1000\b|specified device was not found",
        "{mac} knows no device {device}",
        "`latbench devices discover --on MAC` lists its phones",
    ),
    KnownProblem(
        r"RemotePairingError|CoreDeviceError 4\b|tunnel connection failed|"
        r"NSPOSIXErrorDomain (32|50|53|54|57|60|65)\b|CoreDeviceError 4000\b|"
        r"device (was )?disconnected|connection was (interrupted|invalidated)|command timeout",
        "the connection from {mac} to {phone} was lost",
        "connect the phone by cable, unlock it, and keep both awake",
        "disconnected",
    ),
)
BUILD_PROBLEMS = (
    KnownProblem(
        r"No Account for Team|No account for team",
        "no account of the team {team} is in Xcode on {mac}",
        "check the team's id (10 letters and digits, developer.apple.com, Membership), and add "
        "the account: Xcode, Settings, Accounts",
    ),
    KnownProblem(
        r"PLA Update available|Program License Agreement",
        "Apple has a new license agreement that the team {team} has not accepted",
        "the holder of the account accepts it on developer.apple.com/account",
    ),
    KnownProblem(
        r"session has expired|Unable to log in|invalid credentials|Failed to authenticate",
        "the account of the team {team} is signed out in Xcode on {mac}",
        "sign in again: Xcode, Settings, Accounts",
    ),
    KnownProblem(
        r"maximum App ID limit|maximum number of App IDs",
        "the free developer account has used up its app identifiers of this week",
        "wait seven days, or give another --team TEAMID",
    ),
    KnownProblem(
        r"maximum number of (development )?certificates|already ha(s|ve) (a|an) .*certificate",
        "the team {team} has as many signing certificates as it may",
        "revoke one that nobody needs: Xcode, Settings, Accounts, Manage Certificates",
    ),
    KnownProblem(
        r"iOS [\d.]+ is not installed|download and install the platform",
        "Xcode on {mac} has no components for this phone's iOS",
        "Xcode, Settings, Components: install iOS; or: xcodebuild -downloadPlatform iOS",
    ),
    KnownProblem(
        r"Unable to find a (device|destination) matching",
        "Xcode on {mac} does not find the phone",
        "connect it by cable, unlock it, and wait until Window, Devices and Simulators shows it as "
        "ready; an Xcode older than the phone's iOS has to be updated",
    ),
    KnownProblem(
        r"No space left on device|NSPOSIXErrorDomain.*28\b",
        "{mac} has no space left to build the app",
        "free some gigabytes there",
    ),
    KnownProblem(
        r"No profiles for|requires a provisioning profile|doesn't include the currently selected "
        r"device|device is not registered",
        "the team {team} has no profile for the app on this phone",
        "connect the phone to the Mac and open Xcode with your account: it registers the phone",
    ),
    KnownProblem(
        r"errSecInternalComponent|User interaction is not allowed",
        "the keychain of {mac} is locked, so that the app cannot be signed",
        "over ssh it has to be unlocked first: security unlock-keychain "
        "~/Library/Keychains/login.keychain-db",
    ),
    KnownProblem(
        r"Failed Registering Bundle Identifier|cannot be registered to your development team",
        "the app's identifier is taken by another team",
        "use the team that has registered it",
    ),
    KnownProblem(
        r"requires a development team|Signing for",
        "the app was not signed",
        "give the id of your team: --team TEAMID",
    ),
    KnownProblem(
        r"requires Xcode, but active developer directory|unable to find utility|"
        r"xcrun: not found|command not found",
        "{mac} has no Xcode that can build",
        "install Xcode there and choose it: "
        "sudo xcode-select -s /Applications/Xcode.app/Contents/Developer",
    ),
    KnownProblem(
        r"agree(d)? to the Xcode license",
        "the license of Xcode was not accepted on {mac}",
        "on the Mac: sudo xcodebuild -license accept",
    ),
)


def in_words(
    problems: tuple[KnownProblem, ...], said: str, otherwise: str, words: Mapping[str, str]
) -> StageError:
    """The error in words.

    ``said`` has the lines of :func:`error_lines` or what a program printed; ``otherwise`` is the
    message of an error that is not known, which keeps what was said.
    """
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "")
    for problem in problems:
        if re.search(problem.pattern, said, re.IGNORECASE):
            return StageError(
                "probe",
                problem.message.format_map(words),
                hint=problem.hint.format_map(words),
                kind=problem.kind,
                detail=said[-4000:] or None,
            )
    told = re.sub(r"^\S+Domain -?\d+ |^\S+Error -?\d+ ", "", last)
    return StageError(
        "probe", f"{otherwise}: {told}" if told else otherwise, detail=said[-4000:] or None
    )


def error_lines(error: object) -> str:
    """The nested errors of a JSON file of devicectl as lines ``DOMAIN CODE text``, outer first."""
    return "\n".join(_lines(error, DEEPEST_ERROR))


def _lines(error: object, deep: int) -> Iterator[str]:
    if not isinstance(error, dict) or not deep:
        return
    about = error.get("userInfo")
    about = about if isinstance(about, dict) else {}
    texts = []
    below = []
    for name, value in sorted(about.items()):
        told = value.get("string") if isinstance(value, dict) else value
        if isinstance(told, str):
            texts.append(told if name.startswith("NSLocalized") else f"{name} = {told}")
        elif isinstance(value, dict):
            below.append(value.get("error", value))
    head = f"{error.get('domain', '?')} {error.get('code', '?')}"
    yield from (f"{head} {text}" for text in texts or ("",))
    for each in below:
        yield from _lines(each, deep - 1)
