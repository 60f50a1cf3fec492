"""What a model's samples are like beside held-out data: sample quality, which likelihood does not tell."""

from __future__ import annotations

from vbench.measure.samples.quality import pictures, sample_quality

__all__ = ["pictures", "sample_quality"]
