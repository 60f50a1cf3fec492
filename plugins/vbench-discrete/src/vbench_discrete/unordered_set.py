"""The unordered set estimator: samples without replacement."""

from __future__ import annotations

from itertools import combinations
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from torch import Tensor

from vbench import ELBO, Batch, Estimate, Estimator, Rng, Space, Trait
from vbench_discrete.states import count, states

__all__ = ["UnorderedSet"]


class UnorderedSet(Estimator):
    r"""ELBO from a set S of k different latent states, with the rest of the set as baseline.

    .. math:: \nabla_\phi: \; \sum_{s \in S} q(s)\, R(S, s)\, \nabla_\phi \log q(s)
       \Big(\log w(s) - \sum_{s' \in S} q(s')\, R_s(S, s') \log w(s')\Big)

    where :math:`q(s) R(S, s)` is the probability that s was drawn first given the set,
    :math:`R(S, s) = q^{-s}(S \setminus s) / q(S)`; :math:`R_s` is the same one level down, for the states other than
    s, and :math:`R_s(S, s) = 1`. Unbiased for the ELBO, exact where k is the number of states. For at most
    :math:`2^{12}` latent states, binary or categorical: all are scored by q, and k by the decoder. Value and
    surrogate are ``[B]``, nats.

    Source: Kool, van Hoof & Welling (2020), Estimating Gradients for Discrete Random Variables by Sampling without
    Replacement, arXiv:2002.06043.
    """

    needs = frozenset({Trait.ENUMERABLE, Trait.DENSITY, Trait.NORMALIZED})
    bound = ELBO()

    def __init__(self, z: Space, k: Annotated[int, Ge(2), Le(6), "different latent states per datum"] = 4) -> None:
        super().__init__()
        self.z, self.k = z, k
        if 0 < count(z) < k:
            raise ValueError(f"there are no {k} different states among {count(z)}")

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]``; surrogate ``[B]``, whose value means nothing but its gradient."""
        posterior = model.posterior(batch)
        atoms = states(self.z, batch.x)  # [S, *Z]
        log_q = posterior.log_prob(atoms[:, None].expand(-1, batch.x.shape[0], *self.z.shape))  # [S, B]
        noise = -(-rng.uniform(*log_q.shape, dtype=log_q.dtype).log()).log()
        chosen = (log_q.detach() + noise).topk(self.k, 0).indices  # [K, B]
        log_joint = model.log_joint(batch, atoms[chosen])
        score = log_q.gather(0, chosen)
        log_w = (log_joint - score).detach()
        first, baseline = self._ratios(score.detach(), _rest(log_q.detach(), chosen))
        signal = first * (log_w - (baseline * log_w[None]).sum(1))
        surrogate = (signal * score + first * log_joint).sum(0)
        return Estimate((first * log_w).sum(0), surrogate)

    @staticmethod
    def _ratios(log_q: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        """Weights ``q(s) R(S, s)`` ``[K, B]`` and ``q(s') R_s(S, s')`` ``[K of s, K of s', B]``."""
        k = log_q.shape[0]
        whole = frozenset(range(k))

        def outside(inside: frozenset[int]) -> Tensor:
            return torch.stack([rest, *(log_q[i] for i in whole - inside)]).logsumexp(0)

        def without(left_out: frozenset[int]) -> Tensor:
            """Log probability that the rest of the set comes first where ``left_out`` cannot, by its last member."""
            members = sorted(whole - left_out)
            found = {frozenset[int](): torch.zeros_like(rest)}
            for size in range(1, len(members) + 1):
                for group in map(frozenset, combinations(members, size)):
                    last = [found[group - {i}] + log_q[i] - outside(left_out | group - {i}) for i in group]
                    found[group] = torch.stack(last).logsumexp(0)
            return found[whole - left_out]

        alone = [without(frozenset({i})) for i in range(k)]
        pair = {group: without(group) for group in map(frozenset, combinations(range(k), 2))}
        first = torch.stack([log_q[i] + alone[i] for i in range(k)]) - without(frozenset())
        rows = [[log_q[j] + (pair[frozenset({i, j})] - alone[i] if i != j else 0) for j in range(k)] for i in range(k)]
        return first.exp(), torch.stack([torch.stack(row) for row in rows]).exp()


def _rest(log_q: Tensor, chosen: Tensor) -> Tensor:
    """Log probability of all states that were not chosen, ``[B]``."""
    every = torch.arange(log_q.shape[0], device=log_q.device)[:, None, None]
    return torch.where((chosen[None] == every).any(1), -torch.inf, log_q).logsumexp(0)
