"""``name[param=value]``: what it means, what it looks like, and what is wrong with it."""

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.grid.fake_catalogue import BROKEN, CATALOGUE, PATIENT
from vbench.catalogue import Catalogue, Component, Parameter
from vbench.grid.choices import Choice, parse_choice, parse_text, split_top
from vbench.grid.positions import GridError

ENTRY = "expected an estimator's name, name[param=value] or name: {param: value}"
ZEROS = "expected a number without leading zeros (or text in quotes)"


def parse(text, kind="estimator", catalogue=CATALOGUE):
    return parse_choice(text, kind, catalogue)


@pytest.mark.parametrize(
    ("text", "kind", "shown", "parameters"),
    [
        ("reparam", "estimator", "reparam", {}),
        ("iwae", "estimator", "iwae", {"k": 5, "beta": 1.0, "learned": False}),
        ("iwae[k=5]", "estimator", "iwae[k=5]", {"k": 5, "beta": 1.0, "learned": False}),
        (
            " iwae [ k = 7 , beta = 2 ] ",
            "estimator",
            "iwae[k=7,beta=2.0]",
            {"k": 7, "beta": 2.0, "learned": False},
        ),
        ("iwae[beta=2,k=7]", "estimator", "iwae[k=7,beta=2.0]", {"k": 7, "beta": 2.0, "learned": False}),
        ("iwae[learned=true]", "estimator", "iwae[learned=true]", {"k": 5, "beta": 1.0, "learned": True}),
        ("iwae[beta=1e-3]", "estimator", "iwae[beta=0.001]", {"k": 5, "beta": 0.001, "learned": False}),
        ("renyi[alpha=null]", "estimator", "renyi[alpha=null]", {"alpha": None, "note": ""}),
        ("renyi[alpha=~]", "estimator", "renyi[alpha=null]", {"alpha": None, "note": ""}),
        ("renyi[note=plain]", "estimator", "renyi[note=plain]", {"alpha": 0.5, "note": "plain"}),
        ("renyi[note=a b]", "estimator", 'renyi[note="a b"]', {"alpha": 0.5, "note": "a b"}),
        ("renyi[note=it's]", "estimator", 'renyi[note="it\'s"]', {"alpha": 0.5, "note": "it's"}),
        ("renyi[note='it''s']", "estimator", 'renyi[note="it\'s"]', {"alpha": 0.5, "note": "it's"}),
        ('renyi[note="5"]', "estimator", 'renyi[note="5"]', {"alpha": 0.5, "note": "5"}),
        ("renyi[note='true']", "estimator", 'renyi[note="true"]', {"alpha": 0.5, "note": "true"}),
        ("renyi[note=a=b]", "estimator", 'renyi[note="a=b"]', {"alpha": 0.5, "note": "a=b"}),
        (r'renyi[note="],\"x"]', "estimator", r'renyi[note="],\"x"]', {"alpha": 0.5, "note": '],"x'}),
        (r'renyi[note="\u00e9"]', "estimator", 'renyi[note="é"]', {"alpha": 0.5, "note": "é"}),
        (
            "gaussian[hidden=[64,64]]",
            "encoder",
            "gaussian[hidden=[64,64]]",
            {"latent": 50, "hidden": [64, 64]},
        ),
        ("gaussian[hidden=[ 8 , 4 ]]", "encoder", "gaussian[hidden=[8,4]]", {"latent": 50, "hidden": [8, 4]}),
        ("gaussian[hidden=[]]", "encoder", "gaussian[hidden=[]]", {"latent": 50, "hidden": []}),
        ("mixture[shape=[3,1]]", "prior", "mixture[shape=[3,1.0]]", {"shape": [3, 1.0], "tag": None}),
        ("csv[path=/a/b.csv]", "dataset", 'csv[path="/a/b.csv"]', {"path": "/a/b.csv", "scale": 1.0}),
        ({"iwae": {"k": 5}}, "estimator", "iwae[k=5]", {"k": 5, "beta": 1.0, "learned": False}),
        ({"iwae": None}, "estimator", "iwae", {"k": 5, "beta": 1.0, "learned": False}),
        ({"iwae": {"sweep": {"k": [3]}}}, "estimator", "iwae[k=3]", {"k": 3, "beta": 1.0, "learned": False}),
    ],
)
def test_parses(text, kind, shown, parameters):
    choice = parse(text, kind)
    assert str(choice) == shown
    assert choice.parameters == parameters
    assert repr(dict(choice.parameters)) == repr(parameters)
    again = parse(shown, kind)
    assert again == choice
    assert hash(again) == hash(choice)


def test_given_is_what_was_written():
    choice = parse("iwae[beta=2]")
    assert dict(choice.given) == {"beta": 2.0}
    assert choice.kind == "estimator"
    assert choice.name == "iwae"


def test_spelled_out_default_is_another_choice_of_the_same_meaning():
    short, long = parse("iwae"), parse("iwae[k=5]")
    assert short != long
    assert short.parameters == long.parameters
    assert short.full == long.full == "iwae[k=5,beta=1.0,learned=false]"
    assert parse(short.full).parameters == short.parameters


def test_a_choice_parses_to_itself_and_pickles():
    choice = parse("iwae[k=3]")
    assert parse(choice) == choice
    assert pickle.loads(pickle.dumps(choice)) == choice


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "estimator: '': expected a name at its end"),
        ("[k=5]", "estimator: '[k=5]': expected a name at '[k=5]'"),
        ("iwae[", "estimator: 'iwae[': expected param=value at its end"),
        ("iwae[]", "estimator: 'iwae[]': expected param=value at ']'"),
        ("iwae[k]", "estimator: 'iwae[k]': expected param=value at 'k]'"),
        ("iwae[5]", "estimator: 'iwae[5]': expected param=value at '5]'"),
        ("iwae[k=]", "estimator: 'iwae[k=]': expected a value at ']'"),
        ("iwae[k=5", "estimator: 'iwae[k=5': expected ',' or ']' at its end"),
        ("iwae[k=5,]", "estimator: 'iwae[k=5,]': expected param=value at ']'"),
        ("iwae[k=5]x", "estimator: 'iwae[k=5]x': expected name[param=value], found 'x' after it"),
        ("iwae k=5", "estimator: 'iwae k=5': expected name[param=value], found 'k=5' after it"),
        ("iwae[k=5][k=6]", "estimator: 'iwae[k=5][k=6]': expected name[param=value], found '[k=6]' after it"),
        ("iwae[k=5,k=6]", "estimator: 'iwae[k=5,k=6]': k is given twice"),
        ("iwae[k=[1,2]", "estimator: 'iwae[k=[1,2]': expected ',' or ']' at its end"),
        ("iwae[k=[1,]]", "estimator: 'iwae[k=[1,]]': expected a value at ']]'"),
        ("iwae[k={a: 1}]", "estimator: 'iwae[k={a: 1}]': expected a value at '{a: 1}]'"),
        ("iwae[k=.inf]", "estimator: 'iwae[k=.inf]': expected a finite number, not .inf"),
        ("iwae[k=05]", f"estimator: 'iwae[k=05]': {ZEROS}, not 05"),
        ('renyi[note="a]', "estimator: 'renyi[note=\"a]': expected a closing \" at '\"a]'"),
        ("renyi[note='a]", "estimator: \"renyi[note='a]\": expected a closing ' at \"'a]\""),
        (
            r'renyi[note="\x"]',
            r"""estimator: 'renyi[note="\\x"]': expected text in quotes (Invalid \escape)""",
        ),
        ("renyi[note=5]", "estimator.renyi.note: expected text, not 5"),
        ("iwae[k=0]", "estimator.iwae.k: expected an integer >= 1 (samples per datum), not 0"),
        ("iwae[k=5.0]", "estimator.iwae.k: expected an integer >= 1 (samples per datum), not 5.0"),
        ("iwae[k='5']", "estimator.iwae.k: expected an integer >= 1 (samples per datum), not '5'"),
        ("iwae[beta=true]", "estimator.iwae.beta: expected a number > 0, not true"),
        ("iwae[learned=1]", "estimator.iwae.learned: expected true or false, not 1"),
        (
            "iwae[bet=1]",
            "estimator.iwae.bet: unknown parameter (did you mean 'beta'?); iwae takes k, beta, learned",
        ),
        ("iwae[sweep=1]", "estimator.iwae.sweep: unknown parameter; iwae takes k, beta, learned"),
        ("iwea", "estimator: unknown estimator 'iwea' (did you mean 'iwae'?)"),
        ("zzz", "estimator: unknown estimator 'zzz' (known: iwae, renyi, reparam, rloo)"),
        (
            {"iwae": {"sweep": {"k": [1, 2]}}},
            "estimator: expected one estimator, not a sweep of 2",
        ),
        (7, f"estimator: {ENTRY}, not 7"),
        (None, f"estimator: {ENTRY}, not null"),
        ({}, f"estimator: {ENTRY}, not a mapping"),
        ({"iwae": 5}, "estimator.iwae: expected a mapping of parameters, not 5"),
        ({"iwae": {"k": float("nan")}}, "iwae.k: expected a finite number, not nan"),
    ],
)  # fmt: skip
def test_refuses(text, line):
    with pytest.raises(GridError) as caught:
        parse(text)
    assert caught.value.lines == [line]


def test_where_stands_in_front():
    with pytest.raises(GridError, match=r"\Abuild\(encoder=\.\.\.\): unknown encoder 'x'"):
        parse_choice("x", "encoder", CATALOGUE, "build(encoder=...)")


def test_missing_parameter():
    with pytest.raises(GridError) as caught:
        parse("csv", "dataset")
    assert caught.value.lines == ["dataset.csv.path: missing, expected text of length at least 1 (the file)"]


def test_all_wrong_parameters_are_reported():
    with pytest.raises(GridError) as caught:
        parse("iwae[k=0,beta=-1,x=1]")
    assert len(caught.value.lines) == 3


def test_a_broken_plugin_is_mentioned():
    with pytest.raises(GridError) as caught:
        parse("zzz", catalogue=BROKEN)
    assert caught.value.lines[0].endswith("; 1 failed to load, see `vbench plugins`")


def test_a_long_list_of_names_is_cut():
    names = {f"e{i}": Component("prior", f"e{i}", "d", "0") for i in range(99)}
    with pytest.raises(GridError) as caught:
        parse("zzz", "prior", Catalogue({"prior": names}))
    assert caught.value.lines[0].endswith(", ...)")
    assert len(caught.value.lines[0]) < 200


def test_a_wrong_default_names_the_plugin():
    wrong = Component("prior", "p", "d", "0", module="m:p", parameters=(Parameter("a", {"type": "integer"}, "x"),))
    with pytest.raises(GridError, match=r"\Am:p: the default of a: expected an integer, not 'x'\Z"):
        parse("p", "prior", Catalogue({"prior": {"p": wrong}}))


def test_lists_end():
    with pytest.raises(ValueError, match="lists nested deeper than 20 levels"):
        parse_text("iwae[k=" + "[" * 50_000)


floats = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
CHOICES = st.one_of(
    st.fixed_dictionaries(
        {},
        optional={
            "k": st.integers(1, 2**63 - 1),
            "beta": st.floats(0, exclude_min=True, allow_infinity=False),
            "learned": st.booleans(),
        },
    ).map(lambda given: ("estimator", {"iwae": given})),
    st.fixed_dictionaries({}, optional={"alpha": floats | st.none(), "note": words}).map(
        lambda given: ("estimator", {"renyi": given})
    ),
    st.fixed_dictionaries({}, optional={"hidden": st.lists(st.integers(1, 999), max_size=3)}).map(
        lambda given: ("encoder", {"gaussian": given})
    ),
    st.fixed_dictionaries(
        {}, optional={"shape": st.tuples(st.integers(-9, 9), floats).map(list), "tag": words | st.none()}
    ).map(lambda given: ("prior", {"mixture": given})),
)  # fmt: skip


@settings(**PATIENT)
@given(CHOICES)
def test_text_and_back(entry):
    kind, mapping = entry
    choice = parse(mapping, kind)
    again = parse(str(choice), kind)
    assert again == choice
    assert repr(again) == repr(choice)
    assert parse(choice.full, kind).parameters == choice.parameters


@settings(**PATIENT)
@given(st.text("ab[]{},='\"\\ 1.", max_size=20))
def test_any_text_parses_or_is_a_value_error(text):
    try:
        name, values = parse_text(text)
    except ValueError:
        return
    assert name
    assert isinstance(values, dict)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a, b", ["a", "b"]),
        ("a[x=1,y=2], b", ["a[x=1,y=2]", "b"]),
        ("{a: {b: [1, 2]}}, c", ["{a: {b: [1, 2]}}", "c"]),
        ('\'a,b\', "c],\\"d"', ["'a,b'", '"c],\\"d"']),
        (r'"a\",b", c', [r'"a\",b"', "c"]),
        ("it's, that's", ["it's", "that's"]),
        ("a[n='x,y'],b", ["a[n='x,y']", "b"]),
        ("", [""]),
        ("a,", ["a", ""]),
        ("a[", None),
        ("a]", None),
        ("a[}", None),
        ("'a", None),
    ],
)
def test_split_top(text, parts):
    assert split_top(text) == parts


def test_hash_needs_no_hashable_values():
    one = Choice("prior", "p", {}, {"a": [1], "b": 1})
    other = Choice("prior", "p", {}, {"b": 1, "a": [1]})
    assert len({one, other}) == 1
