"""Likelihood-ratio estimators, each with one published or likely mistake."""

from typing import Annotated

import torch
from annotated_types import Ge
from torch import nn

from tests.testing.planted_base import SCORE, ScorePlanted, leave_one_out
from vbench.bounds import ELBO, IWAE
from vbench.estimators.controls import LeaveOneOut
from vbench.estimators.score import Score
from vbench.targets import Wake
from vbench.types import Estimate, Trait


class Scaled105(ScorePlanted):
    """Every gradient times 1.05."""

    factor = 1.05

    def __init__(self, k: Annotated[int, Ge(2)] = 4) -> None:
        super().__init__(k)

    def forward(self, model, batch, rng):
        _, score, log_w = self.parts(model, batch, rng)
        signal = (log_w - leave_one_out(log_w)).detach()
        return Estimate(log_w.mean(0).detach(), self.factor * ((signal * score).mean(0) + log_w.mean(0)))


class Scaled095(Scaled105):
    """Every gradient times 0.95."""

    factor = 0.95


class OffByAMillionth(Scaled105):
    """What no sample shows, a sum over all outcomes does."""

    factor = 1 + 1e-6


class OwnSample(ScorePlanted):
    """The own sample inside the baseline."""

    def forward(self, model, batch, rng):
        _, score, log_w = self.parts(model, batch, rng)
        signal = (log_w - log_w.mean(0)).detach()
        return Estimate(log_w.mean(0).detach(), (signal * score).mean(0) + log_w.mean(0))


class NoScore(ScorePlanted):
    """The encoder's score term is missing."""

    def forward(self, model, batch, rng):
        _, _, log_w = self.parts(model, batch, rng)
        return Estimate(log_w.mean(0).detach(), log_w.mean(0))


class VimcoNoScore(ScorePlanted):
    """VIMCO without its score term."""

    bound = IWAE()

    def forward(self, model, batch, rng):
        _, score, log_joint = self.parts(model, batch, rng)
        value = self.bound(log_joint + score.detach() - score)
        return Estimate(value.detach(), value)


class VimcoNoDirect(ScorePlanted):
    """VIMCO's score term, with the direct term's part in q left out as if the bound were linear."""

    bound = IWAE()

    def forward(self, model, batch, rng):
        _, score, log_w = self.parts(model, batch, rng)
        value, fixed = self.bound(log_w), log_w.detach()
        others, own = leave_one_out(fixed), torch.eye(self.k, dtype=torch.bool)[..., None]
        without = torch.stack([self.bound(torch.where(row, others, fixed)) for row in own])
        return Estimate(value.detach(), ((value.detach() - without) * score).sum(0) + value)


class FlippedSign(ScorePlanted):
    """The score term with the wrong sign."""

    def forward(self, model, batch, rng):
        _, score, log_w = self.parts(model, batch, rng)
        signal = (log_w - leave_one_out(log_w)).detach()
        return Estimate(log_w.mean(0).detach(), log_w.mean(0) - (signal * score).mean(0))


class WrongLogitSign(ScorePlanted):
    """ARM with the second outcome taken on the wrong side of the logit."""

    needs = SCORE | {Trait.LOGITS, Trait.latent("binary")}

    def __init__(self) -> None:
        super().__init__(2)

    @staticmethod
    def outcomes(u, logits):
        return u > torch.sigmoid(logits), u < torch.sigmoid(logits)

    def forward(self, model, batch, rng):
        q = model.posterior(batch)
        u = rng.uniform(*q.logits.shape, dtype=q.logits.dtype)
        z = torch.stack(self.outcomes(u, q.logits)).to(u)
        log_w = model.log_joint(batch, z) - q.log_prob(z)
        arm = (log_w[0] - log_w[1]).detach()[:, None] * (u - 0.5)
        return Estimate(log_w.mean(0).detach(), (arm * q.logits).sum(1) + log_w.mean(0))


class Leaky(ScorePlanted):
    """A baseline whose regression loss reaches the model."""

    def __init__(self, k: int = 1) -> None:
        super().__init__(k)
        self.net = nn.Linear(5, 1)

    def forward(self, model, batch, rng):
        _, score, log_w = self.parts(model, batch, rng)
        baseline = self.net(batch.x)[:, 0]
        loss = 0.1 * (log_w - baseline).square().mean(0)
        signal = (log_w - baseline).detach()
        return Estimate(log_w.mean(0).detach(), (signal * score).mean(0) + log_w.mean(0) - loss)


class BaselineInGraph(Leaky):
    """The control itself is trained by the policy term, and never by its loss."""

    def forward(self, model, batch, rng):
        _, score, log_w = self.parts(model, batch, rng)
        baseline = self.net(batch.x)[:, 0].detach()
        return Estimate(log_w.mean(0).detach(), ((log_w.detach() - baseline) * score).mean(0) + log_w.mean(0))


class NoDirect(ScorePlanted):
    """Decoder and prior never learn."""

    def forward(self, model, batch, rng):
        _, score, log_w = self.parts(model, batch, rng)
        signal = (log_w - leave_one_out(log_w)).detach()
        return Estimate(log_w.mean(0).detach(), (signal * score).mean(0))


class StraightThrough(ScorePlanted):
    """Biased, and says that it is not."""

    needs = SCORE | {Trait.LOGITS, Trait.latent("binary")}

    def __init__(self, k: int = 1) -> None:
        super().__init__(k)

    def forward(self, model, batch, rng):
        q = model.posterior(batch)
        hard = q.draw(rng, self.k).z
        z = hard + q.mean - q.mean.detach()
        log_w = model.log_joint(batch, z) - q.log_prob(z)
        return Estimate(log_w.mean(0).detach(), log_w.mean(0))


class BiasedRebar(ScorePlanted):
    """A control variate that sees its own sample, its mean not added back (storchastic's REBAR and RELAX)."""

    def __init__(self, k: int = 1) -> None:
        super().__init__(k)

    def forward(self, model, batch, rng):
        z, score, log_w = self.parts(model, batch, rng)
        control = z.flatten(2).sum(2) - 0.5 * z.flatten(2)[..., 0]
        return Estimate(log_w.mean(0).detach(), ((log_w.detach() - control) * score).mean(0) + log_w.mean(0))


class SmallestKOnly(OwnSample):
    """Divides by K where K - 1 is meant: half the gradient at two samples, within 5% from twenty on."""

    def __init__(self, k: Annotated[int, Ge(2)] = 30) -> None:
        super().__init__(k)


class StaleBaseline(ScorePlanted):
    """The first datum's sample is the baseline of all samples, its own included."""

    def __init__(self, k: int = 1) -> None:
        super().__init__(k)

    def forward(self, model, batch, rng):
        _, score, log_w = self.parts(model, batch, rng)
        signal = (log_w - log_w[:1]).detach()
        return Estimate(log_w.mean(0).detach(), (signal * score).mean(0) + log_w.mean(0))


class RunningDeviation(ScorePlanted):
    """NVIL's signal over a running deviation, called unbiased (mc_gradients, rodeo and TVO by reading)."""

    def __init__(self, k: int = 1) -> None:
        super().__init__(k)
        self.rule = Score(ELBO(), k, normalize=True)
        self.rule.log_scale.data.fill_(1.0)

    def forward(self, model, batch, rng):
        return self.rule(model, batch, rng)


class WakeSquared(ScorePlanted):
    """Reweighted wake-sleep whose encoder gets squared weights."""

    bound, target = IWAE(), Wake()

    def forward(self, model, batch, rng):
        _, score, log_w = self.parts(model, batch, rng)
        weight = log_w.detach().softmax(0)
        return Estimate(self.bound(log_w).detach(), (weight * log_w + weight**2 * score).sum(0))


class WakeOverBatch(ScorePlanted):
    """Its weights sum to one over the data, not over the samples."""

    bound, target = IWAE(), Wake()

    def forward(self, model, batch, rng):
        _, score, log_w = self.parts(model, batch, rng)
        weight = log_w.detach().softmax(1)
        return Estimate(self.bound(log_w).detach(), (weight * (log_w + score)).sum(0))


class BoundAsWake(ScorePlanted):
    """Claims the wake phase and gives VIMCO's gradient."""

    bound, target = IWAE(), Wake()

    def __init__(self, k: Annotated[int, Ge(2)] = 2) -> None:
        super().__init__(k)

    def forward(self, model, batch, rng):
        return Score(IWAE(), self.k, LeaveOneOut())(model, batch, rng)


# estimator -> beginnings of checks, each of which has to FAIL
SCORE_BUGS = {
    Scaled105: ["exact[binary,k=4]:encoder", "exact[binary,k=4]:decoder", "outcomes[stress,k=4]:encoder"],
    OffByAMillionth: ["outcomes[stress,k=2]:encoder"],
    Scaled095: ["exact[binary,k=4]:encoder", "exact[binary,k=4]:decoder"],
    OwnSample: ["exact[binary,k=2]:encoder"],
    NoScore: ["exact[binary,k=2]:encoder"],
    VimcoNoScore: ["exact[binary,k=2]:encoder"],
    VimcoNoDirect: ["exact[binary,k=2]:encoder"],
    BiasedRebar: ["exact[binary,k=1]:encoder"],
    SmallestKOnly: ["exact[binary,k=2]:encoder"],
    StaleBaseline: ["exact[binary,k=1]:encoder"],
    FlippedSign: ["exact[binary,k=2]:encoder"],
    WrongLogitSign: ["exact[binary]:encoder"],
    Leaky: ["exact[binary,k=1]:decoder"],
    BaselineInGraph: ["control[binary]"],
    NoDirect: ["exact[binary,k=2]:decoder"],
    StraightThrough: ["exact[binary,k=1]:encoder"],
    RunningDeviation: ["exact[binary,k=1]:encoder"],
    WakeSquared: ["exact[binary,k=2]:encoder", "outcomes[stress,k=2]:encoder"],
    WakeOverBatch: ["exact[binary,k=2]:encoder", "exact[binary,k=2]:decoder"],
    BoundAsWake: ["exact[binary,k=2]:encoder"],
}
