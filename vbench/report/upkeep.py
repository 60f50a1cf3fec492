"""A results folder on the terminal: how far it is, what a cell said, whether its files are whole, what may go."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from vbench import claims, once, store
from vbench.execute.logs import plain
from vbench.grid import GridError, read_grid
from vbench.kept import missing, superfluous
from vbench.listing import load_catalogue
from vbench.merging import merge as merge_studies
from vbench.records import Outcome, Store, no_results

__all__ = ["clean", "log", "merge", "status", "verify"]

_PAUSE = 2.0
_FINAL = ("done", "diverged", "skipped")


def _stores(study: Path) -> tuple[Store, Store]:
    """The study's own cells, and its reference runs.

    Raises:
        GridError: no results are there.
    """
    if (none := no_results(study)) and not (study / "claims").is_dir():
        raise GridError([none])
    return Store(study), Store(study / "references")


def status(study: Path, *, watch: bool) -> int:
    """How far a study is, once or until nobody works on it."""
    console = Console()
    if not watch:
        console.print(_status(study), soft_wrap=True)
        return 0
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while True:
            text = _status(study)
            live.update(text, refresh=True)
            if not claims.living(study):
                return 0
            time.sleep(_PAUSE)


def _status(study: Path) -> Text:
    cells, references = _stores(study)
    lines = [f"{study}: {_counts(cells.outcomes().values())}{_planned(study)}"]
    if cells.damaged:
        lines.append(f"  {len(cells.damaged)} files cannot be read: vbench verify {study}")
    if kept := references.outcomes():
        lines.append(f"  reference runs: {_counts(kept.values())}")
    owners = Counter((claim.owner.pid, claim.owner.host, claim.owner.dead) for claim in claims.listed(study))
    for (pid, host, dead), count in owners.items():
        state = "left behind by" if dead else "running now, by"
        lines.append(f"  {count} {state} process {pid} on {host}")
    failed = [o for o in cells.outcomes().values() if o.status not in _FINAL]
    lines += [f"  {o.status}: {o.name}: {o.reason}" for o in failed[:10]]
    if failed:
        more = f"{len(failed) - 10} more; " if len(failed) > 10 else ""
        lines.append(f"  {more}what one said: vbench log {study} {failed[0].key[:8]}")
    return Text(plain("\n".join(lines)))


def _counts(outcomes: Iterable[Outcome]) -> str:
    counts = Counter(outcome.status for outcome in outcomes)
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "nothing finished yet"


def _planned(study: Path) -> str:
    try:
        return f"; {read_grid(study / 'grid.yaml', load_catalogue).size} cells in grid.yaml"
    except GridError:
        return ""


def log(study: Path, words: Sequence[str]) -> int:
    """What one cell printed and how it ended; without words, or where several cells have them, a list of these."""
    cells, references = _stores(study)
    everything = [(o, study / "logs") for store in (cells, references) for o in store.outcomes().values()]
    chosen = [(o, logs) for o, logs in everything if all(o.has(word) for word in words)]
    if not words:
        chosen = [(o, logs) for o, logs in chosen if o.status not in _FINAL]
    if not chosen:
        what = f"no cell has all of: {' '.join(words)}" if words else "no cell failed; name one to see its log"
        print(plain(f"{study}: {what}"))
        return 2 if words else 0
    if len(chosen) > 1 or not words:
        for outcome, _ in chosen:
            print(plain(f"{outcome.key[:8]}  {outcome.status}: {outcome.name}: {outcome.reason}".rstrip(": ")))
        return 0
    outcome, logs = chosen[0]
    print(plain(f"{outcome.status}: {outcome.name}"))
    print(plain(f"key {outcome.key}, attempt {outcome.attempt}, started {outcome.started or 'at an unknown time'}"))
    if outcome.reason:
        print(plain(f"reason: {outcome.reason}"))
    if outcome.traceback:
        print(plain(f"\n{outcome.traceback.rstrip()}"))
    path = logs / f"{outcome.key}.log"
    if path.exists():
        print(plain(f"\n{path}:\n{path.read_bytes().decode('utf-8', 'backslashreplace')}".rstrip()))
    return 0


def verify(study: Path) -> int:
    """Read every file to the last bit, name those that are damaged and set them aside."""
    found, moved = 0, 0
    for kept in _stores(study):
        damaged = kept.verify()
        for path, reason in damaged:
            print(plain(f"{path}: {reason}"))
        found += len(damaged)
        moved += len(kept.set_aside())
    for path in sorted([*study.glob("references/checkpoints/*/*.safetensors"), *study.glob("kept/*.safetensors")]):
        try:
            store.read(path)
        except store.StrangeError as damage:
            print(plain(f"{path}: {damage}"))
            found += 1
        except store.DamagedError as damage:
            print(plain(f"{path}: {damage}"))
            store.set_aside(path, study / "damaged")
            found, moved = found + 1, moved + 1
    lost = list(missing(study, Store(study).outcomes().values()))
    for path in lost:
        print(plain(f"{path}: missing; run its cell again with --keep"))
    found += len(lost)
    whole = sum(1 for kept in _stores(study) for _ in kept.names())
    print(f"{study}: {whole} files of results, {found} damaged" + (f"; moved to {study / 'damaged'}" if moved else ""))
    if moved:
        print("their cells count as not run: the next vbench run makes them again")
    return 1 if found else 0


def merge(studies: Sequence[Path], into: Path) -> int:
    """Make one results folder of several, and say what a user must know of it."""
    done = merge_studies(studies, into, load_catalogue())
    for path, reason in done.damaged:
        print(plain(f"left out: {path}: {reason}"))
    for remark in done.remarks:
        print(plain(remark))
    print(plain(f"{into}: {done.copied} attempts copied, {done.known} were there"))
    return 1 if done.damaged else 0


def clean(study: Path, *, dry_run: bool) -> int:
    """Remove what is no result: leftovers of killed writers, points and logs of done cells, copies, lost weights."""
    cells, references = _stores(study)
    size = count = 0
    for path in sorted({*_leftovers(study, cells, references)}):
        count += 1
        size += path.stat().st_size
        if dry_run:
            print(plain(str(path)))
        else:
            path.unlink(missing_ok=True)
    print(
        f"{study}: {count} files, {size / 2**20:.1f} MiB {'could go' if dry_run else 'removed'}; every result is there"
    )
    return 0


def _leftovers(study: Path, cells: Store, references: Store) -> Iterator[Path]:
    yield from store.leftovers(study)
    yield from (claim.path for claim in claims.listed(study) if claim.owner.dead)
    yield from (path for path in (study / "damaged").glob("*") if path.is_file())
    yield from (path for path in (study / "references" / "damaged").glob("*") if path.is_file())
    working = {claim.key for claim in claims.living(study)}
    if not working:
        yield from (path for path in once.folder(study).rglob("*") if path.is_file())
    for path in superfluous(study, cells.outcomes().values()):
        if path.name.split(".")[0] not in working:
            yield path
    for kept in (cells, references):
        over = {key for key, outcome in kept.outcomes().items() if outcome.status in _FINAL} - working
        for key in over:
            for path in (kept.folder / "resume" / f"{key}.safetensors", study / "logs" / f"{key}.log"):
                if path.exists():
                    yield path
