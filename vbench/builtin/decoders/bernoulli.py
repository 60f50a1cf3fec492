"""Bernoulli likelihood from a multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from annotated_types import Ge
from torch import Tensor

from vbench.builtin.nets import Activation, mlp, set_output_bias
from vbench.families import Bernoulli
from vbench.types import Batch, Decoder, Space, Trait

__all__ = ["BernoulliDecoder", "OutputBias"]

OutputBias = Literal["mean", "zero"]


class BernoulliDecoder(Decoder):
    r"""Independent binary pixels, with logits from one net.

    :math:`p(x_i = 1 | z) = \sigma(\mathrm{net}(z)_i)`; data are binary. The output bias starts at the logit of the
    training mean (clipped to [.001, .999]); from zero, a VAE ends about a nat lower.

    Source: Kingma & Welling (2014), Auto-Encoding Variational Bayes, arXiv:1312.6114, appendix C.1.
    """

    needs = frozenset({Trait.data("binary")})

    def __init__(
        self,
        x: Space,
        z: Space,
        mean: Tensor,
        hidden: Annotated[Sequence[Annotated[int, Ge(1)]], "widths of the hidden layers"] = (200, 200),
        activation: Annotated[Activation, "between the layers"] = "tanh",
        output_bias: Annotated[OutputBias, "where the output bias starts: at the training mean, or at zero"] = "mean",
    ) -> None:
        super().__init__()
        self.shape = x.shape
        self.net = mlp(z.size, hidden, x.size, activation)
        start = mean.clamp(0.001, 0.999).logit() if output_bias == "mean" else mean.new_zeros(x.size)
        set_output_bias(self.net[-1], start)

    def forward(self, z: Tensor, batch: Batch | None, model: Any) -> Bernoulli:
        """p(x | z) with logits ``[K, B, *X]``."""
        return Bernoulli(self.net(z.flatten(2)).unflatten(2, self.shape))
