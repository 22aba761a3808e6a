"""Parameters and MACs of the models that claims are about, counted in a program of its own.

Building a network imports PyTorch and executes its code; whatever happens there, the check goes on.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

from latbench.core.answers import CountedModel
from latbench.core.claims import ClaimedModel
from latbench.core.errors import LatbenchError
from latbench.core.figures import Figure, parse_count
from latbench.zoo import catalog

TIMEOUT_S = 900
TIMM = "timm:"


@dataclass(frozen=True, kw_only=True)
class ToCount:
    """One model at one resolution; ``None`` is the model's own."""

    model: ClaimedModel
    resolution: int | None = None


def count_models(wanted: Iterable[ToCount]) -> dict[ToCount, CountedModel]:
    """What each consists of, or why that is not known. Builds only what no table has."""
    found: dict[ToCount, CountedModel] = {}
    rest: list[ToCount] = []
    for each in wanted:
        known = _known(each)
        if known is None:
            rest.append(each)
        else:
            found[each] = known
    return found | (_built(rest) if rest else {})


def _known(wanted: ToCount) -> CountedModel | None:
    """From the zoo's table of exact counts, or from what is published; ``None``: build it."""
    model = wanted.model
    if model.build is None:
        return _published(model)
    entry = next((entry for entry in catalog.ZOO if entry.name == model.build), None)
    trained = model.form == "trained"
    if entry is None or not trained or wanted.resolution not in (None, *entry.input_shape[1:]):
        return None
    return CountedModel(
        parameters=_exact(entry.parameters),
        macs=_exact(entry.macs),
        more_macs=model.uncounted.macs if model.uncounted else 0,
    )


def _published(model: ClaimedModel) -> CountedModel:
    counts = model.counts
    if counts is None:
        return CountedModel(missing=model.absent or "nothing builds it")
    return CountedModel(
        parameters=parse_count(counts.parameters) if counts.parameters else None,
        macs=parse_count(counts.macs) if counts.macs else None,
        more_macs=model.uncounted.macs if model.uncounted else 0,
        source=counts.source,
        counted=counts.counted,
    )


def _built(wanted: list[ToCount]) -> dict[ToCount, CountedModel]:
    """From the program below, a line for each; those that it did not get to are told as such."""
    asked = [
        {
            "build": each.model.build,
            "classes": each.model.classes,
            "resolution": each.resolution,
            "form": each.model.form,
        }
        for each in wanted
    ]
    lines, why = _program(json.dumps(asked))
    found = {}
    for i, each in enumerate(wanted):
        got: dict[str, Any] = lines[i] if i < len(lines) else {"missing": why}
        if "missing" in got:
            found[each] = CountedModel(missing=f"it could not be counted: {got['missing']}")
            continue
        found[each] = CountedModel(
            parameters=_exact(got["parameters"]),
            macs=_exact(got["macs"]),
            more_macs=each.model.uncounted.macs if each.model.uncounted else 0,
        )
    return found


def _program(asked: str) -> tuple[list[dict[str, Any]], str]:
    """What it wrote, and why it wrote no more."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "latbench.counted"],
            input=asked,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        out = error.stdout or b""
        text = out.decode() if isinstance(out, bytes) else out
        return _lines(text), f"counting took more than {TIMEOUT_S} s"
    last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return _lines(done.stdout), f"the counting program ended early ({last})"


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def _exact(count: int) -> Figure:
    return Figure(value=count, low=count, high=count)


def _count(build: str, classes: int | None, resolution: int | None, form: str) -> dict[str, int]:
    """Build one network and count it. MACs are of the deploy form at batch 1."""
    size = None if resolution is None else (resolution, resolution)
    if not build.startswith(TIMM):
        from latbench.zoo.resolve import resolve

        model = resolve(build, weights=None, batch=None, resolution=size, seed=0)
        counts = model.counts()
        trained = model.trained_parameters()
        return {
            "parameters": trained if form == "trained" else counts.parameters,
            "macs": counts.macs,
        }
    import torch

    from latbench.zoo import timm_bridge
    from latbench.zoo.counting import count

    module: Any = timm_bridge.build(build.removeprefix(TIMM), size)
    if classes is not None:
        module.reset_classifier(classes)
    channels, height, width = timm_bridge.default_input(module)
    shape = (1, channels, *(size or (height, width)))
    module.eval()
    parameters = sum(parameter.numel() for parameter in module.parameters())
    fused = timm_bridge.reparameterize(module)
    counts = count(fused, (torch.zeros(shape),))
    return {
        "parameters": parameters if form == "trained" else counts.parameters,
        "macs": counts.macs,
    }


def main() -> None:
    """A JSON list on standard input; a JSON line for each of its models on standard output."""
    for each in json.load(sys.stdin):
        try:
            # Packages print on import what nobody asked for.
            with redirect_stdout(sys.stderr):
                answer: dict[str, Any] = _count(**each)
        except LatbenchError as error:
            hint = f" ({error.hint})" if error.hint else ""
            answer = {"missing": f"{error.message}{hint}"}
        except ImportError as error:
            answer = {"missing": f"{error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
