"""REBAR: the relaxed objective as control variate."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt

from vbench import Estimator, Space
from vbench_discrete.relax import RelaxedControl

__all__ = ["rebar"]


def rebar(
    z: Space,
    k: Annotated[int, Ge(1), "samples per datum, averaged"] = 1,
    temperature: Annotated[float, Gt(0), "of the relaxed draws in the control, at the start"] = 0.5,
    lr: Annotated[float, Gt(0), "learning rate of the control's scale and temperature"] = 1e-3,
) -> Estimator:
    r"""ELBO by the likelihood ratio with the relaxed objective as control.

    .. math:: \nabla_l: \; (f(b) - \eta f(\sigma(\tilde z / \tau)))\, \nabla_l \log q(b)
       + \eta \nabla_l f(\sigma(z / \tau)) - \eta \nabla_l f(\sigma(\tilde z / \tau))

    z is the logistic (Gumbel) variable behind the draw b and :math:`\tilde z` a draw of it given b; both carry the
    logits l. Unbiased for the ELBO at any :math:`\eta, \tau`, which descend the gradient's own variance. Three decoder
    evaluations for each sample.

    Source: Tucker, Mnih, Maddison, Lawson & Sohl-Dickstein (2017), REBAR: Low-variance, unbiased gradient estimates
    for discrete latent variable models, arXiv:1703.07370.
    """
    return RelaxedControl(z, k, None, temperature, lr)
