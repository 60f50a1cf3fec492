"""DisARM for categorical latents, through a balanced tree of binary choices."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from annotated_types import Ge, MultipleOf
from torch import Tensor

from vbench import ELBO, Batch, Estimate, Estimator, Rng, Trait
from vbench_discrete.binary import antithetic, by_logits, disagreement, scored, spread

__all__ = ["DisarmCategorical"]


class DisarmCategorical(Estimator):
    r"""ELBO by antithetic pairs of categorical samples, each by C - 1 binary choices on a tree.

    A node chooses its right half of the classes with logit
    :math:`\alpha = \log \sum_{right} e^{\phi_c} - \log \sum_{left} e^{\phi_c}`. The choices b of all nodes and
    their antitheses :math:`\tilde b` lead to the samples z and :math:`\tilde z`, and

    .. math:: \nabla_\alpha: \; \tfrac12 \big(\log w(z) - \log w(\tilde z)\big)\, g, \qquad
       g = (b - \tilde b)\, \sigma(|\alpha|), \quad b - p, \quad p - \tilde b, \quad 0

    where the node decides for both samples, for z alone, for :math:`\tilde z` alone, for neither: what had no effect
    is integrated out. Averaged over k / 2 pairs; two decoder evaluations a pair. Unbiased for the ELBO; for two
    classes it is DisARM. Value and surrogate are ``[B]``, nats.

    Source: Dong, Mnih & Tucker (2021), Coupled Gradient Estimators for Discrete Latent Variables, arXiv:2106.08056.
    """

    needs = frozenset({Trait.LOGITS, Trait.DENSITY, Trait.NORMALIZED, Trait.latent("categorical")})
    bound = ELBO()

    def __init__(self, k: Annotated[int, Ge(2), MultipleOf(2), "samples per datum, in antithetic pairs"] = 2) -> None:
        super().__init__()
        self.k = k

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]``; surrogate ``[B]``, whose value means nothing but its gradient."""
        posterior = model.posterior(batch)
        left, right = _tree(posterior.logits)
        logits = _node_logits(posterior.logits, left, right)
        _, *choices = antithetic(logits, rng, self.k // 2)
        z, mirrored = (_leaf(b, left, right) for b in choices)
        draws = scored(model, batch, posterior, torch.cat([z, mirrored]))
        one, other = draws.log_w.chunk(2)
        gradient = 0.5 * spread(one - other, z) * _factor(z, mirrored, logits.detach(), left + right, right)
        return by_logits(draws, gradient.mean(0), logits)


def _tree(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Which classes lie left and right of each node, ``[C - 1, C]`` each, 0 or 1."""
    spans, nodes = [(0, logits.shape[-1])], []
    while spans:
        start, end = spans.pop()
        middle = (start + end) // 2
        if start < middle:
            nodes.append((start, middle, end))
            spans += [(start, middle), (middle, end)]
    start, middle, end = torch.tensor(nodes, device=logits.device).T[..., None]
    classes = torch.arange(logits.shape[-1], device=logits.device)
    left, right = (start <= classes) & (classes < middle), (middle <= classes) & (classes < end)
    return left.to(logits.dtype), right.to(logits.dtype)


def _node_logits(logits: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Logits of the nodes, ``[B, *, C] -> [B, *, C - 1]``."""
    towards, away = (torch.where(side > 0, logits[..., None, :], -torch.inf).logsumexp(-1) for side in (right, left))
    return towards - away


def _leaf(b: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """The class that the choices lead to, one-hot: ``[pairs, B, *, C - 1] -> [pairs, B, *, C]``."""
    b = b[..., None]
    return (right * b + left * (1 - b) + 1 - left - right).prod(-2)


def _factor(z: Tensor, mirrored: Tensor, logits: Tensor, below: Tensor, right: Tensor) -> Tensor:
    """The pair's score with idle choices integrated out, ``[pairs, B, *, C - 1]``."""
    (on, b), (on_mirrored, b_mirrored) = ((leaf @ below.T, leaf @ right.T) for leaf in (z, mirrored))
    p = logits.sigmoid()
    both = on * on_mirrored * disagreement(b, b_mirrored, logits)
    return both + on * (1 - on_mirrored) * (b - p) + (1 - on) * on_mirrored * (p - b_mirrored)
