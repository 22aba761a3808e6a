"""Addresses of devices: what follows ``latbench devices add ID``."""

from __future__ import annotations

from typing import ClassVar, Literal
from urllib.parse import urlsplit

from latbench.errors import UsageError
from latbench.schema.value import Value


class LocalAddress(Value, frozen=True, kw_only=True):
    """``local://``: this machine, under a name of its own."""

    transport: ClassVar[Literal["local"]] = "local"


class SshAddress(Value, frozen=True, kw_only=True):
    """``ssh://[USER@]HOST[:PORT]``; HOST may be a name of ``~/.ssh/config``."""

    transport: ClassVar[Literal["ssh"]] = "ssh"
    host: str
    user: str | None
    port: int | None


class AdbAddress(Value, frozen=True, kw_only=True):
    """``adb://SERIAL``: an Android device, by the serial that ``adb devices`` prints."""

    transport: ClassVar[Literal["adb"]] = "adb"
    serial: str


class AppleAddress(Value, frozen=True, kw_only=True):
    """``apple://MAC/IDENTIFIER``: an iPhone or iPad behind a Mac."""

    transport: ClassVar[Literal["apple"]] = "apple"
    mac: str
    """Id of the Mac among the user's devices, or ``local``."""
    identifier: str
    """Identifier or UDID, as ``xcrun devicectl list devices`` prints it."""


Address = LocalAddress | SshAddress | AdbAddress | AppleAddress
SCHEMES = ("ssh", "adb", "apple", "local")
_FORMS = {"adb": "adb://SERIAL", "apple": "apple://MAC/IDENTIFIER"}


def address_form(transport: str | None) -> str:
    """What the address of such a device looks like."""
    return _FORMS.get(transport or "", "ssh://USER@HOST")


def read_address(address: str) -> Address:
    """The parts of an address. Raises :class:`UsageError`."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        raise UsageError(
            f"{address!r} is not an address", hint=f"write ssh://USER@HOST: ssh://{address}"
        )
    match scheme:
        case "ssh":
            return _ssh(address, rest)
        case "adb":
            return _adb(address, rest)
        case "apple":
            return _apple(address, rest)
        case "local":
            if rest:
                raise UsageError(f"{address!r}: this machine needs no name", hint="write local://")
            return LocalAddress()
    raise UsageError(
        f"unknown way to reach a device: {scheme}://",
        hint=f"known: {', '.join(f'{each}://' for each in SCHEMES)}",
    )


def _ssh(address: str, rest: str) -> SshAddress:
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise UsageError(
            f"{address!r} is not an address: {error}",
            hint="write ssh://USER@HOST:PORT; an IPv6 address stands in brackets: ssh://[fe80::1]",
        ) from error
    if port == 0 or parts.username == "" or not rest.isprintable() or " " in rest:
        raise UsageError(
            f"{address!r} is not an address",
            hint="write ssh://USER@HOST or ssh://USER@HOST:PORT, without spaces",
        )
    if parts.password is not None:
        raise UsageError(
            "an address with a password is not stored",
            hint="use a key: ssh-copy-id USER@HOST, then ssh://USER@HOST",
        )
    host = parts.hostname
    if not host or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise UsageError(
            f"{address!r} is not an address",
            hint="write ssh://USER@HOST or ssh://USER@HOST:PORT, without a path",
        )
    if host.startswith("-") or (parts.username or "").startswith("-"):
        raise UsageError(f"{address!r} is not an address: a name begins with a dash")
    # urlsplit makes the host lower case; names in ~/.ssh/config have upper case too.
    whole = rest.rpartition("@")[2].rstrip("/")
    cased = whole if ":" not in whole or whole.endswith("]") else whole.rpartition(":")[0]
    return SshAddress(host=cased.strip("[]") or host, user=parts.username, port=port)


def _adb(address: str, rest: str) -> AdbAddress:
    # A phone's second name in the network contains a space.
    if not _is_word(rest.replace(" ", "")) or rest != rest.strip():
        raise UsageError(
            f"{address!r} is not an address",
            hint="write adb://SERIAL, where `adb devices` prints the serial",
        )
    return AdbAddress(serial=rest)


def _apple(address: str, rest: str) -> AppleAddress:
    mac, separator, identifier = rest.partition("/")
    if not separator or not _is_word(mac) or not _is_word(identifier):
        raise UsageError(
            f"{address!r} is not an address",
            hint="write apple://MAC/IDENTIFIER: MAC is the id of your Mac, or local; "
            "`xcrun devicectl list devices` prints the identifier",
        )
    return AppleAddress(mac=mac, identifier=identifier)


def _is_word(text: str) -> bool:
    """Whether it can be an argument of a program: printable, without a leading dash."""
    plain = text.isascii() and text.isprintable() and not any(each.isspace() for each in text)
    return plain and bool(text) and not text.startswith("-") and "/" not in text
