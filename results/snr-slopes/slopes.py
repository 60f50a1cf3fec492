"""How the signal-to-noise ratio of each gradient goes with K, beside theory.

Run: python results/snr-slopes/slopes.py [STUDY]

Mean and standard deviation of a gradient are powers of K times series in 1 / K, so log SNR is fitted by a line in log K
and one term in 1 / K, both the same for all seeds, and an intercept for each seed; at the last checkpoint of the
reference run. The 95% interval of the slope is from the residuals.

Source: Rainforth et al. (2018), Tighter Variational Bounds Are Not Necessarily Better, arXiv:1802.04537; Tucker et al.
(2019), Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives, arXiv:1810.04152.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

import vbench

THEORY = {("iwae", "encoder"): -0.5, ("iwae", "decoder"): 0.5, ("dreg", "encoder"): 0.5, ("dreg", "decoder"): 0.5}


def ratios(records: pd.DataFrame) -> pd.DataFrame:
    """Signal-to-noise ratios at the last checkpoint: name, k, seed, part and value."""
    last = records[(records["metric"] == "gradient_snr") & (records["step"] == records["step"].max())]
    names = last["estimator"].astype(str).str.extract(r"^(?P<name>[\w-]+)\[k=(?P<k>\d+)\]$")
    return last.assign(name=names["name"], k=names["k"].astype(float))[["name", "k", "seed", "part", "value"]]


def slopes(records: pd.DataFrame) -> pd.DataFrame:
    """A row for each estimator and part: slope, its interval, how many ratios it is from, theory, whether it holds."""
    found, rows = ratios(records).dropna(), []
    for (name, part), theory in THEORY.items():
        seen = found[(found["name"] == name) & (found["part"] == part)]
        seeds = pd.get_dummies(seen["seed"]).to_numpy(float)
        design = np.column_stack([np.log(seen["k"]), 1 / seen["k"], seeds])
        covariance = np.linalg.inv(design.T @ design)
        fit = covariance @ design.T @ np.log(seen["value"])
        df = len(seen) - design.shape[1]
        error = np.sqrt(((np.log(seen["value"]) - design @ fit) ** 2).sum() / df * covariance[0, 0])
        half = stats.t.ppf(0.975, df) * error
        rows.append((name, part, fit[0], fit[0] - half, fit[0] + half, len(seen), theory, abs(fit[0] - theory) <= half))
    return pd.DataFrame(rows, columns=["estimator", "part", "slope", "low", "high", "n", "theory", "holds"])


if __name__ == "__main__":
    study = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent
    records = vbench.load(study)
    told = ratios(records).query("part in ('encoder', 'decoder')")
    means = told.pivot_table("value", ["name", "part"], "k", observed=True)
    print(means.to_string(float_format="{:.3g}".format))
    print(slopes(records).to_string(index=False, float_format="{:.3f}".format))
