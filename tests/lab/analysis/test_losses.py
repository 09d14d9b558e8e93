"""The figure of what two consumers lost and doubled."""

import pandas as pd
from matplotlib.figure import Figure
from support.figures import assert_whole, title_of

from houses.lab.analysis.fates import plot_losses

TABLE = pd.DataFrame(
    {"written": [1200, 1100], "lost": [0, 150], "twice": [0, 50]}, index=["exactly once", "naive"], dtype="int64"
)


def test_two_bars_per_consumer_and_their_numbers() -> None:
    """A bar of nothing has its number too."""
    drawn = plot_losses(TABLE)
    assert_whole(drawn)
    assert title_of(drawn).splitlines() == [
        "exactly once, 1,200 written: 0 lost, 0 twice",
        "naive, 1,100 written: 150 lost, 50 twice",
    ]
    assert [text.get_text() for text in drawn.axes[0].texts] == ["0 lost", "150 lost", "0 twice", "50 twice"]
    assert [bar.get_width() for bars in drawn.axes[0].containers for bar in bars] == [0, 150, 0, 50]


def test_it_can_be_drawn_beside_another_one_and_of_nothing() -> None:
    """On given axes; without a row there is nothing to say."""
    ax = Figure().subplots()
    assert plot_losses(TABLE, ax) is ax.figure
    assert title_of(plot_losses(TABLE.head(0))) == "No consumer to compare"
