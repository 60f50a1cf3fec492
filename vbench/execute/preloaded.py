"""What the server imports last, once all libraries are there: vbench's own code, and no plugin.

A job's code is then what the digest says that the server took before and after: a file that changes later changes
neither.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os

from vbench.provenance import code_digest, code_modules
from vbench.registry import load_registry

__all__: list[str] = []

_SERVER = os.getpid()


def _leave() -> None:
    # Taking torch apart lasts seconds, in which the server holds the driver's output open: `vbench run | tee`.
    if os.getpid() == _SERVER:
        os._exit(0)


def _load() -> None:
    digest = code_digest()
    for name in code_modules():
        importlib.import_module(name)
    load_registry("vbench")
    code_digest.cache_clear()
    if code_digest() != digest:  # changed meanwhile: the driver starts another server
        os._exit(1)
    from vbench.execute.rehearsal import rehearse  # not before its digest is taken

    with contextlib.suppress(Exception):  # a job will say itself what is wrong
        rehearse()


atexit.register(_leave)
_load()
gc.freeze()  # jobs then share the libraries' memory for good: no collection looks at it again
