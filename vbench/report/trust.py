"""Which log likelihoods are not to be trusted: those whose importance weights have too heavy a tail."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["MARK", "SHARE", "doubts", "remark", "shares"]

SHARE: Final = 0.05
"""Of the data: where Pareto k-hat is above its limit for more, the mean over them is in doubt."""

MARK: Final = "\u2020"
_SAMPLED: Final = re.compile(r"log_likelihood(?:_jackknife|_mc_error)?(?:_per_step)?(\[k=\d+\])?")


def shares(records: DataFrame, metric: str, split: str) -> dict[str, float]:
    """For each cell, the share of the data whose k-hat is above the limit; empty for what has no such weights.

    Args:
        records: rows as :func:`vbench.load` gives them.
        metric: ``log_likelihood``, or one of its rungs, ``log_likelihood[k=10]``.
        split: of the data.
    """
    sampled = _SAMPLED.fullmatch(metric)
    if not sampled:
        return {}
    chosen = records[(records["metric"] == f"k_hat_share{sampled[1] or ''}") & (records["split"] == split)]
    last = chosen.sort_values("step").drop_duplicates("cell", keep="last")
    return {str(cell): float(value) for cell, value in zip(last["cell"], last["value"], strict=True)}


def doubts(records: DataFrame, metric: str, split: str) -> dict[str, float]:
    """The cells of :func:`shares` whose figure is in doubt."""
    return {cell: share for cell, share in shares(records, metric, split).items() if not share <= SHARE}


def remark(found: list[float]) -> str:
    """What a reader must know of figures with these shares; empty where there is nothing."""
    return f"not to be trusted: Pareto k-hat is above its limit for {max(found):.0%} of the data" if found else ""
