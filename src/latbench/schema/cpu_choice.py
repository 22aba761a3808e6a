"""Which CPUs of a device to run on: ``big``, ``mid``, ``little``, a mask or a list of numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from latbench.errors import UsageError
from latbench.schema.environment import Cluster

CPUS_SETTING = "cpus"
"""Setting of a session: the list of CPUs that its worker is restricted to."""
_LIST = re.compile("[0-9]{1,6}(-[0-9]{1,6})?(,[0-9]{1,6}(-[0-9]{1,6})?)*")
KINDS = ("little", "mid", "big")
MOST_CPUS = 4096
_FORMS = "big, mid, little, a mask (0xf0) or a list (4-7 or 0,2)"


def read_cpus(text: str) -> str:
    """Return a choice of CPUs in one form: a name, or a list in order. Raise :class:`UsageError`.

    ``0xf0``, ``7,4-6`` and ``4-7`` are all ``4-7``.
    """
    if text in KINDS:
        return text
    if re.fullmatch("0[xX][0-9a-fA-F]{1,1024}", text):
        mask = int(text, 16)
        numbers = {i for i in range(mask.bit_length()) if mask >> i & 1}
    elif _LIST.fullmatch(text):
        ends = [tuple(map(int, part.split("-"))) for part in text.split(",")]
        if any(end[0] > end[-1] or end[-1] >= MOST_CPUS for end in ends):
            raise UsageError(f"{text!r} is not a list of CPUs", hint=f"--cpus {_FORMS}")
        numbers = {cpu for end in ends for cpu in range(end[0], end[-1] + 1)}
    else:
        raise UsageError(f"{text!r} does not name CPUs", hint=f"--cpus {_FORMS}")
    if not numbers:
        raise UsageError(f"the mask {text} is empty", hint=f"--cpus {_FORMS}")
    return cpu_list(sorted(numbers))


def cpu_list(cpus: Sequence[int]) -> str:
    """CPUs as text, such as ``0,4-7``."""
    starts = [cpus[0], *(b for a, b in pairwise(cpus) if b != a + 1)]
    ends = [*(a for a, b in pairwise(cpus) if b != a + 1), cpus[-1]]
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def numbers_of(text: str) -> tuple[int, ...]:
    """The CPUs of a list as :func:`cpu_list` writes it; none of any other text."""
    if not _LIST.fullmatch(text):
        return ()
    ends = [tuple(map(int, part.split("-"))) for part in text.split(",")]
    return tuple(cpu for end in ends for cpu in range(end[0], end[-1] + 1))


def chosen_cpus(
    choice: str,
    *,
    clusters: Sequence[Cluster] | None,
    usable: Sequence[int] | None,
    device: str,
) -> tuple[int, ...]:
    """Return the CPUs of ``device`` that a choice stands for.

    ``usable`` are those that its workers may use now. Raise :class:`UsageError` if the choice names
    others, or a kind that the device does not have.
    """
    if usable is None:
        raise UsageError(
            f"{device} does not let a program choose its CPUs",
            hint="leave out --cpus; it needs Linux or Android",
        )
    wanted = _kind(choice, clusters, device) if choice in KINDS else numbers_of(choice)
    if absent := sorted(set(wanted) - set(usable)):
        one = len(absent) == 1
        raise UsageError(
            f"CPU{'' if one else 's'} {cpu_list(absent)} of {device} "
            f"{'does' if one else 'do'} not exist, {'is' if one else 'are'} offline or may not be "
            "used by programs that latbench starts there",
            hint=f"it may use {cpu_list(sorted(usable))}",
        )
    return wanted


def _kind(choice: str, clusters: Sequence[Cluster] | None, device: str) -> tuple[int, ...]:
    """The CPUs of a kind; ``mid`` are all between the slowest and the fastest."""
    if clusters is None:
        raise UsageError(
            f"{device} does not report which of its CPUs are {choice}",
            hint="name them by number: --cpus 4-7",
        )
    if len(clusters) == 1:
        raise UsageError(
            f"all CPUs of {device} are of one kind ({_described(clusters)}): none are {choice}",
            hint="leave out --cpus, or name CPUs by number",
        )
    if choice == "mid" and len(clusters) == 2:
        raise UsageError(
            f"{device} has two kinds of CPUs and no mid ones: {_described(clusters)}",
            hint="--cpus little or --cpus big",
        )
    parts = {"little": clusters[:1], "big": clusters[-1:], "mid": clusters[1:-1]}[choice]
    return tuple(sorted(cpu for cluster in parts for cpu in cluster.cpus))


def _described(clusters: Sequence[Cluster]) -> str:
    return ", ".join(
        cpu_list(each.cpus) + ("" if each.max_khz is None else f" at {each.max_khz / 1e6:.2f} GHz")
        for each in clusters
    )
