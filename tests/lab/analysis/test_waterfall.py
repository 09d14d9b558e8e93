"""One house as a picture: bars of its parts, what is missing, what cancelled it."""

from dataclasses import replace

import pytest
from matplotlib.figure import Figure
from support.figures import assert_whole, title_of

from houses.lab.analysis.waterfall import plot_waterfall
from houses.records.message import FULL, PARTS, Reject
from houses.verify.story import PartState, PartStory, StornoStory, Story


def part(name: str, sent_ms: float | None, state: PartState = "written", offset: int | None = 1300) -> PartStory:
    """A part that was sent so many ms after noon."""
    sent = None if sent_ms is None else f"2026-01-31T12:00:00.{round(sent_ms * 1000):06d}Z"
    number = next(part.partition for part in PARTS if part.name == name)
    return PartStory(name, number, state, 1500, 1600, 77, offset, sent, f"{name}_$1$", name)


def missing(name: str) -> PartStory:
    """A part that has not come."""
    return replace(part(name, None, "missing", None), name=None, task=None)


FINISHED = Story(
    7,
    "finished",
    (part("foundation", 0), part("wall", 61.5), part("roof", 10)),
    "2026-01-31T12:00:00.074000Z",
    "",
    (),
    (),
)
PENDING = Story(
    7, "pending", (part("foundation", 0, "pending"), part("wall", 20, "pending"), missing("roof")), None, "", (), ()
)


def texts(picture: Figure) -> list[str]:
    """What is written inside the picture, from the top."""
    return [text.get_text() for text in picture.axes[0].texts]


def bars(picture: Figure) -> list[tuple[float, float]]:
    """Start and end of each bar in ms."""
    rectangles = [patch.get_bbox() for patch in picture.axes[0].patches]  # type: ignore[attr-defined]
    return [(round(box.x0, 3), round(box.x1, 3)) for box in rectangles]


def test_a_time_with_an_offset_is_known() -> None:
    """The wall was sent at 13:00 one hour east of Greenwich, as before."""
    wall = replace(part("wall", 0), sent="2026-01-31T13:00:00.061500+01:00")
    foundation, _, roof = FINISHED.parts
    assert bars(plot_waterfall(replace(FINISHED, parts=(foundation, wall, roof)))) == bars(plot_waterfall(FINISHED))


def test_bars_reach_from_the_sending_of_a_part_to_the_completion() -> None:
    """The wall came 51.5 ms after the roof, the second part."""
    drawn = plot_waterfall(FINISHED)
    assert_whole(drawn)
    assert bars(drawn) == [(0, 74), (61.5, 74), (10, 74)]
    assert title_of(drawn) == (
        "House 7 was complete 74 ms after its first part was sent:\nits wall was sent last, 51.5 ms after the second part"
    )
    assert texts(drawn)[:2] == ["sent first, offset 1,300, foundation_$1$", "sent at 61.5 ms, offset 1,300, wall_$1$"]
    assert "complete at 74 ms" in texts(drawn)[-1]
    assert "(ms)" in drawn.axes[0].get_xlabel()


def test_a_missing_part_says_how_far_its_partition_was_read() -> None:
    """Bars without an end reach to the edge of the picture."""
    drawn = plot_waterfall(PENDING)
    assert_whole(drawn)
    assert title_of(drawn) == "House 7 waits for its roof"
    assert texts(drawn)[2] == "not yet: partition 2 read to 1,500 of 1,600, to house 77"
    assert texts(plot_waterfall(replace(PENDING, state="evicted")))[2].startswith("never came: partition 2")
    edge = drawn.axes[0].get_xlim()[1]
    assert bars(drawn) == [(0, edge), (20, edge)]


def test_stornos_and_rejects_are_told_below_the_parts() -> None:
    """What an eviction rejected is in the rows of the parts; more than four are counted."""
    rejects = tuple(Reject(1, offset, "duplicate", "again", b"") for offset in (4, 5, 6, 8))
    given_up = Reject(0, 3, "evicted", "no roof", b"")
    story = replace(FINISHED, state="cancelled", storno="full storno", stornos=(StornoStory(3, FULL, True),))
    drawn = plot_waterfall(replace(story, rejects=(given_up, *rejects)))
    assert_whole(drawn)
    assert title_of(drawn).endswith("after the second part; full storno")
    assert texts(drawn)[3:-1] == [
        "full storno, offset 3",
        *(f"wall duplicate, offset {n}: again" for n in (4, 5, 6)),
        "and 1 more",
    ]
    labels = [label.get_text() for label in drawn.axes[0].get_yticklabels()]
    assert labels == ["foundation", "wall", "roof", "storno", "reject", "reject", "reject", ""]


@pytest.mark.parametrize(
    ("story", "title"),
    [
        (replace(PENDING, state="evicted"), "House 7 was given up: its roof never came"),
        (replace(FINISHED, state="evicted", completed_at=None), "House 7 was given up: a part came too late"),
        (replace(FINISHED, state="pending", completed_at=None), "House 7 is not read to its end yet"),
        (replace(FINISHED, state="unread", completed_at=None), "House 7 is not read yet"),
        (replace(FINISHED, completed_at="20260131_120000"), "House 7 is complete"),
        (
            replace(
                FINISHED, parts=(*FINISHED.parts[:2], part("roof", None)), state="cancelled", storno="storno of roof"
            ),
            "House 7 was complete 74 ms after its first part was sent; storno of roof",
        ),
        (
            Story(7, "unknown", tuple(missing(name.name) for name in PARTS), None, "", (), ()),
            "House 7: no part of it has come",
        ),
    ],
)
def test_the_title_says_where_the_house_stands(story: Story, title: str) -> None:
    """Also when times are not known, as in lines of the older programs, or nothing is."""
    drawn = plot_waterfall(story)
    assert_whole(drawn)
    assert title_of(drawn) == title


def test_the_story_is_drawn_on_the_axes_that_it_is_given() -> None:
    """So that several houses can share a figure."""
    left, right = Figure().subplots(1, 2)
    assert plot_waterfall(FINISHED, right) is right.figure
    assert not left.patches
