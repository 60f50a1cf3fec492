r"""How a loss of Pyro is called on a vbench model: its own ``loss_and_grads``, as ``SVI.step`` calls it.

Pyro sees a model with sites ``z`` and ``x`` and a guide with site ``z``, in a plate over the data and a vectorised one
over the particles. What the sites' distributions answer are vbench's log densities, ``[K, B]``, as parameters of
Pyro's: a loss knows a distribution by its answers alone, so by the chain rule

.. math:: \nabla L = \sum_i \frac{\partial L}{\partial t_i} \nabla t_i, \qquad t_i \in
   \{\log p(x | z), \log p(z), \log q(z | x)\}

and the first factor, which is all that the loss has a say in, is Pyro's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyro
import torch
from pyro.distributions import Normal, TorchDistribution
from pyro.ops.provenance import get_provenance, track_provenance
from torch import Tensor

from vbench import Batch, Bound, Estimate, Estimator, Rng, Trait

__all__ = ["AnalyticLoss", "SampledLoss", "slopes"]

Program = Callable[[], None]
Programs = Callable[..., tuple[Program, Program]]


class _Given(TorchDistribution):
    """A site whose draw and log density ``[K, B]`` are given."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 - torch's name and type
    has_rsample = False

    def __init__(self, z: Tensor, log_density: Tensor, pathwise: bool = True) -> None:
        self.z, self.log_density, self.has_rsample = z, log_density, pathwise
        super().__init__(log_density.shape, z.shape[2:], validate_args=False)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008 - torch's signature
        return self.z

    sample = rsample

    def log_prob(self, value: Tensor) -> Tensor:
        # TraceGraph_ELBO asks of every density which draws it was made of
        return track_provenance(self.log_density, get_provenance(value))


class _Drawn(Normal):
    """A normal of which the draw is given."""

    def __init__(self, loc: Tensor, scale: Tensor, z: Tensor) -> None:
        super().__init__(loc, scale)
        self.z = z

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> _Drawn:
        return _Drawn(self.loc.expand(batch_shape), self.scale.expand(batch_shape), self.z)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008 - torch's signature
        return self.z


class _Call(torch.autograd.Function):
    """A loss and its slopes in what it is given; what is random was drawn before, so lanes are called one by one."""

    @staticmethod
    def forward(call: Callable[..., tuple[Tensor, ...]], z: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            return call(z.detach(), *(t.detach().clone() for t in given))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output)
        ctx.inputs = len(inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, ...]:
        return (None,) * ctx.inputs

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        lanes = [
            _Call.apply(*(x if d is None else x.select(d, lane) for x, d in zip(inputs, in_dims, strict=True)))
            for lane in range(info.batch_size)
        ]
        return tuple(torch.stack(outputs) for outputs in zip(*lanes, strict=True)), (0,) * len(lanes[0])


def slopes(loss: Any, programs: Programs, z: Tensor, given: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss that Pyro reports ``[]``, and its derivative in each tensor given, by name."""

    def call(z: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        store = pyro.get_param_store()
        with store.scope():
            parameters = {name: pyro.param(name, t) for name, t in zip(given, tensors, strict=True)}
            value = loss.loss_and_grads(*programs(z, parameters))
            found = dict(store.named_parameters())
        grads = [found[name].grad for name in given]
        total = value if isinstance(value, float) else value[0]  # reweighted wake-sleep has two: the model's is first
        return z.new_tensor(total), *(
            torch.zeros_like(t) if g is None else g for g, t in zip(grads, tensors, strict=True)
        )

    value, *found = _Call.apply(call, z, *given.values())
    return value, dict(zip(given, found, strict=True))


def _declare(tensors: Mapping[str, Tensor]) -> None:
    """Pyro trains only where a trace has a parameter."""
    for name in tensors:
        pyro.param(name)


def _sampled(pathwise: bool) -> Programs:
    def programs(z: Tensor, given: Mapping[str, Tensor]) -> tuple[Program, Program]:
        size = z.shape[1]

        def model() -> None:
            with pyro.plate("data", size, dim=-1):
                drawn = pyro.sample("z", _Given(z, given["log_prior"]))
                # the likelihood is asked about the draw, so that whoever follows draws sees where it comes from
                pyro.sample("x", _Given(z, given["log_likelihood"]), obs=drawn)

        def guide() -> None:
            _declare(given)
            with pyro.plate("data", size, dim=-1):
                pyro.sample("z", _Given(z, given["log_q"], pathwise))

        return model, guide

    return programs


def _analytic(z: Tensor, given: Mapping[str, Tensor]) -> tuple[Program, Program]:
    size, event = z.shape[1], z.dim() - 2

    def model() -> None:
        with pyro.plate("data", size, dim=-1):
            loc, scale = (given[name].expand_as(z) for name in ("prior_loc", "prior_scale"))
            pyro.sample("z", Normal(loc, scale).to_event(event))
            pyro.sample("x", _Given(z, given["log_likelihood"]), obs=z)

    def guide() -> None:
        _declare(given)
        with pyro.plate("data", size, dim=-1):
            loc, scale = (given[name].expand_as(z) for name in ("loc", "scale"))
            pyro.sample("z", _Drawn(loc, scale, z).to_event(event))

    return model, guide


def _estimate(own: Tensor, loss: Tensor, terms: Tensor) -> Estimate:
    """Value and surrogate ``[B]``.

    Pyro reports one number for all data. How it is shared among them is told by vbench's own values ``own [B]`` of the
    same draws; their sum is Pyro's.
    """
    own = own.detach()
    return Estimate(own + (-loss - own.sum()) / len(own), -terms)


class SampledLoss(Estimator):
    """A loss of log weights. Latents whose draws are differentiable are reparameterised, others scored, as Pyro does.

    Args:
        loss: of Pyro, its particles vectorised.
        bound: what it estimates.
        k: its particles.
        pathwise: whether the guide's site says that its draws are differentiable.
    """

    def __init__(self, loss: Any, bound: Bound, k: int, pathwise: bool) -> None:
        super().__init__()
        self.loss, self.bound, self.k, self.pathwise = loss, bound, k, pathwise
        offered = {Trait.PATHWISE, Trait.PROPER_WEIGHT} if pathwise else {Trait.DENSITY, Trait.NORMALIZED}
        self.needs = frozenset(offered)

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]``; surrogate ``[B]``, whose value means nothing but its gradient."""
        q = model.posterior(batch)
        draw = q.draw(rng, self.k)
        z = draw.z if self.pathwise else draw.z.detach()
        given = {
            "log_q": draw.log_q if self.pathwise else q.log_prob(z),
            "log_prior": model.prior_density(batch).log_prob(z).expand(z.shape[:2]),
            "log_likelihood": model.log_likelihood(batch, z),
        }
        loss, found = self._slopes(z, given)
        own = self.bound(given["log_likelihood"] + given["log_prior"] - given["log_q"])
        return _estimate(own, loss, sum((found[name] * given[name]).sum(0) for name in given))

    def _slopes(self, z: Tensor, given: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        return slopes(self.loss, _sampled(self.pathwise), z, given)


class AnalyticLoss(Estimator):
    """A loss that asks the distributions themselves: guide and prior are Pyro's normals at vbench's loc and scale.

    Args:
        loss: of Pyro, its particles vectorised.
        bound: what it estimates.
        k: its particles.
    """

    needs = frozenset({Trait.PATHWISE, Trait.LOC_SCALE, Trait.KL, Trait.FACTORIZED_PRIOR})

    def __init__(self, loss: Any, bound: Bound, k: int) -> None:
        super().__init__()
        self.loss, self.bound, self.k = loss, bound, k

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]``; surrogate ``[B]``, whose value means nothing but its gradient."""
        q, p = model.posterior(batch), model.prior_density(batch)
        z = q.draw(rng, self.k).z
        log_likelihood = model.log_likelihood(batch, z)
        normals = {
            "loc": q.loc,
            "scale": q.scale,
            "prior_loc": p.loc.expand_as(q.loc),
            "prior_scale": p.scale.expand_as(q.scale),
        }
        loss, found = slopes(self.loss, _analytic, z, {"log_likelihood": log_likelihood, **normals})
        terms = (found["log_likelihood"] * log_likelihood).sum(0)
        for name, tensor in normals.items():
            terms = terms + (found[name] * tensor).flatten(1).sum(1)
        return _estimate(log_likelihood.mean(0) - q.kl(p), loss, terms)
