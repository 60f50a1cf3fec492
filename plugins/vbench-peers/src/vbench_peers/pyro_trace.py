"""Pyro's Trace_ELBO."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from vbench import ELBO, Estimator, Space
from vbench_peers.extras import needs_extra

__all__ = ["pyro_trace"]


@needs_extra("pyro")
def pyro_trace(z: Space, k: Annotated[int, Ge(1), "particles per datum, averaged"] = 1) -> Estimator:
    r"""ELBO by Pyro's ``Trace_ELBO``.

    .. math:: \nabla\, \tfrac1K \sum_k \log w_k, \qquad \text{by the path where } z \text{ is real, by the score else}

    Said to be unbiased for the ELBO. Called through ``loss_and_grads`` with vectorised particles.

    Source: Bingham, Chen, Jankowiak et al. (2019), Pyro: Deep Universal Probabilistic Programming, arXiv:1810.09538;
    Ranganath, Gerrish & Blei (2014), Black Box Variational Inference, arXiv:1401.0118.
    """
    from pyro.infer import Trace_ELBO

    from vbench_peers.pyro_call import SampledLoss

    loss = Trace_ELBO(num_particles=k, vectorize_particles=True, max_plate_nesting=1)
    return SampledLoss(loss, ELBO(), k, z.support == "real")
