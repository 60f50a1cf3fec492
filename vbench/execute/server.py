"""The process that new jobs are forked from: Python with the heavy libraries and vbench's own code, and nothing else.

Loading torch takes seconds, a fork milliseconds. The server loads no plugin and never touches a device, so
every job starts from the same clean state.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from typing import Any

__all__ = ["PRELOAD", "environment", "forks", "pipe", "start", "warm"]

# What most cells import. No plugin: one may touch CUDA when imported, which would spoil every fork.
PRELOAD: tuple[str, ...] = (
    *("torch", "torch._dynamo", "pandas", "pyarrow.parquet", "pyarrow.pandas_compat", "pyarrow.vendored.version"),
    *("sklearn.datasets", "safetensors.torch", "annotated_types", "pluggy", "pydantic.types", "ruamel.yaml"),
    "vbench.execute.preloaded",
)

_one_at_a_time = threading.Lock()


def forks() -> bool:
    """Whether jobs are forked from a server here; without one each loads torch for itself."""
    return "forkserver" in multiprocessing.get_all_start_methods()


def environment(threads: int) -> dict[str, str]:
    """This process's environment with what keeps libraries to so many threads; a server must have one."""
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    # Arrow's allocator starts a thread when loaded, CUDA's check for devices makes later forks useless.
    quiet = {"JE_ARROW_MALLOC_CONF": "background_thread:false", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
    # A fork copies a table of all pages: with large ones, Python's objects in them, that is short (glibc)
    pages = ":".join(filter(None, [os.environ.get("GLIBC_TUNABLES"), "glibc.malloc.hugetlb=1"]))
    return {**os.environ, **counts, **quiet, "GLIBC_TUNABLES": pages, "PYTHONMALLOC": "malloc"}


def warm() -> None:
    """Start the server, or make sure that it runs; it loads its libraries while the caller goes on."""
    if not forks():
        return
    from multiprocessing import forkserver, resource_tracker

    _context().set_forkserver_preload(list(PRELOAD))
    resource_tracker.ensure_running()  # first, because it unblocks signals
    with _hidden_main(), _environment(environment(1)), _blocked_signals():
        forkserver.ensure_running()


def pipe() -> Any:
    """A one-way pipe: the reading and the writing end."""
    return _context().Pipe(duplex=False)


def start(function: Callable[..., Any], args: tuple[Any, ...]) -> BaseProcess:
    """Start a process that calls ``function(*args)``; threads start theirs one after the other."""
    process: BaseProcess = _context().Process(target=function, args=args)
    for pause in (0.0, 0.1, 1.0):  # a server killed just now is not yet known to be dead
        try:
            _start(process)
            return process
        except (EOFError, OSError):
            time.sleep(pause)
    _start(process)
    return process


def _start(process: BaseProcess) -> None:
    with _one_at_a_time:  # what is changed for the start belongs to the whole process
        warm()
        with _hidden_main():
            process.start()


def _context() -> Any:
    return multiprocessing.get_context("forkserver" if forks() else "spawn")


@contextlib.contextmanager
def _hidden_main() -> Iterator[None]:
    """Let multiprocessing see an empty ``__main__``: else each job would run the user's script again."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextlib.contextmanager
def _environment(wanted: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextlib.contextmanager
def _blocked_signals() -> Iterator[None]:
    """What is started here inherits them blocked: a signal to the whole terminal concerns the driver alone."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
