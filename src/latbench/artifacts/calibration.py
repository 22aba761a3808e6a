"""Calibration inputs, from which static int8 takes the ranges of activations.

They are images from a folder or, by default, seeded noise. Noise is enough to time a quantized
network, but not to judge its accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latbench.errors import StageError, UsageError
from latbench.files import content_sha256
from latbench.schema.artifact import TensorSpec
from latbench.schema.seeded_inputs import make_inputs

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image

    Array = np.ndarray[Any, np.dtype[Any]]

SEEDED = 16
"""Number of seeded input sets."""
MOST = 128
"""Most images that are read from a folder, the first ones by name."""
FIRST_SEED = 1_000_000
"""First seed of calibration inputs, far from the seeds of the comparison of outputs."""
IMAGE_EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Statistics of the ImageNet channels (Russakovsky et al. 2015), as most vision models use."""


def identify_calibration(folder: str | None) -> str:
    """The identity of the calibration data, for an artifact's key and details.

    Raises :class:`UsageError` if there are no images.
    """
    if folder is None:
        return f"seeded:{SEEDED}"
    images = _images(Path(folder))
    return f"images:{len(images)}:{_digest(images)[:16]}"


def load(folder: str | None, specs: Sequence[TensorSpec]) -> tuple[tuple[Array, ...], ...]:
    """Input sets for ``specs``, including the batch dimension."""
    if folder is None:
        return tuple(make_inputs(specs, FIRST_SEED + k) for k in range(SEEDED))
    if len(specs) != 1 or len(specs[0].shape) != 4 or specs[0].shape[1] != 3:
        raise UsageError("images can calibrate only a model with one input of 3 channels")
    batch, _, height, width = specs[0].shape
    images = [_read(path, height, width) for path in _images(Path(folder))]
    import numpy as np

    # Images from the start fill the last batch, so that every image is used.
    rounds = -(-len(images) // batch)
    filled = [images[i % len(images)] for i in range(rounds * batch)]
    return tuple(
        (np.stack(filled[i : i + batch]).astype(specs[0].dtype),)
        for i in range(0, len(filled), batch)
    )


def _images(folder: Path) -> list[Path]:
    try:
        if not folder.is_dir():
            raise UsageError(f"no such folder of calibration images: {folder}")
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_EXTENSIONS)
    except OSError as error:
        raise UsageError(
            f"cannot read the folder of calibration images {folder}: {error.strerror}"
        ) from error
    if not found:
        raise UsageError(
            f"no images in {folder}",
            hint=f"images have one of the extensions {', '.join(IMAGE_EXTENSIONS)}",
        )
    return found[:MOST]


def _digest(images: Sequence[Path]) -> str:
    from latbench.schema.codec import digest

    try:
        return digest([content_sha256(path) for path in images])
    except OSError as error:
        raise UsageError(f"cannot read the image {error.filename}: {error.strerror}") from error


def _read(path: Path, height: int, width: int) -> Array:
    """The image scaled to cover the input, center-cropped, normalized as ImageNet; CHW."""
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as error:
        raise StageError(
            "export",
            "reading images needs pillow, which is not installed",
            hint="pip install 'latbench[export]'",
            kind="unavailable",
        ) from error
    import numpy as np

    try:
        with Image.open(path) as image:
            fitted = ImageOps.fit(_rgb(image), (width, height), Image.Resampling.BICUBIC)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise UsageError(f"{path} is not an image: {error}") from error
    pixels = np.asarray(fitted, dtype=np.float32) / 255
    return ((pixels - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32)).transpose(
        2, 0, 1
    )


def _rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    """The image with 8 bits per channel. Pillow itself clips 16-bit values at 255."""
    import numpy as np
    from PIL import Image

    if not image.mode.startswith("I"):
        return image.convert("RGB")
    grey = np.clip(np.asarray(image, dtype=np.int64), 0, 65535) // 257
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
