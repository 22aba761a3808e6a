"""Options of commands that measure: backend, device, protocol, and what to wait for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from latbench.cli import completion
from latbench.cli.help_sections import apply_options, option
from latbench.cli.parameter_types import KeyValue
from latbench.defaults import FALLBACK, TIMEOUT_S

if TYPE_CHECKING:
    from latbench.schema.protocol import TimingProtocol

F = TypeVar("F", bound=Callable[..., Any])


def backend_options(*, many: bool = False) -> Callable[[F], F]:
    """Which backend and device, and how many threads; with ``many``, several of each."""
    group = "Backend"

    def add(command: F) -> F:
        return apply_options(
            command,
            (
                option(
                    "--backend",
                    multiple=many,
                    default=() if many else "",
                    metavar="NAME",
                    help="Runtime that executes the model (`latbench backends`). "
                    f"[default: by the extension of a file, else {FALLBACK}]",
                    shell_complete=completion.backends,
                    group=group,
                ),
                option(
                    "--device",
                    default="local",
                    show_default=True,
                    metavar="ID",
                    help="Device to measure on (`latbench devices`).",
                    shell_complete=completion.devices,
                    group=group,
                ),
                option(
                    "--threads",
                    multiple=many,
                    type=click.IntRange(min=1),
                    metavar="N",
                    help="CPU threads. [default: the CPUs available to this process (affinity, "
                    "cgroup quota)]",
                    group=group,
                ),
                cpus_option,
                option_option,
                option(
                    "--require",
                    multiple=True,
                    metavar="UNIT,...",
                    help="Fail unless every operator runs on one of these: npu, gpu, cpu, or the "
                    "name of a unit, provider or delegate; repeatable.",
                    group=group,
                ),
            ),
        )

    return add


def protocol_options(*, default: str) -> Callable[[F], F]:
    """The measurement protocol by name, and changes to it."""
    group = "Protocol"

    def add(command: F) -> F:
        return apply_options(
            command,
            (
                option(
                    "--protocol",
                    default=default,
                    show_default=True,
                    metavar="NAME",
                    help="Measurement protocol (`latbench protocols`).",
                    shell_complete=completion.protocols,
                    group=group,
                ),
                option(
                    "--budget",
                    "budget_s",
                    type=float,
                    metavar="SECONDS",
                    help="Time budget: no new block starts after this many seconds.",
                    group=group,
                ),
                option(
                    "--target",
                    type=float,
                    metavar="PERCENT",
                    help="Stop when the 95% CI is within ± this many percent.",
                    group=group,
                ),
                option(
                    "--processes",
                    type=click.IntRange(1, 1000),
                    metavar="N",
                    help="Exact number of worker processes.",
                    group=group,
                ),
                option(
                    "--warmup",
                    "warmup_calls",
                    type=click.IntRange(min=0),
                    metavar="N",
                    help="Fixed number of warm-up calls after the first inference.",
                    group=group,
                ),
                option(
                    "--calls",
                    type=click.IntRange(min=1),
                    metavar="N",
                    help="Timed calls per session (each time the model is loaded).",
                    group=group,
                ),
                option(
                    "--block-calls",
                    type=click.IntRange(min=1),
                    metavar="N",
                    help="Calls per block.",
                    group=group,
                ),
            ),
        )

    return add


option_option = option(
    "--option",
    "options",
    multiple=True,
    type=KeyValue(),
    help="Option of the backend (`latbench backends NAME` lists them); repeatable.",
    group="Backend",
)
cpus_option = option(
    "--cpus",
    metavar="CPUS",
    help="CPUs of the device to run on: big, mid, little, a mask (0xf0) or a list (4-7). "
    "[default: all]",
    group="Backend",
)
strict_option = option(
    "--strict",
    is_flag=True,
    help="Fail instead of falling back to another backend.",
    group="Backend",
)
timeout_option = click.option(
    "--timeout",
    "timeout_s",
    type=float,
    default=TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="Seconds to wait for each response of the worker.",
)


def rest_options(command: F) -> F:
    """What to wait for before the timing."""
    return apply_options(
        command,
        (
            click.option(
                "--cooldown",
                "cooldown_s",
                type=click.FloatRange(min=0),
                default=0.0,
                metavar="SECONDS",
                help="Seconds that the device rests before the timing.",
            ),
            click.option(
                "--max-temperature",
                "max_temperature_c",
                type=float,
                metavar="CELSIUS",
                help="Then wait until its CPU is at most this hot; give up after 10 minutes.",
            ),
            click.option(
                "--max-thermal-status",
                metavar="STATUS",
                help="The same for what a phone reports: none, light, ... (Android) or nominal, "
                "fair, ... (iPhone).",
            ),
        ),
    )


def resolved_protocol(
    name: str,
    *,
    budget_s: float | None,
    target: float | None,
    processes: int | None,
    warmup_calls: int | None,
    calls: int | None,
    block_calls: int | None,
) -> TimingProtocol:
    """Return the named protocol with the requested changes; ``target`` is in percent."""
    from latbench.schema.protocol_options import changed_protocol, named_protocol

    return changed_protocol(
        named_protocol(name),
        budget_s=budget_s,
        target=None if target is None else target / 100,
        processes=processes,
        warmup_calls=warmup_calls,
        calls=calls,
        block_calls=block_calls,
    )
