"""A Pythae loss that has one output for the encoder and one for the decoder."""

from __future__ import annotations

from typing import Any

from vbench import IWAE, Batch, Estimate, Parts, Rng, moving
from vbench_peers.pythae_call import PythaeLoss, handed, losses

__all__ = ["TwoLosses"]


class TwoLosses(PythaeLoss):
    """The first output moves the encoder, the second decoder and prior, on the same draws.

    Args:
        peer: the Pythae model whose loss it is.
        m: groups of samples.
        k: samples of each.
    """

    def __init__(self, peer: Any, m: int, k: int) -> None:
        super().__init__(peer, IWAE(), k, (m, k))
        whole = (IWAE(), m * k)
        self.target = Parts(encoder=(IWAE(), k), decoder=whole, prior=whole)

    @property
    def evaluations(self) -> int:
        """Twice M times K."""
        return 2 * self.shape[0] * self.shape[1]

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]``, the encoder's; surrogate ``[B]``, both."""
        inference, generation = moving(model, "encoder"), moving(model, "decoder", "prior")
        q = inference.posterior(batch)
        z = q.draw(rng, self.evaluations // 2).z
        first, _ = losses(self.peer.loss_function, handed(inference, batch, q, z), self.shape, 2)
        still = handed(generation, batch, generation.posterior(batch), z.detach())
        _, second = losses(self.peer.loss_function, still, self.shape, 2)
        return Estimate(-first.detach(), -first - second)
