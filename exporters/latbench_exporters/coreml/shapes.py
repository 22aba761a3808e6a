"""Kernels of MIL operations that move elements without computing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from latbench_exporters.coreml.calls import Call, Kernel

if TYPE_CHECKING:
    import torch


def shapes() -> dict[str, Kernel]:
    """Operation name -> kernel."""
    import torch
    from torch.nn import functional

    return {
        "reshape": _reshape,
        "transpose": lambda c: c.tensor("x").permute(c.value("perm")),
        "expand_dims": _expand_dims,
        "squeeze": _squeeze,
        "flatten2d": lambda c: c.tensor("x").reshape(
            math.prod(c.tensor("x").shape[: c.value("axis", 1)]), -1
        ),
        "concat": _concat,
        "stack": lambda c: torch.stack(c.tensors("values"), c.value("axis")),
        "split": _split,
        "tile": lambda c: c.tensor("x").tile(c.value("reps")),
        "pad": _pad,
        "reverse": lambda c: c.tensor("x").flip(
            c.value("axes") if c.value("axes") is not None else list(range(c.tensor("x").ndim))
        ),
        "slice_by_index": lambda c: _sliced(c, c.tensor("x")),
        "slice_by_size": _slice_by_size,
        "slice_update": _slice_update,
        "gather": _gather,
        "gather_along_axis": lambda c: c.tensor("x").gather(
            c.value("axis", 0), _indices(c, c.tensor("x").shape[c.value("axis", 0)])
        ),
        "gather_nd": lambda c: c.tensor("x")[c.tensor("indices").long().unbind(-1)],
        "pixel_shuffle": lambda c: functional.pixel_shuffle(
            c.tensor("x"), c.value("upscale_factor")
        ),
        "pixel_unshuffle": lambda c: functional.pixel_unshuffle(
            c.tensor("x"), c.value("downscale_factor")
        ),
        "fill": lambda c: torch.full(c.value("shape"), c.value("value", 0.0)),
        "fill_like": lambda c: torch.full_like(c.tensor("ref_tensor"), c.value("value", 0.0)),
        "shape": lambda c: torch.tensor(c.tensor("x").shape),
        "topk": _topk,
        "argsort": lambda c: c.tensor("x").argsort(
            c.value("axis", -1), descending=not c.value("ascending", False)
        ),
        "non_zero": lambda c: c.tensor("x").nonzero(),
        "range_1d": lambda c: torch.arange(c.value("start"), c.value("end"), c.value("step")),
        "band_part": _band_part,
        "one_hot": _one_hot,
        "scatter_nd": _scatter_nd,
        "scatter_along_axis": _scatter_along_axis,
    }


def _reshape(c: Call) -> torch.Tensor:
    x, shape = c.tensor("x"), c.value("shape")
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(shape)])


def _expand_dims(c: Call) -> torch.Tensor:
    x, axes = c.tensor("x"), c.value("axes")
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _squeeze(c: Call) -> torch.Tensor:
    x, axes = c.tensor("x"), c.value("axes")
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


def _concat(c: Call) -> torch.Tensor:
    import torch

    # Sizes are scalars here and there, which are concatenated as vectors of one element.
    parts = [part if part.ndim else part.reshape(1) for part in c.tensors("values")]
    axis = c.value("axis")
    if not c.value("interleave", False):
        return torch.cat(parts, axis)
    axis %= parts[0].ndim
    return torch.stack(parts, axis + 1).flatten(axis, axis + 1)


def _split(c: Call) -> Sequence[torch.Tensor]:
    x, axis, sizes = c.tensor("x"), c.value("axis"), c.value("split_sizes")
    if sizes is None:
        sizes = x.shape[axis] // c.value("num_splits")
    parts: Sequence[torch.Tensor] = x.split(sizes, axis)
    return parts


def _pad(c: Call) -> torch.Tensor:
    from torch.nn import functional

    x, pads, mode = c.tensor("x"), c.value("pad"), c.value("mode", "constant")
    flat = [size for i in range(len(pads) - 2, -2, -2) for size in pads[i : i + 2]]
    if mode == "constant":
        return functional.pad(x, flat, value=c.value("constant_val", 0.0))
    # In these modes torch pads only the last axes of a batch of images.
    while len(flat) > 2 and flat[-2:] == [0, 0]:
        flat = flat[:-2]
    return functional.pad(x, flat, mode=mode)


def _sliced(c: Call, x: torch.Tensor) -> torch.Tensor:
    begins, ends = c.value("begin"), c.value("end")
    n = len(begins)
    strides = c.value("stride") or [1] * n
    open_begin, open_end = c.value("begin_mask") or [False] * n, c.value("end_mask") or [False] * n
    gone = c.value("squeeze_mask") or [False] * n
    for axis in reversed(range(n)):
        if gone[axis]:
            x = x.select(axis, begins[axis])
            continue
        chosen = range(x.shape[axis])[
            slice(
                None if open_begin[axis] else begins[axis],
                None if open_end[axis] else ends[axis],
                strides[axis],
            )
        ]
        if chosen.step > 0:
            x = x[(slice(None),) * axis + (slice(chosen.start, chosen.stop, chosen.step),)]
        else:
            x = x[(slice(None),) * axis + (list(chosen),)]
    return x


def _slice_by_size(c: Call) -> torch.Tensor:
    x, begins, sizes = c.tensor("x"), c.value("begin"), c.value("size")
    for axis, (begin, size) in enumerate(zip(begins, sizes, strict=True)):
        start = begin % x.shape[axis] if x.shape[axis] else 0
        x = x.narrow(axis, start, x.shape[axis] - start if size == -1 else size)
    return x


def _slice_update(c: Call) -> torch.Tensor:
    import torch

    x, update = c.tensor("x"), c.tensor("update")
    places = _sliced(c, torch.arange(x.numel()).reshape(x.shape))
    result = x.clone().flatten()
    result[places.flatten()] = update.expand(places.shape).flatten()
    return result.reshape(x.shape)


def _gather(c: Call) -> torch.Tensor:
    x, axis = c.tensor("x"), c.value("axis", 0) % max(1, c.tensor("x").ndim)
    if c.value("batch_dims", 0):
        raise NotImplementedError("batch_dims")
    indices = _indices(c, x.shape[axis])
    taken = x.index_select(axis, indices.flatten())
    return taken.reshape(x.shape[:axis] + indices.shape + x.shape[axis + 1 :])


def _indices(c: Call, size: int) -> torch.Tensor:
    indices = c.tensor("indices").long()
    return indices.where(indices >= 0, indices + size)


def _topk(c: Call) -> Sequence[torch.Tensor]:
    found = c.tensor("x").topk(
        c.value("k", 1), c.value("axis", -1), largest=not c.value("ascending", False)
    )
    return (found.values, found.indices) if c.value("return_indices", True) else (found.values,)


def _band_part(c: Call) -> torch.Tensor:
    import torch

    x, lower, upper = c.tensor("x"), c.value("lower", -1), c.value("upper", -1)
    row, column = torch.arange(x.shape[-2])[:, None], torch.arange(x.shape[-1])
    kept = ((lower < 0) | (row - column <= lower)) & ((upper < 0) | (column - row <= upper))
    result: torch.Tensor = x * kept
    return result


def _one_hot(c: Call) -> torch.Tensor:
    import torch

    indices, axis = c.tensor("indices").long(), c.value("axis", -1)
    axis %= indices.ndim + 1
    places = torch.arange(c.value("one_hot_vector_size"))
    chosen = (indices.unsqueeze(-1) == places).movedim(-1, axis)
    return torch.where(chosen, c.value("on_value", 1), c.value("off_value", 0))


def _scatter_nd(c: Call) -> torch.Tensor:
    import torch

    data, updates, mode = c.tensor("data"), c.tensor("updates"), c.value("mode", "add")
    sizes = torch.tensor(data.shape[: c.tensor("indices").shape[-1]])
    indices = c.tensor("indices").long()
    places = indices.where(indices >= 0, indices + sizes).unbind(-1)
    if mode == "update":
        return data.index_put(places, updates)
    if mode not in ("add", "sub"):
        raise NotImplementedError(f"mode {mode}")
    return data.index_put(places, updates if mode == "add" else -updates, accumulate=True)


def _scatter_along_axis(c: Call) -> torch.Tensor:
    data, updates, mode = c.tensor("data"), c.tensor("updates"), c.value("mode", "add")
    axis = c.value("axis", 0) % data.ndim
    places = _indices(c, data.shape[axis])
    if mode == "update":
        return data.scatter(axis, places, updates)
    if mode in ("add", "sub"):
        return data.scatter_add(axis, places, updates if mode == "add" else -updates)
    named = {"mul": "prod", "max": "amax", "min": "amin"}
    if mode not in named:
        raise NotImplementedError(f"mode {mode}")
    result: torch.Tensor = data.scatter_reduce(axis, places, updates, named[mode])
    return result
