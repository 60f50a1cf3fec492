"""Which data and parts go together, with those of plugins made in a process of its own: one that ends, breaks or hangs
the process that makes it costs its own cells alone.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from vbench.assemble import Fitting, load_dataset
from vbench.beside import Beside, beside, use
from vbench.catalogue import Component
from vbench.execute.child import Report
from vbench.execute.jobs import Job, Limits
from vbench.execute.local import run_job
from vbench.grid import Choice
from vbench.listing import learn
from vbench.registry import reason
from vbench.types import Incompatible

__all__ = ["NO_DATA", "Finding", "digests", "obstacles", "try_parts"]

NO_DATA: Final = "not available"
_PATIENCE: Final = {"digests": 600.0, "obstacles": 60.0}  # seconds for each; data may have to be downloaded
_START: Final = 300.0  # seconds until it begins: the server that it is forked from may be loading
_DEATHS: Final = 3  # then the cells find out for themselves


class Finding(NamedTuple):
    """What trying came to.

    Attributes:
        text: digest of data (or ``NO_DATA``), or why parts do not go together, empty where they do.
        doubt: what is to be expected of the cells, for people.
        offers: traits of parts that go together; empty where that is not known.
    """

    text: str
    doubt: str = ""
    offers: Sequence[str] = ()


def digests(datasets: Iterable[tuple[Choice, ...]]) -> Iterable[Finding]:
    """The digest of each dataset, each the only choice of its tuple."""
    for (dataset,) in datasets:
        try:
            yield Finding(load_dataset(dataset).digest)
        except Exception as error:  # the attempt will say so in its own row
            yield Finding(NO_DATA, f"without its data, it will fail: {reason(error)}")


def obstacles(combinations: Iterable[tuple[Choice, ...]]) -> Iterable[Finding]:
    """Why each combination of data, parts and estimator does not go together."""
    fitting = Fitting()
    for choices in combinations:
        try:
            offers = fitting.check({choice.kind: choice for choice in choices})
        except Incompatible as error:
            yield Finding(str(error))
        except Exception:  # the attempt will fail with the same, in its own row
            yield Finding("")
        else:
            yield Finding("", offers=sorted(offers))


Trial = Callable[[Iterable[tuple[Choice, ...]]], Iterable[Finding]]
_TRIALS: Final[dict[str, Trial]] = {"digests": digests, "obstacles": obstacles}


def try_parts(
    what: str, items: Sequence[tuple[Choice, ...]], components: tuple[Component, ...] = (), *, here: bool = False
) -> dict[tuple[Choice, ...], Finding]:
    """What ``digests`` or ``obstacles`` finds for each item.

    Args:
        what: the name of either.
        items: each what one call is about.
        components: all that are registered, so that the other process need not find out.
        here: in this process, not in another.
    """
    if here or not items or multiprocessing.parent_process():  # a job's own process is there to be lost
        return dict(zip(items, _TRIALS[what](items), strict=True))
    found: list[Finding] = []
    deaths = 0
    with tempfile.TemporaryDirectory(prefix="vbench-") as name:
        limits = Limits(f"{__name__}:answer", Path(name))
        while len(found) < len(items) and deaths < _DEATHS:
            lines = Path(name) / f"found-{deaths}"
            job = Job("parts", (what, items[len(found) :], str(lines), beside(), components))
            ending, _ = run_job(limits, job, wanted=_patience(lines, _PATIENCE[what]))
            if lines.exists():
                found += [Finding(*json.loads(line)) for line in lines.read_text("utf-8").splitlines()]
            if len(found) < len(items):
                deaths += 1
                silent = ending.status == "interrupted"
                found.append(_deadly(what, f"no answer in {_PATIENCE[what]:g} s" if silent else ending.reason))
    found += [_deadly(what, "not tried: others ended theirs")] * (len(items) - len(found))
    return dict(zip(items, found, strict=True))


def _deadly(what: str, how: str) -> Finding:
    made = "its data" if what == "digests" else "its parts"
    return Finding(NO_DATA if what == "digests" else "", f"{made} did not come out of a process that made them: {how}")


def _patience(lines: Path, seconds: float) -> Callable[[], bool]:
    """A question to be asked again and again: whether an answer has come within so many seconds."""
    seen, since = -1, time.monotonic()

    def wanted() -> bool:
        nonlocal seen, since
        size = lines.stat().st_size if lines.exists() else -1
        if size != seen:
            seen, since = size, time.monotonic()
        return time.monotonic() - since < (_START if size < 0 else seconds)

    return wanted


def answer(payload: tuple[str, Any, str, Beside, tuple[Component, ...]], report: Report) -> str:
    """In the other process: one line for each item, written as soon as it is known."""
    what, items, lines, here, components = payload
    use(here)
    learn(components)
    with Path(lines).open("a", encoding="utf-8", buffering=1) as sink:
        for finding in _TRIALS[what](items):
            sink.write(json.dumps(finding) + "\n")
    return "done"
