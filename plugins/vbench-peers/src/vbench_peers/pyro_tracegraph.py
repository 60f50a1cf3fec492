"""Pyro's TraceGraph_ELBO."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from vbench import ELBO, Estimator, Space
from vbench_peers.extras import needs_extra

__all__ = ["pyro_tracegraph"]


@needs_extra("pyro")
def pyro_tracegraph(z: Space, k: Annotated[int, Ge(1), "particles per datum, averaged"] = 1) -> Estimator:
    r"""ELBO by Pyro's ``TraceGraph_ELBO``, which weighs a score by the costs downstream of its draw.

    .. math:: \nabla\, \tfrac1K \sum_k \log w_k, \qquad \text{by the path where } z \text{ is real, by the score else}

    Said to be unbiased for the ELBO. All latents of a datum are one site, so every cost is downstream of it. Without a
    baseline: the decaying average keeps state between calls, in Pyro's global store.

    Source: Schulman, Heess, Weber & Abbeel (2015), Gradient Estimation Using Stochastic Computation Graphs,
    arXiv:1506.05254; Bingham, Chen, Jankowiak et al. (2019), Pyro: Deep Universal Probabilistic Programming,
    arXiv:1810.09538.
    """
    from pyro.infer import TraceGraph_ELBO

    from vbench_peers.pyro_call import SampledLoss

    loss = TraceGraph_ELBO(num_particles=k, vectorize_particles=True, max_plate_nesting=1)
    return SampledLoss(loss, ELBO(), k, z.support == "real")
