"""Phones behind Macs: how they are found and checked, and how the app gets there and away."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, count
from pathlib import PurePosixPath

import msgspec

from latbench.devices.addresses import AppleAddress, read_address
from latbench.devices.apple import (
    BUNDLE,
    AppleDevice,
    check_phone,
    control_of,
    other_hardware,
)
from latbench.devices.apple_control import DeviceControl, Phone
from latbench.devices.apple_errors import BUILD_PROBLEMS, UNLOCK, in_words
from latbench.devices.catalog import load_devices, user_devices_path
from latbench.devices.check_step import CheckStep
from latbench.devices.connections import (
    DEVICE_ID,
    Connection,
    Installed,
    load_connections,
    store_connection,
)
from latbench.devices.opening import mac_of, open_mac
from latbench.devices.transport import COMMAND_TIMEOUT_S
from latbench.errors import LatbenchError, StageError, UsageError, suggest
from latbench.events import Warn
from latbench.schema.thermal import is_throttled
from latbench.schema.value import Value
from latbench.worker.apple import (
    APP,
    APP_BACKENDS,
    APPLE_SOURCES,
    app_sources,
    build_command,
    built_app,
    bundle_of,
    sources_sha256,
)

BUILD_TIMEOUT_S = 900.0
"""The first build of a new Xcode compiles the modules of the system too."""
TEAM = re.compile(r"[A-Z0-9]{10}")
TEAM_HINT = (
    "give it with --team TEAMID: 10 letters and digits, in Xcode under Settings, Accounts, "
    "or on developer.apple.com under Membership"
)
LOW_BATTERY_PERCENT = 20


class FoundPhone(Value, frozen=True, kw_only=True):
    """A phone that a Mac knows, and how it would be added."""

    id: str
    address: str
    described: str
    same_as: str | None
    added: bool
    """Whether it is one of the user's devices already."""


def find_phones(mac: str) -> tuple[FoundPhone, ...]:
    """The phones and tablets of a Mac. Raises :class:`StageError` and :class:`UsageError`."""
    control = DeviceControl(open_mac(mac), "this machine" if mac == "local" else mac)
    try:
        phones = control.phones()
    finally:
        control.close()
    connections = load_connections()
    found: list[FoundPhone] = []
    for phone in phones:
        own = next((each.id for each in connections if _reaches(each, phone)), None)
        taken = {each.id for each in connections} | {each.id for each in found}
        found.append(
            FoundPhone(
                id=own or _new_id(phone, taken),
                address=f"apple://{mac}/{phone.udid}",
                described=f"{phone.name}: {phone.described}, {phone.system}",
                same_as=row_of_product(phone.product),
                added=own is not None,
            )
        )
    return tuple(found)


def _reaches(connection: Connection, phone: Phone) -> bool:
    address = read_address(connection.address)
    return isinstance(address, AppleAddress) and phone.is_called(address.identifier)


def row_of_product(product: str) -> str | None:
    """The row of facts of the model that calls itself ``product``."""
    for row in load_devices(user_devices_path()):
        known = row.product.value if row.product is not None else ()
        if product and product in (known if isinstance(known, tuple) else (known,)):
            return row.id
    return None


def check_iphone(connection: Connection) -> Iterator[CheckStep]:
    """Try each step until one fails, which is the last one."""
    address = read_address(connection.address)
    assert isinstance(address, AppleAddress)
    mac = "this machine" if address.mac == "local" else address.mac
    step = "Mac"
    try:
        with _control(connection) as control:
            yield CheckStep(name=step, works=True, found=mac)
            step = "Xcode"
            yield CheckStep(name=step, works=True, found=_xcode(control))
            step = "devicectl"
            phones = control.phones()
            yield CheckStep(name=step, works=True, found=f"version {control.version}")
            step = "phone"
            if not any(each.is_called(address.identifier) for each in phones):
                yield _unknown(connection, address, phones)
                return
            phone = control.details()
            found = f"{phone.described}, {phone.system}, {phone.wire or 'no connection yet'}"
            yield CheckStep(name=step, works=True, found=found)
            yield from _hardware(connection, phone)
            step = "state"
            yield from _state(connection, control, phone)
            if control.locked():
                yield CheckStep(
                    name="locked", works=False, found=f"{connection.id} is locked", hint=UNLOCK
                )
                return
            step = "app"
            with AppleDevice(connection, control) as device:
                yield from _app(device)
    except LatbenchError as error:
        yield CheckStep(name=step, works=False, found=error.message, hint=error.hint)


def install_phone_app(connection: Connection, team: str | None, warn: Warn) -> Installed:
    """Build and sign the app on the Mac, install it, and launch it once.

    ``team`` is the one of an earlier installation by default. Raises :class:`StageError` and
    :class:`UsageError`.
    """
    before = connection.installed
    chosen = team or (before.variables.get("team") if before else None)
    if chosen is None:
        raise UsageError("the app must be signed by a team of developers", hint=TEAM_HINT)
    if not TEAM.fullmatch(chosen):
        raise UsageError(f"{chosen!r} is not the id of a team", hint=TEAM_HINT)
    with _control(connection) as control:
        phone = control.details()
        check_phone(connection, phone)
        folder = _folder_on_mac(connection, control)
        _push_sources(control, folder)
        _build(connection, control, phone, chosen, folder)
        bundle = bundle_of(chosen)
        control.install(built_app(folder))
        control.launch(bundle, ("hello",), timeout_s=COMMAND_TIMEOUT_S * 4)
        installed = Installed(
            worker="apple",
            sha256=sources_sha256(),
            latbench=sources_sha256(),
            folder=folder,
            backends=APP_BACKENDS,
            variables={BUNDLE: bundle, "team": chosen},
        )
        connection = msgspec.structs.replace(connection, installed=installed)
        with AppleDevice(connection, control) as device:
            identity = device.machine.identity
    for each in load_connections():
        if each.id != connection.id and each.identity and each.identity == identity:
            warn(f"{connection.id} is the same device as {each.id}")
    if connection.same_as is None and (row := row_of_product(phone.product)) is not None:
        warn(
            f"claims about {row} are not decided by {connection.id} yet: "
            f"latbench devices add {connection.id} {connection.address} --same-as {row}"
        )
    store_connection(msgspec.structs.replace(connection, identity=identity))
    return installed


def remove_phone_app(connection: Connection) -> None:
    """Delete the app with its data from the phone, and its build from the Mac.

    Raises :class:`StageError`.
    """
    installed = connection.installed
    if installed is None:
        return
    with _control(connection) as control:
        control.uninstall(installed.variables[BUNDLE])
        if installed.folder.rstrip("/").endswith("/apple-worker"):
            control.shell.run(
                ("rm", "-rf", "--", installed.folder), timeout_s=COMMAND_TIMEOUT_S * 4
            )
    store_connection(msgspec.structs.replace(connection, installed=None))


@contextmanager
def _control(connection: Connection) -> Iterator[DeviceControl]:
    control = control_of(connection, mac_of(connection))
    try:
        yield control
    finally:
        control.close()


def _xcode(control: DeviceControl) -> str:
    """The version of Xcode on the Mac. Raises :class:`StageError`."""
    done = control.shell.run(("xcodebuild", "-version"), timeout_s=COMMAND_TIMEOUT_S * 2)
    if done.status != 0:
        said = (done.stdout + done.stderr).decode(errors="replace")
        raise in_words(BUILD_PROBLEMS, said, "Xcode does not answer", _words(control, ""))
    lines = done.stdout.decode(errors="replace").splitlines()
    return ", ".join(lines[:2]) or "an unknown version"


def _words(control: DeviceControl, team: str) -> dict[str, str]:
    return {"mac": control.mac, "team": team}


def _unknown(connection: Connection, address: AppleAddress, phones: Iterable[Phone]) -> CheckStep:
    known = {each.udid: each for each in phones}
    listed = ", ".join(f"{each.udid} ({each.name}, {each.described})" for each in known.values())
    near = suggest(address.identifier, known, otherwise=None)
    return CheckStep(
        name="phone",
        works=False,
        found=f"{address.mac} knows no device {address.identifier}",
        hint=(f"it knows {listed}" if listed else "it knows none: connect the phone by cable")
        + (f"; {near}" if near and listed and len(known) > 1 else "")
        + f"; then: latbench devices add {connection.id} apple://{address.mac}/UDID",
    )


def _hardware(connection: Connection, phone: Phone) -> Iterator[CheckStep]:
    row = row_of_product(phone.product)
    if connection.same_as is None and row is not None:
        yield CheckStep(
            name="hardware",
            works=None,
            found=f"it is {row} of `latbench devices`; its records do not decide claims yet",
            hint=f"latbench devices add {connection.id} {connection.address} --same-as {row}",
        )
    elif connection.same_as is not None and other_hardware(connection, phone) is None:
        yield CheckStep(name="hardware", works=True, found=connection.same_as)


def _state(connection: Connection, control: DeviceControl, phone: Phone) -> Iterator[CheckStep]:
    check_phone(connection, phone)
    yield CheckStep(name="paired", works=True, found=phone.connection or "paired")
    if phone.developer_mode is not None:
        yield CheckStep(name="developer", works=True, found="developer mode is on")
    if phone.disk_image is False:
        yield CheckStep(
            name="disk image",
            works=None,
            found="the developer disk image is not mounted yet",
            hint="devicectl mounts it when needed: the phone must be unlocked then",
        )


def _app(device: AppleDevice) -> Iterator[CheckStep]:
    now = device.conditions()
    link = device.link
    yield CheckStep(
        name="app",
        works=True,
        found=f"{link.worker}, an exchange takes {link.round_trip_ns / 1e9:.1f} s",
    )
    yield CheckStep(name="processor", works=None, found=device.machine.cpu_model or "unknown")
    hot = is_throttled(now.thermal_status)
    yield CheckStep(
        name="thermal",
        works=None,
        found=now.thermal_status or "unknown",
        hint="let it cool down, or wait with --max-thermal-status nominal" if hot else None,
    )
    percent = now.battery_percent
    if percent is not None:
        low = percent < LOW_BATTERY_PERCENT
        yield CheckStep(
            name="battery",
            works=None,
            found=f"{percent} %",
            hint="charge it first: a phone that runs low saves power" if low else None,
        )


def _folder_on_mac(connection: Connection, control: DeviceControl) -> str:
    done = control.shell.run(("sh", "-c", "cd && pwd"), timeout_s=COMMAND_TIMEOUT_S)
    if done.status != 0:
        raise StageError("probe", f"no home folder on {control.mac}: {done.said}")
    home = done.stdout.decode(errors="replace").strip()
    return str(PurePosixPath(home, connection.folder, "apple-worker"))


def _push_sources(control: DeviceControl, folder: str) -> None:
    sources = f"{folder}/sources"
    control.shell.run(("rm", "-rf", "--", sources), timeout_s=COMMAND_TIMEOUT_S)
    for path in app_sources():
        control.shell.push(path, f"{sources}/{path.relative_to(APPLE_SOURCES).as_posix()}")


def _build(
    connection: Connection, control: DeviceControl, phone: Phone, team: str, folder: str
) -> None:
    """Build and sign the app. Raises :class:`StageError`."""
    command = build_command(team, phone.udid, folder)
    done = control.shell.run(command, timeout_s=BUILD_TIMEOUT_S)
    if done.status == 0:
        return
    said = (done.stdout + done.stderr).decode(errors="replace")
    errors = "\n".join(line for line in said.splitlines() if "error:" in line)
    raise in_words(
        BUILD_PROBLEMS,
        f"{said}\n{errors}",
        f"{APP} cannot be built on {control.mac}",
        {**_words(control, team), "id": connection.id, "phone": connection.id},
    )


def _new_id(phone: Phone, taken: set[str]) -> str:
    """An id that no other device has; two phones may be of one model."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", f"my-{phone.marketing_name or 'iphone'}".lower())
    plain = plain if DEVICE_ID.fullmatch(plain) else "my-iphone"
    numbered = (f"{plain}-{number}" for number in count(2))
    return next(id for id in chain((plain,), numbered) if id not in taken)
