"""What planted bugs share: draws, scores and log weights."""

from vbench.bounds import ELBO
from vbench.types import Estimator, Trait

PATH = frozenset({Trait.PATHWISE, Trait.DENSITY, Trait.NORMALIZED})
SCORE = frozenset({Trait.DENSITY, Trait.NORMALIZED})
LOC = frozenset({Trait.LOC_SCALE, Trait.DENSITY, Trait.NORMALIZED})


class Planted(Estimator):
    """A wrong estimator.

    Source: nobody.
    """

    needs = PATH
    bound = ELBO()

    def __init__(self, k: int = 2) -> None:
        super().__init__()
        self.k = k

    def parts(self, model, batch, rng, k=None):
        """z detached, score, log weights with their direct gradient, and the posterior."""
        q = model.posterior(batch)
        z = q.draw(rng, k or self.k).z.detach()
        score = q.log_prob(z)
        return z, score, model.log_joint(batch, z) - score.detach()

    def weights(self, model, batch, rng, k=None):
        """Reparameterised log weights."""
        q = model.posterior(batch)
        z = q.draw(rng, k or self.k).z
        return model.log_joint(batch, z) - q.log_prob(z)


class ScorePlanted(Planted):
    needs = SCORE


def leave_one_out(log_w):
    return (log_w.sum(0) - log_w) / (len(log_w) - 1)
