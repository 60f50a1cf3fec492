"""Datasets: shapes, values within their support, splits that share nothing, a digest that tells them apart."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vbench.beside import beside
from vbench.grey import MODES, SUPPORTS, on_levels
from vbench.testing.partners import source_check
from vbench.testing.subject import Subject
from vbench.testing.verdict import Check, Outcome, Verdict

__all__ = ["dataset_checks"]

_SPLITS = ("train", "valid", "test")


def dataset_checks(subject: Subject) -> Iterator[Check]:
    """Named checks of a dataset; INCONCLUSIVE where its files are not at hand."""
    loaded: list[Any] = []
    task = {"folder": Path(beside().folder)}
    lacking = [p.name for p in subject.component.parameters if p.required and p.name not in subject.parameters]

    def data() -> Any:
        if not loaded:
            try:
                loaded.append(subject.build(task))
            except Exception as error:
                loaded.append(error)  # asking the network once is enough
        if isinstance(loaded[0], Exception):
            raise loaded[0]
        return loaded[0]

    yield source_check(subject)
    questions: tuple[tuple[str, Callable[[Any], Outcome]], ...] = (
        ("shapes", _shapes),
        ("support", _support),
        ("digest", lambda found: _digest(found, subject.build(task))),
        ("splits", _splits),
    )
    for name, question in questions:
        yield Check(name, lambda q=question: _asked(q, data, lacking))  # type: ignore[misc]


def _asked(question: Callable[[Any], Outcome], data: Callable[[], Any], lacking: Sequence[str]) -> Outcome:
    if lacking:
        return Outcome(Verdict.INCONCLUSIVE, f"to be judged with its {' and '.join(lacking)}: NAME[{lacking[0]}=...]")
    try:
        found = data()
    except Exception as error:
        if isinstance(error, OSError) or type(error).__name__ == "DataError":
            return Outcome(Verdict.INCONCLUSIVE, f"not at hand: {' '.join(str(error).split())[:160]}")
        raise
    return question(found)


def _shapes(data: Any) -> Outcome:
    for split in _SPLITS:
        rows = getattr(data, split)
        if not isinstance(rows, Tensor) or tuple(rows.shape[1:]) != tuple(data.x.shape):
            return Outcome(Verdict.FAIL, f"{split} is not [n, {', '.join(map(str, data.x.shape))}]")
        if rows.dtype != data.train.dtype:
            return Outcome(Verdict.FAIL, f"{split} is {rows.dtype}, train {data.train.dtype}")
        for extra in ("labels", "masks"):
            own = getattr(data, extra, None) or {}
            if split in own and len(own[split]) != len(rows):
                return Outcome(Verdict.FAIL, f"{len(own[split])} {extra} for {len(rows)} rows of {split}")
    if not len(data.train):
        return Outcome(Verdict.FAIL, "no row to train on")
    return Outcome(Verdict.PASS, " / ".join(str(len(getattr(data, split))) for split in _SPLITS))


def _support(data: Any) -> Outcome:
    if data.binarization not in MODES:
        return Outcome(Verdict.FAIL, f"binarization is {data.binarization!r}")
    wanted = SUPPORTS.get(data.binarization, data.x.support)
    if data.x.support != wanted or (wanted == "levels" and data.x.levels < 2):
        told = f"the parts are told that data are {data.x.support}"
        return Outcome(Verdict.FAIL, f"binarization is {data.binarization}, and yet {told}")
    for split in _SPLITS:
        rows = getattr(data, split)
        if data.binarization != "none" and rows.dtype != torch.uint8:
            return Outcome(Verdict.FAIL, f"binarization {data.binarization} of {rows.dtype}: bytes are needed")
        if data.binarization == "levels" and not bool(on_levels(rows, data.x.levels).all()):
            return Outcome(Verdict.FAIL, f"{split} has bytes between the {data.x.levels} levels")
        if rows.dtype == torch.uint8:
            # bytes are intensities, of which all are legal
            if (
                data.binarization == "none"
                and data.x.support == "binary"
                and not bool(((rows == 0) | (rows == 1) | (rows == 255)).all())
            ):
                return Outcome(Verdict.FAIL, f"{split} has greys, is not binarised and calls itself binary")
            continue
        if not bool(rows.isfinite().all()):
            return Outcome(Verdict.FAIL, f"{split} has values that are not finite")
        inside = {"binary": (rows == 0) | (rows == 1), "unit": (rows >= 0) & (rows <= 1)}.get(data.x.support)
        if inside is not None and not bool(inside.all()):
            return Outcome(Verdict.FAIL, f"{split} has values outside {data.x.support}")
    return Outcome(Verdict.PASS, f"{data.x.support}, {data.train.dtype}, binarization {data.binarization}")


def _digest(data: Any, again: Any) -> Outcome:
    if not re.fullmatch(r"[0-9a-f]{64}", str(data.digest)):
        return Outcome(Verdict.FAIL, f"digest {str(data.digest)[:20]!r} is not 64 hexadecimal digits")
    if again.digest != data.digest:
        return Outcome(Verdict.FAIL, "loading it again gives another digest")
    if not all(torch.equal(getattr(data, split), getattr(again, split)) for split in _SPLITS):
        return Outcome(Verdict.FAIL, "loading it again gives other values under the same digest")
    return Outcome(Verdict.PASS, data.digest[:16])


def _splits(data: Any) -> Outcome:
    """Rows of one split are not rows of another; equal rows of a small space are no sin."""
    train = [row.numpy().tobytes() for row in data.train.contiguous()]
    known = set(train)
    shares = []
    for split in ("valid", "test"):
        rows = getattr(data, split)
        found = sum(row.numpy().tobytes() in known for row in rows.contiguous())
        shares.append(found / max(len(rows), 1))
    figure = f"{shares[0]:.1%} of valid and {shares[1]:.1%} of test rows are equal to a training row"
    repeated = len(known) < 0.9 * len(train)
    return Outcome(Verdict.FAIL if max(shares) > 0.1 and not repeated else Verdict.PASS, figure)
