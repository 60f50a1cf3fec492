"""For authors' own test suites: one pytest case per check."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vbench.catalogue import Kind
from vbench.testing.judging import checks
from vbench.testing.subject import subject
from vbench.testing.verdict import Check, CheckResult, Verdict, run_check

__all__ = ["Asked", "parametrize_with_checks"]


def parametrize_with_checks(
    components: Sequence[tuple[Kind, str | Callable[..., Any]]],
    *,
    waivers: Mapping[str, str] | None = None,
) -> Any:
    """Decorate a test with one parameter ``check`` for each check of each component; the test calls it.

    A check that FAILs raises AssertionError with its figure; an INCONCLUSIVE one skips with its figure. A waived
    check is expected to FAIL: it is then xfailed with the reason, and an unexpected PASS is a failure.

    Args:
        components: ``("estimator", "vimco[k=2]")`` or ``("estimator", factory)``.
        waivers: reason by check, ``"check"`` or ``"component:check"``.

    Raises:
        ValueError: a waiver has no reason, or waives a check that does not exist.

    >>> @parametrize_with_checks([("estimator", "reinforce")])
    ... def test_reinforce(check):
    ...     check()
    """
    import pytest

    waived = dict(waivers or {})
    for name, why in waived.items():
        if not why.strip():
            raise ValueError(f"the waiver of {name!r} has no reason")
    cases = []
    known: set[str] = set()
    for kind, what in components:
        owner = subject(kind, what).name
        for check in checks(kind, what):
            names = (check.name, f"{owner}:{check.name}")
            known.update(names)
            why = next((waived[name] for name in names if name in waived), "")
            cases.append(pytest.param(Asked(check, f"{kind}:{owner}", why), id=f"{owner}:{check.name}"))
    unknown = sorted(set(waived) - known)
    if unknown:
        raise ValueError(f"waived, but there is no such check: {', '.join(unknown)}")
    return pytest.mark.parametrize("check", cases)


class Asked:
    """A check as a pytest case; ``result`` is what it found, once called."""

    def __init__(self, check: Check, component: str, waiver: str) -> None:
        self.check, self.component, self.waiver = check, component, waiver
        self.result: CheckResult | None = None

    def __call__(self) -> None:
        """Ask it, and end the test as its verdict and its waiver want it."""
        import pytest

        __tracebackhide__ = True
        self.result = result = run_check(self.check)
        if self.waiver:
            if result.verdict is Verdict.FAIL:
                pytest.xfail(f"waived: {self.waiver} ({result.figure})")
            pytest.fail(f"waived ({self.waiver}), yet {result.verdict}: drop the waiver")
        if result.verdict is Verdict.INCONCLUSIVE:
            pytest.skip(f"inconclusive: {result.figure}")
        if result.verdict is Verdict.FAIL:
            raise AssertionError(f"{result.name}: {result.figure}")
