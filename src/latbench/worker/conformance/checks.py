"""All checks, in the order in which they are performed."""

from __future__ import annotations

from latbench.worker.conformance.conversation import CONVERSATION, ENDS
from latbench.worker.conformance.device import DEVICE
from latbench.worker.conformance.script import SCRIPT
from latbench.worker.conformance.session import SESSION

CHECKS = (*CONVERSATION, *DEVICE, *SESSION, *SCRIPT, *ENDS)
