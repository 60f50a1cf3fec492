"""Associative compression: a prior for each datum, from the code of one of its neighbours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Final

import torch
from annotated_types import Ge
from torch import Tensor

from vbench import Activation, Batch, Density, DiagonalNormal, NormalMixture, Prior, Rng, Space, Trait, mlp
from vbench_priors.memory import Memory

__all__ = ["ACNPrior"]

_KEY: Final = 0  # of the choice of neighbours, where a batch comes without a key of its own


class ACNPrior(Prior):
    r"""In training, a Gaussian made of a neighbour's code by a net; in evaluation, the mixture of all of them.

    .. math:: p(z | \tilde c) = N\big(z; m(\tilde c), \mathrm{diag}\, s^2(\tilde c)\big), \qquad
       \tilde c \sim \mathrm{KNN}(x), \qquad p(z) = \frac1M \sum_m p(z | c_m)

    Codes :math:`c_m` are the posterior means of M training data, drawn once, as intensities, and encoded anew at
    every step (the source keeps codes of all data, each as old as its last step); no gradient flows into them. The
    neighbour is one of the K nearest to the datum's own code, itself left out, chosen by the batch's key.

    What is trained is the cost of a datum whose neighbour is known already: no bound on log p(x), which has no
    neighbour. In evaluation p(z) is the mixture, a density like any other, so that held-out numbers compare with those
    of other priors, and are higher costs than those that the source reports. Latents are real, ``[D]``.

    Source: Graves, Menick & van den Oord (2018), Associative Compression Networks for Representation Learning,
    arXiv:1804.02476.
    """

    needs = frozenset({Trait.POSTERIOR, Trait.LOC_SCALE, Trait.AMORTIZED, Trait.latent("real")})

    def __init__(
        self,
        z: Space,
        data: Tensor,
        neighbours: Annotated[int, Ge(1), "K, nearest codes to choose from"] = 5,
        memory: Annotated[int, Ge(2), "M, training data whose codes are known, at most"] = 1000,
        hidden: Annotated[Sequence[Annotated[int, Ge(1)]], "widths of the net's hidden layers"] = (200, 200),
        activation: Annotated[Activation, "between the layers"] = "tanh",
    ) -> None:
        super().__init__()
        self.memory = Memory(data, memory)
        self.neighbours = min(neighbours, len(self.memory.x) - 1)
        self.net = mlp(z.size, hidden, 2 * z.size, activation)

    def forward(self, batch: Batch | None, model: Any) -> Density:
        """Of each datum in training, else shared."""
        with torch.no_grad():
            codes = model.posterior(self.memory.batch).loc  # [M, D]
        if self.training and batch is not None:
            return self._given(codes[self._neighbour(batch, model, codes)])
        every = self._given(codes)
        return NormalMixture(codes.new_zeros(len(codes)), every.loc, every.scale)

    def _given(self, codes: Tensor) -> DiagonalNormal:
        loc, log_scale = self.net(codes).chunk(2, -1)
        return DiagonalNormal(loc, log_scale.exp())

    def _neighbour(self, batch: Batch, model: Any, codes: Tensor) -> Tensor:
        """One of the K nearest of each datum, ``[B]``."""
        with torch.no_grad():
            own = model.posterior(batch).loc
            distance = codes.square().sum(-1) - 2 * own @ codes.mT  # less what is the same for all
            distance = distance.masked_fill(self.memory.among(batch), math.inf)
            nearest = distance.topk(self.neighbours, largest=False).indices
            rng = Rng(_KEY if batch.key is None else batch.key, own.device)
            rank = (rng.uniform(len(own), dtype=torch.float64) * self.neighbours).long()
            return nearest.gather(1, rank[:, None])[:, 0]
