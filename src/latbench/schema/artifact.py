"""Exported files: input specs, counts, parity with the reference model, identity."""

from __future__ import annotations

from typing import Literal

from latbench.schema.value import Value


class TensorSpec(Value, frozen=True, kw_only=True):
    """Name, concrete shape and element type (numpy name, e.g. ``float32``) of one tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: str


class Counts(Value, frozen=True, kw_only=True):
    """What a model or an artifact consists of.

    ``macs`` are the multiply-accumulates of convolutions and of products with constant weights
    (linear layers), at the artifact's input shape, batch included. Products of two activations
    (attention) and elementwise work are not counted. ``operators`` counts calls, by
    ``conv`` and ``linear``.
    """

    macs: int
    parameters: int
    parameter_bytes: int
    operators: dict[str, int]


class Parity(Value, frozen=True, kw_only=True):
    """How far an artifact's outputs are from the reference's, on the same seeded inputs."""

    reference: str
    seed: int
    max_abs_error: float
    max_rel_error: float
    """Largest relative error of an output: over its own largest absolute reference value, or over
    the largest of all where its own are all zero."""
    tolerance: float
    """The bound on ``max_rel_error`` that was enforced."""
    inputs: int = 1
    """How many sets of seeded inputs were compared."""
    cosine: float | None = None
    """Smallest cosine between outputs and reference; ``None`` in records from before schema 3, or
    where one of them is all zero."""
    top1_agreement_ppm: int | None = None
    """Rows of the first output whose largest element is where the reference's is, in millionths;
    ``None`` where the first output is no table of scores."""


class ModelIdentity(Value, frozen=True, kw_only=True):
    """Which network, with which weights, at which input."""

    name: str
    source: Literal["zoo", "timm", "user", "file"]
    architecture: str
    """``sha256:`` of the architecture's source, or of a ready file with the external data that it
    names."""
    weights: str
    """``seed:N``, ``sha256:`` of the weights file, or ``file`` where they came with the model."""
    batch: int | None
    resolution: tuple[int, int] | None
    """Height and width; ``None`` where the model's own default was left in place."""
    paper: str | None = None


class Artifact(Value, frozen=True, kw_only=True):
    """One exported file, addressed by its digest, and what was checked about it."""

    sha256: str
    size_bytes: int
    format: str
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    counts: Counts | None
    """As read back from the file."""
    model_counts: Counts | None
    """Of the PyTorch model in the form that was exported, its deploy form unless ``details`` say
    otherwise; ``None`` for a ready file."""
    trained_parameters: int | None
    """Parameters of the model as published (before fusion); ``None`` for a ready file."""
    parity: Parity | None
    details: dict[str, str]
    toolchain: dict[str, str]
