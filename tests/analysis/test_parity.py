"""Counts and outputs compared: every way in which a file is not the model."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from latbench.analysis.parity import (
    OutputDifference,
    check_cosine,
    check_counts,
    check_parity,
    check_share,
    cosine,
    denormals,
    finite,
    output_difference,
)
from latbench.errors import StageError
from latbench.schema.artifact import Counts

Outputs = tuple[np.ndarray, ...]
MODEL = Counts(
    macs=1000, parameters=10_000, parameter_bytes=40_000, operators={"conv": 5, "linear": 1}
)


def test_equal_counts_pass() -> None:
    check_counts(MODEL, MODEL)


def test_tables_computed_ahead_pass() -> None:
    check_counts(MODEL, msgspec.structs.replace(MODEL, parameter_bytes=48_000))
    check_counts(MODEL, msgspec.structs.replace(MODEL, parameter_bytes=39_840))


def test_parameters_that_may_be_folded_may_be_missing_and_no_others() -> None:
    folded = msgspec.structs.replace(MODEL, parameter_bytes=38_000)
    check_counts(MODEL, folded, foldable_bytes=2_000)
    with pytest.raises(StageError, match="bytes of parameters"):
        check_counts(MODEL, folded, foldable_bytes=1_000)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"macs": 999}, "multiply-accumulates: 1,000 in the model, 999 in the file"),
        ({"macs": 1001}, "multiply-accumulates"),
        ({"operators": {"conv": 4, "linear": 1}}, "operators"),
        ({"parameter_bytes": 39_600}, "bytes of parameters: 40,000 in the model, 39,600 in"),
        ({"parameter_bytes": 20_000}, "bytes of parameters"),
    ],
)
def test_any_difference_is_an_error(change: dict[str, object], words: str) -> None:
    with pytest.raises(StageError, match=words) as caught:
        check_counts(MODEL, msgspec.structs.replace(MODEL, **change))
    assert (caught.value.stage, caught.value.kind) == ("verify", "mismatch")


def test_what_cannot_be_counted_is_an_error() -> None:
    with pytest.raises(StageError, match="cannot be counted"):
        check_counts(MODEL, None)


@pytest.mark.parametrize(("precision", "share"), [("fp16", 2), ("bf16", 2), ("int8", 4)])
def test_a_lower_precision_has_fewer_bytes_for_each(precision: str, share: int) -> None:
    less = msgspec.structs.replace(MODEL, parameter_bytes=40_000 // share)
    check_counts(MODEL, less, precision)
    check_share(MODEL, less, precision)
    missing = msgspec.structs.replace(MODEL, parameter_bytes=39_000 // share)
    with pytest.raises(StageError, match="bytes of parameters"):
        check_counts(MODEL, missing, precision)


def test_most_parameters_are_in_the_lower_precision() -> None:
    check_share(MODEL, MODEL, "fp32")
    with pytest.raises(StageError, match="but 40,000 in the model"):
        check_share(MODEL, MODEL, "fp16")


def errors(reference: Outputs, candidate: Outputs) -> tuple[float, float]:
    found = output_difference(reference, candidate, "fp32")
    return found.absolute, found.relative


def allowed(reference: Outputs, candidate: Outputs, precision: str = "fp32") -> bool:
    """Whether these outputs pass."""
    try:
        check_parity(output_difference(reference, candidate, precision), "verify", "outputs")
        check_cosine(cosine(reference, candidate), precision, "verify", "outputs")
    except StageError:
        return False
    return True


def test_errors_are_relative_to_the_largest_value_of_each_output() -> None:
    reference = (np.float32([1, -4]), np.float32([[2]]))
    assert errors(reference, reference) == (0, 0)
    assert errors(reference, (np.float32([1, -4]), np.float32([[2.5]]))) == (0.5, 0.25)
    assert errors(reference, (np.float32([1, -3]), np.float32([[2]]))) == (1, 0.25)


def test_a_small_output_that_is_lost_counts_beside_a_large_one() -> None:
    boxes, scores = np.float32([640, 320]), np.float32([0.9, 0.1])
    assert errors((boxes, scores), (boxes, 0 * scores))[1] == 1


def test_an_output_of_zeros_takes_the_scale_of_the_others() -> None:
    reference = (np.float32([4]), np.float32([0]))
    assert errors(reference, (np.float32([4]), np.float32([1]))) == (1, 0.25)
    assert errors(reference[1:], (np.float32([0.5]),)) == (0.5, 0.5)


@pytest.mark.parametrize(
    "other",
    [
        (np.float32([1, 2, 3]),),
        (np.float32([[1, 2]]),),
        (),
        (np.float32([1, np.nan]),),
        (np.float32([1, np.inf]),),
    ],
)
def test_other_shapes_and_non_numbers_are_infinitely_wrong(other: tuple[np.ndarray, ...]) -> None:
    assert errors((np.float32([1, 2]),), other)[1] == float("inf")


def test_an_error_that_is_no_number_does_not_pass() -> None:
    for error in (float("nan"), float("inf"), 2e-4):
        with pytest.raises(StageError):
            check_parity(OutputDifference(0, error, 1e-4), "outputs", "outputs")
    check_parity(OutputDifference(0, 1e-4, 1e-4), "outputs", "outputs")


def test_rounding_of_small_outputs_is_no_error_and_a_wrong_small_output_is() -> None:
    """A map of probabilities near zero, computed from activations of about 1."""
    near_zero = np.float32([3e-5, 1e-6, 2e-6])
    assert allowed((near_zero,), (near_zero + np.float32(1.8e-7),))
    assert not allowed((near_zero,), (near_zero * np.float32(1.1),))
    assert not allowed((near_zero,), (near_zero[::-1],))
    # A large output beside it keeps its own bound.
    boxes = np.float32([640, 320])
    assert not allowed((boxes, near_zero), (boxes * np.float32(1.001), near_zero))
    assert output_difference((boxes, near_zero), (boxes, near_zero), "fp32").bound == 1e-4


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.float32])
def test_equal_is_equal_and_one_element_has_no_direction(dtype: type[np.generic]) -> None:
    zero, some = np.zeros((1, 4), dtype), np.array([[1, 2, 3, 4]], dtype)
    for same in (zero, some, np.zeros((1, 1), dtype), np.zeros((0, 3), dtype)):
        assert allowed((same,), (same,), "int8")
    assert allowed((some, zero), (some, zero), "int8")
    # A wake word's probability in silence: 0 or 1 of 256.
    one = np.array([[1]], dtype)
    assert allowed((one,), (np.array([[2]], dtype),), "int8")
    assert not allowed((some,), (zero,), "int8")
    assert not allowed((zero,), (some,), "int8")
    assert not allowed((some,), (some[:, ::-1] * np.array([1, 0, 0, 0], dtype),), "int8")


def test_denormals_and_finiteness() -> None:
    assert denormals((np.float32([0, 1e-40, -1e-45, 1]), np.float16([6e-8, 1]))) == 3
    assert finite((np.float32([1]), np.int64([5])))
    assert not finite((np.float32([1, np.inf]),))


def test_empty_outputs() -> None:
    assert errors((np.zeros((0, 3), np.float32),), (np.zeros((0, 3), np.float32),)) == (0, 0)


def test_an_image_may_be_off_by_one_level_and_by_no_more() -> None:
    """A dark image: one level of six is more than any precision allows."""
    reference = (np.array([0.4, 5.6, 6.0], np.float32),)
    for pixels, passes in (([1, 5, 6], True), ([0, 6, 6], True), ([2, 6, 6], False)):
        found = output_difference(reference, (np.array(pixels, np.uint8),), "fp16")
        assert (found.relative <= found.bound) == passes
    integers = (np.array([0, 5, 6], np.uint8),)
    found = output_difference(integers, (np.array([1, 5, 6], np.uint8),), "fp32")
    assert found.relative > found.bound, "an index is right or wrong"
