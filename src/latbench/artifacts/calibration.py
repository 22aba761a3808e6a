"""Calibration inputs, from which static int8 takes the ranges of activations.

They are images from a folder or, by default, seeded noise. Noise is enough to time a quantized
network, but not to judge its accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latbench.errors import UsageError
from latbench.file_names import restored_name
from latbench.files import content_sha256
from latbench.zoo.given_inputs import IMAGES, FilledInputs
from latbench.zoo.images import normalized, read_image

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

SEEDED = 16
"""Number of seeded input sets."""
MOST = 128
"""Most images that are read from a folder, the first ones by name."""
FIRST_SEED = 1_000_000
"""First seed of calibration inputs, far from the seeds of the comparison of outputs."""


def identify_calibration(folder: str | None) -> str:
    """The identity of the calibration data, for an artifact's key and details.

    Raises :class:`UsageError` if there are no images.
    """
    if folder is None:
        return f"seeded:{SEEDED}"
    images = _images(folder)
    return f"images:{len(images)}:{_digest(images)[:16]}"


def load(folder: str | None, inputs: FilledInputs) -> tuple[tuple[Array, ...], ...]:
    """Input sets for ``inputs``, including the batch dimension."""
    specs = inputs.specs
    if folder is None:
        return tuple(inputs.arrays(FIRST_SEED + k) for k in range(SEEDED))
    if len(specs) != 1 or len(specs[0].shape) != 4 or specs[0].shape[1] != 3:
        raise UsageError("images can calibrate only a model with one input of 3 channels")
    batch, _, height, width = specs[0].shape
    images = [
        normalized(read_image(path, height, width)).transpose(2, 0, 1) for path in _images(folder)
    ]
    import numpy as np

    # Images from the start fill the last batch, so that every image is used.
    rounds = -(-len(images) // batch)
    filled = [images[i % len(images)] for i in range(rounds * batch)]
    return tuple(
        (np.stack(filled[i : i + batch]).astype(specs[0].dtype),)
        for i in range(0, len(filled), batch)
    )


def _images(named: str) -> list[Path]:
    """The images in a folder that a request names."""
    folder = Path(restored_name(named))
    try:
        if not folder.is_dir():
            raise UsageError(f"no such folder of calibration images: {folder}")
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES)
    except OSError as error:
        raise UsageError(
            f"cannot read the folder of calibration images {folder}: {error.strerror}"
        ) from error
    if not found:
        raise UsageError(
            f"no images in {folder}",
            hint=f"images have one of the extensions {', '.join(IMAGES)}",
        )
    return found[:MOST]


def _digest(images: Sequence[Path]) -> str:
    from latbench.schema.codec import digest

    try:
        return digest([content_sha256(path) for path in images])
    except OSError as error:
        raise UsageError(f"cannot read the image {error.filename}: {error.strerror}") from error
