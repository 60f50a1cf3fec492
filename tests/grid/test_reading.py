"""Grid files, ``--set`` and mappings: what they mean, and one exact line for whatever is wrong."""

import random
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.grid.fake_catalogue import CATALOGUE, GRID
from vbench.grid import Gradients, GridError, LogLikelihood, Measure, Reference, Train, read_grid

SHARED = Gradients(
    draws=100, batches=4, at="shared", batch=100, reference=Reference(steps=1000), checkpoints=(0, 500, 1000)
)
KEYS = "name, plugins, datasets, encoders, decoders, priors, estimators, seeds, train, measure"
FOLDER = "expected a name for a folder (letters, digits, '.', '_', '-', not starting with '.', at most 80)"
TRAIN = "steps, batch, optimizer, lr, clip, schedule, warmup, step_size, gamma, patience, inner, budget, sweep"
SEEDS = "expected a number of seeds (1 to 1000000) or a list of distinct integers >= 0"
ENTRY = "name, name[param=value] or name: {param: value}"
SMALL = {
    "datasets": "digits",
    "encoders": "gaussian",
    "decoders": "bernoulli",
    "priors": "standard-normal",
    "estimators": "iwae",
}


def broken_grids():
    """(name, replaced, by what, lines) of every section in the table; see its head."""
    text = Path(__file__).with_name("broken_grids.txt").read_text("utf-8")
    for section in text.split("\n== ")[1:]:
        name, *lines = section.rstrip("\n").split("\n")
        part = {mark: [line[2:] for line in lines if line.startswith(mark)] for mark in "-+>"}
        assert sum(map(len, part.values())) == len(lines), name
        yield pytest.param("\n".join(part["-"]), "\n".join(part["+"]), part[">"], id=name)


BROKEN = list(broken_grids())
KS = "{k: [" + ", ".join(map(str, range(1, 102))) + "], beta: [" + ", ".join(map(str, range(1, 102))) + "]}"
BROKEN += [  # what a text file shows badly
    pytest.param("name: quick", "name: " + "a" * 81, [f"1:7: name: {FOLDER}, not '{'a' * 36}..."], id="long name"),
    pytest.param("{k: [1, 5]}", KS, ["11:12: estimators[2].iwae.sweep: 10201 combinations, at most 10000"], id="sweep"),
    pytest.param("16", "[" * 60 + "]" * 60, ["4:70: nested deeper than 50 levels"], id="deep"),
    pytest.param("quick", "qui\x07ck", ["1:10: character U+0007 cannot stand in a grid"], id="control character"),
    pytest.param("  - reparam", "\t- reparam", ["9:1: not YAML: a tab where YAML wants spaces"], id="tab"),
    pytest.param("", "", [f"1:1: expected a mapping of {KEYS}, not an empty file"], id="empty"),
    pytest.param("", "# no\n", [f"1:1: expected a mapping of {KEYS}, not an empty file"], id="comment only"),
]


@pytest.fixture
def grid_file(tmp_path):
    file = tmp_path / "grid.yaml"
    file.write_text(GRID, "utf-8")
    return file


def lines_of(source, *overrides, where="g.yaml"):
    with pytest.raises(GridError) as caught:
        read_grid(source, CATALOGUE, overrides, where=where)
    return caught.value.lines


def texts(choices):
    return [str(choice) for choice in choices]


# what is read -----------------------------------------------------------------------------------------------


def test_reads_the_design_s_grid(grid_file):
    grid = read_grid(grid_file, CATALOGUE)
    assert grid.name == "quick"
    assert texts(grid.datasets) == ["digits"]
    assert texts(grid.encoders) == ["gaussian[latent=16,hidden=[64]]"]
    assert texts(grid.decoders) == ["bernoulli[hidden=[64]]"]
    assert texts(grid.priors) == ["standard-normal"]
    assert texts(grid.estimators) == ["reparam", "rloo[k=4]", "iwae[k=1]", "iwae[k=5]"]
    assert grid.seeds == (0, 1, 2)
    assert grid.trains == (Train(steps=1000, batch=100, optimizer="adam", lr=1e-3),)
    assert grid.measure == Measure(
        every=500,
        gradients=SHARED,
        log_likelihood=LogLikelihood(method="iwae", k=500),
    )
    assert grid.source == GRID
    assert grid.size == len(list(grid.cells())) == 12


def test_everything_but_the_axes_may_be_left_out():
    grid = read_grid(SMALL, CATALOGUE)
    assert (grid.name, grid.seeds, grid.trains, grid.measure) == ("grid", (0,), (Train(),), Measure())
    assert grid.size == 1


def test_a_mapping_says_the_same_as_a_file(grid_file):
    file = read_grid(grid_file, CATALOGUE)
    mapping = read_grid(YAML(typ="safe", pure=True).load(GRID), CATALOGUE)
    assert replace(mapping, source="") == replace(file, source="")
    assert {cell.key("d") for cell in mapping.cells()} == {cell.key("d") for cell in file.cells()}


@pytest.mark.parametrize(
    "entry",
    [
        "- rloo[k=4]",
        "- 'rloo[k=4]'",
        "- rloo: {k: 4}",
        "- rloo:\n      k: 4",
        "- {rloo: {k: 4}}",
        "- rloo[ k = 4 ]",
    ],
)
def test_spellings_of_an_entry(grid_file, entry):
    grid_file.write_text(GRID.replace("- rloo[k=4]", entry), "utf-8")
    assert texts(read_grid(grid_file, CATALOGUE).estimators)[1] == "rloo[k=4]"


@pytest.mark.parametrize("entry", ["'rloo[k=4]'", "rloo[k=4]", "{rloo: {k: 4}}", "[rloo: {k: 4}]", "['rloo[k=4]']"])
def test_spellings_of_a_single_entry(grid_file, entry):
    text = re.sub(r"estimators:\n(  .*\n)+", f"estimators: {entry}\n", GRID)
    grid_file.write_text(text, "utf-8")
    assert texts(read_grid(grid_file, CATALOGUE).estimators) == ["rloo[k=4]"]


def test_anchors_are_shared_parts(grid_file):
    text = GRID.replace("hidden: [64]}\ndecoders", "hidden: &h [32]}\ndecoders").replace(
        "bernoulli: {hidden: [64]}", "bernoulli: {hidden: *h}"
    )
    grid_file.write_text(text, "utf-8")
    assert texts(read_grid(grid_file, CATALOGUE).decoders) == ["bernoulli[hidden=[32]]"]


def test_sweeps_cross_only_what_stands_under_them():
    entry = {"iwae": {"learned": True, "sweep": {"k": [1, 5], "beta": [1, 2]}}}
    grid = read_grid(SMALL | {"estimators": [entry, "reparam"]}, CATALOGUE)
    assert texts(grid.estimators) == [
        f"iwae[k={k},beta={beta},learned=true]" for k in (1, 5) for beta in (1.0, 2.0)
    ] + ["reparam"]


@pytest.mark.parametrize(
    ("seeds", "read"), [(1, (0,)), (4, (0, 1, 2, 3)), ([7, 3], (7, 3)), ([2**63 - 1], (2**63 - 1,))]
)
def test_seeds(seeds, read):
    assert read_grid(SMALL | {"seeds": seeds}, CATALOGUE).seeds == read


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("my-study/grid.yaml", "my-study"),
        ("x/lr-sweep.yaml", "lr-sweep"),
        ("s.1/grid.yml", "s.1"),
        ("x/a.b.yaml", "a.b"),
    ],
)
def test_name_comes_from_the_file(tmp_path, path, name):
    file = tmp_path / path
    file.parent.mkdir()
    file.write_text(GRID.replace("name: quick\n", ""), "utf-8")
    assert read_grid(file, CATALOGUE).name == name
    assert read_grid(str(file), CATALOGUE).name == name


def test_name_from_here(tmp_path, monkeypatch):
    (tmp_path / "study").mkdir()
    monkeypatch.chdir(tmp_path / "study")
    Path("grid.yaml").write_text(GRID.replace("name: quick\n", ""), "utf-8")
    assert read_grid("grid.yaml", CATALOGUE).name == "study"


def test_name_that_the_file_cannot_give(tmp_path):
    file = tmp_path / "my grid.yaml"
    file.write_text(GRID.replace("name: quick\n", ""), "utf-8")
    assert lines_of(file) == [f"g.yaml:1:1: name: the file's name gives none; {FOLDER}, not 'my grid'"]
    assert read_grid(file, CATALOGUE, ["name=mine"]).name == "mine"


# what is wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "new", "lines"), BROKEN)
def test_broken_grid(tmp_path, old, new, lines):
    assert not old or GRID.count(old) == 1
    file = tmp_path / "grid.yaml"
    file.write_text(GRID.replace(old, new) if old else new, "utf-8")
    assert lines_of(file) == [f"g.yaml:{line}" for line in lines]


def test_a_problem_of_reading_hides_no_other(tmp_path):
    file = tmp_path / "grid.yaml"
    file.write_text(GRID.replace("[digits]", "[csv: {path: .inf}]").replace("seeds: 3", "seeds: 0"), "utf-8")
    assert lines_of(file) == [
        "g.yaml:2:24: datasets[0].csv.path: expected a finite number, not .inf",
        f"g.yaml:12:8: seeds: {SEEDS}, not 0",
    ]


def test_the_table_is_read():
    assert len(BROKEN) > 100


def test_all_problems_come_at_once_in_order(tmp_path):
    file = tmp_path / "grid.yaml"
    file.write_text("seeds: 0\nzz: 1\ndatasets: [digit, csv]\nencoders: [gaussian: {latent: 0, x: .inf}]\nseeds: 2\n")
    assert lines_of(file) == [
        "g.yaml:1:1: decoders: missing, expected the decoders to cross",
        "g.yaml:1:1: priors: missing, expected the priors to cross",
        "g.yaml:1:1: estimators: missing, expected the estimators to cross",
        f"g.yaml:1:8: seeds: {SEEDS}, not 0",
        f"g.yaml:2:1: zz: unknown key (expected one of {KEYS})",
        "g.yaml:3:12: datasets[0]: unknown dataset 'digit' (did you mean 'digits'?)",
        "g.yaml:3:19: datasets[1].csv.path: missing, expected text of length at least 1 (the file)",
        "g.yaml:4:31: encoders[0].gaussian.latent: expected an integer >= 1 (latent size), not 0",
        "g.yaml:4:34: encoders[0].gaussian.x: unknown parameter; gaussian takes latent, hidden",
        "g.yaml:4:37: encoders[0].gaussian.x: expected a finite number, not .inf",
        "g.yaml:5:1: seeds: given twice",
    ]


def test_problems_of_a_mapping_name_the_key():
    tree = SMALL | {"estimators": ["iwae", {"iwae": {"k": 0}}], "trian": {}, "seeds": [1, 1]}
    lines = [
        "estimators[1].iwae.k: expected an integer >= 1 (samples per datum), not 0",
        "trian: unknown key (did you mean 'train'?)",
        "seeds[1]: 1 is given twice",
    ]
    assert lines_of(tree, where=None) == lines
    assert lines_of(tree, where="run()") == [f"run(): {line}" for line in lines]


def test_files_that_are_none(tmp_path):
    missing = tmp_path / "no.yaml"
    assert lines_of(missing, where=None) == [f"{missing}: no such file"]
    assert lines_of(missing) == ["g.yaml: no such file"]
    assert lines_of(tmp_path) == [f"g.yaml: a folder, expected a grid file such as {tmp_path / 'grid.yaml'}"]
    assert lines_of("a\0b", where=None) == [r"a\x00b: cannot be read (embedded null byte)"]
    assert lines_of("two\nlines.yaml", where=None) == [r"two\nlines.yaml: no such file"]
    assert lines_of(missing / "x", where="g.yaml")[0].startswith("g.yaml: ")


def test_files_that_are_no_text(tmp_path):
    file = tmp_path / "grid.yaml"
    file.write_bytes(GRID.encode().replace(b"quick", b"qu\xefck"))
    assert lines_of(file) == ["g.yaml:1:9: not UTF-8 (byte 0xef)"]
    file.write_bytes(GRID.encode("utf-16"))
    assert lines_of(file) == ["g.yaml:1:1: not UTF-8 (byte 0xff)"]
    file.write_bytes(b"#" * (1 << 20) + b"#")
    assert lines_of(file) == ["g.yaml: larger than 1 MiB, too large for a grid"]


def test_a_path_s_own_name_stands_in_front(grid_file):
    grid_file.write_text(GRID.replace("seeds: 3", "seeds: 0"), "utf-8")
    assert lines_of(grid_file, where=None)[0].startswith(f"{grid_file}:12:8: seeds: ")


def test_a_long_axis_is_refused(monkeypatch):
    monkeypatch.setattr("vbench.grid.reading.MAX_ENTRIES", 10)
    entries = [{"iwae": {"learned": learned, "sweep": {"k": list(range(1, 6))}}} for learned in (True, False)]
    assert read_grid(SMALL | {"estimators": entries}, CATALOGUE).size == 10
    assert lines_of(SMALL | {"estimators": [*entries, "reparam"]}, where=None) == ["estimators: more than 10 entries"]


def test_what_is_printed_cannot_steer_a_terminal(tmp_path):
    file = tmp_path / "grid.yaml"
    file.write_text(GRID.replace("name: quick", r'"z\ez\nz": 1'), "utf-8")
    assert lines_of(file) == [rf"g.yaml:1:1: z\x1bz\nz: unknown key (expected one of {KEYS})"]


# --set ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "attribute", "read"),
    [
        ("train.steps=700", "trains", (Train(steps=700),)),
        ("train.lr = 1e-4 ", "trains", (Train(lr=1e-4),)),
        ("train.clip=null", "trains", (Train(),)),
        ("train={steps: 600, batch: 3}", "trains", (Train(steps=600, batch=3),)),
        ("train.sweep.clip=[1, null]", "trains", (Train(clip=1.0), Train())),
        ("seeds=[0,1]", "seeds", (0, 1)),
        ("seeds=[ 5 ]", "seeds", (5,)),
        ("seeds=2", "seeds", (0, 1)),
        ("seeds=", "seeds", (0,)),
        ("name=other", "name", "other"),
        ("estimators=[iwae[k=7], reparam]", "estimators", ["iwae[k=7]", "reparam"]),
        ("estimators=[iwae[k=7,beta=2],'rloo[k=3]',]", "estimators", ["iwae[k=7,beta=2.0]", "rloo[k=3]"]),
        ("estimators=iwae[k=7]", "estimators", ["iwae[k=7]"]),
        ("estimators=iwae", "estimators", ["iwae"]),
        ("estimators=[{iwae: {sweep: {k: [1, 2]}}}, rloo]", "estimators", ["iwae[k=1]", "iwae[k=2]", "rloo"]),
        ("estimators={iwae: {k: 7}}", "estimators", ["iwae[k=7]"]),
        ("encoders=gaussian[hidden=[8,4],latent=2]", "encoders", ["gaussian[latent=2,hidden=[8,4]]"]),
        ("estimators=[renyi[note='a, b']]", "estimators", ['renyi[note="a, b"]']),
        ("measure=null", "measure", Measure()),
        ("measure={every: 1}", "measure", Measure(every=1)),
    ],
)
def test_override(grid_file, override, attribute, read):
    grid = read_grid(grid_file, CATALOGUE, [override])
    found = getattr(grid, attribute)
    assert (texts(found) if isinstance(read, list) else found) == read
    before = read_grid(grid_file, CATALOGUE)
    changed = {attribute, "source", "swept"}
    if attribute == "trains":  # the reference run is trained as the cells are
        changed.add("measure")
    for name in ("name", "datasets", "encoders", "estimators", "seeds", "trains", "measure"):
        assert name in changed or getattr(grid, name) == getattr(before, name)


def test_override_deep_in_the_grid(grid_file):
    grid = read_grid(grid_file, CATALOGUE, ["measure.gradients.draws=10", "measure.log_likelihood=null"])
    assert grid.measure == Measure(every=500, gradients=SHARED.model_copy(update={"draws": 10}))


def test_nothing_is_trained_only_where_a_reference_is():
    grid = read_grid(SMALL, CATALOGUE, ["train.steps=0", "measure.gradients={at: shared, reference: {steps: 9}}"])
    assert grid.trains == (Train(steps=0),)
    assert grid.measure.gradients.checkpoints == (0, 9)
    for measured in ("measure={}", "measure.gradients={at: own}", "measure={log_likelihood: {}}"):
        for steps in ("train.steps=0", "train.sweep={steps: [5, 0]}"):
            with pytest.raises(GridError, match=r"train.steps: 0 steps train nothing, and only measure.gradients with"):
                read_grid(SMALL, CATALOGUE, [steps, measured])


def test_references_are_crossed():
    shared = "measure.gradients={at: shared, checkpoints: 3, reference: [iwae, {estimator: reparam, steps: 9}]}"
    grid = read_grid(SMALL, CATALOGUE, [shared, "seeds=2"])
    found = [cell.measure.gradients for cell in grid.cells()]
    full = "iwae[k=5,beta=1.0,learned=false]"
    assert [one.reference.estimator for one in found] == [full, full, "reparam", "reparam"]
    assert [one.checkpoints for one in found] == [(0, 31, 1000)] * 2 + [(0, 2, 9)] * 2
    assert (grid.size, len({cell.key("d") for cell in grid.cells()})) == (4, 4)
    (one,) = {cell.measure.gradients.reference.estimator for cell in grid.filtered(["reference=iwae"]).cells()}
    assert one == full
    alone = read_grid(SMALL, CATALOGUE, [shared.replace("[iwae, ", "").replace("}]}", "}}"), "seeds=2"])
    assert {cell.key("d") for cell in alone.cells()} < {cell.key("d") for cell in grid.cells()}
    with pytest.raises(GridError) as caught:
        read_grid(SMALL, CATALOGUE, ["measure.gradients={at: shared, draws: 0, reference: [iwa, iwi]}"])
    assert len(caught.value.lines) == 2, "what is wrong besides is told once"
    with pytest.raises(GridError, match="expected axis=pattern"):
        alone.filtered(["reference=iwae"])


def test_override_makes_what_is_missing():
    grid = read_grid(SMALL, CATALOGUE, ["measure.gradients.draws=10"])
    assert grid.measure == Measure(gradients=Gradients(draws=10))


def test_the_last_override_wins(grid_file):
    grid = read_grid(grid_file, CATALOGUE, ["train.steps=600", "train={steps: 700}", "train.batch=3"])
    assert grid.trains == (Train(steps=700, batch=3),)


def test_override_mends_what_was_wrong(grid_file):
    grid_file.write_text(GRID.replace("lr: 1e-3", "lr: 0"), "utf-8")
    assert read_grid(grid_file, CATALOGUE, ["train.lr=1"]).trains[0].lr == 1.0


@pytest.mark.parametrize(
    ("override", "problems"),
    [
        ("train.stepz=3", ["train.stepz: unknown key (did you mean 'steps'?)"]),
        ("trian.steps=3", ["trian: unknown key (did you mean 'train'?)"]),
        ("train.steps=x", ["train.steps: expected an integer >= 0 (optimiser steps), not 'x'"]),
        ("train.steps='3'", ["train.steps: expected an integer >= 0 (optimiser steps), not '3'"]),
        ("train.lr=.inf", ["expected a finite number, not .inf"]),
        ("train=[]", [f"train: expected a mapping of {TRAIN}, not []"]),
        ("train.lr=*a", ["alias *a is not defined"]),
        ("train.lr=1\n---\n2", ["expected one document, found a second one"]),
        ("foo", ["expected key=value, such as train.steps=10"]),
        ("=3", ["expected key=value, such as train.steps=10"]),
        ("train.=3", ["expected key=value, such as train.steps=10"]),
        ("name.x=3", ["name.x: name holds no keys to set"]),
        ("name=a b", [f"name: {FOLDER}, not 'a b'"]),
        ("seeds=[0,0]", ["seeds[1]: 0 is given twice"]),
        ("seeds=[a", ["not YAML: expected ',' or ']', but got '<stream end>' (for the bracket at 1:1)"]),
        ("priors=", ["priors: expected at least one prior"]),
        ("priors=[]", ["priors: expected at least one prior"]),
        (
            "estimators=[iwae[k=0], reparm]",
            [
                "estimators[0].iwae.k: expected an integer >= 1 (samples per datum), not 0",
                "estimators[1]: unknown estimator 'reparm' (did you mean 'reparam'?)",
            ],
        ),
        ("estimators=[iwae[k=], rloo]", ["estimators[0]: 'iwae[k=]': expected a value at ']'"]),
        ("encoders=[[gaussian]]", [f"encoders[0]: expected an encoder's {ENTRY}, not [gaussian]"]),
    ],
)
def test_wrong_override(grid_file, override, problems):
    shown = override.replace("\n", r"\n")
    assert lines_of(grid_file, override) == [f"--set {shown}: {problem}" for problem in problems]


def test_problems_of_overrides_come_last_and_in_order(grid_file):
    grid_file.write_text(GRID.replace("seeds: 3", "seeds: 0"), "utf-8")
    assert lines_of(grid_file, "zzz", "train.steps=-1") == [
        f"g.yaml:12:8: seeds: {SEEDS}, not 0",
        "--set zzz: expected key=value, such as train.steps=10",
        "--set train.steps=-1: train.steps: expected an integer >= 0 (optimiser steps), not -1",
    ]


def test_an_endless_override_ends(grid_file):
    assert lines_of(grid_file, "seeds=" + "[" * 500 + "]" * 500)[0].endswith("nested deeper than 50 levels")


# the text kept beside the results ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["train.steps=700"],
        ["estimators=[iwae[k=7], {rloo: {sweep: {k: [2, 3]}}}, renyi[note='a: b # c']]"],
        ["train.sweep.clip=[1, null]", "name=x", "measure={}"],
        ['priors=[mixture[tag="\\u0007 é",shape=[1,2]]]', "datasets=csv[path=/a]"],
        ["# odd\n name=1", "name=y"][1:],
    ],
)
def test_source_reads_back(grid_file, tmp_path, overrides):
    grid = read_grid(grid_file, CATALOGUE, overrides)
    again = tmp_path / "again.yaml"
    again.write_text(grid.source, "utf-8")
    assert replace(read_grid(again, CATALOGUE), source="") == replace(grid, source="")
    assert grid.source.startswith(f"# --set {overrides[0]}\n" if overrides else GRID)


def test_source_of_a_mapping_reads_back(tmp_path):
    tree = SMALL | {"estimators": [{"iwae": {"k": 3}}, "renyi[note='a, b']"], "seeds": (3, 4)}
    grid = read_grid(tree, CATALOGUE)
    again = tmp_path / "other-name.yaml"
    again.write_text(grid.source, "utf-8")
    assert replace(read_grid(again, CATALOGUE), source="") == replace(grid, source="")


# mutations --------------------------------------------------------------------------------------------------

WORDS = """sweep: {} [] iwae[k=5] rloo gaussian seeds: train: measure: hidden latent k: <<: [1, {a: ...
null ~ .inf 1e-3 0 -1 true 2.5 1e999 017 & * &a *a !!int ! ? : , { } [ ] # | > % @ ` - --- "5" ''"""
TOKENS = [*WORDS.split(), " ", "\t", "\u00e9", "\x07", "\ufeff", "\x85"]
MARKS = "\t\n \"',-:[]{}"


def mutated(source: random.Random) -> str:
    text = GRID
    for _ in range(source.randint(1, 4)):
        lines = text.split("\n")
        line, at = source.randrange(len(lines)), source.randrange(len(text) + 1)
        match source.randrange(8):
            case 0:
                text = text[:at] + text[at + source.randint(1, 4) :]
            case 1:
                text = text[:at] + source.choice(TOKENS) + text[at:]
            case 2:
                text = text[:at] + source.choice(MARKS) + text[at + 1 :]
            case 3:
                text = "\n".join([*lines[:line], *lines[line + 1 :]])
            case 4:
                text = "\n".join([*lines[: line + 1], *lines[line:]])
            case 5:
                lines[line] = " " * source.randint(0, 5) + lines[line].lstrip()
                text = "\n".join(lines)
            case 6:
                parts = re.split(r"(\W+)", text)
                parts[source.randrange(len(parts))] = source.choice(TOKENS)
                text = "".join(parts)
            case 7:
                text = text[:at]
    return text


def lines_or_grid(file):
    try:
        return [], read_grid(file, CATALOGUE, where="g.yaml")
    except GridError as error:
        return error.lines, None


# blocks of 500: one by default, 20,000 with -m slow
BLOCKS = [pytest.param(block, marks=() if block < 1 else pytest.mark.slow) for block in range(41)]


@pytest.mark.parametrize("block", BLOCKS)
def test_mutated_grids_are_read_or_explained(tmp_path, block):
    source = random.Random(block)
    file = tmp_path / "grid.yaml"
    read, slowest = 0, 0.0
    for _ in range(500):
        text = mutated(source)
        file.write_bytes(text.encode())
        start = time.process_time()
        lines, grid = lines_or_grid(file)
        slowest = max(slowest, time.process_time() - start)
        rows = re.split(r"\r\n|\r|\n", text)
        for line in lines:
            assert re.match(r"g\.yaml:\d+:\d+: \S", line), (line, text)
            assert line.isprintable(), (line, text)
            row, column = map(int, line.split(":")[1:3])
            assert 1 <= row <= len(rows) + 1, (line, text)
            assert 1 <= column <= max(map(len, rows)) + 1, (line, text)
        if grid:
            read += 1
            # nothing that was written is silently left out
            assert set(YAML(typ="safe", pure=True).load(text)) <= set(KEYS.split(", ")), text
            assert len(next(grid.cells()).key("d")) == 32
            assert grid.source == text.removeprefix("\ufeff")
        else:
            assert lines, text
    assert 20 < read < 400
    assert slowest < 10


def test_mutated_bytes_are_read_or_explained(tmp_path):
    source = random.Random(9)
    file = tmp_path / "grid.yaml"
    for _ in range(300):
        data = bytearray(GRID.encode())
        for _ in range(source.randint(1, 3)):
            data[source.randrange(len(data))] = source.randrange(256)
        file.write_bytes(bytes(data))
        lines, grid = lines_or_grid(file)
        assert grid or lines
        assert all(re.match(r"g\.yaml:\d+:\d+: \S", line) for line in lines), bytes(data)


# cost -------------------------------------------------------------------------------------------------------


def test_reading_loads_neither_torch_nor_pandas_nor_plugins():
    code = "import sys, vbench.grid; print([m for m in sys.modules if m.partition('.')[0] in sys.argv[1:]])"
    heavy = ["torch", "pandas", "numpy", "scipy", "sklearn", "pluggy"]
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_reading_is_quick(grid_file):
    read_grid(grid_file, CATALOGUE)
    start = time.process_time()
    for _ in range(10):
        read_grid(grid_file, CATALOGUE)
    assert (time.process_time() - start) / 10 < 0.1
