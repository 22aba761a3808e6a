"""Exported files: input specs, counts, parity with the reference model, identity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from latbench.schema.value import Value


class TensorSpec(Value, frozen=True, kw_only=True, omit_defaults=True):
    """Name, concrete shape and element type (numpy name, e.g. ``float32``) of one tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    content: str | None = None
    """What a timed input holds, as in :mod:`latbench.schema.input_content`; ``None`` for the
    default seeded noise, and for outputs."""


def shape_text(shape: Sequence[int]) -> str:
    """A shape as every text writes it, such as ``1x3x224x224``; ``scalar`` without axes."""
    return "x".join(map(str, shape)) or "scalar"


class Counts(Value, frozen=True, kw_only=True):
    """Numbers of MACs, parameters and operators of a model or an artifact.

    ``macs`` are the multiply-accumulates of convolutions and of products with constant weights
    (linear and recurrent layers), at the artifact's input shape, batch included. Products of two
    activations (attention) and elementwise work are not counted. ``operators`` counts calls, by
    ``conv`` and ``linear``, and by ``recurrent`` (each layer of an LSTM, GRU or RNN) if there are
    any.
    """

    macs: int
    parameters: int
    parameter_bytes: int
    operators: dict[str, int]


class Parity(Value, frozen=True, kw_only=True):
    """Differences between the outputs of an artifact and the reference, on the same seeded
    inputs."""

    reference: str
    seed: int
    max_abs_error: float
    max_rel_error: float
    """Largest relative error of an output, relative to its own largest absolute reference value, or
    to the largest of all outputs if its own are all zero."""
    tolerance: float
    """The bound on ``max_rel_error`` that was enforced."""
    inputs: int = 1
    """Number of sets of seeded inputs that were compared."""
    cosine: float | None = None
    """Smallest cosine between outputs and reference; ``None`` in records from before schema 3, or
    if one of them is all zero."""
    top1_agreement_ppm: int | None = None
    """Share of rows of the first output with the same largest element as the reference, in
    millionths; ``None`` if the first output is not a table of scores."""


class ModelIdentity(Value, frozen=True, kw_only=True):
    """The network, its weights and its input size."""

    name: str
    source: Literal["zoo", "timm", "user", "file"]
    architecture: str
    """``sha256:`` of the architecture's source, or of a pre-exported file with the external
    data that it names."""
    weights: str
    """``seed:N``, ``sha256:`` of the weights file, with ``#KEY`` if a key was chosen, or ``file``
    if they came with the model."""
    batch: int | None
    resolution: tuple[int, int] | None
    """Height and width; ``None`` if the model's own default was used."""
    paper: str | None = None


class Artifact(Value, frozen=True, kw_only=True):
    """One exported file, addressed by its digest, with the results of its checks."""

    sha256: str
    size_bytes: int
    format: str
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    counts: Counts | None
    """As read back from the file."""
    model_counts: Counts | None
    """Counts of the PyTorch model in the exported form, which is the deploy form unless ``details``
    name another; ``None`` for a pre-exported file."""
    trained_parameters: int | None
    """Parameters of the model as published (before fusion); ``None`` for a pre-exported file."""
    parity: Parity | None
    details: dict[str, str]
    toolchain: dict[str, str]
