"""Run graphs traced by ``torch.export``, operator by operator or compiled.

The traced graph runs, so the time does not include the Python code of the model's modules.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from latbench.api import (
    Array,
    Artifact,
    Capability,
    OperatorTime,
    Placement,
    Profile,
    Runner,
    RunOptions,
    Session,
    StageError,
    UsageError,
    choice_option,
    first_line,
)
from latbench.clock import now_ns
from latbench_runners.packages import package_capability
from latbench_runners.torch.files import refuse_code

if TYPE_CHECKING:
    import torch

CHOICES = {
    "mode": ("eager", "compile"),
    "device": ("cpu", "cuda", "mps"),
    "memory_format": ("contiguous", "channels_last"),
    "tf32": ("off", "on"),
}
"""Option -> its values, the default first."""


class TorchRunner:
    """Run ``.pt2`` files written by the torch exporter."""

    name = "torch"
    formats = ("torch",)
    needs: tuple[str, ...] = ("torch",)
    options: Mapping[str, str] = {
        "mode": "eager, compile: TorchInductor, which needs a C++ compiler (default eager)",
        "device": "cpu, cuda, mps (default cpu)",
        "memory_format": "contiguous, channels_last: of weights and images (default contiguous)",
        "tf32": "on, off: allow TF32 for fp32 products on CUDA (default off)",
    }

    units: Mapping[str, tuple[str, ...]] = {
        "cpu": (),
        "cuda": ("gpu",),
        "mps": ("gpu",),
    }

    def probe(self) -> Capability:
        return package_capability("torch", extra="export", unit="cpu")

    def prepare(self) -> None:
        import torch  # noqa: F401

    @contextmanager
    def open(
        self, artifact: Artifact, path: Path, inputs: Sequence[Array], options: RunOptions
    ) -> Iterator[Session]:
        """Load the graph, move it to the device, and compile it if requested."""
        asked = _asked(options)
        import torch

        _require(asked)
        _set_up(options.threads, asked)
        program = _loaded(path)
        channels_last = asked["memory_format"] == "channels_last"
        layout = torch.channels_last if channels_last else torch.contiguous_format
        module = program.module(check_guards=False)
        # The guards compare the shapes of the inputs at each call.
        module._forward_pre_hooks.clear()
        module.to(asked["device"])
        for weight in module.parameters():
            weight.data = _arranged(weight.data, layout)
        tensors = tuple(
            _arranged(torch.from_numpy(array).to(asked["device"]), layout) for array in inputs
        )
        with torch.inference_mode():
            call = module if asked["mode"] == "eager" else _compiled(module, tensors)
            kind = CudaSession if asked["device"] == "cuda" else TorchSession
            yield kind(module, call, tensors, asked, artifact.precision)


class TorchSession:
    """A graph with its inputs on the device, timed from the host."""

    def __init__(
        self,
        module: torch.fx.GraphModule,
        call: Any,
        inputs: tuple[torch.Tensor, ...],
        asked: Mapping[str, str],
        precision: str,
    ) -> None:
        self._module = module
        self._call = call
        self._inputs = inputs
        self._asked = asked
        self._precision = precision
        self._outputs: Any = ()
        self._wait = _waiting(asked["device"])

    def run(self) -> None:
        self._outputs = self._call(*self._inputs)
        if self._wait is not None:
            self._wait()

    def outputs(self) -> tuple[Array, ...]:
        import torch

        whole = (self._outputs,) if isinstance(self._outputs, torch.Tensor) else self._outputs
        return tuple(tensor.contiguous().cpu().numpy() for tensor in whole)

    def placement(self) -> Placement:
        """All tensors are on one device, without fallback to another, except on MPS if the user
        allows it."""
        count = sum(node.op == "call_function" for node in self._module.graph.nodes)
        if self._asked["device"] == "mps" and os.environ.get("PYTORCH_ENABLE_MPS_FALLBACK") == "1":
            return Placement(units={"mps": None, "cpu": None}, known="unknown")
        return Placement(units={self._asked["device"]: count}, known="proven")

    def settings(self) -> Mapping[str, str]:
        import torch

        settings = {
            **self._asked,
            "threads": str(torch.get_num_threads()),
            "inter_op_threads": str(torch.get_num_interop_threads()),
            "mkldnn": "on" if torch.backends.mkldnn.is_available() else "off",
        }
        if self._asked["device"] == "cuda":
            settings["gpu"] = torch.cuda.get_device_name()
            if self._asked["tf32"] == "on" and self._precision == "fp32":
                settings["precision"] = "tf32"
        return settings

    def profile(self, calls: int) -> Profile | None:
        """Time each node with an interpreter; a compiled graph has no nodes left to time."""
        if self._asked["mode"] != "eager":
            return None
        import torch

        spent: dict[str, list[int]] = {}
        wait = self._wait or (lambda: None)

        class Timing(torch.fx.Interpreter):
            """Records the time of each node."""

            def run_node(self, n: torch.fx.Node) -> Any:
                begun = now_ns()
                result = super().run_node(n)
                if n.op == "call_function":
                    wait()
                    spent.setdefault(n.name, []).append(now_ns() - begun)
                return result

        whole = []
        for _ in range(calls):
            begun = now_ns()
            self.run()
            whole.append(now_ns() - begun)
            Timing(self._module).run(*self._inputs)
        nodes = {node.name: node for node in self._module.graph.nodes}
        return Profile(
            source=f"torch {version('torch')}, each ATen call of the traced graph",
            calls=calls,
            total_ns=round(median(whole)),
            operators=tuple(
                OperatorTime(
                    name=name,
                    kind=str(nodes[name].target),
                    time_ns=round(median(times)),
                    unit=self._asked["device"],
                )
                for name, times in spent.items()
            ),
        )


class CudaSession(TorchSession):
    """A session on an NVIDIA or AMD GPU, timed by the GPU's clock."""

    def __init__(
        self,
        module: torch.fx.GraphModule,
        call: Any,
        inputs: tuple[torch.Tensor, ...],
        asked: Mapping[str, str],
        precision: str,
    ) -> None:
        super().__init__(module, call, inputs, asked, precision)
        self._host_ns: list[int] = []

    def time_block(self, calls: int) -> Sequence[int]:
        """Time between events; the host's time, with launch and wait, is recorded as well."""
        import torch

        begin = torch.cuda.Event(enable_timing=True)
        end = torch.cuda.Event(enable_timing=True)
        elapsed, self._host_ns = [], []
        for _ in range(calls):
            begun = now_ns()
            begin.record()
            self._outputs = self._call(*self._inputs)
            end.record()
            end.synchronize()
            self._host_ns.append(now_ns() - begun)
            # Events give milliseconds, with a resolution of about half a microsecond.
            elapsed.append(round(begin.elapsed_time(end) * 1e6))
        return elapsed

    def beside_ns(self) -> Mapping[str, Sequence[int]]:
        return {"call": self._host_ns}


def runner() -> Runner:
    """Entry point."""
    return TorchRunner()


def _asked(options: RunOptions) -> dict[str, str]:
    asked = {name: values[0] for name, values in CHOICES.items()} | dict(options.extra)
    for name, values in CHOICES.items():
        choice_option(name, asked[name], values)
    if asked["tf32"] == "on" and asked["device"] != "cuda":
        raise UsageError(
            "tf32=on requires device=cuda", hint="use --option device=cuda, or omit tf32"
        )
    return asked


def _loaded(path: Path) -> torch.export.ExportedProgram:
    """Load a file that passed the check. Raises :class:`StageError`."""
    import torch

    refuse_code(path)
    try:
        return torch.export.load(path)
    except Exception as error:
        # The reader asserts and looks up names from the file.
        if isinstance(error, MemoryError):
            raise
        first = first_line(error)
        raise StageError(
            "open",
            f"PyTorch cannot load {path.name}: {first}",
            hint="truncated, corrupt, or written by another PyTorch version",
        ) from error


def _require(asked: Mapping[str, str]) -> None:
    """Raise :class:`StageError` if the device or the compiler is missing."""
    import torch

    device = asked["device"]
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present[device]:
        raise StageError(
            "open",
            f"this PyTorch finds no {device} device",
            hint=f"available: {', '.join(name for name, here in present.items() if here)}; "
            "install the device's driver and a PyTorch build for it",
            kind="unavailable",
        )
    compilers = [os.environ.get("CXX", ""), "g++", "clang++", "cl"]
    if asked["mode"] == "compile" and not any(map(shutil.which, filter(None, compilers))):
        raise StageError(
            "open",
            "mode=compile requires a C++ compiler; none found on PATH",
            hint="install g++ or clang, set CXX, or use mode=eager",
            kind="unavailable",
        )


def _set_up(threads: int, asked: Mapping[str, str]) -> None:
    """Set threads and TF32, which are global to the process."""
    import torch

    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        # Fixed once they run; the settings report the actual number.
        with suppress(RuntimeError):
            torch.set_num_interop_threads(1)
    if asked["device"] == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = asked["tf32"] == "on"
        torch.backends.cudnn.allow_tf32 = asked["tf32"] == "on"


def _arranged(tensor: torch.Tensor, layout: torch.memory_format) -> torch.Tensor:
    """Apply the layout, which only images and kernels of 2-D convolutions have."""
    return tensor.contiguous(memory_format=layout) if tensor.ndim == 4 else tensor


def _compiled(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
    """Compile by a first call, which is part of the load time. Inductor caches in the folder for
    temporary files, so later processes load faster."""
    import torch

    call = torch.compile(module, dynamic=False)
    try:
        call(*inputs)
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        first = first_line(error)
        raise StageError(
            "open", f"TorchInductor cannot compile the graph: {first}", hint="use mode=eager"
        ) from error
    return call


def _waiting(device: str) -> Any:
    """A function that waits for ``device``; ``None`` if calls are synchronous."""
    import torch

    return {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}.get(device)
