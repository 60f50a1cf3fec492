"""DRAW written out equation by equation, for one sequence of pairs (x, z), and small models of it."""

import torch
from torch import nn
from torch.distributions import Normal
from vbench_hierarchy.draw_decoder import DrawDecoder
from vbench_hierarchy.draw_encoder import DrawEncoder

from tests.toys import randomize
from vbench import Batch, DiagonalNormal, Model, Prior, Space
from vbench.builtin.priors.standard_normal import StandardNormalPrior

X = Space((2, 3), "binary")  # neither side as long as the other
MEAN = torch.tensor([[0.3, 0.45, 0.2], [0.6, 0.35, 0.5]])
BATCH = Batch(torch.tensor([[[1.0, 0, 0], [1, 1, 0]], [[0, 1, 1], [0, 1, 0]]]).double(), torch.arange(2))
STATES = torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * X.size).reshape(-1, *X.shape)


class LearnedNormal(Prior):
    """A prior with parameters, for a gradient in them."""

    def __init__(self, z: Space) -> None:
        super().__init__()
        self.loc, self.log_scale = (nn.Parameter(torch.zeros(1, *z.shape)) for _ in range(2))

    def forward(self, batch, model):
        return DiagonalNormal(self.loc, self.log_scale.exp())


def model(read, write, steps=3, latent=2, hidden=4, seed=3, size=0.6, prior=StandardNormalPrior):
    encoder = DrawEncoder(X, steps, latent, hidden, read)
    return randomize(Model(encoder, DrawDecoder(X, encoder.z, MEAN, hidden, write), prior(encoder.z)), seed, size)


def filters(place, output, side, image):
    """Both banks and the intensity, number by number; ``output [N, H]``."""
    numbers = output @ place.weight.T + place.bias
    banks = []
    for bank, length in ((1, image[0]), (0, image[1])):
        centre = (length + 1) / 2 * (numbers[:, bank] + 1)
        rows = []
        for i in range(1, side + 1):
            stride = (max(image) - 1) / (side - 1) * numbers[:, 3].exp() if side > 1 else 0
            mean = centre + (i - side / 2 - 0.5) * stride
            row = [torch.exp(-((a - mean) ** 2) / (2 * numbers[:, 2].exp())) for a in range(1, length + 1)]
            rows.append([value / sum(row) for value in row])
        banks.append(rows)
    return *banks, numbers[:, 4].exp()


def seen(window, output, image):
    """What is read of ``image [N, height, width]``, by a double loop over patch and pixels."""
    height, width = image.shape[1:]
    if not hasattr(window, "place"):
        return image.reshape(-1, height * width)
    down, across, intensity = filters(window.place, output, window.side, (height, width))
    return torch.stack(
        [
            intensity * sum(down[i][b] * image[:, b, a] * across[j][a] for b in range(height) for a in range(width))
            for i in range(window.side)
            for j in range(window.side)
        ],
        1,
    )


def written(window, output, patch, image):
    """What ``patch [N, size]`` adds to a canvas of that size, likewise."""
    height, width = image
    if not hasattr(window, "place"):
        return patch.reshape(-1, height, width)
    down, across, intensity = filters(window.place, output, window.side, image)
    side = range(window.side)
    added = [
        sum(down[i][b] * patch[:, i * window.side + j] * across[j][a] for i in side for j in side) / intensity
        for b in range(height)
        for a in range(width)
    ]
    return torch.stack(added, 1).reshape(-1, height, width)


def cell(gates, inputs, state):
    """torch's own recurrent cell with these weights; its gates come in another order."""
    order, size = (0, 1, 3, 2), state[0].shape[1]
    weight, bias = (torch.cat([t.chunk(4)[i] for i in order]) for t in (gates.weight, gates.bias))
    ingoing, own = weight.split((inputs.shape[1], size), 1)
    return torch.lstm_cell(inputs, state, ingoing, own, bias, torch.zeros_like(bias))


def walked(made, x, z=None, noise=None):
    """Of ``x [N, ...]`` and latents ``[N, T, D]``, or the noise that they are to be drawn by, in turn: the latents, log
    q(z_t | z_<t, x) ``[N, T]``, log p(z_t) ``[N, T]`` and the last canvas.
    """
    encoder, decoder, n = made.encoder, made.decoder, len(x)
    own = tuple(first.expand(n, -1) for first in encoder.state.unbind())
    state = tuple(first.expand(n, -1) for first in decoder.state.unbind())
    canvas = decoder.canvas.expand(n, *x.shape[1:])
    chosen, log_q = [], []
    for t in range(encoder.z.shape[0]):
        output = state[0]
        lacking = x - 1 / (1 + torch.exp(-canvas))
        looked = torch.cat([seen(encoder.window, output, x), seen(encoder.window, output, lacking), output], 1)
        own = cell(encoder.recurrent.gates, looked, own)
        mean, log_scale = encoder.normal.net(own[0]).split(encoder.z.shape[1], 1)
        latent = mean + log_scale.exp() * noise[:, t] if z is None else z[:, t]
        chosen.append(latent)
        log_q.append(Normal(mean, log_scale.exp()).log_prob(latent).sum(1))
        state = cell(decoder.step.recurrent.gates, latent, state)
        canvas = canvas + written(decoder.step.window, state[0], decoder.step.patch(state[0]), x.shape[1:])
    z, p = torch.stack(chosen, 1), made.prior(None, made)
    return z, torch.stack(log_q, 1), Normal(p.loc[0], p.scale[0]).log_prob(z).sum(2), canvas


def log_likelihood(canvas, x):
    """Log p(x | z) ``[N]``, pixel by pixel."""
    p = 1 / (1 + torch.exp(-canvas))
    return (x * p.log() + (1 - x) * (1 - p).log()).sum((1, 2))


def log_weight(made, x, noise):
    """Log p(x, z) / q(z | x) ``[N]`` of the latents that noise ``[N, T, D]`` gives."""
    _, log_q, log_p, canvas = walked(made, x, noise=noise)
    return log_likelihood(canvas, x) + (log_p - log_q).sum(1)


class Given:
    """Stands in for random numbers: noise ``[K, B, T, D]``, handed out step by step."""

    def __init__(self, noise):
        self.steps = iter(noise.unbind(2))

    def normal(self, *shape, dtype=None):
        return next(self.steps).expand(shape)
