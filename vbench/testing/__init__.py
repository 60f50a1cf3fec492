"""The judge, for authors: every claim of a component is held against exact answers.

>>> from vbench.testing import check
>>> results = check("estimator", "rloo[k=2]")  # doctest: +SKIP
"""

from __future__ import annotations

from vbench.testing.judging import check, checks
from vbench.testing.pytest_support import parametrize_with_checks
from vbench.testing.verdict import Check, CheckResult, Outcome, Verdict, overall

__all__ = ["Check", "CheckResult", "Outcome", "Verdict", "check", "checks", "overall", "parametrize_with_checks"]
