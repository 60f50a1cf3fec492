"""The executors that come with vbench, registered through the hook that every plugin uses."""

from __future__ import annotations

from vbench.execute.dask_cluster import DaskExecutor
from vbench.execute.local import LocalExecutor
from vbench.hookspecs import Factories, hookimpl

__all__: list[str] = []


@hookimpl
def vbench_executors() -> Factories:
    """Name to factory."""
    return {"dask": DaskExecutor, "local": LocalExecutor}
