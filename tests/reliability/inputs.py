"""F12, F13, F22, F28, F31, F34: plugins, grids, names and data as strangers make them, and what comes before a cell."""

from __future__ import annotations

import hashlib
import importlib
import itertools
import os
import random
import re
import sys
import time
from dataclasses import replace
from pathlib import Path

import jinja2
import pytest
from matplotlib.figure import Figure
from ruamel.yaml import YAML

from tests.grid.test_reading import KEYS, lines_or_grid, mutated
from tests.reliability.harness import fault, instead
from tests.reliability.small import same_numbers, small
from tests.report.test_page import PAYLOADS, Parsed, html_of, outcomes
from tests.strangers import GOOD, install
from vbench import registry, runner
from vbench.builtin.datasets import files
from vbench.catalogue import Broken
from vbench.discovery import entry_points
from vbench.execute.fitting import Finding, try_parts
from vbench.grid.positions import Problems
from vbench.listing import load_catalogue
from vbench.planning import make_plan
from vbench.registry import Registry, load_all
from vbench.study import run

BAD = {
    "imports": "import no_such_module_anywhere",
    "syntax": "def (",
    "exits": "raise SystemExit(3)",
    "raises": "\n\nraise RuntimeError('boom')",
    "misspelt": "from vbench import hookimpl\n@hookimpl\ndef vbench_estimatorz():\n    return {}",
    "list": "from vbench import hookimpl\n@hookimpl\ndef vbench_priors():\n    return ['x']",
}


def loaded(folder: Path, plugins: dict[str, str]) -> Registry:
    """A registry of these alone, by the name of their distribution."""
    found, before = Registry(), set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setattr(sys, "path_importer_cache", {})
        for name, source in plugins.items():
            install(folder, f"vbench-{name}", source)
        importlib.invalidate_caches()
        for point in entry_points():
            if point.dist and point.dist.name.removeprefix("vbench-") in plugins:
                found.load(point)
        for name in set(sys.modules) - before:
            del sys.modules[name]
    return found


def _unguarded(self: Registry, point) -> None:
    self.add(point.load(), point.dist.name, point.dist.version, point.name)


def _in_silence(self: Registry, point, real=Registry.load) -> None:
    real(self, point)
    self.broken.clear()


def _without_exits(self: Registry, point) -> None:
    try:
        _unguarded(self, point)
    except Exception as error:
        self.broken.append(Broken(point.dist.name, point.dist.version, point.name, registry.reason(error)))


@fault(
    "F12",
    {
        "one takes all with it": instead("vbench.registry.Registry.load", _unguarded),
        "sys.exit gets through": instead("vbench.registry.Registry.load", _without_exits),
        "it is passed over in silence": instead("vbench.registry.Registry.load", _in_silence),
        "without a place": instead("vbench.registry.reason", lambda error: type(error).__name__),
    },
)
def broken_plugins(folder: Path) -> None:
    """Each is named with file and line; the good one among them works."""
    try:
        found = loaded(folder, BAD | {"good": GOOD.replace("NAME", "halved")})
    except SystemExit as error:
        raise AssertionError("it left") from error
    assert {broken.distribution.removeprefix("vbench-") for broken in found.broken} == set(BAD)
    assert found.get("estimator", "halved")
    reasons = {broken.distribution: broken.reason for broken in found.broken}
    assert "\n" not in "".join(reasons.values())
    assert f"RuntimeError: boom ({folder / 'vbench_raises.py'}:3)" in reasons["vbench-raises"]
    assert f"SystemExit: 3 ({folder / 'vbench_exits.py'}:1)" in reasons["vbench-exits"]


DEADLY = {"exits": "import os\nos._exit(0)", "aborts": "import os\nos.abort()"}


@fault(
    "F12",
    {
        "plugins are imported here": instead("vbench.listing._described", lambda name: load_all(()).catalogue()),
        "what ended a process is imported all the same": instead(
            "vbench.registry.load_all", lambda left_out, real=load_all: real(())
        ),
        "what ended a process is not told": instead("vbench.execute.describing._broken", lambda deadly: []),
    },
)
def deadly_plugins(folder: Path) -> None:
    """One that ends the process that imports it is named with how it did; the good one works, and so does this."""
    died = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_exit", "abort"):
            patch.setattr(os, name, died.append)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setattr("vbench.listing._known", {})
        patch.syspath_prepend(str(folder))
        for name, source in (DEADLY | {"good": GOOD.replace("NAME", "halved")}).items():
            install(folder, f"a-{name}", source)  # before all others
        importlib.invalidate_caches()
        catalogue = load_catalogue(strict=False)
        found = registry._loaded.__wrapped__((), None)
        for name in ("a_good", "a_exits", "a_aborts"):
            sys.modules.pop(name, None)
    assert died == []
    reasons = {broken.distribution: broken.reason for broken in catalogue.broken}
    assert reasons["a-exits"] == "importing it ended the process: left with exit code 0 and no result"
    assert reasons["a-aborts"] == "importing it ended the process: killed by SIGABRT"
    assert catalogue.get("estimator", "halved")
    assert found.get("estimator", "halved")
    assert catalogue.get("encoder", "gaussian")
    assert {broken.distribution for broken in found.broken} >= {"a-exits", "a-aborts"}


MAKERS = """

class Leaves(Halved):
    def __init__(self):
        import os
        os._exit(0)


class Hangs(Halved):
    def __init__(self):
        import time
        time.sleep(1e6)


class Choosy(Halved):
    needs = frozenset({"something else"})


@hookimpl(specname="vbench_estimators")
def others():
    return {"leaves": Leaves, "hangs": Hangs, "choosy": Choosy}
"""


def _made_here(what, items, components=(), *, here=False):
    return try_parts(what, items, components, here=True)


@fault(
    "F12",
    {
        "parts of plugins are made here": instead("vbench.planning.try_parts", _made_here),
        "one death is the end": instead("vbench.execute.fitting._DEATHS", 1),
        "it goes through in silence": instead("vbench.execute.fitting._deadly", lambda what, how: Finding("")),
    },
)
def deadly_parts(folder: Path) -> None:
    """A part that ends or hangs the process that makes it has cells that run and say so; the others are planned."""
    died = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "_exit", died.append)
        patch.setattr(time, "sleep", lambda seconds, real=time.sleep: real(min(seconds, 1.0)))
        patch.setattr("vbench.execute.fitting._PATIENCE", {"digests": 5.0, "obstacles": 5.0})
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setattr("vbench.listing._known", {})
        patch.syspath_prepend(str(folder / "plugins"))
        source = GOOD.replace("NAME", "halved") + MAKERS
        install(folder / "plugins", "a-makers", source)
        importlib.invalidate_caches()
        estimators = ["leaves", "reparam", "hangs", "choosy", "halved"]
        plan = make_plan(small(estimators=estimators, seeds=1), results=folder)
        sys.modules.pop("a_makers", None)
    assert died == []
    found = {planned.cell.estimator.name: (planned.action, planned.reason) for planned in plan.cells}
    assert found["reparam"] == found["halved"] == ("run", "")
    assert found["choosy"][0] == "skip"
    without = "its parts did not come out of a process that made them"
    assert found["leaves"] == ("run", f"{without}: left with exit code 0 and no result")
    assert found["hangs"] == ("run", f"{without}: no answer in 5 s")


@fault(
    "F13",
    {
        "the first wins": instead(
            "vbench.registry.Registry._claim",
            lambda self, item: self.components[item.component.kind].setdefault(item.component.name, item),
        ),
        "the last wins": instead(
            "vbench.registry.Registry._claim",
            lambda self, item: self.components[item.component.kind].update({item.component.name: item}),
        ),
    },
)
def one_name_twice(folder: Path) -> None:
    """Two plugins with one name are never chosen between: both are named."""
    found = loaded(folder, {name: GOOD.replace("NAME", "twice") for name in ("one", "two")})
    (clash,) = found.catalogue().clashes
    assert "vbench-one" in clash
    assert "vbench-two" in clash
    assert "'twice'" in clash


_counter = itertools.count()


def _counted(choices, seed, real=runner.build_choices):
    return real(choices, seed + next(_counter))


@fault(
    "F22",
    {
        "draws are counted by the process": instead("vbench.rng._seed", lambda key, count: next(_counter)),
        "cells are counted": instead("vbench.runner.build_choices", _counted),
    },
    workers=2,
)
def any_order(folder: Path, workers: int = 0) -> None:
    """Cells one by one, in another order and with others beside them: the same bits."""
    grid = small(estimators=["reparam", "rloo[k=2]"], seeds=1, train={"steps": 10, "batch": 16}, measure={"data": 20})
    run(grid, results=folder / "whole", workers=workers)
    backwards = grid | {"estimators": grid["estimators"][::-1]}
    for estimator in ("rloo*", "reparam"):
        run(backwards, results=folder / "parts", workers=0, filters=[f"estimator={estimator}"])
    same_numbers(folder / "whole" / "small", folder / "parts" / "small")


def _nowhere(self: Problems, place, path: str, text: str, real=Problems.add) -> None:
    real(self, replace(place, text=""), path, text)


def _passing_over(words: str):
    def add(self: Problems, place, path: str, text: str, real=Problems.add) -> None:
        if not re.search(words, text):
            real(self, place, path, text)

    return add


@fault(
    "F28",
    {
        "unknown keys are passed over": instead(
            "vbench.grid.positions.Problems.add", _passing_over("unknown|expected")
        ),
        "keys may stand twice": instead("vbench.grid.positions.Problems.add", _passing_over("twice|again|already")),
        "errors of syntax escape": instead("vbench.grid.yaml12._explain", lambda error, text: 1 / 0),
        "without a place": instead("vbench.grid.positions.Problems.add", _nowhere),
    },
    grids=20_000,
)
def mutated_grids(folder: Path, grids: int = 250) -> None:
    """Whatever is done to a grid: it is read, and nothing in it left out, or each problem has its line and column."""
    chance, path, read = random.Random(7), folder / "grid.yaml", 0
    for number in range(grids):
        text = mutated(chance)
        path.write_bytes(text.encode())
        lines, grid = lines_or_grid(path)
        for line in lines:
            assert re.match(r"g\.yaml:\d+:\d+: \S", line), (number, line)
            assert line.isprintable(), (number, line)
        if grid is None:
            assert lines, number
            continue
        read += 1
        assert set(YAML(typ="safe", pure=True).load(text)) <= set(KEYS.split(", ")), number
        assert len(next(grid.cells()).key("d")) == 32
    assert grids / 50 < read < grids


class _Trusting(jinja2.Environment):
    def __init__(self, **options) -> None:
        super().__init__(**options | {"autoescape": False})


@fault("F31", {"names are trusted": instead("jinja2.Environment", _Trusting)}, count=len(PAYLOADS))
def hostile_names(folder: Path, count: int = 4) -> None:
    """A name that is markup adds no element and no attribute to a report."""
    found = []
    with pytest.MonkeyPatch.context() as patch:  # pictures are data, not markup, and dear to draw
        patch.setattr("vbench.report.page.drawn", lambda *given: Figure())
        patch.setattr("vbench.report.page.save", lambda *given, **more: b"<svg/>")
        for name, names in (("hostile", PAYLOADS[:count]), ("harmless", [f"name-{i}" for i in range(count)])):
            found.append(Parsed(html_of(outcomes(folder / name / "study", names))))
    assert found[0].tags == found[1].tags
    assert found[0].attributes == found[1].attributes


@fault(
    "F34",
    {
        "only the size counts": instead(
            "vbench.builtin.datasets.files._read", lambda path, file: path.read_bytes()[: file.size]
        ),
        "a wrong file is fetched over": instead(
            "vbench.builtin.datasets.files._read", lambda path, file: bytes(range(256)) * 4
        ),
    },
)
def changed_data(folder: Path) -> None:
    """One bit in data, or a byte more or less, and they are refused, with the digest that was expected."""
    data = bytes(range(256)) * 4
    file = files.File("a.bin", hashlib.sha256(data).hexdigest(), len(data), ())
    path = folder / "toy" / "a.bin"
    path.parent.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VBENCH_DATA", str(folder))
        path.write_bytes(data)
        assert files.content("toy", file) == data
        flipped = [data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :] for at in range(0, len(data), 31)]
        for changed in (*flipped, data[:-1], data + b"\0", b""):
            path.write_bytes(changed)
            with pytest.raises(files.DataError, match=file.sha256):
                files.content("toy", file)
            assert path.read_bytes() == changed
