"""Pythae's VAMP: a prior of pseudo-inputs, and the loss that knows it."""

from __future__ import annotations

from types import MethodType, SimpleNamespace
from typing import Annotated, Any

import torch
from annotated_types import Ge

from vbench import ELBO, Batch, Density, Estimator, NormalMixture, Prior, Space, Trait
from vbench_peers.extras import needs_extra

__all__ = ["PythaeVampPrior", "pythae_vamp"]

_INPUTS = "pythae-pseudo-inputs"


class PythaeVampPrior(Prior):
    r"""The pseudo-inputs of Pythae's ``VAMP``, one linear layer and a cut-off, through our encoder.

    .. math:: p(z) = \frac1M \sum_m q(z | u_m), \qquad u_m = \mathrm{clip}(W_m + b, 0, 1)

    Source: Chadebec, Vincent & Allassonniere (2022), Pythae: Unifying Generative Autoencoders in Python,
    arXiv:2206.08309; Tomczak & Welling (2018), VAE with a VampPrior, arXiv:1705.07120.
    """

    needs = frozenset({Trait.POSTERIOR, Trait.LOC_SCALE, Trait.AMORTIZED, Trait.latent("real")})
    offers = frozenset({_INPUTS})
    extra = "pythae"

    def __init__(
        self, x: Space, z: Space, components: Annotated[int, Ge(1), "M, number of pseudo-inputs"] = 50
    ) -> None:
        super().__init__()
        self.shape, self.components = x.shape, components
        self.pseudo_inputs = _peer(x, z, components).pseudo_inputs

    def forward(self, batch: Batch | None, model: Any) -> Density:
        """p(z), shared by the batch."""
        q = self.mixed(model)
        return NormalMixture(q.loc.new_zeros(len(q.loc)), q.loc.flatten(1), q.scale.flatten(1))

    def mixed(self, model: Any) -> Any:
        """The posteriors at the pseudo-inputs."""
        weight = self.pseudo_inputs[0].weight
        inputs = self.pseudo_inputs(torch.eye(self.components, dtype=weight.dtype, device=weight.device))
        index = torch.arange(self.components, device=weight.device)
        return model.posterior(Batch(inputs.reshape(self.components, *self.shape), index))


def _peer(x: Space, z: Space, components: int) -> Any:
    from pythae.models import VAMP, VAMPConfig

    from vbench_peers.pythae_call import peer

    return peer(VAMP, VAMPConfig, x, z, number_components=components)


@needs_extra("pythae")
def pythae_vamp(x: Space, z: Space) -> Estimator:
    r"""ELBO under the prior ``pythae-vamp`` by Pythae's ``VAMP``, one sample.

    .. math:: \log p(x | z) + \log \frac1M \sum_m q(z | u_m) - \log q(z | x)

    Source: Chadebec, Vincent & Allassonniere (2022), Pythae: Unifying Generative Autoencoders in Python,
    arXiv:2206.08309; Tomczak & Welling (2018), VAE with a VampPrior, arXiv:1705.07120.
    """
    from pythae.models import VAMP
    from pythae.models.base.base_utils import ModelOutput

    from vbench import Estimate, Rng
    from vbench_peers.pythae_call import NEEDS, PythaeLoss, given, losses

    class VampLoss(PythaeLoss):
        """Calls VAMP's methods on our pseudo-inputs, and on the posteriors at them."""

        needs = NEEDS - {Trait.FACTORIZED_PRIOR} | {_INPUTS}

        def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
            """Value ``[B]`` and surrogate ``[B]``: less the loss, both."""
            mixed = model.prior.mixed(model)
            at_inputs = ModelOutput(embedding=mixed.loc.flatten(1), log_covariance=2 * mixed.scale.flatten(1).log())
            vamp = SimpleNamespace(
                model_config=self.peer.model_config,
                number_components=model.prior.components,
                linear_scheduling=0,
                idle_input=batch.x,
                pseudo_inputs=lambda _: batch.x.new_zeros(model.prior.components, *x.shape),
                encoder=lambda _: at_inputs,
            )
            vamp._log_p_z = MethodType(VAMP._log_p_z, vamp)

            def function(*tensors: Any) -> Any:
                return VAMP.loss_function(vamp, *tensors, epoch=1)

            (loss,) = losses(function, given(model, batch, rng, 1, standardized=False), (), 1)
            return Estimate(-loss.detach(), -loss)

    peer = _peer(x, z, 1)
    peer.pseudo_inputs = torch.nn.Identity()  # ours are the prior's
    return VampLoss(peer, ELBO(), 1, ())
