"""Random faults while a model is timed on a device: what is stored, and what is left behind.

    python benchmarks/broken_links.py [--over ssh|adb] [--faults N] [--seed N] [--smoke]

Each round starts ``latbench run --device`` on an sshd in namespaces of this machine, or on an adbd
there (with the native worker; which is the way to a phone, and no phone), and lets one
fault happen at a random moment: a cable that is cut, for good or for three seconds, power that
fails, a reboot, a worker, the agent or the harness that is killed. It must end with a record of
what was measured until then (but for a killed harness), without an internal error, nothing may be
left on the device ten seconds later, and the next run must work. The first violation ends it.

Needs Linux, root and sshd, over adb also adb and Debian's adbd, which is fetched once; elsewhere
it says so.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from latbench.store.record_filter import RecordFilter
from latbench.store.registry import Registry
from latbench.worker.native import PROGRAM
from support.devices import add_with_checkout, use_home
from support.environment import child_environment
from support.hosts import Bed, Host, adbd, why_unavailable
from support.hosts.spec import CHECKOUT
from support.onnx_files import stack
from support.phones import add_with_native

BLINK_S = 3.0
ORPHANS_END_S = 10.0
RUN_TIMEOUT_S = 120.0
RUN = (
    *(sys.executable, "-m", "latbench", "run", "--device", "board", "--warmup", "5"),
    *("--protocol", "latbench-fixed@1", "--processes", "3"),
)


@dataclass(frozen=True, kw_only=True)
class Way:
    """How the device is reached, and what is timed there."""

    worker: str
    """What the command lines of its workers contain."""
    run: tuple[str, ...]
    longest_s: float
    """Faults happen within so much of a run, which takes about as long."""


def over_ssh(folder: Path) -> Way:
    """The Python worker with a backend that computes nothing."""
    model = ("--model", "mobilevig_ti", "--backend", "fake", "--option", "real_time=yes")
    calls = ("--calls", "60", "--block-calls", "5")
    run = (*RUN, *model, *calls)
    return Way(worker="latbench.worker.inference", run=run, longest_s=3.5)


def over_adb(folder: Path) -> Way:
    """The native worker with ONNX Runtime, and a model of about a millisecond."""
    model = stack(folder / "model.onnx", side=36)
    calls = ("--threads", "1", "--calls", "600", "--block-calls", "50")
    return Way(worker=PROGRAM, run=(*RUN, str(model), *calls), longest_s=5.0)


@contextmanager
def adb_device(bed: Bed, folder: Path) -> Iterator[Host]:
    """A phone with the worker of this machine, and an adb server for this process alone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        os.environ["LATBENCH_ADB_PORT"] = str(free.getsockname()[1])
    root = adbd.unpacked(Path(os.environ["LATBENCH_CACHE"] + "-devices"))
    with bed.started(name="board", adbd=root) as host:
        use_home(folder / "home", None)
        add_with_native(host, "board")
        try:
            yield host
        finally:
            end = ("adb", "-P", os.environ["LATBENCH_ADB_PORT"], "kill-server")
            subprocess.run(end, capture_output=True, check=False)


@contextmanager
def ssh_device(bed: Bed, folder: Path) -> Iterator[Host]:
    """A board that sees this checkout."""
    with bed.started(name="board", visible=CHECKOUT) as host:
        use_home(folder / "home", host)
        add_with_checkout(host)
        yield host


class Violation(Exception):
    """What must not happen."""


def blink(host: Host) -> None:
    """Cut the cable for a moment, which a connection survives."""
    host.cut()
    time.sleep(BLINK_S)
    host.mend()


def kill_one(host: Host, way: Way, draw: random.Random) -> None:
    """Kill a worker, the agent, or the shell of one."""
    found = host.processes(way.worker)
    if found:
        host.inside("kill", "-9", str(draw.choice(found).pid))


def faults(
    host: Host, way: Way, draw: random.Random
) -> dict[str, Callable[[subprocess.Popen[str]], None]]:
    """Each fault by name."""
    return {
        "cut": lambda harness: host.cut(),
        "blink": lambda harness: blink(host),
        "power": lambda harness: host.stop(),
        "reboot": lambda harness: host.reboot(),
        "process": lambda harness: kill_one(host, way, draw),
        "harness": lambda harness: harness.kill(),
        "interrupt": lambda harness: harness.send_signal(signal.SIGINT),
    }


def stored(place: Path) -> dict[str, str]:
    """Id -> status and kind of failure of every record, each of which can be read."""
    with Registry.open(str(place)) as registry:
        found = {}
        for row in registry.find(RecordFilter(devices=("board",))):
            record = registry.get(row.id)
            failure = record.outcome.failure
            found[row.id] = failure.kind if failure else record.outcome.status
        return found


def round_of(host: Host, way: Way, place: Path, name: str, at_s: float, draw: random.Random) -> str:
    """One run with one fault; how it ended. Raises :class:`Violation`.

    In three of four rounds the time counts from the first worker on, however busy this machine is.
    """
    from_worker = draw.random() < 0.75
    before = stored(place)
    harness = subprocess.Popen(
        way.run,
        env=child_environment(LATBENCH_REGISTRY=str(place)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if from_worker:
        while harness.poll() is None and not host.processes(way.worker):
            time.sleep(0.02)
    time.sleep(at_s)
    faults(host, way, draw)[name](harness)
    try:
        out, err = harness.communicate(timeout=RUN_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        harness.kill()
        raise Violation("the harness did not end") from error
    if "internal error" in err or "Traceback" in err:
        raise Violation(err)
    no_orphans(host, way)
    new = {id: kind for id, kind in stored(place).items() if id not in before}
    if name in ("harness", "interrupt") and harness.returncode != 0:
        ended = "harness ended"
        if len(new) > 1:
            raise Violation(f"one run left {len(new)} records")
    elif len(new) != 1:
        raise Violation(f"{len(new)} records of one run: {out} {err}")
    else:
        (ended,) = new.values()
    if not host.running:
        host.start()
    with suppress(AssertionError):
        host.mend()
    return ended


def no_orphans(host: Host, way: Way) -> None:
    """Wait until nothing of a worker is on the device."""
    end = time.monotonic() + ORPHANS_END_S
    while host.running and (left := host.processes(way.worker)):
        if time.monotonic() > end:
            raise Violation(f"left behind: {left}")
        time.sleep(0.1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--over", choices=("ssh", "adb"), default="ssh")
    parser.add_argument("--smoke", action="store_true", help="run every step once, with tiny sizes")
    args = parser.parse_args()
    reason = why_unavailable() or (adbd.why_unavailable() if args.over == "adb" else None)
    if reason is not None:
        print(reason)
        return
    draw = random.Random(args.seed)
    ended: Counter[tuple[str, str]] = Counter()
    bed = Bed()
    try:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:
            os.environ.setdefault("LATBENCH_CACHE", f"{folder}/cache")
            made = {"ssh": (ssh_device, over_ssh), "adb": (adb_device, over_adb)}[args.over]
            host = opened.enter_context(made[0](bed, Path(folder)))
            way = made[1](Path(folder))
            place = Path(folder) / "registry.db"
            for i in range(2 if args.smoke else args.faults):
                name, at_s = (
                    draw.choice(sorted(faults(host, way, draw))),
                    draw.uniform(0.3, way.longest_s),
                )
                if args.smoke:
                    name = ("process", "harness")[i]
                how = round_of(host, way, place, name, at_s, draw)
                ended[name, how] += 1
                if not args.smoke:
                    print(f"{i + 1}: {name} after {at_s:.1f} s: {how}", file=sys.stderr, flush=True)
            clean = subprocess.run(
                way.run,
                env=child_environment(LATBENCH_REGISTRY=str(place)),
                capture_output=True,
                text=True,
                check=False,
            )
            if clean.returncode != 0:
                raise Violation(f"the last run does not work: {clean.stderr}")
    finally:
        bed.close()
    print(f"{sum(ended.values())} faults: nothing lost, nobody left behind")
    for (name, how), count in sorted(ended.items()):
        print(f"  {name:10} {how:15} {count}")


if __name__ == "__main__":
    main()
