"""Where cells run: one fresh process each, under a supervisor that says how every one of them ended.

Public are the names of an engine of your own: an :class:`Executor`, registered from the hook ``vbench_executors``.
"""

from __future__ import annotations

from vbench.execute.child import Ending
from vbench.execute.jobs import Event, Executor, ExecutorError, Job, Limits, Runner, Wait, admitted
from vbench.execute.local import run_job

__all__ = ["Ending", "Event", "Executor", "ExecutorError", "Job", "Limits", "Runner", "Wait", "admitted", "run_job"]
