"""The executor that a call asks for."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable

from vbench.execute.jobs import Executor, ExecutorError, Limits
from vbench.grid import GridError, parse_choice
from vbench.listing import known_catalogue, load_catalogue

__all__ = ["executor_named", "make_executor"]


def executor_named(text: str, scheduler: str = "") -> str:
    """The same as ``name[param=value]``, once it is sure that there is such an executor.

    Args:
        text: ``"local"``, ``"dask[gpu=0.5]"``.
        scheduler: short for ``dask[scheduler=...]``.

    Raises:
        GridError: there is none, or not with these parameters.
    """
    if scheduler and text not in ("local", "dask"):
        raise GridError([f"--scheduler belongs to dask: write --executor 'dask[scheduler={scheduler},...]'"])
    text = f"dask[scheduler={scheduler}]" if scheduler else text
    return str(parse_choice(text, "executor", load_catalogue(), "--executor"))


def make_executor(asked: str | Callable[..., Executor], limits: Limits, workers: int) -> Executor:
    """Make it; a name is looked up.

    Raises:
        GridError: there is none of that name, or it cannot run anything here.
    """
    given = {"limits": limits, "workers": workers}
    if not isinstance(asked, str):
        return asked(**given)
    catalogue = known_catalogue()
    choice = parse_choice(asked, "executor", catalogue, "--executor")
    # not from the registry: that loads every plugin, while this one could begin already
    factory = pkgutil.resolve_name(catalogue.components["executor"][choice.name].module)
    try:
        made: Executor = factory(**given, **choice.parameters)
    except ExecutorError as error:
        raise GridError([f"--executor {choice}: {error}"]) from None
    return made
