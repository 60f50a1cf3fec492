"""What a gradient estimates, in words, from what the cells table says of it."""

from __future__ import annotations

import re

__all__ = ["estimand"]

_TRAITS = re.compile(r"(, )?\b(kind|linear|smooth)=('[^']*'|\w+)")
_ADDRESS = re.compile(r" object at 0x[0-9a-fA-F]+")


def estimand(bound: str, k: int | None, target: str = "") -> str:
    """The bound with its parameters and, where K changes what is estimated, its K; empty: none is declared.

    K averages a linear bound (ELBO) and sharpens any other (IWAE). With one sample both IWAE and Renyi's bound are
    the ELBO. A declared target takes the bound's place.

    Args:
        bound: as the cells table has it, the ``repr`` of the estimator's bound.
        k: samples per datum.
        target: likewise of its target.

    >>> estimand("IWAE(kind='lower', linear=False, smooth=True)", 5)
    'IWAE, K=5'
    >>> estimand("ELBO(kind='lower', linear=True, smooth=True)", 4)
    'ELBO'
    >>> estimand("Renyi(alpha=0.5, smooth=True)", 2)
    'Renyi(alpha=0.5), K=2'
    >>> estimand("IWAE(kind='lower', linear=False, smooth=True)", 5, "Wake()")
    'target Wake, K=5'
    """
    if target:
        return f"target {_plain(target)}, K={k}"
    name = _plain(bound)
    if not name or "linear=True" in bound:
        return name
    if k == 1 and name.split("(")[0] in ("IWAE", "Renyi"):
        return "ELBO"
    return f"{name}, K={k}"


def _plain(text: str) -> str:
    """A ``repr`` without what follows from the name."""
    return _TRAITS.sub("", _ADDRESS.sub("", text)).replace("(, ", "(").replace("()", "")
