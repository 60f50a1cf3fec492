"""Pythae's CIWAE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le
from torch import Tensor

from vbench import ELBO, IWAE, Estimator, Space
from vbench_peers.extras import needs_extra

__all__ = ["Combined", "pythae_ciwae"]


@dataclass(frozen=True)
class Combined:
    r"""Convex combination of two bounds, :math:`\beta\, \mathrm{ELBO} + (1 - \beta)\, \mathrm{IWAE}_K`.

    Source: Rainforth et al. (2018), Tighter Variational Bounds Are Not Necessarily Better, arXiv:1802.04537.
    """

    beta: float
    kind: Literal["lower"] = "lower"
    smooth: bool = True

    @property
    def linear(self) -> bool:
        """True where nothing but the ELBO is left."""
        return self.beta == 1

    def __call__(self, log_w: Tensor) -> Tensor:
        """``[K, B] -> [B]``."""
        return self.beta * ELBO()(log_w) + (1 - self.beta) * IWAE()(log_w)


@needs_extra("pythae")
def pythae_ciwae(
    x: Space,
    z: Space,
    beta: Annotated[float, Ge(0), Le(1), "share of the ELBO: 1 is the ELBO, 0 is IWAE"] = 0.5,
    k: Annotated[int, Ge(1), "importance samples per datum"] = 5,
) -> Estimator:
    r"""Combination of the ELBO and the importance-weighted bound by Pythae's ``CIWAE``.

    .. math:: \beta\, \frac1K \sum_k \log w_k + (1 - \beta) \log \frac1K \sum_k w_k

    Source: Chadebec, Vincent & Allassonniere (2022), Pythae: Unifying Generative Autoencoders in Python,
    arXiv:2206.08309; Rainforth, Kosiorek, Le, Maddison, Igl, Wood & Teh (2018), Tighter Variational Bounds Are Not
    Necessarily Better, arXiv:1802.04537.
    """
    from pythae.models import CIWAE, CIWAEConfig

    from vbench_peers.pythae_call import PythaeLoss, parts

    config = CIWAEConfig(input_dim=x.shape, latent_dim=z.size, reconstruction_loss="bce", number_samples=k, beta=beta)
    return PythaeLoss(CIWAE(config, **parts()), Combined(beta), k, (k,))
