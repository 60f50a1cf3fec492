"""Components asked for by name on the command line, before anything heavy is loaded."""

from __future__ import annotations

from collections.abc import Sequence

from vbench.catalogue import EVERY_KIND, KINDS, Catalogue
from vbench.grid.choices import Choice, parse_choice
from vbench.grid.positions import GridError, nearest

__all__ = ["named_components"]


def named_components(
    names: Sequence[str], catalogue: Catalogue, distribution: str | None = None, where: str = "check"
) -> list[Choice]:
    """The components that names mean: ``vimco``, ``encoder:bernoulli``, ``rloo[k=2]``.

    Without names, all that a grid crosses.

    A name that several kinds share means all of them.

    Args:
        names: as above.
        catalogue: what there is.
        distribution: only what this one registers.
        where: what a message begins with.

    Raises:
        GridError: a name, parameter or distribution that is not there.
    """
    if distribution is not None:
        owners = {component.distribution for component in catalogue}
        if distribution not in owners:
            raise GridError([f"--plugin: {distribution!r} registers nothing (known: {', '.join(sorted(owners))})"])
    if not names:
        return [
            Choice(c.kind, c.name, {}, {p.name: p.default for p in c.parameters if not p.required})
            for c in catalogue
            if distribution in (None, c.distribution) and c.kind in KINDS
        ]
    found = []
    for text in names:
        prefix, _, rest = text.partition("[")
        kind, _, name = prefix.rpartition(":")
        if kind and kind not in EVERY_KIND:
            raise GridError([f"{where}: {text!r}: {kind!r} is no kind, expected one of {', '.join(EVERY_KIND)}"])
        kinds = [k for k in EVERY_KIND if kind in ("", k) and catalogue.get(k, name)]
        if not kinds:
            known = [c.name for c in catalogue if kind in ("", c.kind)]
            raise GridError([f"{where}: nothing is called {text!r}{nearest(name, known)}"])
        found += [parse_choice(f"{name}[{rest}" if rest else name, k, catalogue, where) for k in kinds]
    return found
