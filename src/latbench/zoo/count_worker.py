"""The program that builds models and counts them, one answer a line."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import msgspec

from latbench.errors import LatbenchError
from latbench.schema.graph import (
    MergeCheck,
    MergedGraphs,
    Method,
    Over,
)


def _count(build: str, resolution: int | None) -> dict[str, int]:
    """Build one network, as for a run, and count it. MACs are of the deploy form at batch 1."""
    from latbench.zoo.resolver import resolve

    size = None if resolution is None else (resolution, resolution)
    model = resolve(build, weights=None, batch=None, resolution=size, seed=0)
    counts = model.counts()
    return {
        "trained": model.trained_parameters(),
        "deployed": counts.parameters,
        "macs": counts.macs,
    }


def _grow(build: str, over: Over) -> dict[str, Any]:
    """Build one network for each of several sizes, and count it; at its own size it is counted as
    any, which tells whether it is the one that is meant."""
    from latbench.zoo.scaling import growth

    found = growth(build, over)
    return {**_count(build, None), "growth": msgspec.to_builtins(found)}


def _show(method: Method, hosts: list[str]) -> dict[str, Any]:
    """Apply and merge a method; a host that cannot be built does not take the others with it."""
    from latbench.zoo.merge_check import check_merge

    shown = []
    for host in hosts:
        try:
            built: MergedGraphs = check_merge(method, host)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - as in `main`
            shown.append(MergeCheck(host=host, missing=_why(error)))
        else:
            shown.append(MergeCheck(host=host, built=built))
    return {"shown": msgspec.to_builtins(shown)}


def _why(error: BaseException) -> str:
    if not isinstance(error, LatbenchError):
        return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
    return f"{error.message} ({error.hint})" if error.hint else error.message


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    if "method" in asked:
        return _show(**asked)
    return _grow(**asked) if "over" in asked else _count(**asked)


def main() -> None:
    """A JSON list on standard input; a JSON line for each of its models on standard output."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # Packages and models print what nobody asked for, from C as well.
    os.dup2(2, 1)
    for each in json.load(sys.stdin):
        try:
            answer = _answer(each)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a model may even leave by sys.exit
            answer = {"missing": _why(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
