"""A network of a few thousand parameters, as a user's own model and as an ``api.Model``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latbench.api import Array, ModelIdentity, TensorSpec, make_inputs

if TYPE_CHECKING:
    import torch


def factory() -> torch.nn.Module:
    """Convolution, activation, pooling, linear; 3x32x32 images."""
    from torch import nn

    class Tiny(nn.Sequential):
        input_shape = (3, 32, 32)

    return Tiny(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.GELU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 10),
    )


class TinyModel:
    """The same without BatchNorm, already in deploy form, at batch 2."""

    identity = ModelIdentity(
        name="tiny",
        source="user",
        architecture="sha256:0",
        weights="seed:0",
        batch=2,
        resolution=(32, 32),
    )

    def __init__(self) -> None:
        import torch
        from torch import nn

        with torch.random.fork_rng():
            torch.manual_seed(0)
            self._module = nn.Sequential(
                nn.Conv2d(3, 8, 3, stride=2, padding=1),
                nn.GELU(),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(8, 10),
            ).eval()

    def module(self) -> torch.nn.Module:
        return self._module

    def inputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec(name="image", shape=(2, 3, 32, 32), dtype="float32"),)

    def example_inputs(self) -> tuple[Array, ...]:
        return make_inputs(self.inputs(), 0)
