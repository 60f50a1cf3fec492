"""Models and their exact answers, computed once per session."""

from functools import cache

from torch import Tensor

from tests import toys
from vbench.model import Model
from vbench.oracles import enumeration, quadrature
from vbench.types import Batch, Bound

MODELS = {
    "binary": toys.binary,
    "categorical": toys.categorical,
    "mixture": toys.gaussian,
    "line": lambda: toys.gaussian(latent=1),
    "normal": lambda: toys.gaussian(prior="normal"),
    "standard": lambda: toys.gaussian(prior="standard"),
    "vamp": lambda: toys.gaussian(prior="vamp"),
}
DISCRETE = ("binary", "categorical")


@cache
def model(name: str) -> tuple[Model, Batch]:
    """The model of that name and its data."""
    return MODELS[name](), toys.batch()


@cache
def truth(name: str, bound: Bound, k: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Exact value ``[B]`` and gradient by parameter name."""
    if name in DISCRETE:
        value = enumeration.bound_value(*model(name), bound, k)
        return value.detach(), enumeration.exact_gradient(*model(name), bound, k)
    # far below what a test can see: its standard errors are a percent
    answer = quadrature.settled(*model(name), bound, k, tolerance=1e-3)
    return answer.value, answer.gradient
