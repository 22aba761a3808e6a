"""Switches in a network namespace of their own, and the cables from them to devices."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from support.hosts.processes import namespace
from support.hosts.spec import BACK, LAB

LOCK = Path("/run/lock/latbench-hosts.lock")
FIRST_BYTES = {LAB: "198.18", BACK: "198.19"}
"""Addresses for tests of networks (RFC 2544); none is used elsewhere."""


def ip(pid: int | None, *lines: str) -> None:
    """Run lines of iproute2 in the network namespace of process ``pid``; ``None``: in this one."""
    within = [] if pid is None else ["nsenter", "--target", str(pid), "--net"]
    done = subprocess.run(
        [*within, "ip", "-batch", "-"],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode:
        raise RuntimeError(f"ip {'; '.join(lines)}: {done.stderr.strip()}")


class Network:
    """Two switches, one with a cable to this machine. All of it ends with the test process."""

    def __init__(self) -> None:
        # The namespace lives as long as `cat`, which ends when this process has.
        self._switches = subprocess.Popen(
            ["unshare", "--net", "cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.pid = self._switches.pid
        self.uplink = f"lb{os.getpid()}"
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        own = namespace("self", "net")
        while namespace(self.pid, "net") == own:
            if self._switches.poll() is not None:
                raise RuntimeError("a network namespace cannot be made")
        LOCK.parent.mkdir(parents=True, exist_ok=True)
        with LOCK.open("w") as lock:
            # Test processes side by side choose their networks one after the other.
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.number = _free_number()
            ip(
                None,
                f"link add {self.uplink} type veth peer name uplink netns {self.pid}",
                f"addr add {self.address(LAB, 1)}/24 dev {self.uplink}",
                f"link set {self.uplink} up",
                # What lies behind a device has no address here, and must not leave the machine.
                f"route add {self.address(BACK, 0)}/24 dev {self.uplink}",
            )
        ip(
            self.pid,
            *(f"link add {name} type bridge" for name in FIRST_BYTES),
            f"link set uplink master {LAB}",
            *(f"link set {name} up" for name in (*FIRST_BYTES, "uplink", "lo")),
        )

    def address(self, network: str, last: int) -> str:
        return f"{FIRST_BYTES[network]}.{self.number}.{last}"

    def cable(self, network: str, last: int, index: int) -> Cable:
        """A cable for the device with address ``last``, the ``index``-th of the device."""
        return Cable(
            switches=self.pid,
            switch=network,
            port=f"{network}{last}",
            address=self.address(network, last),
            device=f"eth{index}",
        )

    def silence(self, address: str) -> None:
        """Let packets to ``address`` vanish, as a firewall does: no error ever comes back."""
        ip(
            None,
            f"neigh replace {address} lladdr 02:00:00:00:00:fe dev {self.uplink} nud permanent",
        )

    def forget(self, address: str) -> None:
        """Undo :meth:`silence`, and what the kernel has noticed about ``address``."""
        subprocess.run(
            ["ip", "neigh", "del", address, "dev", self.uplink], capture_output=True, check=False
        )

    def close(self) -> None:
        self._switches.kill()
        self._switches.wait()
        if self._switches.stdin is not None:
            self._switches.stdin.close()
        # The kernel takes some time to delete the namespace, and the cable with it.
        subprocess.run(["ip", "link", "del", self.uplink], capture_output=True, check=False)


@dataclass(frozen=True, kw_only=True)
class Cable:
    """From a switch to a device."""

    switches: int
    switch: str
    port: str
    address: str
    device: str

    def connect(self, pid: int) -> None:
        """Give the device whose process 1 is ``pid`` its network interface."""
        # The same address always has the same hardware address, or neighbors would send to the
        # device that had it before.
        hardware = "02:00:" + ":".join(f"{int(byte):02x}" for byte in self.address.split("."))
        ip(
            self.switches,
            f"link add {self.port} type veth peer name {self.device} address {hardware} netns {pid}",
            f"link set {self.port} master {self.switch}",
            f"link set {self.port} up",
        )
        ip(
            pid,
            "link set lo up",
            f"addr add {self.address}/24 dev {self.device}",
            f"link set {self.device} up",
        )

    def disconnect(self) -> None:
        """Remove it; it may be gone already."""
        subprocess.run(
            ["nsenter", "--target", str(self.switches), "--net", "ip", "link", "del", self.port],
            capture_output=True,
            check=False,
        )

    def set(self, state: str) -> None:
        """``up`` or ``down``."""
        ip(self.switches, f"link set {self.port} {state}")

    def limit_rate(self, kbit_per_s: int | None) -> None:
        """By a token bucket at the switch; losses and delays need what few kernels have."""
        if kbit_per_s is None:
            self._tc("qdisc", "del", "dev", self.port, "root")
        else:
            bucket = ("tbf", "rate", f"{kbit_per_s}kbit", "burst", "16kb", "latency", "500ms")
            self._tc("qdisc", "replace", "dev", self.port, "root", *bucket)

    def delayed_packets(self) -> int:
        """How many have waited for the token bucket since it was made."""
        told = self._tc("-s", "qdisc", "show", "dev", self.port)
        return sum(int(each) for each in re.findall(r"overlimits (\d+)", told))

    def _tc(self, *command: str) -> str:
        within = ("nsenter", "--target", str(self.switches), "--net")
        done = subprocess.run(
            [*within, "tc", *command], capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout


def _free_number() -> int:
    """The third byte of networks that no running test bed has."""
    routes = subprocess.run(["ip", "-4", "route"], capture_output=True, text=True, check=True)
    taken = {int(each) for each in re.findall(rf"{FIRST_BYTES[LAB]}\.(\d+)\.0/24", routes.stdout)}
    return next(each for each in range(1, 255) if each not in taken)
