"""A test model of registered parts, for estimators that need what only some package's parts offer."""

from __future__ import annotations

from typing import Any, Final

import torch

from vbench.model import Model
from vbench.oracles.common import gradient
from vbench.testing.cases import Case, Truth, offers
from vbench.testing.densities import grid
from vbench.testing.partners import batch_of, model_of, randomize, registered, task
from vbench.testing.replicates import by_part
from vbench.testing.subject import Subject
from vbench.types import Batch, Bound, Objective, Space, Target, Trait

__all__ = ["assembled", "strange"]

_OWN: Final = frozenset(value for name, value in vars(Trait).items() if name.isupper())
_X: Final = Space((1,))
_COPIES: Final = 32  # of each datum: a replicate under vmap costs its random generators, however much they draw


def strange(needs: frozenset[str]) -> frozenset[str]:
    """Traits that a package brought."""
    return frozenset(trait for trait in needs - _OWN if not trait.endswith(("-latent", "-data")))


def assembled(needs: frozenset[str]) -> tuple[Case, ...]:
    """The first registered encoder that offers them, with a prior that it asks for, made small; none where it is not.

    Data are one real number, latents two; the ELBO is integrated over their plane.
    """
    for encoder in registered("encoder", strange(needs)):
        case = Case(encoder.name, lambda e=encoder: _made(e), _integrated, _batch(), rows=False)  # type: ignore[misc]
        model = case.make()
        if needs <= offers(model, case.batch) and model.encoder.z.size == 2:
            return (case,)
    return ()


def _made(encoder: Subject) -> Model:
    part = randomize(encoder.build(task(_X), **encoder.small()))
    return model_of(_X, part.z, encoder=part)


def _batch() -> Batch:
    x = batch_of(_X).x.repeat(_COPIES, 1)
    return Batch(x, torch.arange(len(x)))


def _integrated(model: Model, batch: Batch, bound: Bound | Objective, k: int, target: Target | None) -> Truth:
    if target or isinstance(bound, Objective) or not bound.linear:
        raise ValueError("nothing but the ELBO is integrated")
    some = Batch(batch.x[: len(batch.x) // _COPIES], batch.index[: len(batch.x) // _COPIES])
    points: Any = grid(model.encoder.z)
    posterior: Any = model.posterior(some)
    z = points.points[:, None].expand(-1, len(some.x), *model.encoder.z.shape)
    log_q, log_p = posterior.log_prob(z), model.log_joint(some, z)
    log_mass = log_q + points.log_weight[:, None]
    value = torch.where(log_mass > -700, log_mass.exp() * (log_p - log_q), 0).sum(0)
    evidence = (log_p + points.log_weight[:, None]).logsumexp(0).detach()
    return Truth(value.detach().repeat(_COPIES), by_part(gradient(value, model)), evidence.repeat(_COPIES))
