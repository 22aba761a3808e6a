"""A phone with three kinds of CPUs: its files, and what its programs print."""

from __future__ import annotations

CPU = "sys/devices/system/cpu"
KINDS = {(0, 1, 2, 3): (250, 1704000), (4, 5, 6): (768, 2367000), (7,): (1024, 2914000)}
"""CPUs -> their capacity and highest clock in kHz."""


def _cpus() -> dict[str, str]:
    files = {}
    for cpus, (capacity, highest) in KINDS.items():
        policy = f"{CPU}/cpufreq/policy{cpus[0]}"
        files[f"{policy}/related_cpus"] = " ".join(map(str, cpus)) + " \n"
        files[f"{policy}/cpuinfo_max_freq"] = f"{highest}\n"
        files[f"{policy}/scaling_cur_freq"] = f"{highest - 100000}\n"
        files[f"{policy}/scaling_governor"] = "sched_pixel\n"
        for cpu in cpus:
            files[f"{CPU}/cpu{cpu}/cpu_capacity"] = f"{capacity}\n"
            files[f"{CPU}/cpu{cpu}/cpufreq/scaling_cur_freq"] = f"{highest - 100000}\n"
            files[f"{CPU}/cpu{cpu}/cpufreq/scaling_governor"] = "sched_pixel\n"
    return files


def _zones() -> dict[str, str]:
    zones = [("BIG", "47000"), ("MID", "46"), ("LITTLE", "44000"), ("G3D", "90000"), ("soc", "83")]
    return {
        f"sys/class/thermal/thermal_zone{i}/{name}": f"{text}\n"
        for i, (kind, value) in enumerate(zones)
        for name, text in (("type", kind), ("temp", value))
    }


PHONE: dict[str, str] = {
    "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\n"
    "CPU part\t: 0xd80\n",
    **_cpus(),
    **_zones(),
    "sys/class/thermal/cooling_device0/type": "thermal-cpufreq-0\n",
    "sys/class/thermal/cooling_device0/cur_state": "0\n",
    "sys/class/power_supply/battery/type": "Battery\n",
    "sys/class/power_supply/battery/status": "Charging\n",
    "sys/class/power_supply/battery/capacity": "76\n",
    "sys/class/power_supply/battery/present": "1\n",
    "sys/class/power_supply/usb/type": "USB\n",
    "sys/class/power_supply/usb/online": "1\n",
}
"""Files below the root, in the form of a Tensor chip."""

PROPERTIES = """\
[ro.build.version.release]: [15]
[ro.product.manufacturer]: [Google]
[ro.product.model]: [Pixel 8]
[ro.serialno]: [38291FDJH00123]
[ro.soc.manufacturer]: [Google]
[ro.soc.model]: [Tensor G3]
[persist.a.text]: [first line
second line]
"""


def thermal(
    status: int = 0, *, faked: bool = False, cpu: str = "57.9", skin: str = "34.351"
) -> str:
    """What ``dumpsys thermalservice`` prints on Android 15."""
    return f"""\
IsStatusOverride: {str(faked).lower()}
ThermalEventListeners:
\tcallbacks: 4
\tkilled: false
\tbroadcasts count: -1
ThermalStatusListeners:
\tcallbacks: 7
Thermal Status: {status}
Cached temperatures:
\tTemperature{{mValue=84.208, mType=0, mName=CPU, mStatus=0}}
\tTemperature{{mValue=48.517, mType=3, mName=SKIN, mStatus=0}}
HAL Ready: true
HAL connection:
\tThermalHAL AIDL 2  connected: yes
Current temperatures from HAL:
\tTemperature{{mValue={cpu}, mType=0, mName=BIG, mStatus=0}}
\tTemperature{{mValue=0.0, mType=0, mName=MID, mStatus=0}}
\tTemperature{{mValue=NaN, mType=0, mName=LITTLE, mStatus=0}}
\tTemperature{{mValue={skin}, mType=3, mName=VIRTUAL-SKIN, mStatus=0}}
\tTemperature{{mValue=4200.0, mType=6, mName=vbat, mStatus=0}}
\tTemperature{{mValue=83.0, mType=8, mName=soc, mStatus=0}}
Current cooling devices from HAL:
\tCoolingDevice{{mValue=0, mType=2, mName=thermal-cpufreq-0}}
Temperature static thresholds from HAL:
\tTemperatureThreshold{{mType=0, mName=BIG, mHotThrottlingThresholds=[NaN, 95.0, NaN]}}
\tTemperature{{mValue=99.0, mType=0, mName=threshold, mStatus=0}}
"""


def battery(level: int = 76, status: int = 2, *, usb: bool = True, faked: bool = False) -> str:
    """What ``dumpsys battery`` prints."""
    stopped = "  (UPDATES STOPPED -- use 'reset' to restart)\n" if faked else ""
    return f"""\
Current Battery Service state:
{stopped}  AC powered: false
  USB powered: {str(usb).lower()}
  Wireless powered: false
  Dock powered: false
  Max charging current: 500000
  Max charging voltage: 5000000
  Charge counter: 3400000
  status: {status}
  health: 2
  present: true
  level: {level}
  scale: 100
  voltage: 4200
  temperature: 281
  technology: Li-ion
"""


def power(wakefulness: str = "Awake", *, saver: bool = False, display: str | None = None) -> str:
    """What ``dumpsys power`` prints; ``display`` is told by Android 12 and before only."""
    shown = "" if display is None else f"Display Power: state={display}\n"
    return f"""\
POWER MANAGER (dumpsys power)

Power Manager State:
  mDirty=0x0
  mWakefulness={wakefulness}
  mWakefulnessChanging=false
  mIsPowered=true
  mStayOn=false
{shown}
Battery saver policy:
  Enabled=nonsense

Battery saver state machine:
  Enabled={str(saver).lower()}
    full={str(saver).lower()}
    adaptive=false
  mState=1
"""
