"""The device, the machine, its software and its conditions."""

from __future__ import annotations

from typing import Literal

from latbench.schema.thermal import ThermalStatus
from latbench.schema.value import Value

Level = Literal["glibc bundle", "ndk"]
"""``glibc bundle``: libraries of glibc that were installed with the worker. ``ndk``: Android's own
libraries, for which the worker was compiled."""


class Fact(Value, frozen=True, kw_only=True):
    """A device fact and its source."""

    value: str | int | float | bool | tuple[str, ...]
    source: str


class Device(Value, frozen=True, kw_only=True):
    """One row of ``devices.yaml``: facts with a source, or ``None``."""

    id: str
    name: str
    kind: Literal["phone", "tablet", "laptop", "desktop", "server", "board", "gpu", "unknown"]
    transport: Literal["local", "ssh", "adb", "apple"] | None = None
    """How latbench reaches it; ``None`` if the row only documents published claims."""
    product: Fact | None = None
    """What the device calls its own model, such as ``iPhone14,4``; several where there are several.
    """
    soc: Fact | None = None
    cpu: Fact | None = None
    gpu: Fact | None = None
    npu: Fact | None = None
    memory_bytes: Fact | None = None
    os: Fact | None = None
    year: Fact | None = None
    backends: Fact | None = None
    note: str | None = None
    same_as: str | None = None
    """For a user's own device: the id of the row that its facts come from."""

    @property
    def hardware(self) -> str:
        """Id under which claims know the device."""
        return self.same_as or self.id


class Cache(Value, frozen=True, kw_only=True):
    """One level of CPU cache as CPU 0 sees it."""

    level: int
    type: str
    size_bytes: int | None
    shared_by: int | None
    """Logical CPUs that share it."""


class Cluster(Value, frozen=True, kw_only=True):
    """CPUs of one kind: those of a phone's fast or slow cores."""

    cpus: tuple[int, ...]
    """Their numbers, in order, whether or not they are online."""
    max_khz: int | None
    """The highest frequency that the hardware allows."""


class Machine(Value, frozen=True, kw_only=True, omit_defaults=True):
    """Properties that do not change while a machine is running."""

    hostname: str | None
    os: str | None
    kernel: str | None
    libc: str | None
    architecture: str | None
    hypervisor: str | None
    cpu_model: str | None
    cpu_features: tuple[str, ...] | None
    caches: tuple[Cache, ...] | None
    sockets: int | None
    physical_cores: int | None
    logical_cpus: int | None
    smt: bool | None
    memory_bytes: int | None
    identity: str | None = None
    """Digest that tells this machine from an equal one; ``None`` if nothing does."""
    emulated: bool = False
    """Whether its processor is emulated: no latency measured on it means anything."""
    clusters: tuple[Cluster, ...] | None = None
    """Kinds of CPUs, the slowest first; ``None`` if the system does not report them."""
    product: str | None = None
    """Manufacturer and model, where the system reports them: ``Google Pixel 8``."""


class Software(Value, frozen=True, kw_only=True):
    """Versions of software that affect a measurement."""

    latbench: str
    python: str
    packages: dict[str, str]
    commit: str | None
    """Commit of the working directory's repository, ``+dirty`` if it has changes."""


class Conditions(Value, frozen=True, kw_only=True, omit_defaults=True):
    """State of the machine that can change within minutes."""

    unix_ns: int
    affinity: tuple[int, ...] | None
    cpu_quota_milli: int | None
    """CPU bandwidth limit of the control group, in thousandths of a CPU; ``None``: no limit."""
    usable_cpus: int | None
    """CPUs that a worker can use, given affinity and quota; ``None`` if the device did not say."""
    governor: tuple[str, ...] | None
    turbo: bool | None
    frequency_khz: tuple[int, ...] | None
    temperature_mc: int | None
    """The hottest CPU sensor."""
    memory_available_bytes: int | None
    load_1m_milli: int | None
    throttled_ns: int | None
    """Time that the control group has been throttled since it was created."""
    steal_ns: int | None
    """Time taken by the hypervisor for others, over all CPUs, since boot."""
    on_battery: bool | None
    battery_percent: int | None = None
    throttle_events: int | None = None
    """How often the system has counted that it throttled the device, since boot."""
    throttle_flags: int | None = None
    """What a Raspberry Pi reports: bit 0 under-voltage, 1 clock capped, 2 throttled, 3 soft
    temperature limit; bits 16 to 19 the same of the time before."""
    cooling_state: int | None = None
    """The highest state of what slows the device down to cool it; 0: none does."""
    thermal_status: ThermalStatus | None = None
    """What the operating system reports about heat; ``None`` also while the status is faked."""
    thermal_override: bool | None = None
    """Whether somebody has the system report another status than the true one."""
    charging: bool | None = None
    """Whether a battery is being charged."""
    screen_on: bool | None = None
    low_power_mode: bool | None = None
    """Whether the system saves energy at the expense of speed (battery saver, Low Power Mode)."""
    temperature_sensor: str | None = None
    """Name of the sensor of ``temperature_mc`` in a phone's thermal service; ``None`` for a file of
    the system."""
    skin_temperature_mc: int | None = None
    """The hottest sensor of a phone's skin. It follows the CPU's heat late and damped."""


class Rest(Value, frozen=True, kw_only=True, omit_defaults=True):
    """The wait before the timing that was asked for, and how it went."""

    idle_ns: int
    """Least duration that was asked for."""
    max_temperature_mc: int | None
    """Temperature to wait for, if one was asked for."""
    waited_ns: int
    start_mc: int | None
    """The hottest CPU sensor at the beginning of the wait."""
    end_mc: int | None
    """The same at its end."""
    max_thermal_status: ThermalStatus | None = None
    """Thermal status to wait for, if one was asked for."""
    start_thermal_status: ThermalStatus | None = None
    end_thermal_status: ThermalStatus | None = None


class Link(Value, frozen=True, kw_only=True):
    """How the harness reached a device that is not its own machine."""

    transport: Literal["ssh", "adb", "apple"]
    address: str
    """As the user gave it, without a password."""
    worker: str
    """Program and version of the worker on the device."""
    worker_sha256: str | None
    """Digest of what was installed there."""
    round_trip_ns: int
    """The shortest of several exchanges with the device before the measurement."""
    clock_offset_ns: int
    """The device's wall clock minus the harness's."""
    harness: Machine
    """The machine that the measurement was requested from."""
    level: Level | None = None
    """What the worker stands on instead of the device's own C library; ``None`` for that."""


class Environment(Value, frozen=True, kw_only=True, omit_defaults=True):
    """The machine and its state before and after the measurement."""

    machine: Machine
    software: Software
    before: Conditions
    after: Conditions | None
    link: Link | None = None
    """``None`` for a measurement on the harness's own machine."""
    rest: Rest | None = None
    """``None`` if no wait was asked for."""
    detached: bool = False
    """Whether the device measured alone, from a script that was left on it."""
