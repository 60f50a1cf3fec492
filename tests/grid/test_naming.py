"""Components named on the command line: what a name means, and what is said of a wrong one."""

import pytest

from vbench.catalogue import KINDS
from vbench.grid import GridError, named_components
from vbench.listing import load_catalogue

CATALOGUE = load_catalogue()


def named(*names, distribution=None):
    return [(c.kind, str(c)) for c in named_components(names, CATALOGUE, distribution)]


def test_a_name_means_every_kind_that_has_it() -> None:
    assert named("bernoulli") == [(kind, "bernoulli") for kind in ("encoder", "decoder", "prior")]
    assert named("decoder:bernoulli", "rloo[k=2]") == [("decoder", "bernoulli"), ("estimator", "rloo[k=2]")]


def test_no_name_means_all_of_a_distribution() -> None:
    assert {c.kind for c in named_components((), CATALOGUE, "vbench")} == set(KINDS)
    assert named_components((), CATALOGUE, "vbench")[0].parameters is not None


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("vimcoo", "check: nothing is called 'vimcoo' (did you mean 'vimco'?)"),
        ("encoder:bernouli", "check: nothing is called 'encoder:bernouli' (did you mean 'bernoulli'?)"),
        ("encoder:vimco", "check: nothing is called 'encoder:vimco'"),
        ("encodr:bernoulli", "check: 'encodr:bernoulli': 'encodr' is no kind, expected one of dataset, encoder, "),
        ("rloo[k=1]", "check.rloo.k: expected an integer >= 2 (samples per datum, averaged), not 1"),
    ],
)
def test_a_wrong_name_is_one_line(name, line) -> None:
    with pytest.raises(GridError) as caught:
        named(name)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_an_unknown_distribution_says_which_there_are() -> None:
    with pytest.raises(GridError, match=r"--plugin: 'nobody' registers nothing \(known: .*vbench"):
        named(distribution="nobody")
