"""YAML 1.2 with places: what is read, where it stands, and what is refused."""

import json
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.grid.fake_catalogue import PATIENT
from vbench.grid.positions import MAX_DEPTH, MAX_VALUES, GridError, Node, Place, Problems, plain
from vbench.grid.yaml12 import MAX_BYTES, decode, read_yaml, scalar


def read(text):
    problems = Problems()
    node = read_yaml(text, "g.yaml", problems)
    problems.finish()
    return node


def lines_of(text):
    with pytest.raises(GridError) as caught:
        read(text)
    return caught.value.lines


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1.0e-3", 1e-3),
        ("1.", 1.0),
        (".5", 0.5),
        ("+5", 5),
        ("-0", 0),
        ("0", 0),
        ("1E5", 1e5),
        ("0x1F", 31),
        ("0o17", 15),
        ("9223372036854775807", 2**63 - 1),
        ("", None),
        ("~", None),
        ("null", None),
        ("NULL", None),
        ("true", True),
        ("False", False),
        # YAML 1.1 makes something else of each of these
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2024-02-31", "2024-02-31"),
        ("0b11", "0b11"),
        ("nan", "nan"),
        ("inf", "inf"),
        ("e5", "e5"),
        ("1.2.3", "1.2.3"),
        ("-", "-"),
        (".", "."),
        ("٣", "٣"),  # a digit, but no ASCII one
    ],
)
def test_scalar(text, value):
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (".inf", "a finite number"),
        ("-.INF", "a finite number"),
        (".nan", "a finite number"),
        ("1e999", "a finite number"),
        ("-1e999", "a finite number"),
        ("017", "without leading zeros"),
        ("-00", "without leading zeros"),
        ("9223372036854775808", "at most 64 bits"),
        ("9" * 10_000, "at most 64 bits"),
        ("0x" + "f" * 17, "at most 64 bits"),
    ],
)
def test_scalar_refuses(text, problem):
    with pytest.raises(ValueError, match=problem) as caught:
        scalar(text)
    assert len(str(caught.value)) < 120


@settings(**PATIENT)
@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63) + 1, 2**63 - 1))
def test_scalar_reads_what_python_prints(number):
    assert repr(scalar(repr(number))) == repr(number)


printable = st.text(st.sampled_from("ab 1.-+e#:,[]{}'\"\\/&*!?|>%@`~\u00e9\u65e5\U0001f600"), max_size=8)
documents = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(-1e9, 1e9) | printable,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(printable, inner, max_size=4),
    max_leaves=15,
)


@settings(**PATIENT)
@given(documents, st.sampled_from([None, 2]))
def test_reads_json(document, indent):
    text = json.dumps(document, ensure_ascii=False, indent=indent)
    assert repr(plain(read(text))) == repr(document)


def place(node: Node):
    return node.place.text


def test_places_of_keys_and_values():
    root = read("a:\n  - x\n  - {b: 'y', c: [1]}\nd: |\n  text\n")
    assert place(root) == "g.yaml:1:1"
    items = root.value["a"].value
    assert (root.value["a"].key.text, place(root.value["a"])) == ("g.yaml:1:1", "g.yaml:2:3")
    assert place(items[0]) == "g.yaml:2:5"
    assert (items[1].value["b"].key.text, place(items[1].value["b"])) == ("g.yaml:3:6", "g.yaml:3:9")
    assert place(items[1].value["c"].value[0]) == "g.yaml:3:18"
    assert place(root.value["d"]) == "g.yaml:4:4"


def test_a_place_may_be_given():
    given_place = Place((1, 0, 0), "--set a=1")
    node = read_yaml("{a: [1]}", "", Problems(), given_place)
    assert node.value["a"].value[0].place == given_place


def test_entries_with_brackets_in_a_block():
    assert plain(read("- iwae[k=5]\n- gaussian[hidden=[64, 64],latent=8]\n")) == [
        "iwae[k=5]",
        "gaussian[hidden=[64, 64],latent=8]",
    ]


def test_aliases():
    root = read("a: &x {b: 1}\nc: *x\nd: [*x, *x]\n")
    assert plain(root) == {"a": {"b": 1}, "c": {"b": 1}, "d": [{"b": 1}, {"b": 1}]}
    assert root.value["c"].key.text == "g.yaml:2:1"  # the use's key
    assert root.value["c"].place.text == "g.yaml:1:4"  # the value's own place


def test_text_is_normalised():
    assert plain(read("e\u0301: e\u0301\n")) == {"\u00e9": "\u00e9"}


def test_windows_line_ends():
    assert lines_of("a: 1\r\nb: .inf\r\n") == ["g.yaml:2:4: b: expected a finite number, not .inf"]


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "\n\n", "null"])
def test_nothing(text):
    assert read(text).value is None


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a: 1\na: 2\nb: 1\nb: 2", ["g.yaml:2:1: a: given twice", "g.yaml:4:1: b: given twice"]),
        ("x: {a: 1, a: 2}", ["g.yaml:1:11: x.a: given twice"]),
        ("e\u0301: 1\n\u00e9: 2", ["g.yaml:2:1: é: given twice"]),
        ("a: [.inf, {b: .nan}]", [
            "g.yaml:1:5: a[0]: expected a finite number, not .inf",
            "g.yaml:1:15: a[1].b: expected a finite number, not .nan",
        ]),
        ("a: !!int 3", ["g.yaml:1:4: a: tags (!...) have no meaning in a grid"]),
        ("a: !x [1]", ["g.yaml:1:4: a: tags (!...) have no meaning in a grid"]),
        ("!x a: 1", ["g.yaml:1:1: tags (!...) have no meaning in a grid"]),
        ("a: 1\n<<: {b: 1}", ["g.yaml:2:1: <<: merge keys (<<) are not part of YAML 1.2"]),
        ("a: *x", ["g.yaml:1:4: alias *x is not defined"]),
        ("a: &x [*x]", ["g.yaml:1:8: alias *x cannot be used here"]),
        ("? [1]\n: 2", ["g.yaml:1:3: expected a word as a key"]),
        ("a: .inf\nb: [", [
            "g.yaml:1:4: a: expected a finite number, not .inf",
            "g.yaml:2:5: not YAML: expected the node content, but found '<stream end>'",
        ]),
        ("a: 1\n---\nb: 2", ["g.yaml:2:1: expected one document, found a second one"]),
        ("a: 1\n...\nb: 2", ["g.yaml:3:1: expected one document, found a second one"]),
        ("%YAML 1.1\n---\na: no", ["g.yaml:2:1: expected YAML 1.2"]),
        ("a: qui\x07ck", ["g.yaml:1:7: character U+0007 cannot stand in a grid"]),
        ("a: 1\nb: \x00", ["g.yaml:2:4: character U+0000 cannot stand in a grid"]),
        ('a: "\\uD800"', ["g.yaml:1:4: expected text that is valid Unicode"]),
        ("a:\n\tb: 1", ["g.yaml:2:1: not YAML: a tab where YAML wants spaces"]),
        ("a: 'x", ["g.yaml:1:4: not YAML: a quote that is never closed"]),
        ("a: [1", [
            "g.yaml:1:6: not YAML: expected ',' or ']', but got '<stream end>' (for the bracket at 1:4)"
        ]),
        ("a: [iwae[k=5]]", [
            'g.yaml:1:9: name[param=value] inside [ ] needs quotes, as in "iwae[k=5]", or a line of its own'
        ]),
        ("a: {b: iwae[k=5]}", [
            'g.yaml:1:12: name[param=value] inside { } needs quotes, as in "iwae[k=5]", or a line of its own'
        ]),
    ],
)  # fmt: skip
def test_refuses(text, lines):
    assert lines_of(text) == lines


def test_an_escape_beyond_unicode_is_no_traceback():
    (line,) = lines_of('a: 1\nb: "\\U00110000"')
    assert re.match(r"g\.yaml:\d+:\d+: not YAML, from here on: ", line)


def test_what_was_reported_is_marked_broken():
    problems = Problems()
    root = read_yaml("a: .inf\nb: [1, [.nan]]\nc: !x 1\nd: 1", "g", problems)
    assert [root.value[key].broken for key in "abcd"] == [True, True, True, False]
    assert len(problems) == 3


def test_depth():
    deepest = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert plain(read(deepest))
    assert lines_of(f"[{deepest}]") == [f"g.yaml:1:{MAX_DEPTH + 1}: nested deeper than {MAX_DEPTH} levels"]


def test_depth_through_aliases():
    text = "".join(f"a{i}: &a{i} " + "[" * 20 + (f"*a{i - 1}" if i else "1") + "]" * 20 + "\n" for i in range(99))
    assert lines_of(text)[0].endswith(f"nested deeper than {MAX_DEPTH} levels")


def test_alias_bomb():
    text = "a: &a [x,x,x,x,x,x,x,x,x]\n"
    for new, old in zip("bcdefghi", "abcdefgh", strict=True):
        text += f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n"
    start = time.perf_counter()
    assert lines_of(text)[0].endswith(f"more than {MAX_VALUES} values")
    assert time.perf_counter() - start < 20  # written out it is 9^9 values


def test_decode():
    assert decode("\ufeffa: é".encode(), "g.yaml") == "a: é"
    with pytest.raises(GridError, match=r"\Ag\.yaml:2:4: not UTF-8 \(byte 0xff\)\Z"):
        decode(b"a: 1\nb: \xff", "g.yaml")
    with pytest.raises(GridError, match=r"\Ag\.yaml:1:4: not UTF-8 \(byte 0xff\)\Z"):
        decode(b"\xef\xbb\xbfa: \xff", "g.yaml")
    with pytest.raises(GridError, match=r"\Ag\.yaml: larger than 1 MiB, too large for a grid\Z"):
        decode(b" " * (MAX_BYTES + 1), "g.yaml")
    assert decode(b" " * MAX_BYTES, "g.yaml")
