"""The encoder of DRAW: a glimpse a step, at the data and at what the canvas lacks of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor, nn

from vbench import LSTM, Batch, DiagonalNormal, Draw, Encoder, Rng, Space, Trait
from vbench_hierarchy.chain import NormalNet
from vbench_hierarchy.draw_decoder import CANVAS, Sketch, hidden_of
from vbench_hierarchy.filterbank import window

__all__ = ["DrawEncoder"]


class DrawEncoder(Encoder):
    r"""Latents of T steps, each given the data and what the decoder has made of those before.

    .. math:: \hat x_t = x - \sigma(c_{t-1}), \qquad
       e_t = \mathrm{LSTM}(e_{t-1}, [\mathrm{read}(x, h_{t-1}), \mathrm{read}(\hat x_t, h_{t-1}), h_{t-1}])

    .. math:: q(z | x) = \prod_t q(z_t | z_{<t}, x), \qquad
       q(z_t | z_{<t}, x) = N\big(\mu(e_t), \mathrm{diag}\, \sigma^2(e_t)\big)

    with the decoder's canvas c and output h after the steps before. :math:`\mathrm{read}` is a patch seen through
    Gaussian filters that h places, or with ``read: null`` the whole image. The first state is learned. Latents are
    ``[T, D]``. The posterior takes the decoder's steps itself and is made of its parameters too: where it is frozen
    they are, and gradients of a bound reach the decoder through its draws as well.

    Source: Gregor, Danihelka, Graves, Rezende & Wierstra (2015), DRAW: A Recurrent Neural Network For Image Generation,
    arXiv:1502.04623 (MNIST: 64 steps of 100 latents, 256 outputs, a patch of 2 x 2).
    """

    offers = frozenset({Trait.PATHWISE, Trait.DENSITY, Trait.NORMALIZED, Trait.AMORTIZED})
    needs = frozenset({CANVAS, Trait.IMAGE})

    def __init__(
        self,
        x: Space,
        steps: Annotated[int, Ge(1), "T"] = 64,
        latent: Annotated[int, Ge(1), "latents of a step"] = 100,
        hidden: Annotated[int, Ge(1), "outputs of the recurrent net, as many as the decoder's has"] = 256,
        read: Annotated[Annotated[int, Ge(1)] | None, "side of the patch that a step reads; null: the whole image"] = 2,
    ) -> None:
        super().__init__()
        self.z = Space((steps, latent))
        self.needs = self.needs | {hidden_of(hidden)}
        self.window = window(hidden, x.shape, read)
        self.recurrent = LSTM(2 * self.window.size + hidden, hidden)
        self.normal = NormalNet(hidden, (), latent, "tanh")
        self.state = nn.Parameter(torch.zeros(2, hidden))

    def glimpse(self, x: Tensor, sketch: Sketch, state: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """The recurrent net's state after a look at ``x [B, height, width]`` and at what the sketch lacks of it."""
        lacking = x - sketch.canvas.sigmoid()
        seen = [self.window.read(sketch.output, image) for image in (x.expand_as(lacking), lacking)]
        return self.recurrent(state, torch.cat([*seen, sketch.output], -1))

    def forward(self, batch: Batch, model: Any) -> _Glimpses:
        """q(z | x)."""
        return _Glimpses(self, model.decoder, batch.x)


@dataclass(frozen=True)
class _Glimpses:
    """The posterior of all steps."""

    encoder: DrawEncoder
    decoder: Any
    x: Tensor

    def draw(self, rng: Rng, k: int) -> Draw:
        """k samples ``[K, B, T, D]``, differentiable; log_q ``[K, B]``."""
        return self._walk(k, lambda _, q: q.sample(rng))

    def log_prob(self, z: Tensor) -> Tensor:
        """``[K, B, T, D] -> [K, B]``, nats."""
        return self._walk(len(z), lambda t, _: z[:, :, t]).log_q

    def _walk(self, k: int, choose: Callable[[int, DiagonalNormal], Tensor]) -> Draw:
        """Step after step, each with the latents chosen before."""
        sketch = self.decoder.start(k, len(self.x))
        state = tuple(first.expand(k, len(self.x), -1) for first in self.encoder.state)
        chosen: list[Tensor] = []
        log_q: Tensor | float = 0.0
        for t in range(self.encoder.z.shape[0]):
            if chosen:
                sketch = self.decoder.step(chosen[-1], sketch)
            state = self.encoder.glimpse(self.x, sketch, state)
            q = self.encoder.normal(state[0])
            chosen.append(choose(t, q))
            log_q = log_q + q.log_prob(chosen[-1])
        return Draw(torch.stack(chosen, 2), log_q)
