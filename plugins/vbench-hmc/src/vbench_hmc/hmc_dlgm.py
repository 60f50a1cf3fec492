"""Deep latent Gaussian models learned with Hamiltonian Monte Carlo."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Lt

from vbench_hmc.chain import ChainEstimator
from vbench_hmc.hmc import HMC

__all__ = ["HMCDLGM"]


class HMCDLGM(ChainEstimator):
    r"""The encoder by the ELBO, decoder and prior at the end of an HMC chain that the encoder starts.

    .. math:: \nabla_\phi \, E_q[\log p(x, z_0) - \log q(z_0 | x)], \qquad
       \nabla_\theta \, E[\log p(x, z_T)], \quad z_0 \sim q, \; z_t \sim \mathrm{HMC}(z_{t-1}; p(z | x))

    Value and encoder's gradient are the ELBO's. That of decoder and prior goes from the ELBO's (T = 0) to
    :math:`\nabla \log p(x)` as the chain grows: biased for both at any T. Each of T transitions takes L leapfrog
    steps, accepted or not; the step size adapts to the wanted acceptance. Real latents; value and surrogate ``[B]``,
    nats; ``acceptance`` in info; K (T L + 3) evaluations of the decoder.

    Source: Hoffman (2017), Learning Deep Latent Gaussian Models with Markov Chain Monte Carlo, PMLR 70:1510-1519.
    """

    def __init__(
        self,
        k: Annotated[int, Ge(1), "chains per datum"] = 1,
        steps: Annotated[int, Ge(1), "HMC transitions of a chain"] = 2,
        leapfrog: Annotated[int, Ge(1), "leapfrog steps of a transition"] = 5,
        step: Annotated[float, Gt(0), "initial step size"] = 0.1,
        acceptance: Annotated[float, Gt(0), Lt(1), "mean acceptance that the step size adapts to"] = 0.65,
        lr: Annotated[float, Gt(0), "learning rate of the step size's logarithm"] = 1e-2,
    ) -> None:
        super().__init__(HMC(leapfrog, step, acceptance), k, steps, lr)
