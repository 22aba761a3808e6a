"""Recurrent layers, which PyTorch executes in one kernel or step by step."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from latbench.zoo.macs import count  # noqa: E402
from latbench_exporters.torch import count as count_program  # noqa: E402

pytestmark = pytest.mark.torch
STEPS, BATCH = 7, 3
LAYERS: dict[str, tuple[Any, int, int]] = {
    "LSTM": (lambda: torch.nn.LSTM(6, 5), 4 * 5 * (6 + 5), 1),
    "GRU": (lambda: torch.nn.GRU(6, 5), 3 * 5 * (6 + 5), 1),
    "RNN": (lambda: torch.nn.RNN(6, 5), 5 * (6 + 5), 1),
    "two layers": (lambda: torch.nn.LSTM(6, 5, 2), 20 * (6 + 5) + 20 * (5 + 5), 2),
    "both directions": (lambda: torch.nn.GRU(6, 5, bidirectional=True), 2 * 15 * (6 + 5), 1),
    "a projection": (lambda: torch.nn.LSTM(6, 5, proj_size=2), 20 * (6 + 2) + 2 * 5, 1),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.filterwarnings("ignore")
def test_recurrent_layers_count_as_a_whole(name: str) -> None:
    build, per_step, layers = LAYERS[name]
    module = build().eval()
    inputs = torch.zeros(STEPS, BATCH, 6)
    found = count(module, (inputs,))
    assert found.macs == STEPS * BATCH * per_step
    assert found.operators == {"conv": 0, "linear": 0, "recurrent": layers}
    with torch.no_grad():
        program = count_program(torch.export.export(module, (inputs,)))
    assert program is not None
    assert (program.macs, program.operators) == (found.macs, found.operators)


def test_packed_sequences_count_their_own_steps() -> None:
    class Packed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.GRU(6, 5)

        def forward(self, x: Any) -> Any:
            lengths = torch.tensor([7, 4, 1])
            packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths)
            return self.layer(packed)[0].data

    found = count(Packed().eval(), (torch.zeros(STEPS, BATCH, 6),))
    assert found.macs == (7 + 4 + 1) * 15 * (6 + 5)


@pytest.mark.filterwarnings("ignore")
def test_cells_are_products() -> None:
    cell, inputs = torch.nn.LSTMCell(6, 5).eval(), torch.zeros(BATCH, 6)
    found = count(cell, (inputs,))
    assert (found.macs, found.operators) == (BATCH * 20 * (6 + 5), {"conv": 0, "linear": 2})
    with torch.no_grad():
        program = count_program(torch.export.export(cell, (inputs,)))
    assert program is not None
    assert (program.macs, program.operators) == (found.macs, found.operators)
