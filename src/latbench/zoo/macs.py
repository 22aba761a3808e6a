"""Count a PyTorch module while it runs: see :class:`~latbench.schema.artifact.Counts`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from latbench.schema.artifact import Counts

if TYPE_CHECKING:
    import torch


def count(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Counts:
    """Run ``module`` once on ``inputs`` and count its convolutions and products.

    A product of two matrices counts where one of them is constant: a parameter, a buffer, or
    computed from such alone. Those of two activations (attention) do not. Recurrent layers count
    as a whole, since PyTorch executes some in one kernel and others step by step.
    """
    import torch
    from torch.overrides import TorchFunctionMode
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counting(TorchDispatchMode):
        """Sees every ATen call below autograd."""

        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.macs = 0
            self.operators = {"conv": 0, "linear": 0}
            # Kept alive, because an id may be used again once its tensor is gone.
            self._constants = [*module.parameters(), *module.buffers()]
            self._ids = {id(tensor) for tensor in self._constants}
            self.paused = False

        def __torch_dispatch__(
            self,
            func: Any,
            types: Any,
            args: Any = (),
            kwargs: Any = None,
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            if self.paused:
                return result
            tensors = [value for value in args if isinstance(value, torch.Tensor)]
            name = func.overloadpacket.__name__
            if name == "convolution":
                self.operators["conv"] += 1
                transposed = args[6]
                self.macs += (args[0] if transposed else result).numel() * math.prod(
                    args[1].shape[1:]
                )
            elif name in PRODUCTS and any(id(t) in self._ids for t in _operands(name, tensors)):
                self.operators["linear"] += 1
                self.macs += result.numel() * _operands(name, tensors)[0].shape[-1]
            elif tensors and all(id(tensor) in self._ids for tensor in tensors):
                self._learn(result)
            return result

        def _learn(self, result: Any) -> None:
            for tensor in result if isinstance(result, list | tuple) else (result,):
                if isinstance(tensor, torch.Tensor):
                    self._constants.append(tensor)
                    self._ids.add(id(tensor))

    class Recurrent(TorchFunctionMode):
        """Sees every call of a recurrent layer, above the kernels that it is executed with."""

        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if getattr(func, "__name__", "") not in RECURRENT:
                return func(*args, **(kwargs or {}))
            layers, macs = _recurrent(args)
            counting.operators["recurrent"] = counting.operators.get("recurrent", 0) + layers
            counting.macs += macs
            counting.paused = True
            try:
                return func(*args, **(kwargs or {}))
            finally:
                counting.paused = False

    with torch.no_grad(), Counting() as counting, Recurrent():
        module(*inputs)
    parameters = [parameter for parameter in module.parameters() if parameter.numel() > 1]
    return Counts(
        macs=counting.macs,
        parameters=sum(parameter.numel() for parameter in parameters),
        parameter_bytes=sum(p.numel() * p.element_size() for p in parameters),
        operators=counting.operators,
    )


RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")


def _recurrent(args: Any) -> tuple[int, int]:
    """Number of layers and MACs of a call of a recurrent layer.

    It has the arguments ``input, states, weights, has_biases, layers, ...``, or, for sequences of
    several lengths, ``steps, batch sizes, states, weights, has_biases, layers, ...``. Every weight
    is used once in each step of each sequence.
    """
    packed = isinstance(args[3], list | tuple)
    weights, layers = (args[3], args[5]) if packed else (args[2], args[4])
    steps = args[0].shape[0] if packed else math.prod(args[0].shape[:-1])
    return layers, steps * sum(weight.numel() for weight in weights if weight.dim() == 2)


PRODUCTS = ("mm", "addmm", "bmm", "baddbmm")


def _operands(name: str, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """The two factors; addmm and baddbmm have the addend first."""
    return tensors[1:3] if name in ("addmm", "baddbmm") else tensors[:2]
