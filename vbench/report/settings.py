"""What cells of one crossing were run under more than one of: training and measuring, and the data themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandas import DataFrame, Series

__all__ = ["data_of", "settings_of"]


def settings_of(cells: DataFrame) -> Series[str]:
    """Of each cell, what tells it from others with the same labels; empty where nothing does.

    Cells with other settings are no seeds of one another: no mean is over both.
    """
    import pandas as pd

    how = [str(name) for name in cells if str(name).startswith(("train.", "measure."))]
    texts = cells[how].astype("str").fillna("")
    asked = cells["status"] != "skipped"
    swept = texts[asked].groupby(cells.loc[asked, "train"].astype("str"))  # what is swept has its own axis
    told = [name for name in how if swept[name].nunique().max() > 1]
    rows = [", ".join(f"{name} {value}" for name, value in row.items()) for row in texts[told].to_dict("records")]
    found = pd.Series(rows, index=cells.index, dtype="str")
    data = data_of(cells)
    return found.where(data == "", found.where(found == "", found + ", ") + "data " + data)


def data_of(cells: DataFrame) -> Series[str]:
    """Of each cell, which data it was run on, where a dataset of one name was another at another time."""
    import pandas as pd

    none = pd.Series("", index=cells.index, dtype="str")
    if "data_digest" not in cells:
        return none
    digest = cells["data_digest"].astype("str").where(cells["data_digest"].notna(), "")
    known = digest[(digest != "") & (cells["status"] == "done")]
    many = known.groupby(cells.loc[known.index, "dataset"].astype("str")).nunique()
    apart = cells["dataset"].astype("str").map(many).fillna(0) > 1
    return none.where(~apart, digest.str[:8])
