"""The built-in components, registered through the hooks that every plugin uses."""

from __future__ import annotations

from vbench.builtin.datasets.bernoulli_bars import bernoulli_bars
from vbench.builtin.datasets.digits import digits
from vbench.builtin.datasets.frey import frey
from vbench.builtin.datasets.linear_gaussian import linear_gaussian
from vbench.builtin.datasets.mnist import mnist
from vbench.builtin.datasets.npz import npz
from vbench.builtin.decoders.bernoulli import BernoulliDecoder
from vbench.builtin.decoders.categorical import CategoricalDecoder
from vbench.builtin.decoders.conv_bernoulli import ConvBernoulliDecoder
from vbench.builtin.decoders.discretized_logistic import DiscretizedLogisticDecoder
from vbench.builtin.decoders.gaussian import GaussianDecoder
from vbench.builtin.decoders.linear_gaussian import LinearGaussianDecoder
from vbench.builtin.encoders.bernoulli import BernoulliEncoder
from vbench.builtin.encoders.categorical import CategoricalEncoder
from vbench.builtin.encoders.conv_gaussian import ConvGaussianEncoder
from vbench.builtin.encoders.gaussian import GaussianEncoder
from vbench.builtin.priors.bernoulli import BernoulliPrior
from vbench.builtin.priors.categorical import CategoricalPrior
from vbench.builtin.priors.gaussian_mixture import GaussianMixturePrior
from vbench.builtin.priors.standard_normal import StandardNormalPrior
from vbench.estimators.dreg import dreg
from vbench.estimators.iwae import iwae
from vbench.estimators.nvil import nvil
from vbench.estimators.reinforce import reinforce
from vbench.estimators.renyi import renyi
from vbench.estimators.reparam import reparam
from vbench.estimators.rloo import rloo
from vbench.estimators.stl import stl
from vbench.estimators.vimco import vimco
from vbench.hookspecs import Factories, hookimpl


@hookimpl
def vbench_datasets() -> Factories:
    """Built-in data."""
    return {
        "bernoulli-bars": bernoulli_bars,
        "digits": digits,
        "frey": frey,
        "linear-gaussian": linear_gaussian,
        "mnist": mnist,
        "npz": npz,
    }


@hookimpl
def vbench_encoders() -> Factories:
    """Built-in encoders."""
    return {
        "bernoulli": BernoulliEncoder,
        "categorical": CategoricalEncoder,
        "conv-gaussian": ConvGaussianEncoder,
        "gaussian": GaussianEncoder,
    }


@hookimpl
def vbench_decoders() -> Factories:
    """Built-in decoders."""
    return {
        "bernoulli": BernoulliDecoder,
        "categorical": CategoricalDecoder,
        "conv-bernoulli": ConvBernoulliDecoder,
        "discretized-logistic": DiscretizedLogisticDecoder,
        "gaussian": GaussianDecoder,
        "linear-gaussian": LinearGaussianDecoder,
    }


@hookimpl
def vbench_priors() -> Factories:
    """Built-in priors."""
    return {
        "bernoulli": BernoulliPrior,
        "categorical": CategoricalPrior,
        "gaussian-mixture": GaussianMixturePrior,
        "standard-normal": StandardNormalPrior,
    }


@hookimpl
def vbench_estimators() -> Factories:
    """Built-in estimators."""
    return {
        "dreg": dreg,
        "iwae": iwae,
        "nvil": nvil,
        "reinforce": reinforce,
        "reparam": reparam,
        "renyi": renyi,
        "rloo": rloo,
        "stl": stl,
        "vimco": vimco,
    }
