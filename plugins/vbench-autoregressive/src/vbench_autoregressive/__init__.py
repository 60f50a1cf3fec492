"""Autoregressive decoders of images, one method per file."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vbench import Decoder, hookimpl
from vbench_autoregressive.pixelcnn import PixelCNNDecoder
from vbench_autoregressive.pixelvae import PixelVAEDecoder

__all__ = ["vbench_decoders"]


@hookimpl
def vbench_decoders() -> Mapping[str, Callable[..., Decoder]]:
    """The likelihoods of this package."""
    return {"pixelcnn": PixelCNNDecoder, "pixelvae": PixelVAEDecoder}
