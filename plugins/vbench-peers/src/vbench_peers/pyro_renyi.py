"""Pyro's RenyiELBO."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from vbench import Estimator, Renyi, Space
from vbench_peers.extras import needs_extra

__all__ = ["pyro_renyi"]


@needs_extra("pyro")
def pyro_renyi(
    z: Space,
    alpha: Annotated[float, "order; 0 is IWAE, 1 is refused by Pyro"] = 0.0,
    k: Annotated[int, Ge(1), "particles per datum"] = 2,
) -> Estimator:
    r"""Variational Renyi bound by Pyro's ``RenyiELBO``; at order 0 the importance-weighted one.

    .. math:: L_\alpha = E \tfrac{1}{1-\alpha} \log \tfrac1K \sum_k w_k^{1-\alpha}

    Where latents are real by the path; else the guide gets :math:`\frac{\alpha}{1-\alpha} \sum_k \tilde w_k \nabla \log
    q(z_k)`, which is the gradient of the bound's limit in K, not of the bound at K: at order 0 it is zero.

    Source: Li & Turner (2016), Renyi Divergence Variational Inference, arXiv:1602.02311; Bingham, Chen, Jankowiak et
    al. (2019), Pyro: Deep Universal Probabilistic Programming, arXiv:1810.09538.
    """
    from pyro.infer import RenyiELBO

    from vbench_peers.pyro_call import SampledLoss

    loss = RenyiELBO(alpha=alpha, num_particles=k, vectorize_particles=True, max_plate_nesting=1)
    return SampledLoss(loss, Renyi(alpha), k, z.support == "real")
