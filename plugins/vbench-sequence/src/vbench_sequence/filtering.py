"""A particle filter as an estimator: propose, weigh, resample, and differentiate."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

import torch
from torch import Tensor

from vbench import IWAE, Batch, Bound, Estimate, Estimator, Filtering, Rng, State, Trait, sequences
from vbench_sequence.resampling import Scheme, ancestors, effective, inherit

__all__ = ["Ancestors", "ParticleFilter", "Schedule", "WholeSequences", "particle_filter"]

Schedule = Literal["adaptive", "always", "never"]
Ancestors = Literal["dropped", "score"]

_NEEDS: Final = frozenset(
    {Trait.STEPS, Trait.STEP_PROPOSAL, Trait.STEP_LIKELIHOOD, Trait.PATHWISE, Trait.PROPER_WEIGHT}
)


class Past(NamedTuple):
    """What is known of a filter's estimate when particles are selected, ``[B]`` each."""

    total: Tensor  # log p-hat up to where weights were last even
    drawn: Tensor | float = 0.0  # log mass of the ancestors so far
    known: Tensor | float = 0.0  # the same, each weighed by what was known before it


class _Steps(Estimator):
    """Particles that walk through the data: what all estimators of this package share."""

    needs = _NEEDS

    def __init__(self, bound: Bound, k: int) -> None:
        super().__init__()
        self.bound, self.k = bound, k

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]`` and surrogate ``[B]``."""
        encoder, decoder, prior = model.encoder, model.decoder, model.prior
        data, context, state = sequences(batch.x, batch.mask), encoder.context(batch), prior.start(self.k, batch)
        log_w = context.new_zeros(self.k, len(batch.x))  # since the weights were last even
        past = Past(log_w[0])
        for t in range(data.steps):
            if t:
                state, log_w, past = self._selected(state, log_w, past, rng)
            q = encoder.propose(state[0], context[:, t], batch)
            z = data.kept(q.sample(rng), t)
            log_p = prior.transition(state, batch).log_prob(z) + data.log_prob(decoder.emit(z, state[0], batch), t)
            log_w = log_w + data.kept(log_p - q.log_prob(z), t)
            if t + 1 < data.steps:
                state = prior.advance(state, z, data.x[None, :, t], batch)
        value = past.total + self._step_bound(log_w)
        return Estimate(value.detach(), value + value.detach() * past.drawn - past.known)

    def _selected(self, state: State, log_w: Tensor, past: Past, rng: Rng) -> tuple[State, Tensor, Past]:
        """The particles that go on, their log weights, and what is known by then."""
        return state, log_w, past

    def _step_bound(self, log_w: Tensor) -> Tensor:
        value: Tensor = self.bound(log_w)  # type: ignore[misc]
        return value


class WholeSequences(_Steps):
    """Any bound of the weights of whole sequences, in one walk; particles never meet before its end."""


class ParticleFilter(_Steps):
    r"""Filtering bound by the path through the particles.

    .. math:: \nabla \log \hat p + \sum_t \sum_k \big(\log \hat p - \log \hat p_{<t}\big)
       \nabla \log W_{t-1}^{a_t^k}

    The second term is the score of the ancestors :math:`a_t^k`, which have no path; :math:`\hat p_{<t}` is what is
    known before they are drawn. Without ``score`` it is left out, as is usual: less variance, and a bias. It is the
    ancestors' score where they are independent draws, and all that is missing where no decision depends on the
    weights: unbiased for multinomial resampling at every step only.

    Args:
        k: particles.
        schedule: resample before every later step (``always``), or where 1 / sum W^2 < threshold K (``adaptive``).
        scheme: how ancestors are drawn.
        threshold: of the adaptive schedule.
        score: whether the ancestors' score is kept.
    """

    def __init__(
        self, k: int, schedule: Literal["adaptive", "always"], scheme: Scheme, threshold: float, score: bool
    ) -> None:
        super().__init__(Filtering(schedule, scheme, threshold), k)
        self.schedule, self.scheme, self.threshold, self.score = schedule, scheme, threshold, score
        self.unbiased = k == 1 or (score and schedule == "always" and scheme == "multinomial")

    def _selected(self, state: State, log_w: Tensor, past: Past, rng: Rng) -> tuple[State, Tensor, Past]:
        """Resample the data that need it: their particles' states, and even weights from here on."""
        log_weight = log_w.log_softmax(0)
        weight = log_weight.detach().exp()
        chosen = torch.ones_like(past.total, dtype=torch.bool)
        if self.schedule == "adaptive":
            chosen = effective(weight) < self.threshold * self.k
        own = torch.arange(self.k, device=log_w.device)[:, None].expand_as(log_w)
        parents = torch.where(chosen, ancestors(weight, self.scheme, rng), own)
        total = torch.where(chosen, past.total + self._step_bound(log_w), past.total)
        past = past._replace(total=total)
        if self.score:
            mass = torch.where(chosen, log_weight.gather(0, parents).sum(0), 0)
            past = Past(total, past.drawn + mass, past.known + mass * total.detach())
        return inherit(state, parents), torch.where(chosen, 0, log_w), past


def particle_filter(k: int, schedule: Schedule, scheme: Scheme, threshold: float, ancestors: Ancestors) -> Estimator:
    """The filter, or what it is without resampling: the K-sample bound of whole sequences."""
    if schedule == "never":
        return WholeSequences(IWAE(), k)
    return ParticleFilter(k, schedule, scheme, threshold, ancestors == "score")
