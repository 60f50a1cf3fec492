"""Denoising inference: the encoder sees its data through noise, so that it stays smooth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

from annotated_types import Ge

from vbench import Batch, DiagonalNormal, GaussianEncoder, Rng, Space

__all__ = ["DenoisingEncoder"]

_KEY: Final = 0  # of the noise, where a batch comes without a key of its own


class DenoisingEncoder(GaussianEncoder):
    r"""The Gaussian encoder of data with Gaussian noise.

    .. math:: q(z | x) = N\big(\mu(\tilde x), \mathrm{diag}\, \sigma^2(\tilde x)\big), \qquad
       \tilde x = x + s\, \epsilon, \quad \epsilon \sim N(0, I)

    The likelihood is that of x itself; what is trained is the mean over :math:`\epsilon` of a bound with this q. The
    noise is drawn by the batch's key, once for each batch: it is no part of what an estimator draws, and gradients at
    fixed batches are compared at the same noise. In evaluation there is none. Latents are real, ``[latent]``.

    Source: Shu, Bui, Zhao, Kochenderfer & Ermon (2018), Amortized Inference Regularization, arXiv:1805.08913.
    """

    def __init__(
        self,
        x: Space,
        latent: Annotated[int, Ge(1), "number of latent variables"] = 50,
        hidden: Annotated[Sequence[Annotated[int, Ge(1)]], "widths of the hidden layers"] = (200, 200),
        noise: Annotated[float, Ge(0), "s, standard deviation of the noise"] = 0.5,
    ) -> None:
        super().__init__(x, latent, hidden)
        self.noise = noise

    def forward(self, batch: Batch, model: Any) -> DiagonalNormal:
        """q(z | x) with parameters ``[B, latent]``."""
        if not self.training:
            return super().forward(batch, model)
        rng = Rng(_KEY if batch.key is None else batch.key, batch.x.device)
        seen = batch.x + self.noise * rng.normal(*batch.x.shape, dtype=batch.x.dtype)
        return super().forward(batch._replace(x=seen), model)
