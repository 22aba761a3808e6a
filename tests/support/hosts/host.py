"""A device: start it, cut its power or its cable, look at what runs on it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from support.hosts import adbd, boot
from support.hosts.control_group import ControlGroup
from support.hosts.network import Cable
from support.hosts.processes import LONGEST_WAIT_S, Process, processes_beside, until
from support.hosts.spec import HostSpec

NAMESPACES: tuple[str, ...] = ("--mount", "--net", "--pid", "--uts", "--ipc", "--time")
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
"""A device knows nothing of the environment of the tests."""


class Host:
    """A device of a test bed. Its addresses, keys and home folder stay the same over reboots."""

    def __init__(
        self,
        spec: HostSpec,
        *,
        folder: Path,
        config: Path,
        key: Path,
        cables: tuple[Cable, ...],
        group: ControlGroup,
    ) -> None:
        self.spec = spec
        self.name = spec.name
        self.user = spec.user
        self.port = 22
        self.key = key
        """The private key that the device accepts."""
        self.config = config
        """An OpenSSH configuration in which the device's name is an alias for all of this."""
        self.folder = folder
        self._cables = cables
        self._group = group
        self._running: subprocess.Popen[str] | None = None
        self._init = 0
        self._own: frozenset[int] = frozenset()
        boot.write_files(spec, folder, key.with_suffix(".pub").read_text())

    @property
    def address(self) -> str:
        """The first address; only hosts of the same network can reach it."""
        return self._cables[0].address

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(cable.address for cable in self._cables)

    @property
    def serial(self) -> str:
        """The serial of a phone, by which ``adb connect`` finds it."""
        return f"{self.address}:{adbd.PORT}"

    @property
    def host_key(self) -> str:
        """The public host key as in a file of known hosts, without the address."""
        return (self.folder / "ssh" / "host_key.pub").read_text().strip()

    @property
    def known_hosts(self) -> Path:
        """Host keys of all devices as they were when each was made."""
        return self.config.with_name("known_hosts")

    @property
    def boot_id(self) -> str:
        return self.path("/proc/sys/kernel/random/boot_id").read_text().strip()

    @property
    def running(self) -> bool:
        return self._running is not None

    def path(self, place: str) -> Path:
        """Where the running device's ``place`` is for this process; links may lead outside."""
        assert self.running, f"{self.name} is off"
        return Path(f"/proc/{self._init}/root{place}")

    # Power

    def start(self) -> None:
        """Boot: new processes, a new boot id, clocks since boot from zero, no file in /tmp."""
        assert not self.running, f"{self.name} already runs"
        script = self.folder / "boot.sh"
        script.write_text(boot.script(self.spec, self.folder))
        since_boot = int(time.clock_gettime(time.CLOCK_BOOTTIME))
        monotonic = int(time.clock_gettime(time.CLOCK_MONOTONIC))
        namespaces = NAMESPACES
        if self.spec.root is not None:
            # Each user namespace has a table of emulators. `unshare` would need newuidmap to
            # map users, so this process does.
            namespaces += ("--user", "--keep-caps")
        with (self.folder / "boot.log").open("w") as log:
            self._running = subprocess.Popen(
                [
                    *self._group.joining("unshare", *namespaces, "--fork", "--kill-child"),
                    *(f"--boottime=-{since_boot}", f"--monotonic=-{monotonic}", "sh", script),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=ENVIRONMENT,
                start_new_session=True,
            )
        try:
            self._init = int(self._line() or self._fail())
            if self.spec.root is not None:
                for kind in ("uid", "gid"):
                    Path(f"/proc/{self._init}/{kind}_map").write_text("0 0 65536\n")
            for cable in self._cables:
                cable.connect(self._init)
            assert self._running.stdin is not None
            self._running.stdin.write("\n")
            self._running.stdin.flush()
            if self._line() != "ready":
                self._fail()
        except BaseException:
            self.stop()
            raise
        self._own = frozenset(each.outside for each in self._all())

    def stop(self) -> None:
        """Cut the power. Nobody is told: the network is gone before the processes are."""
        if self._running is None:
            return
        for cable in self._cables:
            cable.disconnect()
        self._kill()

    def reboot(self) -> None:
        """End all processes, which closes their connections, and start again."""
        self._kill()
        for cable in self._cables:
            cable.disconnect()
        self.start()

    # Network

    def cut(self) -> None:
        """Pull the cable: packets vanish, both ways; nothing is closed."""
        for cable in self._cables:
            cable.set("down")

    def mend(self) -> None:
        """Put the cable back; connections go on if neither end has given up."""
        for cable in self._cables:
            cable.set("up")

    def limit_rate(self, kbit_per_s: int | None) -> None:
        """Slow the cable down in the direction of the device; ``None`` removes the limit."""
        for cable in self._cables:
            cable.limit_rate(kbit_per_s)

    def delayed_packets(self) -> int:
        """Packets that the limited rate has held back so far."""
        return sum(cable.delayed_packets() for cable in self._cables)

    def change_host_key(self) -> None:
        """What a device set up anew, or somebody else at its address, has."""
        boot.write_host_key(self.folder / "ssh")
        if self.running:
            # sshd reads its keys once.
            sshd = self.path("/run/sshd.pid")
            before = sshd.stat().st_mtime_ns
            (pid,) = (
                each.outside for each in self._all() if each.pid == int(sshd.read_text().strip())
            )
            os.kill(pid, signal.SIGHUP)
            until(lambda: sshd.exists() and sshd.stat().st_mtime_ns != before)
            self._own |= {pid}

    # Load

    def slow_by(self, cpus: float | None) -> None:
        """Limit all processes together to ``cpus`` CPUs of time; ``None`` removes the limit."""
        self._group.limit(cpus)

    def compete(self, on: bool) -> None:
        """Let a program of equal weight share the only CPU, or end it: half as fast, or not."""
        self._group.compete(on)

    def hang(self) -> None:
        """Stop all processes: the kernel still accepts connections, and nobody answers."""
        for each in self._all():
            if each.pid != 1:
                os.kill(each.outside, signal.SIGSTOP)

    def wake(self) -> None:
        """Let all processes run on, those that a user had stopped too."""
        for each in self._all():
            os.kill(each.outside, signal.SIGCONT)

    def fill_disk(self) -> None:
        """Leave no free byte on a disk of limited size."""
        assert self.spec.disk_bytes, f"{self.name} has no disk of its own: give it disk_bytes"
        with suppress(OSError), self.path("/var/filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(65536))
        # Less than one write may be left.
        with suppress(OSError), self.path("/var/filler").open("ab", buffering=0) as file:
            while True:
                file.write(bytes(1))

    def free_disk(self) -> None:
        """Undo :meth:`fill_disk`."""
        self.path("/var/filler").unlink(missing_ok=True)

    def write(self, place: str, text: str) -> None:
        """Change a file of ``spec.files`` while the device runs, such as a temperature."""
        self.given(place).write_text(text)

    def given(self, place: str) -> Path:
        """Where this process can write a file of ``spec.files``."""
        if place.startswith(("/proc/", "/sys/")):
            return self.folder / "files" / place.lstrip("/")
        return self.path(place)

    # Looking at it

    def processes(self, containing: str = "") -> tuple[Process, ...]:
        """What runs, without the device's own processes and those of sshd; no zombies."""
        return tuple(
            each
            for each in self._all()
            if each.outside not in self._own
            and not each.command.startswith("sshd: ")
            and containing in each.command
        )

    def connections(self) -> int:
        """Clients that sshd has not noticed to be gone."""
        own = ("sshd: bench@", "sshd: root@")
        return sum(each.command.startswith(own) for each in self._all())

    def inside(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program as root without the network; its text output is captured."""
        return subprocess.run(
            ["nsenter", "--target", str(self._init), "--all", *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=ENVIRONMENT,
        )

    def ssh_command(self, *command: str, options: tuple[str, ...] = ()) -> list[str]:
        """The arguments of OpenSSH's client that run a shell line on the device."""
        return ["ssh", "-F", str(self.config), *options, self.name, *command]

    def ssh(
        self,
        command: str,
        *,
        options: tuple[str, ...] = (),
        check: bool = False,
        timeout: float = 60,
        input: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell line on the device with OpenSSH's client; its text output is captured."""
        return subprocess.run(
            self.ssh_command(command, options=options),
            input=input,
            capture_output=True,
            text=True,
            check=check,
            timeout=timeout,
        )

    def log(self) -> str:
        """What sshd and the boot script reported."""
        texts = [(self.folder / "boot.log").read_text()]
        if self.running:
            for name in ("boot.log", "sshd.log"):
                with suppress(OSError):
                    texts.append(self.path(f"/var/log/{name}").read_text())
        return "".join(texts)

    def _all(self) -> list[Process]:
        return processes_beside(self._init) if self._init else []

    def _kill(self) -> None:
        assert self._running is not None, f"{self.name} is off"
        if self._init:
            with suppress(ProcessLookupError):
                os.kill(self._init, signal.SIGKILL)
        self._running.kill()
        self._running.wait()
        for pipe in (self._running.stdin, self._running.stdout):
            assert pipe is not None
            pipe.close()
        self._running = None
        self._init = 0

    def close(self) -> None:
        """Stop it and remove its control group."""
        self.stop()
        self._group.remove()

    def _line(self) -> str:
        """The next line that the boot script prints; empty if it ended."""
        assert self._running is not None
        assert self._running.stdout is not None
        if not select.select([self._running.stdout], [], [], LONGEST_WAIT_S)[0]:
            self._fail()
        return self._running.stdout.readline().strip()

    def _fail(self) -> NoReturn:
        raise RuntimeError(f"{self.name} did not start: {self.log().strip()}")
