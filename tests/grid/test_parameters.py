"""From annotations to schemas to typed values."""

import enum
import inspect
import json
import math
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt, Interval, Le, Len, Lt, MinLen, MultipleOf
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import Doc

from tests.grid.fake_catalogue import PATIENT
from tests.grid.test_positions import trees
from vbench.catalogue import Parameter
from vbench.grid.parameters import canonical, describe, format_value, parameter_of, shown, typed

REQUIRED: Any = object()

# annotation, schema, in words, what fits (as written and as kept), what does not
KINDS = [
    (int, {"type": "integer"}, "an integer", [(5, 5), (-3, -3)], [5.0, True, "5", None, [5]]),
    (
        Annotated[int, Ge(1)],
        {"type": "integer", "minimum": 1},
        "an integer >= 1",
        [(1, 1)],
        [0, -1, 1.0, True, "1"],
    ),
    (
        Annotated[int, MultipleOf(2), Lt(9)],
        {"type": "integer", "multipleOf": 2, "exclusiveMaximum": 9},
        "an integer < 9 and a multiple of 2",
        [(8, 8)],
        [7, 10],
    ),
    (float, {"type": "number"}, "a number", [(1, 1.0), (0.5, 0.5), (-0.0, 0.0)], ["1", True, None, 10**400]),
    (
        Annotated[float, Interval(gt=0, le=1)],
        {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "a number > 0 and <= 1",
        [(1, 1.0), (0.1, 0.1)],
        [0, 0.0, -0.0, 1.5, math.inf, math.nan],
    ),
    (str, {"type": "string"}, "text", [("a", "a"), ("e\u0301", "\u00e9")], [1, None, ["a"], "\ud800"]),
    (
        Annotated[str, MinLen(1)],
        {"type": "string", "minLength": 1},
        "text of length at least 1",
        [("a", "a")],
        [""],
    ),
    (bool, {"type": "boolean"}, "true or false", [(True, True), (False, False)], [0, 1, "true", None]),
    (None, {"type": "null"}, "null", [(None, None)], [0, False, ""]),
    (
        Literal["a", "b"],
        {"type": "string", "enum": ["a", "b"]},
        "one of a, b",
        [("a", "a")],
        ["c", "A", 1, None],
    ),
    (Literal["only"], {"type": "string", "const": "only"}, "only", [("only", "only")], ["x"]),
    (Literal[1, 2], {"type": "integer", "enum": [1, 2]}, "one of 1, 2", [(1, 1)], [True, 1.0, "1", 3]),
    (Literal[True, "auto"], {"enum": [True, "auto"]}, "one of true, auto", [(True, True)], [1, 1.0, "true"]),
    (
        float | None,
        {"anyOf": [{"type": "number"}, {"type": "null"}]},
        "a number or null",
        [(1, 1.0), (None, None)],
        ["x", False],
    ),
    (
        Annotated[int, Ge(1)] | Literal["all"] | None,
        {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "const": "all"},
                {"type": "null"},
            ]
        },
        "an integer >= 1 or all or null",
        [(3, 3), ("all", "all"), (None, None)],
        [0, True, "some"],
    ),
    (
        int | float,
        {"anyOf": [{"type": "integer"}, {"type": "number"}]},
        "an integer or a number",
        [(1, 1.0), (1.0, 1.0)],  # one value, one spelling of it
        [True, "1"],
    ),
    (
        int | str,
        {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        "an integer or text",
        [(1, 1), ("1", "1")],
        [1.5],
    ),
    (
        tuple[int, ...],
        {"type": "array", "items": {"type": "integer"}},
        "a list, each an integer",
        [([], []), ([1, 2], [1, 2])],
        [[1.0], 1, "12", [True], [[1]], None],
    ),
    (
        Annotated[Sequence[Annotated[int, Ge(1)]], Len(1, 3)],
        {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 3},
        "a list of length 1 to 3, each an integer >= 1",
        [([64], [64])],
        [[], [1, 1, 1, 1], [0]],
    ),
    (
        list[list[float]],
        {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
        "a list, each a list, each a number",
        [([[1]], [[1.0]])],
        [[1]],
    ),
    (
        tuple[int, float],
        {
            "type": "array",
            "prefixItems": [{"type": "integer"}, {"type": "number"}],
            "minItems": 2,
            "maxItems": 2,
        },
        "a list [an integer, a number]",
        [([1, 2], [1, 2.0])],
        [[1], [1, 2, 3], [1.5, 2]],
    ),
    (Any, {}, "a value", [(1, 1), ("a", "a"), ([1, [None]], [1, [None]])], [{"a": 1}, [{"a": 1}], math.nan]),
]  # fmt: skip
IDS = [words for _, _, words, _, _ in KINDS]


@pytest.mark.parametrize(("annotation", "schema", "words", "fits", "not_"), KINDS, ids=IDS)
def test_annotation_to_schema_to_value(annotation, schema, words, fits, not_):
    parameter = parameter_of("p", annotation, None, required=True)
    assert parameter == Parameter("p", schema, None, True, "")
    assert describe(schema) == words
    for written, kept in fits:
        assert typed(schema, written) == kept
        assert repr(typed(schema, written)) == repr(kept)
    for value in not_:
        with pytest.raises(ValueError, match="expected"):
            typed(schema, value)


def test_lengths_in_words():
    assert describe({"type": "array", "minItems": 2}) == "a list of length at least 2"
    assert describe({"type": "array", "maxItems": 2}) == "a list of length at most 2"
    assert describe({"type": "array", "minItems": 2, "maxItems": 2}) == "a list of length 2"


def test_wrong_value_says_what_was_expected():
    with pytest.raises(ValueError, match=r"\Aexpected an integer >= 1, not 'many'\Z"):
        typed({"type": "integer", "minimum": 1}, "many")


def test_floats_of_a_choice_keep_their_type():
    schema = {"enum": [0.5, 1.0]}
    assert repr(typed(schema, 1)) == "1.0"
    with pytest.raises(ValueError, match=r"one of 0\.5, 1\.0, not true"):
        typed(schema, True)


def test_typed_leaves_the_value_alone():
    value = [[1, 2]]
    kept = typed({"type": "array"}, value)
    kept[0].append(3)
    assert value == [[1, 2]]


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (Annotated[int, Ge(1), "samples per datum"], "samples per datum"),
        (Annotated[int, "samples", Ge(1), "not this"], "samples"),
        (Annotated[int, Ge(1), "samples"] | None, "samples"),
        (Annotated[Sequence[Annotated[int, "inner"]], "outer"], "outer"),
        (Annotated[int, Doc("samples")], "samples"),
        (Annotated[int, "two\n  lines"], "two lines"),
        (Literal["not", "help"], ""),
        (int, ""),
    ],
)
def test_help(annotation, words):
    parameter = parameter_of("k", annotation, None, required=True)
    assert parameter.help == words
    assert "description" not in str(parameter.schema)


@pytest.mark.parametrize(
    ("annotation", "default", "kept"),
    [
        (tuple[int, ...], (64, 64), [64, 64]),
        (Sequence[tuple[int, float]], ((1, 2),), [[1, 2.0]]),
        (float, 1, 1.0),
        (float | None, None, None),
        (inspect.Parameter.empty, 3, 3),
    ],
)
def test_default_is_typed(annotation, default, kept):
    parameter = parameter_of("p", annotation, default, required=False)
    assert repr(parameter.default) == repr(kept)
    assert not parameter.required


@pytest.mark.parametrize(
    ("annotation", "default"),
    [
        (int, None),
        (int, 1.5),
        (Annotated[int, Ge(1)], 0),
        (Literal["a"], "b"),
        (float, math.inf),
        (int, object()),
    ],
)
def test_wrong_default(annotation, default):
    with pytest.raises(TypeError, match="parameter 'p': the default is wrong: expected"):
        parameter_of("p", annotation, default, required=False)


class Colour(enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    "annotation",
    [
        dict[str, int],
        set[int],
        Path,
        Colour | None,
        Annotated[str, "x"] | dict[str, int],
        bytes,
        type,
    ],
)
def test_what_a_grid_cannot_write(annotation):
    with pytest.raises(TypeError, match="parameter 'p': a grid cannot write"):
        parameter_of("p", annotation, None, required=True)


def test_sweep_is_no_parameter():
    with pytest.raises(TypeError, match="parameter 'sweep': the name is a word of the grid"):
        parameter_of("sweep", int, 1, required=False)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([64, 64], "[64,64]"),
        ((1, [2]), "[1,[2]]"),
        (1e-05, "1e-05"),
        (0.1, "0.1"),
        (3.0, "3.0"),
        (None, "null"),
        (True, "true"),
        ("relu", "relu"),
        ("5", '"5"'),
        ("a b", '"a b"'),
    ],
)
def test_format_value(value, text):
    assert format_value(value) == text


def test_shown_is_short():
    assert shown({"a": 1}) == "a mapping"
    assert shown("it's") == '"it\'s"'
    assert len(shown("x" * 99)) == len(shown(list(range(99)))) == 40
    assert shown([{"a": 1}]) == '[{"a": 1}]'


def test_canonical_is_one_text_per_meaning():
    assert canonical({"b": 1, "a": [0.1, -0.0, None, True]}) == '{"a":[0.1,0.0,null,true],"b":1}'
    assert canonical({"e\u0301": "e\u0301"}) == canonical({"\u00e9": "\u00e9"})
    assert canonical((1, 2)) == canonical([1, 2])
    assert len({canonical(value) for value in (1, 1.0, True, "1", [1], None, "null", "true")}) == 8


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_canonical_refuses(value):
    with pytest.raises(ValueError, match="JSON"):
        canonical({"a": value})


few = st.recursive(  # few values, so that equal ones are met
    st.sampled_from([0, 1, 1.0, True, False, None, 0.0, -0.0, "1", "", "e\u0301", "\u00e9"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=3,
)


def same(one, other):
    """Equality of JSON values with their types, where -0.0 is 0.0 and text is compared as it looks."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, str):
        return unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)
    return one == other


@settings(max_examples=500, **PATIENT)
@given(few, few)
def test_canonical_is_equal_where_values_are(one, other):
    assert (canonical(one) == canonical(other)) == same(one, other)


@settings(**PATIENT)
@given(trees)
def test_canonical_is_json(tree):
    assert same(json.loads(canonical(tree)), tree)


def test_limits_are_inclusive_or_not():
    assert typed({"type": "integer", "minimum": 1, "maximum": 1}, 1) == 1
    for schema in ({"exclusiveMinimum": 1}, {"exclusiveMaximum": 1}):
        with pytest.raises(ValueError, match=r"expected an integer [<>] 1, not 1"):
            typed({"type": "integer", **schema}, 1)


def test_every_limit_of_annotated_types_is_held():
    for limit, inside, outside in [(Ge(2), 2, 1), (Gt(2), 3, 2), (Le(2), 2, 3), (Lt(2), 1, 2)]:
        schema = parameter_of("p", Annotated[int, limit], None, required=True).schema
        assert typed(schema, inside) == inside
        with pytest.raises(ValueError, match="expected an integer"):
            typed(schema, outside)
