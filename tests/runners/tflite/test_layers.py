"""Layers by name for operators that XNNPACK executed."""

from __future__ import annotations

from latbench_runners.tflite.layers import Executed, Node, layers_of

CONV, POINTWISE = "Convolution (NHWC, F32) IGEMM", "Fully Connected (NC, F32) GEMM"


def nodes(*operators: str) -> list[Node]:
    return [Node(operator=each, layer=f"{each.lower()}-{i}") for i, each in enumerate(operators)]


def executed(*tags: str | tuple[str, int]) -> list[Executed]:
    return [
        Executed(tag=each, node=None)
        if isinstance(each, str)
        else Executed(tag=each[0], node=each[1])
        for each in tags
    ]


def test_convolutions_are_named_although_padding_was_fused() -> None:
    file = nodes("PAD", "CONV_2D", "GELU", "CONV_2D", "DEPTHWISE_CONV_2D")
    run = executed(CONV, "GELU (NC)", POINTWISE, "Convolution (NHWC, F32) DWConv")
    assert layers_of(file, run) == ["conv_2d-1", "gelu-2", "conv_2d-3", "depthwise_conv_2d-4"]


def test_a_kind_that_was_added_has_no_names() -> None:
    file = nodes("CONV_2D", "MAXIMUM", "MAXIMUM")
    run = executed(CONV, "Clamp (NC)", "Maximum (ND)")
    assert layers_of(file, run) == ["conv_2d-0", None, None]


def test_operators_of_tflite_are_named_by_their_place() -> None:
    file = nodes("CONV_2D", "CUMSUM", "CONV_2D")
    run = executed(CONV, ("CUMSUM", 1), CONV)
    assert layers_of(file, run) == ["conv_2d-0", "cumsum-1", "conv_2d-2"]


def test_what_moved_before_an_operator_of_tflite_has_no_name() -> None:
    # The second convolution does not depend on the sum, so both were delegated together.
    file = nodes("CONV_2D", "CUMSUM", "CONV_2D")
    run = executed(CONV, CONV, ("CUMSUM", 1))
    assert layers_of(file, run) == [None, None, "cumsum-1"]


def test_nothing_executed_has_no_names() -> None:
    assert layers_of(nodes("ADD"), []) == []
