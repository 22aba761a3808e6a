"""What an Android device says about itself before anything is installed there.

What its programs do not tell is unknown, and never a failure: adbd also runs on plain Linux.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from latbench.devices.check_step import CheckStep
from latbench.devices.transport import COMMAND_TIMEOUT_S, Transport
from latbench.errors import StageError

_LOOK = r"""
for each in ro.product.manufacturer ro.product.model ro.build.version.release \
    ro.build.version.sdk ro.product.cpu.abilist; do
    echo "$each=$(getprop $each)"
done
for each in adb_enabled development_settings_enabled; do
    echo "$each=$(settings get global $each)"
done
echo "kernel=$(uname -r)"
dumpsys power | sed -n 's/^ *\(mWakefulness\)=/\1=/p'
dumpsys battery | sed -n -e 's/^ *\([A-Za-z ]*\): */battery \1=/p' \
    -e 's/^ *(UPDATES STOPPED.*/battery faked=yes/p'
dumpsys thermalservice | sed -n -e 's/^Thermal Status: */status=/p' \
    -e 's/^IsStatusOverride: */faked=/p'
"""
"""Shell program that tells about a device, one ``name=value`` on a line."""
_ABIS = ("arm64-v8a", "x86_64")
"""Those that a worker exists for."""
_UNKNOWN = "unknown"
_STATUSES = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
"""Android's names of thermal statuses, from 0 on (PowerManager.THERMAL_STATUS_NONE)."""
_LOW_PERCENT = 20
_POWERED = ("AC", "USB", "Wireless", "Dock")


def android_steps(transport: Transport) -> Iterator[CheckStep]:
    """Ask the device. Raises :class:`StageError` if the connection is lost."""
    try:
        done = transport.run(("sh", "-c", _LOOK), timeout_s=COMMAND_TIMEOUT_S)
    except StageError as error:
        if error.kind != "timeout":
            raise
        yield CheckStep(name="phone", works=None, found=error.message, hint=error.hint)
        return
    lines = done.stdout.decode(errors="replace").splitlines()
    told = {name: value.strip() for name, _, value in (line.partition("=") for line in lines)}
    yield from steps_of({name: value for name, value in told.items() if value not in ("", "null")})


def steps_of(told: Mapping[str, str]) -> Iterator[CheckStep]:
    """The steps that follow from what the programs of the device have told."""
    yield CheckStep(name="authorization", works=True, found="this computer is allowed")
    yield _debugging(told)
    maker, model = told.get("ro.product.manufacturer"), told.get("ro.product.model")
    named = " ".join(each for each in (maker, model) if each)
    yield CheckStep(name="model", works=None, found=named or _UNKNOWN)
    release, sdk = told.get("ro.build.version.release"), told.get("ro.build.version.sdk")
    android = f"{release} (API level {sdk or _UNKNOWN})" if release else _UNKNOWN
    yield CheckStep(name="Android", works=None, found=android)
    yield CheckStep(name="kernel", works=None, found=told.get("kernel", _UNKNOWN))
    yield _abi(told.get("ro.product.cpu.abilist"))
    yield _screen(told.get("mWakefulness"))
    yield _battery(told)
    yield _thermal(told.get("status"), told.get("faked"))


def _debugging(told: Mapping[str, str]) -> CheckStep:
    words = {"1": "on", "0": "off"}
    usb = words.get(told.get("adb_enabled", ""), _UNKNOWN)
    options = words.get(told.get("development_settings_enabled", ""), _UNKNOWN)
    found = f"developer options {options}, USB debugging {usb}"
    return CheckStep(name="debugging", works=None, found=found)


def _abi(listed: str | None) -> CheckStep:
    if listed is None:
        return CheckStep(name="ABI", works=None, found=_UNKNOWN)
    fits = any(abi in _ABIS for abi in listed.split(","))
    hint = None if fits else f"the native worker exists for {' and '.join(_ABIS)}"
    return CheckStep(name="ABI", works=fits, found=listed, hint=hint)


def _screen(wakefulness: str | None) -> CheckStep:
    if wakefulness is None:
        return CheckStep(name="screen", works=None, found=_UNKNOWN)
    awake = wakefulness == "Awake"
    return CheckStep(
        name="screen",
        works=None,
        found="on" if awake else f"off ({wakefulness})",
        hint=None if awake else "with the screen off, Android may slow programs down",
    )


def _battery(told: Mapping[str, str]) -> CheckStep:
    own = {name.removeprefix("battery "): value for name, value in told.items()}
    level = own.get("level", "")
    if not level.isdecimal():
        return CheckStep(name="charging", works=None, found=_UNKNOWN)
    sources = [each for each in _POWERED if own.get(f"{each} powered") == "true"]
    power = f"powered by {' and '.join(sources)}" if sources else "on battery"
    low = int(level) < _LOW_PERCENT
    faked = "faked" in own
    hint = "the reading is faked: adb shell dumpsys battery reset" if faked else None
    return CheckStep(
        name="charging",
        works=None,
        found=f"{power}, {level} %",
        hint="charge it: phones slow down when they run empty" if low else hint,
    )


def _thermal(status: str | None, override: str | None) -> CheckStep:
    number = re.fullmatch(r"\d+", status or "")
    if number is None or int(number[0]) >= len(_STATUSES):
        return CheckStep(name="thermal", works=None, found=_UNKNOWN)
    word = _STATUSES[int(number[0])]
    hint = None if word == "none" else "let it cool down; --cooldown waits for it"
    if override == "true":
        hint = "the status is faked: adb shell cmd thermalservice reset"
    return CheckStep(name="thermal", works=None, found=word, hint=hint)
