"""Checks of outputs. A model that returns its inputs shows that those are the defined ones."""

from __future__ import annotations

from pathlib import Path

from latbench.schema.artifact import TensorSpec
from latbench.schema.seeded_inputs import make_inputs
from latbench.worker import messages
from latbench.worker.conformance.suite import Check, Subject
from latbench.worker.conformance.talk import Broken, Skipped, Talk

RANGES = {"float": "-2.5:255", "int": "-7:100", "uint": "3:100", "bool": "0:1"}


def _outputs(subject: Subject) -> None:
    talk = subject.opened()
    talk.ask(messages.Time(calls=1), messages.BlockTimed)
    given = talk.ask(messages.Outputs(), messages.OutputsGiven)
    wanted = subject.model.inputs
    if len(given.tensors) != len(wanted):
        raise Broken(f"{len(given.tensors)} outputs of a model with {len(wanted)}")
    for tensor, spec in zip(given.tensors, wanted, strict=True):
        _shape(tensor, spec)


def _shape(tensor: messages.Tensor, spec: TensorSpec) -> None:
    import numpy as np

    found = f"{tensor.dtype} {list(tensor.shape)}"
    if (tensor.dtype, tensor.shape) != (spec.dtype, spec.shape):
        raise Broken(f"{found} for {spec.name!r}, which is {spec.dtype} {list(spec.shape)}")
    count = int(np.prod(tensor.shape, dtype=np.int64)) * np.dtype(tensor.dtype).itemsize
    if len(tensor.data) != count:
        raise Broken(f"{len(tensor.data)} bytes as data of {found}, which has {count}")


def _peak_memory(subject: Subject) -> None:
    talk = subject.opened()
    talk.ask(messages.Time(calls=1), messages.BlockTimed)
    peak = talk.ask(messages.Outputs(), messages.OutputsGiven).peak_rss_bytes
    if peak is None:
        raise Skipped("peak_rss_bytes is null")
    import psutil

    if not 2**16 <= peak <= psutil.virtual_memory().total + psutil.swap_memory().total:
        raise Broken(f"peak_rss_bytes {peak}")


def same_inputs(
    talk: Talk, specs: tuple[TensorSpec, ...], seed: int, stored: dict[str, object] | None = None
) -> None:
    """The outputs are the inputs that the page defines, bit for bit."""
    import numpy as np

    wanted = make_inputs(specs, seed, stored)  # type: ignore[arg-type]
    given = talk.ask(messages.Outputs(), messages.OutputsGiven)
    if len(given.tensors) != len(specs):
        raise Broken(f"{len(given.tensors)} outputs of a model with {len(specs)}")
    for spec, array, tensor in zip(specs, wanted, given.tensors, strict=True):
        _shape(tensor, spec)
        if array.tobytes() == tensor.data:
            continue
        found = np.frombuffer(tensor.data, array.dtype)
        flat = array.reshape(-1)
        size = array.dtype.itemsize
        at = next(
            i
            for i in range(len(flat))
            if flat[i].tobytes() != tensor.data[i * size : (i + 1) * size]
        )
        raise Broken(
            f"element {at} of {spec.name!r} ({spec.dtype}, content {spec.content!r}, seed {seed}) "
            f"is {found[at]!s} instead of {flat[at]!s}"
        )


def _inputs(subject: Subject, contents: dict[str, str], *seeds: int) -> None:
    for seed in seeds:
        talk = subject.opened(contents=contents, seed=seed)
        talk.ask(messages.Time(calls=1), messages.BlockTimed)
        same_inputs(talk, subject.model.specs(contents), seed)


def _seeded(subject: Subject) -> None:
    _inputs(subject, {}, 0, 1, 2**31)


def _values(subject: Subject) -> None:
    specs = subject.model.inputs
    _inputs(subject, {spec.name: "1" for spec in specs}, 0)
    each = {}
    for spec in specs:
        size = 1
        for axis in spec.shape:
            size *= axis
        each[spec.name] = ",".join(str(i % 2) for i in range(size))
    _inputs(subject, each, 0)


def _range(subject: Subject) -> None:
    contents = {}
    for spec in subject.model.inputs:
        kind = spec.dtype.rstrip("0123456789")
        contents[spec.name] = RANGES[kind]
    _inputs(subject, contents, 0, 9)


def _own_seed(subject: Subject) -> None:
    _inputs(
        subject, {spec.name: f"random:{i}" for i, spec in enumerate(subject.model.inputs, 5)}, 0
    )


def _stored(subject: Subject) -> None:
    import numpy as np

    specs = subject.model.inputs
    arrays = {
        spec.name: np.arange(np.prod(spec.shape, dtype=np.int64)).reshape(spec.shape) % 2
        for spec in specs
    }
    typed = {spec.name: arrays[spec.name].astype(spec.dtype) for spec in specs}
    path = Path(subject.folder / "inputs.npz")
    np.savez(path, **typed)  # type: ignore[arg-type]  # taken for its options
    contents = {spec.name: f"sha256:{'0' * 64}" for spec in specs}
    talk = subject.opened(contents=contents, stored=path)
    talk.ask(messages.Time(calls=1), messages.BlockTimed)
    same_inputs(talk, subject.model.specs(contents), 0, dict(typed))


OUTPUTS, SEEDED = "outputs → outputs_given", "Seeded inputs"
_SEEDED = ("inputs-seeded",)
OUTPUT_CHECKS = (
    Check("outputs", OUTPUTS, "Type, shape and data of each output.", _outputs, ("time",)),
    Check("peak-memory", OUTPUTS, "The most memory so far, or null.", _peak_memory, ("outputs",)),
    Check(
        "inputs-seeded",
        SEEDED,
        "The inputs are a function of the seed alone.",
        _seeded,
        ("outputs",),
    ),
    Check("inputs-values", SEEDED, "One value everywhere, or one for each.", _values, _SEEDED),
    Check("inputs-range", SEEDED, "Uniform values from LOW to HIGH.", _range, _SEEDED),
    Check("inputs-random", SEEDED, "The formula with the seed of the content.", _own_seed, _SEEDED),
    Check("inputs-file", SEEDED, "The array of that input in the file.", _stored, _SEEDED),
)
"""Checks of a session's outputs and inputs."""
