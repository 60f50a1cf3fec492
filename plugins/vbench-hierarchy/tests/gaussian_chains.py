"""Hierarchies in which everything is linear and Gaussian, and their exact answers by matrices of the whole stack."""

from dataclasses import dataclass

import torch
from torch.distributions import MultivariateNormal, kl_divergence
from torch.nn.functional import pad
from vbench_hierarchy.hierarchy_encoder import HierarchyEncoder
from vbench_hierarchy.hierarchy_prior import HierarchyPrior
from vbench_hierarchy.lvae import LadderEncoder
from vbench_hierarchy.top_down import TopDownEncoder

from tests import toys
from vbench import Model
from vbench.builtin.decoders.linear_gaussian import LinearGaussianDecoder

PARTS = ("encoder", "decoder", "prior")
MADE = {
    "hierarchy": lambda x, latent: HierarchyEncoder(x, latent, ((3,), *[()] * (len(latent) - 1))),
    "lvae": lambda x, latent: LadderEncoder(x, latent, ((3,),) * len(latent)),
    "top-down": lambda x, latent: TopDownEncoder(x, latent, ((3,),) * len(latent)),
}


def model(kind, latent, seed=6):
    """Scales of a layer do not depend on the layer before it: then all of the stack is jointly normal.

    The weights that would make them depend on it are held at zero, and their gradients left out.
    """
    encoder = MADE[kind](toys.REAL, latent)
    decoder = LinearGaussianDecoder(toys.REAL, encoder.z.bottom, toys.MEAN, noise="diagonal")
    made = toys.randomize(Model(encoder, decoder, HierarchyPrior(encoder.z, ((),) * (len(latent) - 1))), seed, 0.4)
    nets = [*made.prior.nets, *(encoder.nets[1:] if kind == "hierarchy" else [])]
    with torch.no_grad():
        for net in nets:
            weight = net.net[0].weight
            weight[len(weight) // 2 :] = 0
    made.held = {id(net.net[0].weight) for net in nets}
    return made


@dataclass
class Stack:
    """z = mean + factor e with standard normal e; ``[B, N]`` and ``[B, N, N]``."""

    mean: torch.Tensor
    factor: torch.Tensor

    @property
    def covariance(self):
        return self.factor @ self.factor.mT

    @property
    def normal(self):
        return MultivariateNormal(self.mean, self.covariance)


def stack(steps, layers):
    """Layers ``(slot, A, a, s)`` in the order of drawing, each z = A (the layer before it) + a + s e."""
    size, means, factors = sum(layers), {}, {}
    before = None
    for slot, a_matrix, a, s in steps:
        start = sum(layers[:slot])
        own = pad(torch.diag_embed(s), (start, size - start - layers[slot]))
        means[slot], factors[slot] = a, own
        if before is not None:
            means[slot] = a + (a_matrix @ means[before][..., None])[..., 0]
            factors[slot] = own + a_matrix @ factors[before]
        before = slot
    order = sorted(means)
    return Stack(torch.cat([means[s] for s in order], -1), torch.cat([factors[s] for s in order], -2))


def numbers(net, like):
    """A, a, s of a net of one linear layer, for each datum."""
    linear, size = net.net[0], len(net.net[0].weight) // 2
    a, s = linear.bias[:size], net.floor + linear.bias[size:].exp()
    return linear.weight[:size].expand(len(like), -1, -1), a.expand(len(like), -1), s.expand(len(like), -1)


def prior(model, batch):
    layers, count = model.encoder.z.layers, len(batch.x)
    top = len(layers) - 1
    zero = batch.x.new_zeros(count, layers[top])
    rest = [(slot, *numbers(model.prior.nets[slot], batch.x)) for slot in range(top - 1, -1, -1)]
    return stack([(top, None, zero, zero + 1), *rest], layers)


def posterior(model, batch):
    encoder, layers = model.encoder, model.encoder.z.layers
    top = len(layers) - 1
    if isinstance(encoder, HierarchyEncoder):
        first = encoder.nets[0](batch.x)
        rest = [(slot, *numbers(encoder.nets[slot], batch.x)) for slot in range(1, top + 1)]
        return stack([(0, None, first.loc, first.scale), *rest], layers)
    said = encoder.evidence(batch)
    steps = [(top, None, said[top].loc, said[top].scale)]
    for slot in range(top - 1, -1, -1):
        a_matrix, a, s = numbers(model.prior.nets[slot], batch.x)
        loc, scale = said[slot].loc, said[slot].scale
        if isinstance(encoder, LadderEncoder):  # of two normals' product: (p + q)^-1 (p m + q n), by covariances
            share = scale**2 / (scale**2 + s**2)
            steps.append((slot, share[..., None] * a_matrix, loc + share * (a - loc), s * share.sqrt()))
        else:
            steps.append((slot, a_matrix, a + loc, s * scale))
    return stack(steps, layers)


def likelihood(model):
    """W, b, s of the decoder."""
    return model.decoder.linear.weight, model.decoder.linear.bias, model.decoder.log_scale.exp()


def log_evidence(model, batch):
    (weight, bias, noise), p, size = likelihood(model), prior(model, batch), model.encoder.z.layers[0]
    seen = weight @ p.factor[:, :size]
    return MultivariateNormal(
        p.mean[:, :size] @ weight.mT + bias, seen @ seen.mT + noise.square().diag_embed()
    ).log_prob(batch.x)


def true_mean(model, batch):
    """E[z | x], ``[B, N]``."""
    (weight, bias, noise), p, size = likelihood(model), prior(model, batch), model.encoder.z.layers[0]
    across = p.covariance[:, :, :size] @ weight.mT
    total = weight @ p.covariance[:, :size, :size] @ weight.mT + noise.square().diag_embed()
    error = batch.x - p.mean[:, :size] @ weight.mT - bias
    return p.mean + (across @ torch.linalg.solve(total, error[..., None]))[..., 0]


def elbo(model, batch):
    """``[B]``, differentiable in every parameter."""
    (weight, bias, noise), size = likelihood(model), model.encoder.z.layers[0]
    q, p = posterior(model, batch), prior(model, batch)
    error = batch.x - q.mean[:, :size] @ weight.mT - bias
    spread = (weight @ q.factor[:, :size]).square().sum(-1)
    fit = -0.5 * (error.square() + spread) / noise.square() - noise.log() - 0.5 * torch.log(torch.tensor(2 * torch.pi))
    return fit.sum(-1) - kl_divergence(q.normal, p.normal)


def log_weight(model, batch, z):
    """Log p(x, z) / q(z | x) of ``z [K, B, N]``, by the whole stack's densities."""
    (weight, bias, noise), size = likelihood(model), model.encoder.z.layers[0]
    fit = torch.distributions.Normal(z[..., :size] @ weight.mT + bias, noise).log_prob(batch.x).sum(-1)
    return fit + prior(model, batch).normal.log_prob(z) - posterior(model, batch).normal.log_prob(z)


def by_part(value, model):
    """Gradients of a number, of each part in one vector."""
    named = dict(model.named_parameters())
    found = torch.autograd.grad(value, list(named.values()), allow_unused=True, materialize_grads=True)
    parts = {part: [] for part in PARTS}
    for (name, parameter), gradient in zip(named.items(), found, strict=True):
        free = gradient[: len(gradient) // 2] if id(parameter) in model.held else gradient
        parts[name.partition(".")[0]].append(free.flatten())
    return {part: torch.cat(own) for part, own in parts.items() if own}


def off(found, exact):
    """Errors by part, relative to the length of each part's exact gradient."""
    return {part: float((found[part] - exact[part]).norm() / exact[part].norm()) for part in exact}


class Given:
    """Stands in for random numbers: noise ``[K, N]`` or ``[K, B, N]`` of the whole stack, handed out layer by layer."""

    def __init__(self, noise, layers, upward):
        pieces = noise.split(layers, -1)
        self.pieces = iter(pieces if upward else pieces[::-1])

    def normal(self, *shape, dtype=None):
        piece = next(self.pieces)
        return (piece[:, None] if piece.dim() == 2 else piece).expand(shape)


def given(model, noise):
    return Given(noise, model.encoder.z.layers, isinstance(model.encoder, HierarchyEncoder))
