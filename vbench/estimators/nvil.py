"""NVIL: the score-function ELBO with a learned, data-dependent baseline."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt

from vbench.bounds import ELBO
from vbench.estimators.controls import LearnedBaseline
from vbench.estimators.score import Score
from vbench.types import Estimator, Space

__all__ = ["nvil"]


def nvil(
    x: Space,
    k: Annotated[int, Ge(1), "samples per datum, averaged"] = 1,
    hidden: Annotated[int, Ge(1), "width of the baseline's hidden layer"] = 100,
    lr: Annotated[float, Gt(0), "learning rate of the baseline"] = 1e-3,
    normalize: Annotated[bool, "divide the signal by its running deviation (biased: it rescales the gradient)"] = False,
) -> Estimator:
    r"""ELBO by the likelihood ratio with a learned baseline.

    .. math:: \nabla_\phi: \; \tfrac1K \sum_k (\log w_k - c_\psi(x)) \, \nabla_\phi \log q(z_k | x)

    The baseline is fitted to the log weight by least squares. Unbiased for the ELBO, except with ``normalize``.

    Source: Mnih & Gregor (2014), Neural Variational Inference and Learning in Belief Networks, arXiv:1402.0030.
    """
    return Score(ELBO(), k, LearnedBaseline(x, hidden), lr, normalize)
