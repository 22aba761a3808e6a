"""A test bed: a network, its devices, and the configuration with which clients reach them."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from support.hosts import boot
from support.hosts.control_group import ControlGroup, stale
from support.hosts.host import NAMESPACES, Host
from support.hosts.network import Network
from support.hosts.spec import HostSpec

PREFIX = "latbench-hosts-"
PROGRAMS = ("sshd", "ssh", "ssh-keygen", "ip", "unshare", "nsenter", "mount")
PROBE = """\
ip link add one type veth peer name other
ip link add switch type bridge
mount -t tmpfs tmpfs /tmp
mkdir /tmp/upper /tmp/work /tmp/both
mount -t overlay -o lowerdir=/etc,upperdir=/tmp/upper,workdir=/tmp/work overlay /tmp/both
"""
"""What a device needs of the kernel, tried in namespaces that end at once."""
LOGIN = """\
Host {name}
  HostName {address}
  User {user}
  IdentityFile {key}
  UserKnownHostsFile {known_hosts}
{jump}"""
ALL = """\
Host *
  IdentitiesOnly yes
  IdentityAgent none
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  UpdateHostKeys no
  BatchMode yes
  ConnectTimeout 5
  KexAlgorithms curve25519-sha256
"""
"""OpenSSH's first choice for the exchange of keys takes 170 ms longer."""


def why_unavailable() -> str | None:
    """What this machine has not that devices need; ``None`` if they can be made."""
    if sys.platform != "linux" or os.getuid() != 0:
        return "devices in namespaces need Linux and root"
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [name for name in PROGRAMS if not shutil.which(name, path=path)]
    if missing:
        return f"{', '.join(missing)}: not installed (Debian: openssh-server, iproute2)"
    if not Path("/usr/bin/python3").exists():
        return "devices need the system's Python 3"
    made = subprocess.run(
        ["unshare", *NAMESPACES, "--fork", "sh", "-ec", PROBE],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"devices cannot be made here: {made.stderr.strip()}" if made.returncode else None


class Bed:
    """Devices of one test process. Close it, or let the process end."""

    def __init__(self) -> None:
        remove_leftovers()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self.folder.chmod(0o755)
        self.config = self.folder / "config"
        """An OpenSSH configuration with every device's name as an alias."""
        self.known_hosts = self.folder / "known_hosts"
        self.key = self.folder / "key"
        boot.write_key(self.key)
        self.network = Network()
        self._hosts: dict[int, Host] = {}
        """By the last byte of their addresses."""
        self._made = itertools.count()
        self._write_config()

    def host(self, spec: HostSpec) -> Host:
        """Make a device that is off."""
        assert all(spec.name != each.name for each in self._hosts.values()), spec.name
        last = next(each for each in range(10, 250) if each not in self._hosts)
        folder = self.folder / f"{next(self._made)}-{spec.name}"
        folder.mkdir()
        host = Host(
            spec,
            folder=folder,
            config=self.config,
            key=self.key,
            cables=tuple(
                self.network.cable(network, last, index)
                for index, network in enumerate(spec.networks)
            ),
            group=ControlGroup(f"{PREFIX}{os.getpid()}-{folder.name}", spec.cpu),
        )
        if spec.cpus is not None:
            host.slow_by(spec.cpus)
        self._hosts[last] = host
        self._write_config()
        with self.known_hosts.open("a") as file:
            file.writelines(f"{address} {host.host_key}\n" for address in host.addresses)
        return host

    @contextmanager
    def started(self, **spec: Any) -> Iterator[Host]:
        """A running device with the fields of :class:`HostSpec`; it is gone afterwards."""
        host = self.host(HostSpec(**spec))
        try:
            host.start()
            yield host
        finally:
            self.remove(host)

    @contextmanager
    def silent(self, name: str) -> Iterator[Host]:
        """A device that is off, at an address from which no error comes back either."""
        host = self.host(HostSpec(name=name))
        self.network.silence(host.address)
        try:
            yield host
        finally:
            self.remove(host)

    def remove(self, host: Host) -> None:
        """Stop a device and forget it."""
        host.close()
        self._hosts = {last: each for last, each in self._hosts.items() if each is not host}
        lines = self.known_hosts.read_text().splitlines(keepends=True)
        kept = [line for line in lines if line.split()[0] not in host.addresses]
        self.known_hosts.write_text("".join(kept))
        self._write_config()
        for address in host.addresses:
            self.network.forget(address)
        shutil.rmtree(host.folder, ignore_errors=True)

    def close(self) -> None:
        """Remove everything."""
        for host in list(self._hosts.values()):
            self.remove(host)
        self.network.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write_config(self) -> None:
        logins = [
            LOGIN.format(
                name=host.name,
                address=host.address,
                user=host.user,
                key=self.key,
                known_hosts=self.known_hosts,
                jump=f"  ProxyJump {host.spec.jump}\n" if host.spec.jump else "",
            )
            for host in self._hosts.values()
        ]
        self.config.write_text("".join([*logins, ALL]))


def remove_leftovers() -> None:
    """Delete folders and control groups of test processes that were killed."""
    places = [*Path(tempfile.gettempdir()).glob(f"{PREFIX}*"), *stale(PREFIX)]
    for place in places:
        # A group of shares has two others in it.
        found = re.search(rf"/{PREFIX}(\d+)-", str(place))
        if found is None or Path("/proc", found[1]).exists():
            continue
        if place.is_relative_to("/sys"):
            with suppress(OSError):
                place.rmdir()
        else:
            shutil.rmtree(place, ignore_errors=True)
