"""Seeded samples of known truth."""

from __future__ import annotations

import numpy as np


def autocorrelated(n: int, rho: float, seed: int, noise: float = 0.02) -> np.ndarray:
    """A stationary AR(1) around 1e6, of relative deviation ``noise``."""
    draw = np.random.default_rng(seed)
    steps = draw.standard_normal(n)
    values = np.empty(n)
    last = steps[0]
    for i, step in enumerate(steps):
        last = step if i == 0 else rho * last + (1 - rho**2) ** 0.5 * step
        values[i] = last
    return 1e6 * (1 + noise * values)
