"""The story of one house as a picture: when each part was sent, what it waited for, what cancelled it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from houses.lab.analysis.figure import ACCENT, COLOURS, HATCHES, explain, figure_of, in_ms, new_axes
from houses.records.message import PARTS, parse_time
from houses.verify.story import PartStory, Story, safe

_MOST_NOTES = 4
"""Stornos and rejects that are told of one by one."""
_LONGEST_NOTE = 90
_OPEN_SHARE = 1.5
"""How far bars without an end reach, by the last known moment."""


@dataclass(frozen=True, slots=True)
class _Times:
    """Moments of a house in ms since its first part was sent."""

    sent_ms: dict[str, float]
    """By part; only known ones."""
    completed_ms: float | None

    @property
    def end_ms(self) -> float:
        """The last moment that is known; 0 when it is the first one too."""
        return max([*self.sent_ms.values(), self.completed_ms or 0.0], default=0.0)

    @property
    def right_ms(self) -> float:
        """Right end of the picture, and of bars without an end."""
        return self.end_ms * (_OPEN_SHARE if self.completed_ms is None else 1.02) or 1.0


def plot_waterfall(story: Story, ax: Axes | None = None) -> Figure:
    """A row per part: from when it was sent to when the house was complete, in ms since the first part was sent; then stornos.

    Args:
        story: as `Results.story(house_id)`.
        ax: where to draw; without it on a new figure. The result is the whole figure.

    Example:
        >>> plot_waterfall(exp.story(7)).axes[0].get_xlabel()
        'time since the first part was sent (ms)'
    """
    ax = ax or new_axes()
    times = _times(story)
    for at, part in enumerate(story.parts):
        _draw_part(ax, at, part, times)
        absent = "never came" if story.state == "evicted" else "not yet"
        _write(ax, at - 0.2, _told(part, times.sent_ms.get(part.part), absent))
    notes = list(_notes(story))
    for at, (_, text) in enumerate(notes, len(story.parts)):
        _write(ax, at, text)
    if times.completed_ms is not None:
        _mark_completion(ax, times.completed_ms)
    names = [*(part.part for part in story.parts), *(kind for kind, _ in notes)]
    ax.set_yticks(range(len(names)), names)
    if not times.end_ms:
        ax.set_xticks([0] if times.sent_ms else [])
    ax.set(xlabel="time since the first part was sent (ms)", xlim=(0, times.right_ms), ylim=(len(names) - 0.4, -1))
    explain(ax, _title(story, times), "A row per part. " + " ".join(f"{line}." for line in story.lines()))
    return figure_of(ax)


def _times(story: Story) -> _Times:
    sent = {part.part: moment for part in story.parts if (moment := parse_time(part.sent))}
    completed = parse_time(story.completed_at)
    if not sent:
        return _Times({}, None)
    first = min(sent.values())
    return _Times(
        {name: (moment - first).total_seconds() * 1000 for name, moment in sent.items()},
        None if completed is None else (completed - first).total_seconds() * 1000,
    )


def _draw_part(ax: Axes, at: int, part: PartStory, times: _Times) -> None:
    start_ms, name = times.sent_ms.get(part.part), part.part
    if start_ms is not None:
        end_ms = times.right_ms if times.completed_ms is None else times.completed_ms
        style: dict[str, Any] = {"color": COLOURS[name], "hatch": HATCHES[name], "edgecolor": "white"}
        style["alpha"] = 0.4 if times.completed_ms is None else 1.0
        ax.barh(at + 0.17, max(0.0, end_ms - start_ms), 0.36, start_ms, **style)


def _mark_completion(ax: Axes, completed_ms: float) -> None:
    ax.axvline(completed_ms, color=ACCENT)
    style: dict[str, Any] = {"color": ACCENT, "ha": "right", "va": "center"}
    ax.text(completed_ms, -0.75, f"complete at {in_ms(completed_ms)} ", **style)


def _told(part: PartStory, start_ms: float | None, absent: str) -> str:
    """What is written above the bar of a part."""
    if part.state == "missing":
        reached = "" if part.reached_id is None else f", to house {part.reached_id}"
        return f"{absent}: partition {part.partition} read to {part.position:,} of {part.end:,}{reached}"
    sent = (
        "time of sending not known" if start_ms is None else f"sent at {in_ms(start_ms)}" if start_ms else "sent first"
    )
    offset = "offset not recorded" if part.offset is None else f"offset {part.offset:,}"
    state = {"unread": "not read yet", "evicted": "given up"}.get(part.state, "")
    return ", ".join(text for text in (sent, offset, safe(part.name or ""), state) if text)


def _write(ax: Axes, at: float, text: str) -> None:
    """A line of text at the left end of a row; names are anybody's, so none of it is read as a formula."""
    shown = text if len(text) <= _LONGEST_NOTE else text[: _LONGEST_NOTE - 1] + "…"
    ax.text(0.01, at, shown, transform=ax.get_yaxis_transform(), va="center", fontsize=9, parse_math=False)


def _notes(story: Story) -> Iterator[tuple[str, str]]:
    """Kind and text of each storno and reject; what an eviction rejects is in the rows of the parts."""
    rejects = [reject for reject in story.rejects if reject.reason != "evicted"]
    notes = [("storno", str(storno)) for storno in story.stornos]
    notes += [
        ("reject", f"{PARTS[r.partition].name} {r.reason}, offset {r.offset:,}: {safe(r.detail)}") for r in rejects
    ]
    yield from notes[:_MOST_NOTES]
    if len(notes) > _MOST_NOTES:
        yield "", f"and {len(notes) - _MOST_NOTES} more"


def _title(story: Story, times: _Times) -> str:
    missing = " and ".join(part.part for part in story.parts if part.state == "missing")
    match story.state:
        case "unknown":
            return f"House {story.id}: no part of it has come"
        case "evicted":
            return f"House {story.id} was given up: " + (
                f"its {missing} never came" if missing else "a part came too late"
            )
        case "unread":
            return f"House {story.id} is not read yet"
        case "pending":
            return (
                f"House {story.id} waits for its {missing}"
                if missing
                else f"House {story.id} is not read to its end yet"
            )
    storno = f"; {story.storno}" if story.storno else ""
    if times.completed_ms is None:
        return f"House {story.id} is complete{storno}"
    return f"House {story.id} was complete {in_ms(times.completed_ms)} after its first part was sent{_waited(times)}{storno}"


def _waited(times: _Times) -> str:
    """Who came last, on a second line; nothing when the time of a part is not known."""
    if len(times.sent_ms) < len(PARTS):
        return ""
    *_, second_ms, last_ms = sorted(times.sent_ms.values())
    last = max(times.sent_ms, key=times.sent_ms.__getitem__)
    return f":\nits {last} was sent last, {in_ms(last_ms - second_ms)} after the second part"
