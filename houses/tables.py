"""Tables as notebooks show them: no index, one line a row, times to the millisecond."""

import pandas as pd
from pandas.api.types import is_object_dtype
from pandas.io.formats.style import Styler


def as_table(frame: pd.DataFrame, rows: int = 10) -> Styler:
    """The first rows, for the end of a cell. Text of messages is escaped.

    Example:
        >>> as_table(exp.houses()[["id", "completed_at"]], rows=5).to_html().count("<tr>")  # and a heading
        6
    """
    shown = frame.head(rows).copy()
    # pandas escapes text, but not bytes or lists, which messages may fill
    for name in filter(lambda name: is_object_dtype(shown[name]), shown.columns):
        shown[name] = shown[name].map(str, na_action="ignore")
    times = dict.fromkeys(shown.select_dtypes(["datetimetz"]), "{:%H:%M:%S.%f}")
    decimals = dict.fromkeys(shown.select_dtypes("float"), "{:,.1f}")
    styled = shown.style.hide(axis="index").format(times | decimals, na_rep="", escape="html")
    return styled.set_table_styles([{"selector": "td, th", "props": "text-align: left; white-space: nowrap"}])
