"""The product through its own command line: how it is called and how it ended."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent
COMMAND = [sys.executable, "-m", "latbench"]
QUICK = ("--processes", "2", "--warmup", "3", "--blocks", "2", "--block-calls", "5")


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Latbench = Callable[..., Ended]
