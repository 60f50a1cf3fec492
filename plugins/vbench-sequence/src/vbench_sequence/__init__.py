"""State space models, particle filters and polyphonic music, one method per file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vbench import hookimpl
from vbench_sequence.aesmc import aesmc
from vbench_sequence.filtering_encoder import FilteringEncoder
from vbench_sequence.fivo import fivo
from vbench_sequence.linear_gaussian_chain import LinearGaussianChainDecoder, LinearGaussianChainPrior
from vbench_sequence.linear_gaussian_sequences import linear_gaussian_chain
from vbench_sequence.polyphonic import jsb, musedata, nottingham, piano_midi
from vbench_sequence.sequence_elbo import sequence_elbo
from vbench_sequence.sequence_iwae import sequence_iwae
from vbench_sequence.smoothing_encoder import SmoothingEncoder
from vbench_sequence.stochastic_volatility import StochasticVolatilityDecoder, StochasticVolatilityPrior
from vbench_sequence.vrnn import VRNNDecoder, VRNNPrior
from vbench_sequence.vsmc import vsmc

__all__ = ["vbench_datasets", "vbench_decoders", "vbench_encoders", "vbench_estimators", "vbench_priors"]

Factories = Mapping[str, Callable[..., Any]]


@hookimpl
def vbench_datasets() -> Factories:
    """Data of this package."""
    return {
        "jsb": jsb,
        "linear-gaussian-chain": linear_gaussian_chain,
        "musedata": musedata,
        "nottingham": nottingham,
        "piano-midi": piano_midi,
    }


@hookimpl
def vbench_encoders() -> Factories:
    """Encoders of this package."""
    return {"filtering": FilteringEncoder, "smoothing": SmoothingEncoder}


@hookimpl
def vbench_decoders() -> Factories:
    """Decoders of this package."""
    return {
        "linear-gaussian-chain": LinearGaussianChainDecoder,
        "stochastic-volatility": StochasticVolatilityDecoder,
        "vrnn": VRNNDecoder,
    }


@hookimpl
def vbench_priors() -> Factories:
    """Priors of this package."""
    return {
        "linear-gaussian-chain": LinearGaussianChainPrior,
        "stochastic-volatility": StochasticVolatilityPrior,
        "vrnn": VRNNPrior,
    }


@hookimpl
def vbench_estimators() -> Factories:
    """Estimators of this package."""
    return {
        "aesmc": aesmc,
        "fivo": fivo,
        "sequence-elbo": sequence_elbo,
        "sequence-iwae": sequence_iwae,
        "vsmc": vsmc,
    }
