"""Cells, their order, their keys and their filters."""

import dataclasses
import itertools
import json
import pickle
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.grid.fake_catalogue import CATALOGUE, PATIENT
from vbench.catalogue import KINDS
from vbench.grid import read_grid
from vbench.grid.choices import Choice, parse_choice
from vbench.grid.crossing import AXES, SCHEMA_VERSION, Cell, Grid, cell_from_spec
from vbench.grid.positions import GridError
from vbench.grid.settings import Gradients, LogLikelihood, Measure, Reference, Train

TREE = {
    "datasets": ["digits", "digits[binarization=static]"],
    "encoders": "gaussian[latent=8]",
    "decoders": "bernoulli",
    "priors": ["standard-normal", "mixture"],
    "estimators": ["reparam", {"iwae": {"sweep": {"k": [1, 50]}}}, "rloo[k=4]"],
    "seeds": 3,
    "train": {"steps": 20, "sweep": {"lr": [1e-3, 3e-4], "batch": [10, 20]}},
    "measure": {"every": 10, "gradients": {"at": "shared", "reference": "reparam"}, "log_likelihood": {}},
}
WANTED = "expected axis=pattern, with an axis of dataset, encoder, decoder, prior, train, estimator, seed"


def grid_of(**changes):
    return read_grid(TREE | changes, CATALOGUE)


@pytest.fixture(scope="module")
def grid():
    return grid_of()


def cell_of(estimator="iwae", **changes):
    tree = TREE | {"estimators": [estimator], "datasets": "digits", "priors": "standard-normal", "seeds": 1}
    tree["train"] = {"steps": 20}
    (cell,) = read_grid(tree | changes, CATALOGUE).cells()
    return cell


def coordinates(cell):
    return (str(cell.dataset), str(cell.prior), cell.labels()["train"], str(cell.estimator), cell.seed)


def test_every_combination_once_in_order(grid):
    cells = list(grid.cells())
    assert len(cells) == grid.size == 2 * 2 * 4 * 4 * 3
    assert [coordinates(cell) for cell in cells] == list(
        itertools.product(
            ["digits", "digits[binarization=static]"],
            ["standard-normal", "mixture"],
            ["batch=10 lr=0.001", "batch=20 lr=0.001", "batch=10 lr=0.0003", "batch=20 lr=0.0003"],
            ["reparam", "iwae[k=1]", "iwae[k=50]", "rloo[k=4]"],
            [0, 1, 2],
        )
    )
    assert len({cell.key("") for cell in cells}) == len(cells)


def test_cells_are_lazy(grid):
    cells = grid.cells()
    assert next(cells) == next(grid.cells())
    assert iter(cells) is cells


def test_ten_million_cells_are_counted_at_once():
    start = time.perf_counter()
    grid = grid_of(
        seeds=100_000,
        estimators=[{"iwae": {"sweep": {"k": list(range(1, 101))}}}],
        datasets="digits",
        priors="standard-normal",
        train={"sweep": {"lr": [1, 2]}, "steps": 20},
    )
    assert grid.size == 20_000_000
    assert [cell.seed for cell in itertools.islice(grid.cells(), 3)] == [0, 1, 2]
    assert time.perf_counter() - start < 20  # made one by one they would take minutes


def test_same_meaning_stands_once_in_the_first_spelling():
    grid = grid_of(
        estimators=["iwae[k=5]", "iwae", {"iwae": {"beta": 1}}, "iwae[k=6]"],
        train={"sweep": {"lr": [1, 1.0]}, "steps": 20},
    )
    assert [str(choice) for choice in grid.estimators] == ["iwae[k=5]", "iwae[k=6]"]
    assert len(grid.trains) == 1
    assert len(list(grid.cells())) == grid.size


def test_grid_by_hand_is_made_unique(grid):
    twice = dataclasses.replace(grid, seeds=(1, 0, 1), priors=grid.priors * 2, trains=grid.trains * 2)
    assert twice.seeds == (1, 0)
    assert twice.priors == grid.priors
    assert twice.trains == grid.trains


def test_spec_is_complete_and_typed():
    cell = cell_of("iwae[beta=2]")
    assert cell.spec() == {
        "dataset": {"name": "digits", "parameters": {"binarization": "dynamic"}},
        "encoder": {"name": "gaussian", "parameters": {"latent": 8, "hidden": [200, 200]}},
        "decoder": {"name": "bernoulli", "parameters": {"hidden": [200, 200], "activation": "tanh"}},
        "prior": {"name": "standard-normal", "parameters": {}},
        "estimator": {"name": "iwae", "parameters": {"k": 5, "beta": 2.0, "learned": False}},
        "seed": 0,
        "train": {"steps": 20, "batch": 100, "optimizer": "adam", "lr": 0.001, "clip": None},
        "measure": {
            "every": 10,
            "samples": 16,
            "data": None,
            "gradients": {
                "draws": 100,
                "batches": 4,
                "batch": 100,
                "at": "shared",
                "reference": {
                    "steps": 20,
                    "batch": 100,
                    "optimizer": "adam",
                    "lr": 0.001,
                    "clip": None,
                    "estimator": "reparam",
                },
                "checkpoints": (0, 10, 20),
                "warmup": 200,
            },
            "log_likelihood": {"method": "iwae", "k": 500},
        },
    }


def test_choices_by_kind():
    cell = cell_of()
    assert list(cell.choices()) == list(KINDS)
    assert all(choice.kind == kind for kind, choice in cell.choices().items())


def test_labels(grid):
    assert next(grid.cells()).labels() == {
        "dataset": "digits",
        "encoder": "gaussian[latent=8]",
        "decoder": "bernoulli",
        "prior": "standard-normal",
        "estimator": "reparam",
        "train": "batch=10 lr=0.001",
    }
    assert cell_of().labels()["train"] == ""


def test_one_swept_value_is_named_too():
    cells = list(grid_of(train={"sweep": {"clip": [None]}, "steps": 20}).cells())
    assert cells[0].labels()["train"] == "clip=null"


def test_json_round_trip_of_every_cell(grid):
    for cell in grid.cells():
        again = cell_from_spec(json.loads(json.dumps(cell.spec())), json.loads(json.dumps(cell.labels())))
        assert again == cell
        assert again.key("d") == cell.key("d")
        assert again.labels() == cell.labels()
        assert hash(again) == hash(cell)


def test_pickle_round_trip(grid):
    cell = next(grid.cells())
    assert pickle.loads(pickle.dumps(cell)) == cell
    assert pickle.loads(pickle.dumps(grid)) == grid


def test_key_is_what_it_was():
    # A change here makes every stored result unfindable: raise SCHEMA_VERSION and say so in the changelog.
    assert SCHEMA_VERSION == 1
    assert cell_of().key("digest") == "d8ac1e2751a60e3c80f93f3a189b387e"
    assert cell_of(measure={"gradients": {}}).key("digest") == "395fc06842bc7ef004e4426019cf9a6f"
    assert cell_of(measure={}).key("digest") == "7bc54b11bfccfda4f182a56522ebd804"


def test_key_depends_on_everything_that_counts():
    cell = cell_of()
    others = [
        cell_of("iwae[k=6]"),
        cell_of("iwae[beta=2]"),
        cell_of("reparam"),
        cell_of(seeds=[1]),
        cell_of(datasets="digits[binarization=static]"),
        cell_of(encoders="gaussian[latent=9]"),
        cell_of(decoders="bernoulli[activation=relu]"),
        cell_of(priors="mixture"),
        cell_of(train={"steps": 21}),
        cell_of(measure={"every": 5}),
    ]
    keys = {other.key("d") for other in [cell, *others]} | {cell.key("e"), cell.key("d", role="reference")}
    keys.add(cell.key("d", reference="role"))
    assert len(keys) == len(others) + 4
    assert all(len(key) == 32 and set(key) <= set("0123456789abcdef") for key in keys)


def test_key_does_not_depend_on_spelling():
    keys = {
        cell_of(estimator, **changes).key("d")
        for estimator in ("iwae", "iwae[k=5]", "iwae[ learned=false , k=5 ]", {"iwae": {"beta": 1}})
        for changes in (
            {},
            {"name": "other"},
            {"encoders": {"gaussian": {"hidden": [200, 200], "latent": 8}}},
            {"train": {"sweep": {"lr": [1e-3]}, "steps": 20, "clip": None}},
            {"measure": TREE["measure"] | {"data": None, "log_likelihood": {"k": 500}}},
        )
    }
    assert len(keys) == 1


def test_key_does_not_depend_on_the_spelling_of_the_reference():
    keys = set()
    for reference in ("iwae", "iwae[k=5]"):
        keys.add(cell_of(measure={"gradients": {"at": "shared", "reference": reference}}).key("d"))
    assert len(keys) == 1


def test_key_does_not_depend_on_the_spelling_of_the_checkpoints():
    spelled = [{"checkpoints": [0, 3, 20]}, {"checkpoints": [3]}, {"checkpoints": 3}]
    keys = {cell_of(measure={"gradients": {"at": "shared", **one}}).key("d") for one in spelled}
    assert len(keys) == 2, "3 log-spaced steps of 20 are 0, 4 and 20"


def test_key_refuses_to_be_overwritten():
    with pytest.raises(TypeError, match="data, spec already stands in the key"):
        cell_of().key("d", **{"spec": "x", "data": "y"})


@settings(max_examples=25, **PATIENT)
@given(st.randoms(use_true_random=False))
def test_keys_do_not_depend_on_the_order_of_the_grid(source: random.Random):
    shuffled = {
        name: source.sample(entries, len(entries)) if isinstance(entries, list) else entries
        for name, entries in TREE.items()
    }
    shuffled["seeds"] = source.sample([0, 1, 2], 3)
    shuffled["train"] = {"sweep": {"batch": [20, 10], "lr": [3e-4, 1e-3]}, "steps": 20}
    shuffled = dict(source.sample(sorted(shuffled.items(), key=str), len(shuffled)))
    # a part of it is enough: the same filter on both sides
    parts = [read_grid(tree, CATALOGUE).filtered(["seed=1", "prior=mixture"]) for tree in (TREE, shuffled)]
    one, other = ({cell.key("d") for cell in part.cells()} for part in parts)
    assert one == other


def test_adding_to_a_grid_changes_no_key(grid):
    more = grid_of(estimators=["renyi", *TREE["estimators"]], seeds=[7, 2, 1, 0])
    assert {cell.key("d") for cell in grid.cells()} < {cell.key("d") for cell in more.cells()}


values = st.sampled_from([1, 1.0, True, False, 0, 0.0, -0.0, "1", "", "e\u0301", "\u00e9", None, 2, 0.5])
raw = st.one_of(
    st.dictionaries(st.sampled_from(["k", "beta", "learned"]), values, max_size=3).map(lambda g: {"iwae": g}),
    st.dictionaries(st.sampled_from(["alpha", "note"]), values, max_size=2).map(lambda g: {"renyi": g}),
)


@settings(**PATIENT)
@given(raw, raw)
def test_key_is_equal_where_the_typed_spec_is(one, other):
    def typed(entry):
        try:
            return parse_choice(entry, "estimator", CATALOGUE)
        except GridError:
            return None

    one, other = typed(one), typed(other)
    if one is None or other is None:
        return
    # types are those of the schema by now, so that repr tells what Python's equality does not
    same = one.name == other.name and repr(dict(one.parameters)) == repr(dict(other.parameters))
    base = cell_of()
    keys = {dataclasses.replace(base, estimator=choice).key("d") for choice in (one, other)}
    assert (len(keys) == 1) == same


@settings(**PATIENT)
@given(
    st.builds(
        Train,
        steps=st.integers(1, 2**40),
        lr=st.floats(0, exclude_min=True, allow_infinity=False),
        clip=st.none() | st.floats(0, 9, exclude_min=True),
        optimizer=st.sampled_from(["adam", "sgd"]),
    ),
    st.builds(
        Measure,
        every=st.none() | st.integers(1, 9),
        gradients=st.none()
        | st.builds(
            Gradients,
            draws=st.integers(2, 9),
            at=st.sampled_from(["own", "shared"]),
            checkpoints=st.lists(st.integers(0, 2**40)).map(tuple),
            reference=st.none() | st.builds(Reference, lr=st.floats(1e-9, 9), estimator=st.none() | st.just("iwae")),
        ),
        log_likelihood=st.none() | st.builds(LogLikelihood, k=st.integers(1, 9)),
    ),
    st.lists(st.sampled_from(list(Train.model_fields)), unique=True),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_round_trip_of_any_cell(train, measure, swept, note, alpha):
    estimator = parse_choice({"renyi": {"note": note, "alpha": alpha}}, "estimator", CATALOGUE)
    cell = dataclasses.replace(cell_of(), train=train, measure=measure, estimator=estimator, swept=tuple(swept))
    again = cell_from_spec(json.loads(json.dumps(cell.spec())), json.loads(json.dumps(cell.labels())))
    assert again == cell
    assert again.key("d") == cell.key("d")


def test_strings_are_compared_as_they_look():
    base = cell_of()
    keys = {
        dataclasses.replace(base, estimator=Choice("estimator", "renyi", {}, {"note": note})).key("d")
        for note in ("e\u0301", "\u00e9")
    }
    assert len(keys) == 1


# filters ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "axis", "left"),
    [
        ([], "estimators", ["reparam", "iwae[k=1]", "iwae[k=50]", "rloo[k=4]"]),
        (["estimator=iwae"], "estimators", ["iwae[k=1]", "iwae[k=50]"]),
        (["estimator=iwae*"], "estimators", ["iwae[k=1]", "iwae[k=50]"]),
        (["estimator=iwae[k=1]"], "estimators", ["iwae[k=1]"]),  # brackets are no set of letters
        (["estimator=iwae[ k=1 ]"], "estimators", ["iwae[k=1]"]),
        (["estimator=*[k=?]"], "estimators", ["iwae[k=1]", "rloo[k=4]"]),
        (["estimator=rloo,reparam"], "estimators", ["reparam", "rloo[k=4]"]),
        (["estimator=iwae*,rloo*", "estimator=*[k=?]"], "estimators", ["iwae[k=1]", "rloo[k=4]"]),
        (["seed=0"], "seeds", [0]),
        (["seed=2,0"], "seeds", [0, 2]),
        (["train=lr=0.001"], "trains", ["batch=10 lr=0.001", "batch=20 lr=0.001"]),
        (["train=lr=0.001", "train=batch=10"], "trains", ["batch=10 lr=0.001"]),
        (["train=batch=10 lr=0.001"], "trains", ["batch=10 lr=0.001"]),
        (["dataset=*static*"], "datasets", ["digits[binarization=static]"]),
        (["prior=mixture", "seed=1"], "priors", ["mixture"]),
    ],
)
def test_filtered(grid, filters, axis, left):
    part = grid.filtered(filters)
    entries = getattr(part, axis)
    if axis == "trains":
        cells = [cell for cell in part.cells() if cell.seed == 0]
        assert list(dict.fromkeys(cell.labels()["train"] for cell in cells)) == left
    else:
        assert [entry if axis == "seeds" else str(entry) for entry in entries] == left
    assert {cell.key("d") for cell in part.cells()} <= {cell.key("d") for cell in grid.cells()}
    assert part.source == grid.source


def test_filter_leaves_the_rest(grid):
    part = grid.filtered(["seed=1"])
    assert part.size == grid.size // 3
    assert dataclasses.replace(part, seeds=grid.seeds) == grid


@pytest.mark.parametrize(
    ("filters", "lines"),
    [
        (
            ["estimatr=iwae"],
            [f"estimatr=iwae: {WANTED} (did you mean 'estimator'?)"],
        ),
        (
            ["iwae"],
            [f"iwae: {WANTED}"],
        ),
        (
            ["estimator=vimco"],
            ["estimator=vimco: no estimator of this grid matches 'vimco' (reparam, iwae[k=1], iwae[k=50], rloo[k=4])"],
        ),
        (["seed=9,0"], ["seed=9,0: no seed of this grid matches '9' (0, 1, 2)"]),
        (["seed="], ["seed=: no seed of this grid matches '' (0, 1, 2)"]),
        (["seed=0", "seed=1"], ["seed=0 seed=1: no cell of this grid passes all of these"]),
        (
            ["seed=9", "prior=x"],
            [
                "seed=9: no seed of this grid matches '9' (0, 1, 2)",
                "prior=x: no prior of this grid matches 'x' (standard-normal, mixture)",
            ],
        ),
    ],
)
def test_wrong_filters(grid, filters, lines):
    with pytest.raises(GridError) as caught:
        grid.filtered(filters)
    assert caught.value.lines == lines


def test_axes_are_named_for_their_kinds():
    assert dict(AXES) == {
        "dataset": "datasets",
        "encoder": "encoders",
        "decoder": "decoders",
        "prior": "priors",
        "estimator": "estimators",
    }
    fields = {field.name for field in dataclasses.fields(Grid)}
    assert set(AXES.values()) < fields
    assert set(AXES) < {field.name for field in dataclasses.fields(Cell)}
