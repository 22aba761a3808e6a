"""What is timed: one inference with bound inputs and outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from latbench_runners.onnxruntime.binding import inference
from latbench_runners.onnxruntime.providers import CPU
from support.onnx_files import identity


def test_an_inference_on_the_cpu_has_no_python_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime as ort

    session = ort.InferenceSession(identity(tmp_path / "i.onnx"), providers=[CPU])
    binding = session.io_binding()
    given = np.array([1, 2, 3, 4], np.float32)
    binding.bind_cpu_input("x", given)
    binding.bind_output("y")
    asked = []
    monkeypatch.setattr(
        ort.InferenceSession, "run_with_iobinding", lambda *each: asked.append(each)
    )
    inference(session, binding, CPU)()
    assert not asked
    np.testing.assert_array_equal(binding.copy_outputs_to_cpu()[0], given)
    # The method keeps the buffers of captured graphs.
    inference(session, binding, "WebGpuExecutionProvider")()
    assert asked == [(session, binding)]
