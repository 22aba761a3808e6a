"""What Core ML says over several lines, in one."""

from __future__ import annotations

import pytest

from latbench_runners.coreml.errors import reason

WARNED = (
    "You will not be able to run predict() on this Core ML model. "
    "Underlying exception message was: "
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("This model was not loaded or compiled.", "This model was not loaded or compiled."),
        (
            '{\n    NSLocalizedDescription = "Feature image is required but not specified.";\n}',
            "Feature image is required but not specified",
        ),
        (
            '{\n    NSLocalizedDescription = "Failed to evaluate model 0 in pipeline";\n'
            '    NSUnderlyingError = "Error Domain=com.apple.CoreML Code=1 \\"(null)\\"";\n}',
            "Failed to evaluate model 0 in pipeline",
        ),
        (
            "{\n    NSLocalizedDescription = \"For input feature 'x', the shape is wrong.\";\n"
            '    NSUnderlyingError = "Error Domain=com.apple.CoreML Code=0 \\"MultiArray shape (1)'
            ' does not match\\" UserInfo={NSLocalizedDescription=MultiArray}";\n}',
            "For input feature 'x', the shape is wrong: MultiArray shape (1) does not match",
        ),
        ("{\n    NSLocalizedDescription = Failed;\n}", "Failed"),
        (
            '{\n    NSLocalizedDescription = "The model \\U201ca\\U201d has no \\"b\\".";\n}',
            'The model \u201ca\u201d has no "b"',
        ),
        ("{\n}", "RuntimeError"),
        ("", "RuntimeError"),
        (WARNED + '{\n    NSLocalizedDescription = "No room.";\n}', "No room"),
        (
            WARNED + 'Error compiling model: "compiler error: Unknown layer\nmore".',
            'Error compiling model: "compiler error: Unknown layer',
        ),
    ],
)
def test_the_description_is_what_remains(text: str, expected: str) -> None:
    assert reason(RuntimeError(text)) == expected
