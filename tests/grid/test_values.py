"""Parameters given once and parameters to be crossed."""

import pytest

from vbench.catalogue import Parameter
from vbench.grid.positions import GridError, Problems, from_python
from vbench.grid.values import MAX_ENTRIES, Values, read_values, unknown

KNOWN = (Parameter("k", {"type": "integer"}, 1), Parameter("lr", {"type": "number"}, 0.1))


def read(tree, **options):
    problems = Problems()
    values = read_values(from_python(tree, "", problems), KNOWN, "p", problems, **options)
    problems.finish()
    return values


def lines_of(tree, **options):
    with pytest.raises(GridError) as caught:
        read(tree, **options)
    return caught.value.lines


def test_crossed_last_fastest():
    values = Values({"a": 0}, {"b": [1, 2], "c": [3, 4]})
    assert list(values.crossed()) == [{"a": 0, "b": b, "c": c} for b in (1, 2) for c in (3, 4)]


def test_nothing_swept_is_one_combination():
    assert list(Values({"a": 0}).crossed()) == [{"a": 0}]


def test_reads_and_types():
    values = read({"k": 3, "sweep": {"lr": [1, 0.5]}}, keys=("sweep",))
    assert values == Values({"k": 3}, {"lr": [1.0, 0.5]})
    assert read(None) == Values()


def test_same_values_are_swept_once():
    assert read({"sweep": {"lr": [1, 0.5, 1.0]}}, keys=("sweep",)).swept == {"lr": [1.0, 0.5]}


def test_other_keys_are_left_to_others():
    assert read({"other": {"any": "thing"}}, keys=("other",)) == Values()
    assert lines_of({"othr": 1}, keys=("other",)) == ["p.othr: unknown key (did you mean 'other'?)"]


def test_sweep_is_a_key_only_where_it_is_offered():
    assert lines_of({"sweep": {"k": [1]}}) == ["p.sweep: unknown key (expected one of k, lr)"]


@pytest.mark.parametrize("sweep", [None, {}, [], 5, "k"])
def test_sweep_over_nothing(sweep):
    assert lines_of({"sweep": sweep}, keys=("sweep",)) == ["p.sweep: expected lists to cross, as in {k: [...]}"]


def test_a_sweep_is_bounded():
    assert read({"sweep": {"k": list(range(MAX_ENTRIES))}}, keys=("sweep",))
    tree = {"sweep": {"k": list(range(MAX_ENTRIES // 2)), "lr": [1, 2, 3]}}
    assert lines_of(tree, keys=("sweep",)) == ["p.sweep: 15000 combinations, at most 10000"]


def test_required_may_be_swept():
    needed = (Parameter("k", {"type": "integer"}, required=True),)
    for tree, ok in [({"k": 1}, True), ({"sweep": {"k": [1, 2]}}, True), ({}, False)]:
        problems = Problems()
        read_values(from_python(tree, "", problems), needed, "p", problems, owner="o", keys=("sweep",))
        assert (len(problems) == 0) == ok


def test_unknown():
    assert unknown("stepz", ["steps"]) == "unknown key (did you mean 'steps'?)"
    assert unknown("x", ["steps", "lr"], ["sweep"]) == "unknown key (expected one of steps, lr, sweep)"
    assert unknown("x", ["k"], owner="iwae") == "unknown parameter; iwae takes k"
    assert unknown("x", [], owner="reparam") == "unknown parameter; reparam takes none"


def test_a_near_word_is_offered_for_a_choice():
    known = (Parameter("at", {"anyOf": [{"enum": ["shared", "own"]}, {"type": "null"}]}),)
    problems = Problems()
    read_values(from_python({"at": "share"}, "", problems), known, "p", problems)
    with pytest.raises(GridError, match=r"not 'share' \(did you mean 'shared'\?\)"):
        problems.finish()
