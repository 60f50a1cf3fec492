"""Completing data of which some entries are missing, one method per file."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vbench import Dataset, Decoder, Encoder, Prior, hookimpl
from vbench_completion.fill import FillEncoder
from vbench_completion.fill_svi import FillSVIEncoder
from vbench_completion.joint import JointPrior
from vbench_completion.masked import masked
from vbench_completion.observed import ObservedDecoder
from vbench_completion.pictures import pictures

__all__ = ["pictures", "vbench_datasets", "vbench_decoders", "vbench_encoders", "vbench_priors"]


@hookimpl
def vbench_datasets() -> Mapping[str, Callable[..., Dataset]]:
    """Data of which something is hidden."""
    return {"masked": masked}


@hookimpl
def vbench_encoders() -> Mapping[str, Callable[..., Encoder]]:
    """Factorised posteriors of what is missing."""
    return {"fill": FillEncoder, "fill-svi": FillSVIEncoder}


@hookimpl
def vbench_decoders() -> Mapping[str, Callable[..., Decoder]]:
    """What is observed."""
    return {"observed": ObservedDecoder}


@hookimpl
def vbench_priors() -> Mapping[str, Callable[..., Prior]]:
    """Densities of whole data."""
    return {"joint": JointPrior}
