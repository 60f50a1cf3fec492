"""Wrong particle filters, judged on the chain."""

import torch

from tests.testing.planted_base import Planted
from vbench.bounds import IWAE, Filtering
from vbench.steps import sequences
from vbench.types import Estimate, Trait


class Filter(Planted):
    """A particle filter that resamples at every step and keeps the ancestors' score: right, where nothing is changed.

    Source: nobody.
    """

    needs = frozenset({Trait.STEPS, Trait.STEP_PROPOSAL, Trait.STEP_LIKELIHOOD, Trait.PATHWISE, Trait.PROPER_WEIGHT})
    bound = Filtering("always")

    def forward(self, model, batch, rng):
        data, prior = self.data(batch), model.prior
        context, state = model.encoder.context(batch), prior.start(self.k, batch)
        log_w, total, score = context.new_zeros(self.k, len(batch.x)), 0.0, 0.0
        for t in range(batch.x.shape[1]):
            if t:
                log_weight, total = log_w.log_softmax(0), total + IWAE()(log_w)
                u = rng.uniform(self.k, len(batch.x), dtype=log_w.dtype)
                parents = (log_weight.detach().exp().cumsum(0)[:, None] <= u).sum(0).clamp(max=self.k - 1)
                state = self.inherited(state, parents)
                score = score + log_weight.gather(0, parents).sum(0)
                log_w = self.reset(log_w)
            q = model.encoder.propose(state[0], context[:, t], batch)
            z = q.sample(rng)
            log_p = prior.transition(state, batch).log_prob(z)
            log_p = log_p + data.log_prob(model.decoder.emit(z, state[0], batch), t)
            log_w = log_w + data.kept(log_p - q.log_prob(z), t)
            state = prior.advance(state, z, data.x[None, :, t], batch)
        value = total + IWAE()(log_w)
        return Estimate(value.detach(), value + self.scored(value.detach() * score))

    def data(self, batch):
        return sequences(batch.x, batch.mask)

    def inherited(self, state, parents):
        return tuple(part.gather(0, parents[..., None].expand_as(part)) for part in state)

    def reset(self, log_w):
        return torch.zeros_like(log_w)

    def scored(self, score):
        return score


class KeptWeights(Filter):
    """Weights that are not even after resampling."""

    def reset(self, log_w):
        return log_w


class OwnState(Filter):
    """Ancestors are drawn, and every particle goes on from its own state."""

    def inherited(self, state, parents):
        return state


class MaskIgnored(Filter):
    """Padding counts as data."""

    def data(self, batch):
        return sequences(batch.x, None)


class NoAncestors(Filter):
    """The ancestors' score is dropped, and it calls itself unbiased."""

    def scored(self, score):
        return 0.0


STEP_BUGS = {
    KeptWeights: ["exact[chain,k=2]:value"],
    OwnState: ["exact[chain,k=2]:value"],
    MaskIgnored: ["exact[chain,k=2]:value"],
    NoAncestors: ["exact[chain,k=2]:encoder"],
}
