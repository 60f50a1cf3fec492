"""The Parzen-window estimate of log likelihood: kept for what it was used for, and known to rank models wrongly."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

__all__ = ["parzen_log_density", "parzen_width"]

_WIDTHS: Final = 20


def parzen_log_density(rows: Tensor, samples: Tensor, width: float) -> Tensor:
    r"""Log density at each of ``rows [m, D]`` of Gaussian windows around ``samples [n, D]``, ``[m]``, nats.

    .. math:: \log \frac1n \sum_i N(x; x_i, s^2 I)

    Source: Breuleux, Bengio & Vincent (2011), Quickly Generating Representative Samples from an RBM-Derived Process,
    doi:10.1162/NECO_a_00158; against it: Theis, van den Oord & Bethge (2016), A Note on the Evaluation of Generative
    Models, arXiv:1511.01844.
    """
    n, scalars = samples.shape
    squares = torch.cdist(rows, samples).square()
    constant = math.log(n) + scalars / 2 * math.log(2 * math.pi * width**2)
    return (-squares / (2 * width**2)).logsumexp(1) - constant


def parzen_width(rows: Tensor, samples: Tensor, scale: float) -> float:
    """Of 20 widths between a fiftieth of ``scale`` and ``scale``, the one under which ``rows`` are likeliest."""
    widths: list[float] = torch.logspace(
        math.log10(scale / 50), math.log10(scale), _WIDTHS, dtype=torch.float64
    ).tolist()
    fits = {width: float(parzen_log_density(rows, samples, width).mean()) for width in widths}
    return max(fits, key=fits.__getitem__)
