"""From a component to its checks and their results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from vbench.catalogue import Kind
from vbench.discovery import lacking
from vbench.testing.assembled import assembled
from vbench.testing.bench import Bench, Unservable, benches
from vbench.testing.cases import CASES, SEQUENCES, Case
from vbench.testing.checks_claims import claim_checks, statement_checks
from vbench.testing.checks_contract import contract_checks
from vbench.testing.checks_dataset import dataset_checks
from vbench.testing.checks_decoder import decoder_checks
from vbench.testing.checks_encoder import encoder_checks
from vbench.testing.checks_exact import exact_checks
from vbench.testing.checks_executor import executor_checks
from vbench.testing.checks_outcomes import outcome_checks
from vbench.testing.checks_prior import prior_checks
from vbench.testing.subject import Subject, subject
from vbench.testing.verdict import Check, CheckResult, Outcome, Verdict, run_checks

__all__ = ["check", "checks", "checks_of"]


def check(
    kind: Kind,
    what: str | Callable[..., Any],
    *,
    cases: tuple[Case, ...] = (),
    seed: int = 0,
    **parameters: Any,
) -> list[CheckResult]:
    """Judge one component.

    Args:
        kind: ``estimator``, ``encoder``, ``decoder``, ``prior``, ``dataset`` or ``executor``.
        what: its registered name (``"vimco"``, ``"vimco[k=3]"``), or any factory.
        cases: more models to judge an estimator on, besides the shipped ones.
        seed: of the replicates; a fixed seed always gives the same verdict.
        **parameters: of the factory.

    Returns:
        One result per check, in order.

    Raises:
        GridError: nothing of that kind has that name, or a parameter is wrong.
    """
    return list(run_checks(checks(kind, what, cases=cases, seed=seed, **parameters)))


def checks(
    kind: Kind,
    what: str | Callable[..., Any],
    *,
    cases: tuple[Case, ...] = (),
    seed: int = 0,
    **parameters: Any,
) -> Iterator[Check]:
    """The named checks of one component, not yet asked (see :func:`check`)."""
    return checks_of(subject(kind, what).with_parameters(**parameters), cases, seed)


def checks_of(judged: Subject, cases: tuple[Case, ...] = (), seed: int = 0) -> Iterator[Check]:
    """The named checks of a subject; where the extra that it needs is not installed, one that says so."""
    if line := lacking(judged.component.distribution, judged.component.extra):
        yield Check("installed", lambda: Outcome(Verdict.INCONCLUSIVE, line))
        return
    if judged.kind == "estimator":
        yield from _estimator_checks(judged, (*CASES, *cases), seed)
        return
    wanted = [p.name for p in judged.component.parameters if p.required and p.name not in judged.parameters]
    if wanted and judged.kind in ("encoder", "decoder", "prior"):
        told = f"to be judged with its {' and '.join(wanted)}: {judged.name}[{wanted[0]}=...]"
        yield Check("builds", lambda: Outcome(Verdict.INCONCLUSIVE, told))
        return
    suites = {
        "dataset": dataset_checks,
        "encoder": encoder_checks,
        "decoder": decoder_checks,
        "prior": prior_checks,
        "executor": executor_checks,
    }
    try:
        yield from suites[judged.kind](judged)
    except Exception as error:
        yield Check("builds", lambda error=error: _raise(error))  # type: ignore[misc]


def _estimator_checks(judged: Subject, cases: tuple[Case, ...], seed: int) -> Iterator[Check]:
    try:
        found = _benches(judged, cases)
    except Unservable as unservable:
        yield Check("models", lambda text=str(unservable): Outcome(Verdict.INCONCLUSIVE, text))  # type: ignore[misc]
        return
    except Exception as error:
        yield Check("builds", lambda error=error: _raise(error))  # type: ignore[misc]
        return
    yield from statement_checks(found[0])
    # one discrete and one continuous latent show what the promises are worth
    kinds = {bench.case.make().encoder.z.support == "real": bench for bench in reversed(found)}
    for bench in kinds.values():
        yield from contract_checks(bench)
        yield from claim_checks(bench)
    yield from outcome_checks(found[0])
    for bench in found:
        yield from exact_checks(bench, seed)


def _benches(judged: Subject, cases: tuple[Case, ...]) -> list[Bench]:
    for served in (cases, SEQUENCES):
        try:
            return benches(judged, served)
        except Unservable as error:
            unservable = error
    if more := assembled(frozenset(getattr(judged.factory, "needs", ()))):
        return benches(judged, more)
    raise unservable


def _raise(error: Exception) -> Outcome:
    raise error
