"""MACs of a network at several sizes, including products of two activations.

Such products have quadratic cost, and :mod:`latbench.zoo.macs` leaves them out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from latbench.errors import StageError
from latbench.schema.graph import Growth, Over
from latbench.zoo.builder import construct, summary
from latbench.zoo.model import ResolvedModel
from latbench.zoo.module_inputs import module_inputs
from latbench.zoo.resolver import resolve

if TYPE_CHECKING:
    import torch
    from torch import nn

SIDES = (224, 448, 672, 896)
"""Multiples of 224: strides of 32 and windows of 7 divide them in all stages, so that no size needs
more padding than another."""
GROWTH_BATCHES = (1, 2, 4, 8)


def growth(name: str, over: Over) -> Growth:
    """Growth of model ``name`` over ``over``. Raises :class:`StageError` if a size is invalid."""
    if over == "time-steps":
        raise StageError("build", "no builder accepts a number of time-steps")
    if over == "batch":
        sizes, models = GROWTH_BATCHES, [_resolved(name, None, batch) for batch in GROWTH_BATCHES]
    else:
        sizes, models = SIDES, [_resolved(name, (side, side), None) for side in SIDES]
    return Growth(over=over, sizes=sizes, macs=tuple(map(_macs, models)))


def _resolved(name: str, resolution: tuple[int, int] | None, batch: int | None) -> ResolvedModel:
    return resolve(name, weights=None, batch=batch, resolution=resolution, seed=0)


def _macs(model: ResolvedModel) -> int:
    if model.path is not None:
        raise StageError("build", "a pre-exported file has a fixed size")
    module = construct(model).eval()
    import torch

    filled = module_inputs(model, module)
    inputs = tuple(torch.from_numpy(array) for array in filled.arrays(model.seed))
    shapes = ", ".join("x".join(map(str, spec.shape)) for spec in filled.specs)
    with summary(f"the network cannot take an input of {shapes}"):
        return all_macs(module, inputs)


def all_macs(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> int:
    """MACs of convolutions and of all matrix products; ``module`` loses its values.

    Nothing is computed: tensors have shapes only, so that an attention over 3136 tokens takes
    neither time nor memory.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module.to("meta")(*[tensor.to("meta") for tensor in inputs])
    return int(counter.get_total_flops()) // 2
