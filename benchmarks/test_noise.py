"""A draw of normal noise as a function of a key, beside torch's own from a running generator."""

from __future__ import annotations

import torch

from benchmarks import loops
from vbench import Rng

DRAWS = 200


def test_noise(compare) -> None:
    products, operations = loops.matrix_products(loops.DIGITS)
    runs = {
        "vbench": (lambda: [Rng(7).normal(1, 100, 50) for _ in range(DRAWS)], float(DRAWS)),
        "torch": (lambda: [torch.randn(1, 100, 50) for _ in range(DRAWS)], float(DRAWS)),
        "matrix products alone": (products, float(loops.STEPS)),
    }
    compare("normal noise [1, 100, 50]", runs, operations, [("vbench", "torch", 0.0)])
