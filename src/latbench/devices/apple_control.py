"""``xcrun devicectl`` on a Mac: few verbs, each with its own deadline.

Only the JSON file of ``--json-output`` is meant for programs, so each call writes one to a folder
on the Mac, and prints it. Both forms are read: that of Xcode 15 to 26 and that of Xcode 27.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import msgspec

from latbench.devices.apple_errors import PROBLEMS, error_lines, in_words
from latbench.devices.transport import Completed
from latbench.errors import StageError
from latbench.schema.value import Value

ASK_S = 60.0
"""Longest time for a question; a sleeping phone on a wireless network takes twenty seconds."""
INSTALL_S = 300.0
COPY_S = 120.0
PHONE_BYTES_PER_S = 500_000
"""A phone on a wireless network takes half a megabyte a second."""
ON_MAC = (
    'out=$1; shift; rm -f "$out"; "$@" >"$out.said" 2>&1 </dev/null; code=$?; '
    'cat "$out" 2>/dev/null; tail -c 4000 "$out.said" >&2; exit $code'
)
"""Runs a command whose result is the file of its first argument."""
READ = 'if [ -f "$1" ]; then cat "$1"; else cat "$2"; fi'
CONTAINER = "appDataContainer"
TEMPORARY = "/tmp/latbench-XXXXXX"  # noqa: S108 - the template of `mktemp`


class MacShell(Protocol):
    """The Mac: this machine, or a device at the end of a connection."""

    def run(self, command: Sequence[str], *, timeout_s: float, stdin: bytes = b"") -> Completed:
        """Run a command to its end. Raises :class:`StageError`."""
        ...

    def push(self, source: Path, target: str) -> None:
        """Copy a file to an absolute path there. Raises :class:`StageError`."""
        ...

    def close(self) -> None:
        """End the connection."""
        ...


class Phone(Value, frozen=True, kw_only=True):
    """What a Mac says about a phone or tablet. ``None`` or an empty text: not said."""

    identifier: str
    udid: str
    name: str
    product: str
    """Such as ``iPhone14,4``."""
    marketing_name: str
    system: str
    """Such as ``iOS 18.5``."""
    build: str
    reality: str
    """``physical``, ``virtual`` or ``simulated``."""
    pairing: str
    """``paired`` or ``unpaired``."""
    connection: str
    """``connected``, ``disconnected`` (at rest: it is connected to when needed) or
    ``unavailable``."""
    wire: str
    """``wired`` or ``localNetwork``."""
    developer_mode: str | None
    """``enabled`` or ``disabled``; said only once the Mac has connected to it."""
    disk_image: bool | None
    """Whether the services of the developer disk image run."""

    @property
    def described(self) -> str:
        """Name, model and system."""
        model = self.marketing_name or self.product or "a device"
        return f"{model} ({self.product})" if self.product and self.marketing_name else model

    def is_called(self, identifier: str) -> bool:
        """Whether it is the one of that identifier, UDID or name."""
        return identifier.lower() in (self.identifier.lower(), self.udid.lower()) or (
            identifier == self.name
        )


class DeviceControl:
    """``xcrun devicectl`` on the Mac that is called ``mac``. All raise :class:`StageError`.

    ``words`` has what messages call the phone (``phone``), the id of the user's device (``id``) and
    what devicectl calls it (``device``).
    """

    def __init__(self, shell: MacShell, mac: str, words: Mapping[str, str] | None = None) -> None:
        self.shell = shell
        self._words = {"mac": mac, "phone": "the phone", "id": "ID", "device": "", **(words or {})}
        self._folder: str | None = None
        self.version = ""
        """Of devicectl, once it has answered."""

    @property
    def device(self) -> str:
        """What devicectl calls the phone."""
        return self._words["device"]

    @property
    def mac(self) -> str:
        """What messages call the Mac."""
        return self._words["mac"]

    def close(self) -> None:
        """Delete the folder on the Mac, and end the connection to it."""
        try:
            if self._folder is not None:
                self.shell.run(("rm", "-rf", "--", self._folder), timeout_s=ASK_S)
        except StageError:
            pass  # The connection is lost; /tmp is emptied by the system.
        self.shell.close()

    def folder(self) -> str:
        """A folder of our own on the Mac."""
        if self._folder is None:
            done = self.shell.run(("mktemp", "-d", TEMPORARY), timeout_s=ASK_S)
            if done.status != 0:
                raise StageError("probe", f"no folder can be made on {self.mac}: {done.said}")
            self._folder = done.stdout.decode().strip()
        return self._folder

    def phones(self) -> tuple[Phone, ...]:
        """Phones and tablets that the Mac knows, without simulators."""
        devices = self._result("list", "devices").get("devices") or []
        found = (read_phone(each) for each in devices if isinstance(each, dict))
        return tuple(each for each in found if each.udid and each.reality != "simulated")

    def details(self) -> Phone:
        """Connect to the phone and describe it."""
        return read_phone(self._of_phone("device", "info", "details"))

    def locked(self) -> bool | None:
        """Whether a passcode is needed now."""
        told = self._of_phone("device", "info", "lockState").get("passcodeRequired")
        return told if isinstance(told, bool) else None

    def runs(self, app: str) -> bool:
        """Whether a process of the bundle ``NAME.app`` runs."""
        running = self._of_phone("device", "info", "processes").get("runningProcesses") or []
        paths = (str(each.get("executable", "")) for each in running if isinstance(each, dict))
        return any(f"/{app}/" in path for path in paths)

    def install(self, app: str) -> None:
        """Install the bundle at a path on the Mac."""
        self._of_phone("device", "install", "app", arguments=(app,), timeout_s=INSTALL_S)

    def uninstall(self, bundle: str) -> None:
        """Delete an app and its data."""
        self._of_phone("device", "uninstall", "app", arguments=(bundle,))

    def launch(self, bundle: str, arguments: Sequence[str], *, timeout_s: float) -> None:
        """Start an app and wait until it has ended."""
        self._of_phone(
            *("device", "process", "launch", "--console", "--terminate-existing"),
            arguments=(bundle, *arguments),
            timeout_s=timeout_s,
            own_deadline=False,
        )

    def copy_to(self, bundle: str, source: str, target: str, *, size: int) -> None:
        """Copy a file or folder of the Mac to a path in the app's data folder."""
        self._of_phone(
            *("device", "copy", "to", "--domain-type", CONTAINER, "--domain-identifier", bundle),
            *("--source", source, "--destination", target),
            timeout_s=COPY_S + size / PHONE_BYTES_PER_S,
        )

    def copy_from(self, bundle: str, source: str, *names: str) -> dict[str, bytes] | None:
        """The files of these names in a folder of the app's data; ``None`` if it is not there."""
        place = f"{self.folder()}/fetched"
        self.shell.run(("rm", "-rf", "--", place), timeout_s=ASK_S)
        try:
            self._of_phone(
                *("device", "copy", "from", "--domain-type", CONTAINER),
                *("--domain-identifier", bundle, "--source", source, "--destination", place),
                timeout_s=COPY_S,
            )
        except StageError as error:
            missing = "Failed to retrieve the file node" in (error.detail or "")
            if missing and error.kind != "disconnected":
                return None
            raise
        # Some versions copy the folder into an existing or new folder of the destination's name.
        inside = f"{place}/{PurePosixPath(source).name}"
        found = {}
        for name in names:
            read = ("sh", "-c", READ, "sh", f"{inside}/{name}", f"{place}/{name}")
            done = self.shell.run(read, timeout_s=COPY_S)
            if done.status == 0:
                found[name] = done.stdout
        return found

    def _of_phone(
        self,
        *verb: str,
        arguments: Sequence[str] = (),
        timeout_s: float = ASK_S,
        own_deadline: bool = True,
    ) -> dict[str, Any]:
        # Options come first: what follows a bundle identifier belongs to the app.
        options = ("--device", self.device)
        return self._result(
            *verb,
            *options,
            arguments=arguments,
            timeout_s=timeout_s,
            own_deadline=own_deadline,
        )

    def _result(
        self,
        *verb: str,
        arguments: Sequence[str] = (),
        timeout_s: float = ASK_S,
        own_deadline: bool = True,
    ) -> dict[str, Any]:
        """The member ``result`` of what devicectl writes."""
        out = f"{self.folder()}/result.json"
        deadline = ("--timeout", f"{timeout_s:.0f}") if own_deadline else ()
        line = ("xcrun", "devicectl", *verb, "--json-output", out, *deadline, *arguments)
        done = self.shell.run(("sh", "-c", ON_MAC, "sh", out, *line), timeout_s=timeout_s + 10)
        said = done.stderr.decode(errors="replace")
        try:
            document = msgspec.json.decode(done.stdout) if done.stdout.strip() else {}
        except (msgspec.DecodeError, ValueError):
            document = {}
        info = document.get("info") if isinstance(document, dict) else None
        info = info if isinstance(info, dict) else {}
        self.version = str(info.get("version") or self.version)
        result = document.get("result") if isinstance(document, dict) else None
        if isinstance(result, dict) and info.get("outcome", "success") == "success":
            return result
        doing = f"devicectl on {self.mac} cannot do `{' '.join(verb[:3])}`"
        lines = error_lines(document.get("error")) if isinstance(document, dict) else ""
        if info.get("outcome") == "timeout":
            lines += "\nExceeded command timeout"
        raise in_words(PROBLEMS, lines.strip() or said, doing, self._words)


def read_phone(tree: dict[str, Any]) -> Phone:
    """A device as devicectl describes it, in either form."""

    def told(new: str, old: str) -> str:
        for path in (new, old):
            found: Any = tree
            for name in path.split("."):
                found = found.get(name) if isinstance(found, dict) else None
            if isinstance(found, str) and found:
                return found
            if isinstance(found, dict):
                stated = found.get("stringValue")
                return stated if isinstance(stated, str) else next(iter(found), "")
        return ""

    identifier = told("identifier", "identifier")
    system = told("properties.hardware.platform", "hardwareProperties.platform") or "iOS"
    version = told("properties.software.osVersionNumber", "deviceProperties.osVersionNumber")
    old = tree.get("deviceProperties")
    image = old.get("ddiServicesAvailable") if isinstance(old, dict) else None
    return Phone(
        identifier=identifier,
        udid=told("properties.hardware.udid", "hardwareProperties.udid") or identifier,
        name=told("properties.state.name", "deviceProperties.name"),
        product=told("properties.hardware.productType", "hardwareProperties.productType"),
        marketing_name=told(
            "properties.hardware.marketingName", "hardwareProperties.marketingName"
        ),
        system=f"{system} {version}".strip(),
        build=told("properties.software.osBuildUpdate", "deviceProperties.osBuildUpdate"),
        reality=told("properties.hardware.reality", "hardwareProperties.reality") or "physical",
        pairing=told("properties.connection.pairingState", "connectionProperties.pairingState"),
        connection=told("properties.connection.state", "connectionProperties.tunnelState"),
        wire=told("properties.connection.transportType", "connectionProperties.transportType"),
        developer_mode=told(
            "properties.state.developerModeStatus", "deviceProperties.developerModeStatus"
        )
        or None,
        disk_image=image if isinstance(image, bool) else None,
    )
