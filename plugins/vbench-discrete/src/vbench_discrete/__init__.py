"""Gradient estimators for discrete latents, one method per file."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vbench import Estimator, hookimpl
from vbench_discrete.arm import Arm
from vbench_discrete.arms import Arms
from vbench_discrete.disarm import Disarm
from vbench_discrete.disarm_categorical import DisarmCategorical
from vbench_discrete.disarm_iwae import DisarmIWAE
from vbench_discrete.double_cv import DoubleCV
from vbench_discrete.enumerate import Enumerate
from vbench_discrete.gumbel_softmax import GumbelSoftmax
from vbench_discrete.lax import Lax
from vbench_discrete.measure_valued import measure_valued
from vbench_discrete.muprop import MuProp
from vbench_discrete.ovis import ovis
from vbench_discrete.rebar import rebar
from vbench_discrete.reinmax import ReinMax
from vbench_discrete.relax import relax
from vbench_discrete.rodeo import Rodeo
from vbench_discrete.rws import RWS
from vbench_discrete.rws_dreg import RWSDReG
from vbench_discrete.st_gumbel_softmax import StraightThroughGumbelSoftmax
from vbench_discrete.straight_through import StraightThrough
from vbench_discrete.unordered_set import UnorderedSet
from vbench_discrete.vimco_arithmetic import vimco_arithmetic

__all__ = ["vbench_estimators"]


@hookimpl
def vbench_estimators() -> Mapping[str, Callable[..., Estimator]]:
    """What this package registers."""
    return {
        "arm": Arm,
        "arms": Arms,
        "disarm": Disarm,
        "disarm-categorical": DisarmCategorical,
        "disarm-iwae": DisarmIWAE,
        "double-cv": DoubleCV,
        "enumerate": Enumerate,
        "gumbel-softmax": GumbelSoftmax,
        "lax": Lax,
        "measure-valued": measure_valued,
        "muprop": MuProp,
        "ovis": ovis,
        "rebar": rebar,
        "reinmax": ReinMax,
        "relax": relax,
        "rodeo": Rodeo,
        "rws": RWS,
        "rws-dreg": RWSDReG,
        "st-gumbel-softmax": StraightThroughGumbelSoftmax,
        "straight-through": StraightThrough,
        "unordered-set": UnorderedSet,
        "vimco-arithmetic": vimco_arithmetic,
    }
