"""What is in a file, as lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from latbench.api import FileContent, OpenTensor
from latbench.artifacts.inspection import Inspection, StoredWeights
from latbench.report.text.layout import labeled, table
from latbench.report.units import size
from latbench.report.writers import printable

SHOWN, LONGEST = 8, 80


def inspection_lines(found: Inspection, *, verbose: bool = False) -> list[str]:
    """The answer, then what the file holds, then what to do with it."""
    lines = [f"{plain(found.path)}: {_title(found)}"]
    if found.content is not None:
        lines += _content_lines(found.content, verbose=verbose)
    else:
        lines += _listed("weights", [_group(each) for each in found.weights], verbose=verbose)
        lines += _pairs("other", found.others, verbose=verbose)
        lines += _pairs("metadata", found.metadata, verbose=verbose)
    lines += _labels("next", found.next)
    if verbose and found.tensors:
        rows = [(plain(each.name), _sizes(each.shape), each.dtype) for each in found.tensors]
        lines += ["", *table(("tensor", "shape", "type"), rows)]
    return lines


def plain(text: str) -> str:
    """``text`` on one line, control characters as escapes, cut if it is long."""
    shown = printable(text[: LONGEST + 1])
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…"


def _title(found: Inspection) -> str:
    bytes_ = size(found.size_bytes)
    if (content := found.content) is not None:
        precision = f", {content.precision}" if content.precision else ""
        calls = sum(content.operators.values())
        operators = f", {calls:,} operator{'s' * (calls != 1)}" if calls else ""
        return f"{found.format} model{precision}{operators}, {bytes_}"
    tensors, values = len(found.tensors), sum(each.elements for each in found.weights)
    where = f" under {len(found.weights)} keys" if len(found.weights) > 1 else ""
    return f"{found.format} {found.kind}, {tensors:,} tensors{where}, {values:,} values, {bytes_}"


def _content_lines(content: FileContent, *, verbose: bool) -> list[str]:
    lines = _labels("inputs", [_tensor(each) for each in content.inputs] or ["none"])
    lines += _labels("outputs", [_tensor(each) for each in content.outputs] or ["none"])
    counts = []
    if content.parameters is not None:
        stored = f" in {size(round(content.parameter_bytes))}" if content.parameter_bytes else ""
        counts.append(f"{content.parameters:,} parameters{stored}")
    if content.macs is not None:
        counts.append(f"{content.macs:,} MACs")
    elif not all(each.fixed for each in content.inputs):
        counts.append("MACs depend on the open sizes")
    lines += _labels("counts", [", ".join(counts)] if counts else [])
    calls = sorted(content.operators.items(), key=lambda pair: (-pair[1], pair[0]))
    shown = [f"{number} {plain(name)}" for name, number in calls]
    most = len(shown) if verbose else 2 * SHOWN
    rest = f", and {len(shown) - most} more kinds" if len(shown) > most else ""
    lines += _labels("operators", [", ".join(shown[:most]) + rest] if shown else [])
    facts = [f"{plain(name)} {plain(value)}" for name, value in content.details.items()]
    lines += _labels("details", [", ".join(facts)] if facts else [])
    return lines + _pairs("metadata", content.metadata, verbose=verbose)


def _group(each: StoredWeights) -> str:
    prefix = f", names begin with {plain(each.prefix)}" if each.prefix else ""
    return (
        f"{plain(each.key) or '(outermost)'}: {each.tensors:,} tensors, {each.elements:,} values, "
        f"{', '.join(each.dtypes)}, {size(each.size_bytes)}{prefix}"
    )


def _tensor(tensor: OpenTensor) -> str:
    if tensor.shape is None:
        return f"{plain(tensor.name)} {plain(tensor.dtype)}, shape unknown"
    note = ", decides how much is computed" if tensor.decides else ""
    return f"{plain(tensor.name)} {_sizes(tensor.shape)} {plain(tensor.dtype)}{note}"


def _sizes(shape: Sequence[int | str | None]) -> str:
    return "x".join("?" if each is None else plain(str(each)) for each in shape) or "scalar"


def _pairs(label: str, pairs: Mapping[str, str], *, verbose: bool) -> list[str]:
    found = [f"{plain(name)} {plain(value)}" for name, value in pairs.items()]
    return _listed(label, found, verbose=verbose)


def _listed(label: str, found: Sequence[str], *, verbose: bool) -> list[str]:
    most = len(found) if verbose else SHOWN
    rest = [f"and {len(found) - most} more (--verbose)"] if len(found) > most else []
    return _labels(label, [*found[:most], *rest])


def _labels(label: str, found: Sequence[str]) -> list[str]:
    """One line for each, the label on the first."""
    return [labeled(label if i == 0 else "", each) for i, each in enumerate(found)]
