"""Where int8 takes its ranges from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from latbench.api import TensorSpec, UsageError, make_inputs
from latbench.artifacts import calibration
from latbench.zoo.given_inputs import FilledInputs

IMAGE = TensorSpec(name="image", shape=(2, 3, 8, 12), dtype="float32")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images, all of one colour each, of three sizes."""
    image = pytest.importorskip("PIL.Image")
    for i, size in enumerate(((8, 8), (30, 20), (12, 40))):
        image.new("RGB", size, (50 * i, 100, 200)).save(tmp_path / f"{i}.png")
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


def test_images_are_normalised_and_fill_the_batch(folder: Path) -> None:
    sets = calibration.load(str(folder), FilledInputs(specs=(IMAGE,)))
    assert [array.shape for (array,) in sets] == [IMAGE.shape] * 2
    flat = np.concatenate([array for (array,) in sets])
    for i in range(4):
        red, green, blue = flat[i].mean(axis=(1, 2))
        assert red == pytest.approx((50 * (i % 3) / 255 - 0.485) / 0.229, abs=1e-5)
        assert green == pytest.approx((100 / 255 - 0.456) / 0.224, abs=1e-5)
        assert blue == pytest.approx((200 / 255 - 0.406) / 0.225, abs=1e-5)


def test_other_images_are_another_calibration(folder: Path) -> None:
    before = calibration.identify_calibration(str(folder))
    assert before.startswith("images:3:")
    (folder / "notes.txt").write_text("still not an image")
    assert calibration.identify_calibration(str(folder)) == before
    (folder / "2.png").write_bytes((folder / "1.png").read_bytes())
    assert calibration.identify_calibration(str(folder)) != before


def test_without_images_it_is_seeded_and_not_what_outputs_are_compared_on() -> None:
    sets = calibration.load(None, FilledInputs(specs=(IMAGE,)))
    assert len(sets) == calibration.SEEDED
    assert calibration.identify_calibration(None) == f"seeded:{calibration.SEEDED}"
    compared = [make_inputs((IMAGE,), seed)[0] for seed in range(20)]
    assert not any(np.array_equal(array, other) for (array,) in sets for other in compared)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (None, "no such folder"),
        ({}, "no images in"),
        ({"a.png": b"no picture"}, "a.png is not an image"),
        ({"a.jpg": b"\xff\xd8\xff\xe0"}, "a.jpg is not an image"),
    ],
)
def test_what_is_no_folder_of_images(
    tmp_path: Path, files: dict[str, bytes] | None, words: str
) -> None:
    pytest.importorskip("PIL.Image")
    folder = tmp_path / "images"
    if files is not None:
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
    with pytest.raises(UsageError, match=words):
        calibration.load(str(folder), FilledInputs(specs=(IMAGE,)))


def test_images_are_for_one_image_input(folder: Path) -> None:
    for specs in ((IMAGE, IMAGE), (TensorSpec(name="x", shape=(1, 4, 8, 8), dtype="float32"),)):
        with pytest.raises(UsageError, match="one input of 3 channels"):
            calibration.load(str(folder), FilledInputs(specs=specs))


def test_a_folder_that_cannot_be_looked_at(tmp_path: Path) -> None:
    folder = str(tmp_path / ("x" * 300))
    for act in (
        calibration.identify_calibration,
        lambda name: calibration.load(name, FilledInputs(specs=(IMAGE,))),
    ):
        with pytest.raises(UsageError, match="cannot read the folder"):
            act(folder)


def test_grey_images_of_16_bits_are_not_white(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    grey = np.full((8, 12), 100 * 257, dtype=np.uint16)
    image.fromarray(grey).save(tmp_path / "grey.png")
    ((batch,), *_) = calibration.load(str(tmp_path), FilledInputs(specs=(IMAGE,)))
    assert batch[0, 0].mean() == pytest.approx((100 / 255 - 0.485) / 0.229, abs=1e-5)
