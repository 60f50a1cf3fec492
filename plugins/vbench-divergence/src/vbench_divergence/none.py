"""No encoder: a generator that is trained alone."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from vbench import Encoder, Space

__all__ = ["NoEncoder"]


class NoEncoder(Encoder):
    """No posterior at all; only says which latents are generated from.

    Latents are real, ``[latent]``. It offers nothing: whatever draws from q(z | x) is skipped with its reason.

    Source: Dziugaite, Roy & Ghahramani (2015), Training Generative Neural Networks via Maximum Mean Discrepancy
    Optimization, arXiv:1505.03906.
    """

    def __init__(self, latent: Annotated[int, Ge(1), "number of latent variables"] = 50) -> None:
        super().__init__()
        self.z = Space((latent,))
