"""Places, problems, and values from Python and back to YAML."""

import pickle
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.grid.fake_catalogue import PATIENT
from vbench.grid.positions import (
    MAX_DEPTH,
    GridError,
    Node,
    Place,
    Problems,
    dump,
    from_python,
    nearest,
    one_line,
    plain,
    put,
    quoted,
)
from vbench.grid.yaml12 import read_yaml

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).map(
    lambda text: unicodedata.normalize("NFC", text)
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    words,
)
keys = words.filter(lambda key: key != "<<")
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


def lines_of(value, where=""):
    problems = Problems()
    from_python(value, where, problems)
    with pytest.raises(GridError) as caught:
        problems.finish()
    return caught.value.lines


def test_error_joins_its_lines_and_survives_pickling():
    error = GridError(["a", "b"])
    assert str(error) == "a\nb"
    assert pickle.loads(pickle.dumps(error)).lines == ["a", "b"]


def test_sound():
    place = Place()
    bad = Node(None, place, broken=True)
    assert Node({"a": Node([Node(1, place)], place)}, place).sound
    assert not Node({"a": Node([Node(1, place), bad], place)}, place).sound
    assert not bad.sound


def test_problems_come_once_and_in_order():
    problems = Problems()
    late, early, override = (
        Place((0, 4, 1), "g:5:2"),
        Place((0, 4, 0), "g:5:1"),
        Place((1, 0, 0), "--set a=1"),
    )
    for place in (override, late, early, late):
        problems.add(place, "key", "wrong")
    assert len(problems) == 3
    with pytest.raises(GridError) as caught:
        problems.finish()
    assert caught.value.lines == ["g:5:1: key: wrong", "g:5:2: key: wrong", "--set a=1: key: wrong"]


def test_no_problem_no_error():
    Problems().finish()


def test_empty_parts_leave_no_colon():
    problems = Problems()
    problems.add(Place(), "", "wrong")
    with pytest.raises(GridError, match=r"\Awrong\Z"):
        problems.finish()


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a b", "a b"), ("a\nb", r"a\nb"), ("\x1b[31m", r"\x1b[31m"), ("é", "é"), ("\ud800", r"\ud800")],
)
def test_one_line(text, shown):
    assert one_line(text) == shown


def test_one_line_ends():
    assert len(one_line("x" * 10_000)) == 500


@pytest.mark.parametrize(
    ("name", "found"),
    [("stepz", "steps"), ("STEPS", "steps"), ("step", "steps"), ("Batch", "batch"), ("zzz", None)],
)
def test_nearest(name, found):
    assert nearest(name, ["steps", "batch", "lr"]) == (f" (did you mean '{found}'?)" if found else "")


def test_nearest_keeps_the_case_of_the_valid_name():
    assert nearest("kmax", ["K_max"]) == " (did you mean 'K_max'?)"


@settings(**PATIENT)
@given(trees)
def test_from_python_and_back(tree):
    problems = Problems()
    assert plain(from_python(tree, "", problems)) == tree
    assert not len(problems)


def test_from_python_takes_numpy():
    problems = Problems()
    tree = {
        "a": np.float32(0.5),
        "b": np.int64(3),
        "c": np.bool_(True),
        "d": np.array([1, 2]),
        "e": (1, range(2)),
    }
    node = from_python(tree, "", problems)
    assert plain(node) == {"a": 0.5, "b": 3, "c": True, "d": [1, 2], "e": [1, [0, 1]]}
    assert [type(plain(node)[key]) for key in "abc"] == [float, int, bool]


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ({"a": [1, float("nan")]}, "a[1]: expected a finite number, not nan"),
        ({"a": {"b": float("-inf")}}, "a.b: expected a finite number, not -inf"),
        ({"a": 2**63}, "a: expected an integer of at most 64 bits"),
        ({"a": "\ud800"}, "a: expected text that is valid Unicode"),
        ({"a": {1: 2}}, "a: expected text as a key, not 1"),
        ({"e\u0301": 1, "\u00e9": 2}, "é: given twice"),
        ({"a": {1, 2}}, "a: expected a number, text, a truth value, None, a list or a mapping, not {1, 2}"),
        ({"a": b"x"}, "a: expected a number, text, a truth value, None, a list or a mapping, not b'x'"),
    ],
)
def test_from_python_refuses(value, line):
    assert lines_of(value) == [line]
    assert lines_of(value, "grid") == [f"grid: {line}"]


def test_from_python_reports_all():
    assert len(lines_of({"a": float("nan"), "b": [float("inf"), object()]})) == 3


def test_from_python_ends_in_a_cycle():
    cycle = {}
    cycle["a"] = cycle
    with pytest.raises(GridError, match=f"nested deeper than {MAX_DEPTH} levels"):
        from_python(cycle, "", Problems())


def test_from_python_is_bounded():
    with pytest.raises(GridError, match="more than 50000 values"):
        from_python({"a": range(10**9)}, "", Problems())


def node_of(tree):
    return from_python(tree, "", Problems())


@pytest.mark.parametrize(
    ("tree", "path", "after"),
    [
        ({"a": 1}, ["a"], {"a": 7}),
        ({"a": {"b": 1, "c": 2}}, ["a", "b"], {"a": {"b": 7, "c": 2}}),
        ({}, ["a", "b", "c"], {"a": {"b": {"c": 7}}}),
        ({"a": None}, ["a", "b"], {"a": {"b": 7}}),
        (None, ["a"], {"a": 7}),
    ],
)
def test_put(tree, path, after):
    before, problems = node_of(tree), Problems()
    assert plain(put(before, path, node_of(7), problems)) == after
    assert plain(before) == tree  # the tree is shared by aliases
    assert not len(problems)


def test_put_below_a_scalar():
    problems = Problems()
    value = Node(7, Place((1, 0, 0), "--set a.b=7"))
    assert plain(put(node_of({"a": 1}), ["a", "b"], value, problems)) == {"a": 1}
    with pytest.raises(GridError, match=r"--set a\.b=7: a\.b: a holds no keys to set"):
        problems.finish()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("relu", "relu"),
        ("a/b-c.d+e_f", "a/b-c.d+e_f"),
        ("5", '"5"'),
        ("true", '"true"'),
        ("Null", '"Null"'),
        ("", '""'),
        ("a b", '"a b"'),
        ("a,b", '"a,b"'),
        ('say "x"', r'"say \"x\""'),
        ("é", '"é"'),
        ("\x07", r'"\u0007"'),
        ("\u2028", r'"\u2028"'),
        ("\x85", r'"\u0085"'),
    ],
)
def test_quoted(text, shown):
    assert quoted(text) == shown


@settings(**PATIENT)
@given(st.dictionaries(keys, trees, min_size=1, max_size=4))
def test_dump_reads_back(tree):
    problems = Problems()
    back = plain(read_yaml(dump(node_of(tree)), "g", problems))
    problems.finish()
    assert back == tree
    assert repr(back) == repr(tree)  # 1, 1.0 and True apart


def test_dump_is_for_people():
    tree = {
        "name": "q",
        "estimators": ["reparam", {"iwae": {"k": 5}}],
        "train": {"lr": 1e-3},
        "seeds": 3,
        "measure": {},
    }
    assert dump(node_of(tree)) == (
        "name: q\nestimators:\n  - reparam\n  - {iwae: {k: 5}}\ntrain:\n  lr: 0.001\nseeds: 3\nmeasure: {}\n"
    )
