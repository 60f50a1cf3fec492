"""Encoders that take the decoder's steps, and the decoder whose they are, with one mistake each."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from vbench.families import Bernoulli, DiagonalNormal
from vbench.model import frozen
from vbench.types import Decoder, Draw, Encoder, Space, Trait

STEPWISE = "stepwise"


class Step(nn.Module):
    """Adds what it makes of a latent to what there is."""

    def __init__(self, latent: int, size: int) -> None:
        super().__init__()
        self.net = nn.Linear(latent, size)

    def forward(self, z, canvas):
        return canvas + self.net(z)


class BrokenStepwise(Decoder):
    """Bernoulli, its logits a sum over steps; one mistake.

    Source: nobody.
    """

    offers = frozenset({STEPWISE})
    needs = frozenset({Trait.data("binary"), Trait.latent("real")})

    def __init__(self, x: Space, z: Space, how: str = "") -> None:
        super().__init__()
        if len(z.shape) != 2:
            raise ValueError("no steps")
        self.shape, self.how = x.shape, how
        self.canvas = nn.Parameter(torch.zeros(x.size))
        self.step = Step(z.shape[1], x.size)

    def forward(self, z, batch, model):
        canvas = self.canvas
        for latent in z.unbind(2):
            canvas = self.step(latent, canvas)
        logits = canvas.unflatten(-1, self.shape)
        return _Flipped(logits) if self.how else Bernoulli(logits)


class _Flipped(Bernoulli):
    def sample(self, rng):
        return 1 - super().sample(rng)


@dataclass(frozen=True)
class Following:
    """A step's normal is made of the data and of what the decoder's steps have made so far."""

    encoder: Any
    decoder: Any
    x: torch.Tensor
    how: str

    def draw(self, rng, k):
        held = frozen(self.decoder) if self.how == "steps, the decoder's parameters held in draws" else self.decoder
        made = replace(self, decoder=held).walk(k, lambda _, q: q.sample(rng))
        return Draw(made.z, self.log_prob(made.z))

    def log_prob(self, z):
        blind = self.how == "steps, the density sees the first canvas alone"
        return self.walk(len(z), lambda t, _: z[:, :, t], blind).log_q

    def walk(self, k, choose, blind=False):
        step = self.decoder.step.forward if self.how == "steps, behind the counter's back" else self.decoder.step
        canvas = first = self.decoder.canvas.expand(k, len(self.x), -1)
        chosen, log_q = [], 0
        for t in range(self.encoder.z.shape[0]):
            if chosen:
                canvas = step(chosen[-1], canvas)
            seen = torch.cat([self.x.expand(k, -1, -1), first if blind else canvas], -1)
            loc, raw = self.encoder.net(seen).chunk(2, -1)
            q = DiagonalNormal(loc, raw.exp())
            chosen.append(choose(t, q))
            log_q = log_q + q.log_prob(chosen[-1])
        return Draw(torch.stack(chosen, 2), log_q)


class BrokenFollower(Encoder):
    """Takes the decoder's steps, one mistake.

    Source: nobody.
    """

    offers = frozenset({Trait.PATHWISE, Trait.DENSITY, Trait.NORMALIZED})
    needs = frozenset({STEPWISE, Trait.data("binary")})

    def __init__(self, x: Space, steps: int = 4, latent: int = 3, how: str = "") -> None:
        super().__init__()
        self.z, self.how = Space((steps, latent)), how
        self.net = nn.Linear(2 * x.size, 2 * latent)

    def forward(self, batch, model):
        return Following(self, model.decoder, batch.x.flatten(1), self.how)
