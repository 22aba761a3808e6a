"""The app of the stand-in phone: lines of a script, executed by latbench's own worker.

``python -m support.mac.phone_app PHONE DATA run ID A:B``: as the app for iPhones, it reads
``Documents/in-ID`` and writes to ``Documents/out-ID`` only, which it makes itself.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from latbench.schema.trace import Readings
from latbench.worker import job_folder as files
from latbench.worker import messages, server
from latbench.worker.agent import answer_about_machine
from latbench.worker.inference import Worker


def main() -> None:
    phone, data, verb, *words = sys.argv[1:]
    documents = Path(data, "Documents")
    if verb == "hello":
        (documents / "out-app").mkdir(exist_ok=True)
        (documents / "out-app" / "hello.json").write_text("{}")
        return
    assert verb == "run"
    first, end = map(int, words[1].split(":"))
    App(Path(phone), Path(data), words[0]).run(first, end)


class App:
    """One launch of the app."""

    def __init__(self, phone: Path, data: Path, id: str) -> None:
        self.phone, self.data = phone, data
        given = data / "Documents" / f"in-{id}"
        self.script = files.read_script((given / files.SCRIPT).read_bytes())
        self.out = data / "Documents" / f"out-{id}"
        self.out.mkdir(exist_ok=True)
        self.begun = time.time_ns()
        if (self.out / files.STATUS).exists():
            self.begun = json.loads((self.out / files.STATUS).read_text())["started_unix_ns"]
        self.failure: Any = None
        self.ended: set[str] = set()

    def run(self, first: int, end: int) -> None:
        launches = self.state().get("launches", 0) + 1
        self.change(launches=launches)
        if launches == self.state().get("cools_at"):
            self.change(conditions={"thermal_status": "nominal"})
        self.say("running")
        with ExitStack() as exits, (self.out / files.ANSWERS).open("ab") as answers:
            workers: dict[str, Worker] = {}
            for number in range(first, end):
                line = self.script[number]
                if line.worker is None:
                    response: Any = self.told(line.request)
                elif self.failure is not None or line.worker in self.ended:
                    continue
                else:
                    if line.worker not in workers:
                        workers[line.worker] = Worker(exits)
                    response = self.asked(workers[line.worker], line)
                    if line.role == "close":
                        del workers[line.worker]
                raw = msgspec.Raw(msgspec.json.encode(response))
                at_ns = time.time_ns() - self.begun
                answer = files.ScriptAnswer(line=number, at_ns=at_ns, response=raw)
                answers.write(msgspec.json.encode(answer) + b"\n")
                answers.flush()
                self.suffer()
        self.say("failed" if self.failure else "finished")
        sys.exit(1 if self.failure else 0)

    def asked(self, worker: Worker, line: files.ScriptLine) -> Any:
        request = line.request
        if isinstance(request, messages.Open):
            inside = str(self.data / request.path)
            request = msgspec.structs.replace(request, path=inside)
        answer = server._response(request, worker.handle)
        if isinstance(answer, messages.BlockTimed):
            # A phone is no virtual machine whose hypervisor takes time away.
            return msgspec.structs.replace(answer, readings=self.heat(sum(answer.sample_ns)))
        failure: Any = None
        if isinstance(answer, messages.Failed):
            failure = answer.failure
        elif isinstance(answer, messages.Refused):
            failure = {"stage": "open", "kind": "error", "message": answer.message}
        if failure is not None:
            self.ended.add(str(line.worker))
            if line.worker != "sentinel":
                self.failure = failure
        return answer

    def heat(self, wall_ns: int) -> Readings | None:
        """What the app reads beside a block: how hot the system says that it is."""
        status = self.state().get("conditions", {}).get("thermal_status")
        if status is None:
            return None
        unknown: dict[str, Any] = dict.fromkeys(Readings.__struct_fields__)
        return Readings(**{**unknown, "wall_ns": wall_ns, "thermal_status": status})

    def told(self, request: Any) -> Any:
        told = answer_about_machine(request)
        changes = self.state().get("conditions", {})
        if isinstance(told, messages.ConditionsTold):
            quiet = {"steal_ns": None, "load_1m_milli": None, **changes}
            now = msgspec.structs.replace(told.conditions, **quiet)
            return msgspec.structs.replace(told, conditions=now)
        return told

    def suffer(self) -> None:
        """What goes wrong after an answer."""
        wrong = self.state()
        done = wrong.get("answers", 0) + 1
        self.change(answers=done)
        if done == wrong.get("warms_after"):
            self.change(conditions={"thermal_status": "serious"})
        if done == wrong.get("dies_after"):
            if wrong.get("runs_empty"):
                self.change(connection="unavailable")
            if wrong.get("locks"):
                self.change(locked=True)
            if wrong.get("half_written"):
                (self.out / files.STATUS).write_text('{"state": "runn')
                with (self.out / files.ANSWERS).open("ab") as answers:
                    answers.write(b'{"line": 99, "at_')
            os._exit(9)
        if done == wrong.get("stops_after"):
            (self.phone / "stopped").touch()
            time.sleep(wrong.get("stops_for_s", 2.0))

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.phone / "phone.json").read_text())
        return found

    def change(self, **changes: Any) -> None:
        beside = self.phone / f"phone.json.{os.getpid()}"
        beside.write_text(json.dumps({**self.state(), **changes}))
        beside.replace(self.phone / "phone.json")

    def say(self, state: str) -> None:
        status = {
            "state": state,
            "pid": os.getpid(),
            "started_unix_ns": self.begun,
            "ended_unix_ns": None if state == "running" else time.time_ns(),
            "failure": self.failure,
        }
        (self.out / files.STATUS).write_bytes(msgspec.json.encode(status))


if __name__ == "__main__":
    main()
