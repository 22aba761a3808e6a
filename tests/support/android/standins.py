"""A folder of stand-ins for Android's programs, which keep their state in files beside them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from support.android import phone

SERVICES: Mapping[str, str] = {
    "thermalservice": phone.thermal(),
    "battery": phone.battery(),
    "power": phone.power(),
    "properties": phone.PROPERTIES,
}
SETTINGS: Mapping[str, str] = {
    "global/stay_on_while_plugged_in": "0",
    "global/airplane_mode_on": "0",
    "system/screen_brightness": "102",
    "system/screen_brightness_mode": "1",
}


def put_programs(
    folder: Path,
    *,
    services: Mapping[str, str] = SERVICES,
    settings: Mapping[str, str] = SETTINGS,
) -> Path:
    """Put the programs into ``folder``, for the PATH or as /system/bin; return their state.

    The state holds what ``dumpsys`` prints of each service, and a file for each setting.
    """
    programs = Path(__file__).with_name("programs")
    shutil.copytree(programs, folder, dirs_exist_ok=True)
    state = folder / "state"
    for name, text in {**services, **{k: f"{v}\n" for k, v in settings.items()}}.items():
        (state / name).parent.mkdir(parents=True, exist_ok=True)
        (state / name).write_text(text)
    return state
