"""MACs of a network at several sizes, products of two activations included.

Those are where quadratic cost hides, and :mod:`latbench.zoo.macs` leaves them out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from latbench.errors import StageError
from latbench.schema.graph import Growth, Over
from latbench.zoo.builder import construct, images, summary
from latbench.zoo.model import ResolvedModel
from latbench.zoo.resolver import resolve

if TYPE_CHECKING:
    import torch
    from torch import nn

SIDES = (224, 448, 672, 896)
"""Multiples of 224, which strides of 32 and windows of 7 in all stages divide: no size pays for a
padding that another has not."""
GROWTH_BATCHES = (1, 2, 4, 8)


def growth(name: str, over: Over) -> Growth:
    """Of the model called ``name``. Raises :class:`StageError` where it cannot take the sizes."""
    if over == "time-steps":
        raise StageError("build", "no builder here takes a number of time-steps")
    if over == "batch":
        sizes, models = GROWTH_BATCHES, [_resolved(name, None, batch) for batch in GROWTH_BATCHES]
    else:
        sizes, models = SIDES, [_resolved(name, (side, side), None) for side in SIDES]
    return Growth(over=over, sizes=sizes, macs=tuple(map(_macs, models)))


def _resolved(name: str, resolution: tuple[int, int] | None, batch: int | None) -> ResolvedModel:
    return resolve(name, weights=None, batch=batch, resolution=resolution, seed=0)


def _macs(model: ResolvedModel) -> int:
    if model.path is not None:
        raise StageError("build", "a ready file is of one size")
    module = construct(model).eval()
    image, inputs = images(model, module)
    shape = "x".join(map(str, image.shape))
    with summary(f"the network cannot take an input of {shape}"):
        return all_macs(module, inputs)


def all_macs(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> int:
    """Of convolutions and of all products; ``module`` is left without its values.

    Nothing is computed: tensors are of shapes alone, so that an attention over 3136 tokens takes
    neither time nor memory.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module.to("meta")(*[tensor.to("meta") for tensor in inputs])
    return int(counter.get_total_flops()) // 2
