"""Deep latent Gaussian models learned with a sampler that learns to move."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt

from vbench import Space
from vbench_hmc.chain import ChainEstimator
from vbench_hmc.l2hmc_kernel import L2HMCKernel

__all__ = ["L2HMC"]


class L2HMC(ChainEstimator):
    r"""The encoder by the ELBO, decoder and prior at the end of a chain of L2HMC transitions.

    .. math:: \nabla_\phi \, E_q[\log p(x, z_0) - \log q(z_0 | x)], \qquad
       \nabla_\theta \, E[\log p(x, z_T)], \quad z_0 \sim q, \; z_t \sim \mathrm{L2HMC}(z_{t-1}; p(z | x))

    As ``hmc-dlgm``, with leapfrog steps that nets scale and shift (:class:`~vbench_hmc.l2hmc_kernel.L2HMCKernel`);
    they learn besides, to make moves longer than ``scale`` that are accepted, and start as plain HMC. Biased for the
    ELBO and for log p(x) at any T, in decoder and prior. Real latents; value and surrogate ``[B]``, nats;
    ``acceptance`` in info; K (T L + 3) evaluations of the decoder.

    Source: Levy, Hoffman & Sohl-Dickstein (2018), Generalizing Hamiltonian Monte Carlo with Neural Networks,
    arXiv:1711.09268, section 5.2.
    """

    def __init__(
        self,
        z: Space,
        k: Annotated[int, Ge(1), "chains per datum"] = 1,
        steps: Annotated[int, Ge(1), "transitions of a chain"] = 2,
        leapfrog: Annotated[int, Ge(1), "leapfrog steps of a transition"] = 5,
        step: Annotated[float, Gt(0), "initial step size"] = 0.1,
        hidden: Annotated[int, Ge(1), "width of the nets' two hidden layers"] = 50,
        scale: Annotated[float, Gt(0), "length of a move worth making"] = 1.0,
        lr: Annotated[float, Gt(0), "learning rate of the sampler"] = 1e-3,
    ) -> None:
        super().__init__(L2HMCKernel(z.size, leapfrog, step, hidden, scale), k, steps, lr)
