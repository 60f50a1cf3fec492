"""Pyro's TraceMeanField_ELBO."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from vbench import ELBO, Estimator
from vbench_peers.extras import needs_extra

__all__ = ["pyro_tracemeanfield"]


@needs_extra("pyro")
def pyro_tracemeanfield(k: Annotated[int, Ge(1), "particles per datum, averaged"] = 1) -> Estimator:
    r"""ELBO by Pyro's ``TraceMeanField_ELBO``: the KL in closed form, where torch has one.

    .. math:: \nabla\, \tfrac1K \sum_k \log p(x | z_k) - \mathrm{KL}(q \| p)

    Said to be unbiased for the ELBO. Guide and prior are Pyro's normals at our locations and scales.

    Source: Bingham, Chen, Jankowiak et al. (2019), Pyro: Deep Universal Probabilistic Programming, arXiv:1810.09538;
    Kingma & Welling (2014), Auto-Encoding Variational Bayes, arXiv:1312.6114.
    """
    from pyro.infer import TraceMeanField_ELBO

    from vbench_peers.pyro_call import AnalyticLoss

    return AnalyticLoss(TraceMeanField_ELBO(num_particles=k, vectorize_particles=True, max_plate_nesting=1), ELBO(), k)
