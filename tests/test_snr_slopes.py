"""Slopes of the signal-to-noise ratio in K: the shipped records against theory, and wrong twins that they refute."""

import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import vbench

STUDY = Path(__file__).parent.parent / "results" / "snr-slopes"
KS = (4, 16, 64)
slopes = runpy.run_path(str(STUDY / "slopes.py"))["slopes"]


def made(encoder, seeds=3, noise=0.02, correction=0.5):
    """Ratios that follow K to a power with a term in 1 / K, with noise and a level of each seed's own."""
    rng, rows = np.random.default_rng(3), []
    for seed in range(seeds):
        for name, power in (("iwae", encoder), ("dreg", 0.5)):
            for part, slope in (("encoder", power), ("decoder", 0.5)):
                level = rng.normal()
                for k in KS:
                    value = np.exp(level + slope * np.log(k) + correction / k + noise * rng.normal())
                    rows.append(("gradient_snr", 700, f"{name}[k={k}]", seed, part, value))
    return pd.DataFrame(rows, columns=["metric", "step", "estimator", "seed", "part", "value"])


@pytest.mark.parametrize("power", [-0.5, 0.0, 0.5])
def test_a_known_power_is_found(power):
    found = slopes(made(power)).iloc[0]
    assert found["low"] < power < found["high"]
    assert found["high"] - found["low"] < 0.2
    assert bool(found["holds"]) is (power == -0.5)


def test_what_is_not_resolved_is_left_out():
    records = made(-0.5)
    records.loc[0, "value"] = np.nan
    assert slopes(records)["n"].tolist() == [8, 9, 9, 9]


def swapped(records):
    """The same numbers under each other's names."""
    names = {f"{a}[k={k}]": f"{b}[k={k}]" for a, b in (("iwae", "dreg"), ("dreg", "iwae")) for k in KS}
    return records.assign(estimator=records["estimator"].astype(str).replace(names))


def check(records):
    found = slopes(records).set_index(["estimator", "part"])
    assert found["holds"].all(), found
    assert found["n"].tolist() == [9] * 4, found
    sign = np.sign(found["theory"])
    assert ((sign * found["low"] > 0) & (sign * found["high"] > 0)).all(), found
    assert (abs(found["slope"] - found["theory"]) < 0.1).all(), found
    wrong = slopes(swapped(records)).set_index(["estimator", "part"])
    assert not wrong["holds"].xs("encoder", level="part").any(), "DReG called IWAE, and IWAE called DReG"


def test_the_shipped_records_have_the_slopes_of_theory():
    check(vbench.load(STUDY))


@pytest.mark.slow
def test_a_run_has_them_too(tmp_path):
    pytest.importorskip("vbench_divergence", reason="the reference run is that of a beta-VAE")
    assert not vbench.run(STUDY / "grid.yaml", results=tmp_path, workers=1).failed
    check(vbench.load(tmp_path / "snr-slopes"))
