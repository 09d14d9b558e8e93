"""Output files as tables, and the figures drawn from them."""

import json
import re
import shutil
import tempfile
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from houses.consumer.reporter import MetricsFile
from houses.errors import FolderError
from houses.lab.analysis import frames
from houses.lab.analysis import latency as analysis
from houses.lab.analysis.figure import Picture, alt_text, in_ms, save_figure
from houses.lab.analysis.frames import load, load_metrics
from houses.records.decode import House, PartEntry
from houses.records.lines import house_line, late_line, parse_house_line, reject_line, storno_line
from houses.records.message import FULL, PART_NAMES, PARTS, Reject
from houses.records.metrics import Metrics
from houses.verify.recent import recent_houses

LEGACY = Path(__file__).parents[2] / "legacy"
WALL = PARTS[1].mask


def entry(offset: int, sent_ms: int, name: str, task: str) -> PartEntry:
    """A part sent so many ms after noon."""
    return offset, f'{moment(sent_ms)}","name":"{name}","task":"{task}', None


def moment(ms: int) -> str:
    """So many ms after noon of a day, as messages and lines have it."""
    return f"2026-01-31T12:00:{ms / 1000:09.6f}Z"


def house(house_id: int, sent_ms: tuple[int, int, int] = (0, 0, 0), name: str = "alice") -> House:
    """A complete house whose parts have its id as offset."""
    first, second, third = (entry(house_id, ms, name, part.name) for part, ms in zip(PARTS, sent_ms, strict=True))
    return house_id, first, second, third


def write(folder: Path, **files: list[str]) -> Path:
    """NAME.jsonl with these lines."""
    for name, lines in files.items():
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="ascii", newline="")
    return folder


def table(latencies_ms: list[float], last_part: str = "wall") -> pd.DataFrame:
    """Houses that were completed one after the other, a second apart, with these latencies."""
    completed = pd.Timestamp("2026-01-31T12:00:00Z") + pd.to_timedelta(np.arange(len(latencies_ms)), unit="s")
    parts = pd.Categorical([last_part] * len(latencies_ms), PART_NAMES)
    return pd.DataFrame({"completed_at": completed, "latency_ms": latencies_ms, "last_part": parts}, dtype=None)


# --- tables ---


def test_a_house_has_its_latencies_in_ms_and_the_part_that_was_sent_last(tmp_path: Path) -> None:
    """The wall, sent 30 ms after noon and 20 ms after the second, was last; the house was complete 40 ms after noon."""
    write(tmp_path, houses=[house_line(house(7, (10, 30, 0)), moment(40))])
    row = load(tmp_path).houses.iloc[0]
    assert (row["latency_ms"], row["first_latency_ms"], row["last_part"], row["last_by_ms"]) == (
        10.0,
        40.0,
        "wall",
        20.0,
    )
    assert (row["id"], row["roof_offset"], row["foundation_worker"]) == (7, 7, "alice")
    assert row["wall_sent"] == pd.Timestamp("2026-01-31T12:00:00.030Z")


def test_times_are_utc_and_offsets_are_nullable_integers(tmp_path: Path) -> None:
    """The dtypes are the same with rows and without any."""
    empty = load(tmp_path).houses.dtypes
    filled = load(write(tmp_path, houses=[house_line(house(7), moment(1))])).houses.dtypes
    for dtypes in (empty, filled):
        assert str(dtypes["completed_at"]) == "datetime64[us, UTC]"
        assert str(dtypes["wall_offset"]) == "Int64"
        assert str(dtypes["latency_ms"]) == "float64"
    assert list(empty.index) == list(filled.index)


def test_a_late_storno_is_joined_to_its_house_and_its_last_line_counts(tmp_path: Path) -> None:
    """Of house 7 first the wall was cancelled, then all of it; house 8 was never cancelled."""
    houses = [house_line(house(i), moment(i)) for i in (7, 8)]
    loaded = load(write(tmp_path, houses=houses, storno_houses=[late_line(7, WALL, 0), late_line(7, FULL, 3)]))
    assert loaded.houses["storno"].tolist() == ["full", "none"]
    (storno,) = loaded.stornos.to_dict("records")
    assert (storno["storno"], storno["excluded"], storno["storno_offset"], storno["late"]) == (
        "full",
        "foundation+wall+roof",
        3,
        True,
    )
    assert (storno["wall_offset"], storno["latency_ms"]) == (7, 7.0)


def test_a_house_cancelled_before_it_was_complete_is_only_among_the_stornos(tmp_path: Path) -> None:
    """Its wall was excluded: the time of it is not recorded, its offset is."""
    lines = [storno_line(house(7), WALL, 2, moment(5))]
    loaded = load(write(tmp_path, storno_houses=lines))
    (storno,) = loaded.stornos.to_dict("records")
    assert loaded.houses.empty
    assert (storno["storno"], storno["excluded"], storno["late"]) == ("partial", "wall", False)
    assert storno["wall_offset"] == 7
    assert pd.isna(storno["wall_sent"]) and pd.isna(storno["latency_ms"])


def test_a_later_storno_of_a_cancelled_house_keeps_what_its_first_line_says(tmp_path: Path) -> None:
    """The late line has no parts; those of the earlier line are joined to it."""
    lines = [storno_line(house(7), WALL, 2, moment(5)), late_line(7, FULL, 4)]
    (storno,) = load(write(tmp_path, storno_houses=lines)).stornos.to_dict("records")
    assert (storno["storno"], storno["storno_offset"], storno["roof_offset"]) == ("full", 4, 7)


def test_rejects_say_what_they_were_with_the_bytes_and_the_id_where_it_can_be_read(tmp_path: Path) -> None:
    """The raw bytes come back as they were."""
    topics = ("parts", "stornos")
    raw = b"partition_1|id:9|ts:x|name:bob|task:foundation"
    lines = [
        reject_line(Reject(0, 4, "duplicate", "again", raw), topics),
        reject_line(Reject(3, 0, "malformed", "x", b"\xff"), topics),
    ]
    rejects = load(write(tmp_path, rejects=lines)).rejects
    assert rejects["reason"].tolist() == ["duplicate", "malformed"]
    assert rejects["topic"].tolist() == ["parts", "stornos"]
    assert rejects["raw"].tolist() == [raw, b"\xff"]
    assert rejects["id"].tolist() == [9, pd.NA]


def test_an_unterminated_last_line_is_left_out(tmp_path: Path) -> None:
    """The consumer is writing it, or was killed while it did."""
    whole = house_line(house(1), moment(1))
    write(tmp_path, houses=[whole, whole[:50]], storno_houses=[late_line(1, FULL, 0)[:20]])
    loaded = load(tmp_path)
    assert loaded.houses["id"].tolist() == [1]
    assert loaded.stornos.empty


@pytest.mark.parametrize("bad", ["\x00\n", "{}\n", '{"id":"x"}\n', "\n", "[1]\n", '{"id":1,"house":7}\n'])
def test_a_damaged_line_is_an_error_that_names_the_byte(tmp_path: Path, bad: str) -> None:
    """Nothing is left out silently."""
    whole = house_line(house(1), moment(1))
    with pytest.raises(FolderError, match=f"houses.jsonl: damaged at byte {len(whole)} "):
        load(write(tmp_path, houses=[whole, bad, whole]))


def test_files_longer_than_one_reading_come_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are cut at no boundary, and the categories of all stretches are one."""
    monkeypatch.setattr("houses.records.blocks._BLOCK_BYTES", 1000)
    lines = [house_line(house(i, name=f"worker {i % 5}"), moment(1)) for i in range(100)]
    houses = load(write(tmp_path, houses=lines)).houses
    assert houses["id"].tolist() == list(range(100))
    assert houses["wall_worker"].tolist() == [f"worker {i % 5}" for i in range(100)]
    assert str(houses["wall_worker"].dtype) == "category"


def usual(form: "re.Pattern[bytes]", *lines: str) -> list[bool]:
    """Of which lines the fast way knows the form."""
    return [bool(form.fullmatch(line.encode())) for line in lines]


def test_the_fast_way_knows_the_houses_that_the_consumer_writes(tmp_path: Path) -> None:
    """A line with a name beyond ASCII takes the other one, and all of its stretch with it."""
    lines = [house_line(house(i, (i, 2 * i, 3 * i)), moment(4 * i)) for i in range(1, 9)]
    odd = house_line(house(9, name="\\u00e9"), moment(9))
    assert usual(frames._HOUSE_LINE, *lines, odd) == [True] * 8 + [False]
    fast = load(write(tmp_path, houses=lines)).houses
    slow = load(write(tmp_path, houses=[*lines, odd])).houses
    pd.testing.assert_frame_equal(fast, slow.head(8), check_categorical=False)
    assert slow["wall_worker"][8] == "é"


def test_the_fast_way_knows_the_stornos_that_the_consumer_writes(tmp_path: Path) -> None:
    """Full and partial ones with each set of parts left out, late ones, and with and without the storno's offset."""
    cases = [(mask, offset) for mask in range(1, FULL + 1) for offset in (None, 5)]
    lines = [storno_line(house(i, (i, 2 * i, 3 * i)), *case, moment(4 * i)) for i, case in enumerate(cases)]
    lines += [late_line(100 + i, *case) for i, case in enumerate(cases)]
    lines.append(storno_line(house(50, name=""), WALL, 0, moment(50)))
    odd = storno_line(house(99, name="\\u00e9"), FULL, 1, moment(99))
    assert usual(frames._STORNO_LINE, *lines, odd) == [True] * len(lines) + [False]
    fast = load(write(tmp_path, storno_houses=lines)).stornos
    slow = load(write(tmp_path, storno_houses=[*lines, odd])).stornos
    pd.testing.assert_frame_equal(fast, slow.head(len(lines)), check_categorical=False)
    assert slow["roof_worker"][len(lines)] == "é"


SENT = st.sampled_from(
    [
        moment(1),
        moment(2),
        "2026-01-31T13:00:00.003000+01:00",
        "2026-01-31T12:00:00.5Z",
        "2026-01-31T12:00:00",
        "20260131_120000",
        "2026-02-31T12:00:00.000000Z",
        "2026-01-31T24:00:00.000000Z",
        "2026-01-31T12:00:60.000000Z",
        "0000-01-31T12:00:00.000000Z",
        "9999-12-31T23:59:59.999999-01:00",
        "ts:x",
        "é",
        "",
    ]
)
NAMES = st.sampled_from(["alice", "wall_bob", "name:bob", "", "é", "\x7f", 'a"b', "a\\b", "a\tb", "\ud800"])
OFFSET = st.sampled_from([0, 7, 10**18 - 1, 10**18, 2**63 - 1, 2**63, -1, True, 1.0, "7", None])
EXCLUDED = st.sampled_from([[1], [2, 3], [1, 1], [3, 3], [1, 2, 3], [2, 1], [0], [4], [], [True], ["1"], 2, None])


@st.composite
def odd_line(draw: st.DrawFn, *, is_storno: bool) -> str:
    """A line of houses.jsonl or storno_houses.jsonl with some of what may stand in it, usual or not; or damaged."""
    seldom = draw(st.integers(0, 3)) == 0
    offset = OFFSET if seldom else st.integers(0, 9)
    parts = [
        {"ts": draw(SENT), "name": draw(NAMES), "task": draw(st.sampled_from([part.name, "task:x", "é"]))}
        for part in PARTS
    ]
    offsets = [draw(offset) for _ in PARTS]
    shown = draw(st.sets(st.sampled_from(PARTS), min_size=0 if is_storno or seldom else 3), label="shown")
    record: dict[str, Any] = {"id": draw(OFFSET) if seldom else draw(st.integers(0, 10**18 - 1))}
    record["house"] = {
        f"partition_{part.number}": parts[part.partition] | {"offset": offsets[part.partition]}
        for part in PARTS
        if part in shown
    }
    if draw(st.booleans()) or not is_storno:
        record["completed_at"] = draw(SENT)
    if is_storno:
        record["storno"] = draw(st.sampled_from(["full", "partial", "partial", "some"]))
        if record["storno"] == "partial":
            record["excluded_partitions"] = draw(EXCLUDED)
        if draw(st.booleans()):
            record["storno_offset"] = draw(offset)
        if draw(st.booleans()):
            of_all = [draw(offset) for _ in PARTS] if seldom else offsets
            record["offsets"] = {str(part.number): of_all[part.partition] for part in PARTS}
        if draw(st.booleans()):
            record["late"] = draw(st.sampled_from([True, True, False, 1]))
    if seldom and draw(st.booleans()):
        record.pop(draw(st.sampled_from(sorted(record))))
    text = json.dumps(record, separators=draw(st.sampled_from([(",", ":"), (",", ":"), (", ", ": ")])))
    if not seldom:
        return text + "\n"
    at = draw(st.integers(0, len(text)))
    return (
        text[:at]
        + draw(st.sampled_from(["", "0", ",", "{", '"', "\x00", "é"]))
        + text[at + draw(st.integers(0, 2)) :]
        + "\n"
    )


FILES = {
    "houses": (parse_house_line, frames.house_columns, frames._HOUSE_LINE),
    "storno_houses": (frames._parse_storno, frames.storno_columns, frames._STORNO_LINE),
}


def outcome(path: Path, *reading: Any) -> pd.DataFrame | str:
    """The table, or the error that a user sees."""
    try:
        return frames._table(path, *reading)
    except FolderError as error:
        return str(error)


@settings(max_examples=150)
@given(
    st.sampled_from(["houses", "storno_houses"]).flatmap(
        lambda name: st.tuples(st.just(name), st.lists(odd_line(is_storno=name != "houses"), min_size=1, max_size=4))
    )
)
def test_the_fast_way_says_the_same_as_the_parser_of_one_line(case: tuple[str, list[str]]) -> None:
    """Of usual and unusual lines, alone and mixed; for damaged ones both give the same error."""
    name, lines = case
    parse, columns, form = FILES[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.jsonl"
        for content in (*lines, "".join(lines)):
            path.write_text(content, encoding="utf-8", newline="")
            fast, slow = outcome(path, parse, columns, form), outcome(path, parse, columns)
            if isinstance(fast, str) or isinstance(slow, str):
                assert fast == slow and "damaged at byte" in fast
            else:
                pd.testing.assert_frame_equal(fast, slow)


@pytest.mark.parametrize("name", ["houses", "storno_houses"])
def test_a_line_reads_the_same_whatever_stands_beside_it(tmp_path: Path, name: str) -> None:
    """A worker of today may be called `name:bob`, beside a line that only the slow way can read."""
    lines = [house_line(house(i, name=worker), moment(9)) for i, worker in enumerate(["name:bob", "\\u00e9"])]
    if name == "storno_houses":
        lines = [line.replace("}\n", ',"storno":"full"}\n') for line in lines]
    workers = [
        getattr(load(write(tmp_path, **{name: some})), name.split("_")[0] + "s" * (name != "houses"))
        for some in (lines[:1], lines)
    ]
    assert [table["wall_worker"].iloc[0] for table in workers] == ["name:bob", "name:bob"]


@pytest.mark.parametrize(
    ("excluded", "told"), [("[1,1]", "foundation"), ("[3,3]", "roof"), ("[3,1]", "foundation+roof")]
)
@pytest.mark.parametrize("space", ["", " "])
def test_a_part_that_is_excluded_twice_is_excluded(tmp_path: Path, excluded: str, told: str, space: str) -> None:
    """The fast way and the slow one, which a space brings about."""
    line = late_line(7, WALL, 0).replace("[2]", space + excluded)
    assert load(write(tmp_path, storno_houses=[line])).stornos["excluded"].tolist() == [told]


@pytest.mark.parametrize("excluded", ["[0]", "[4]", "[]", "[1,0]", "2"])
def test_a_storno_of_no_part_that_there_is_is_damaged(tmp_path: Path, excluded: str) -> None:
    """As verify says it."""
    with pytest.raises(FolderError, match="damaged at byte 0 "):
        load(write(tmp_path, storno_houses=[late_line(7, WALL, 0).replace("[2]", excluded)]))


@pytest.mark.parametrize("bad", ['}},,"completed_at"', '},},"completed_at"', '}"partition_3":{},"completed_at"'])
def test_a_storno_line_with_its_commas_elsewhere_is_damaged(tmp_path: Path, bad: str) -> None:
    """The fast way forgives nothing that the slow one does not."""
    line = storno_line(house(7), WALL, 2, moment(5)).replace('}},"completed_at"', bad)
    with pytest.raises(FolderError, match="damaged at byte 0 "):
        load(write(tmp_path, storno_houses=[line]))


def test_a_day_that_does_not_exist_is_an_unknown_time(tmp_path: Path) -> None:
    """Any ts is kept by the consumer, also 31 February."""
    line = house_line(house(1), moment(1)).replace("01-31T12", "02-31T12", 1)
    assert pd.isna(load(write(tmp_path, houses=[line])).houses["foundation_sent"][0])


def test_a_time_with_an_offset_is_known_as_houses_show_knows_it(tmp_path: Path) -> None:
    """One hour east of Greenwich, a wall sent at 13:00:00.030 was sent 10 ms before its house was complete."""
    line = house_line(house(7, (10, 30, 0)), moment(40)).replace(moment(30), "2026-01-31T13:00:00.030000+01:00")
    row = load(write(tmp_path, houses=[line])).houses.iloc[0]
    assert row["wall_sent"] == pd.Timestamp("2026-01-31T12:00:00.030Z")
    (recent,) = recent_houses(tmp_path / "houses.jsonl", tmp_path / "storno_houses.jsonl", 1)
    assert (row["latency_ms"], row["last_part"], recent.latency_ms) == (10.0, "wall", 10.0)


def test_a_time_without_a_zone_is_unknown_to_all(tmp_path: Path) -> None:
    """The older programs wrote local times."""
    line = house_line(house(7), moment(40)).replace(moment(0), "2026-01-31T12:00:00", 1)
    row = load(write(tmp_path, houses=[line])).houses.iloc[0]
    (recent,) = recent_houses(tmp_path / "houses.jsonl", tmp_path / "storno_houses.jsonl", 1)
    assert pd.isna(row["foundation_sent"]) and pd.isna(row["latency_ms"]) and recent.latency_ms is None


def test_lines_of_the_older_programs_have_workers_and_offsets_but_no_known_times(tmp_path: Path) -> None:
    """Their times are local, in a zone that nobody knows, and a prefix stands before each value."""
    for name in ("houses.jsonl", "storno_houses.jsonl"):
        shutil.copy(LEGACY / name, tmp_path / name)
    loaded = load(tmp_path)
    assert loaded.houses["wall_worker"].iloc[0] == "wall_alice"
    assert loaded.houses["roof_offset"].iloc[2] == 2
    assert loaded.houses[["wall_sent", "completed_at", "latency_ms", "last_part"]].isna().all(axis=None)
    assert dict(zip(loaded.stornos["id"], loaded.stornos["excluded"], strict=True)) == {
        21: "foundation+wall+roof",
        22: "roof",
    }


def test_measurements_come_one_row_a_line_without_torn_ones(tmp_path: Path) -> None:
    """A kind of outcome that is counted only later is 0 before."""
    path = tmp_path / "metrics.jsonl"
    for counts in ({"houses": 3}, {"houses": 4, "late": 1}):
        file = MetricsFile(path)
        file.write(Metrics(position=[5, 6, 7], counts=counts))
        file.close()
        with path.open("ab") as torn:
            torn.write(b'{"time":')
    frame = load_metrics(path)
    assert frame[["wall_position", "count_houses", "count_late"]].values.tolist() == [[6, 3, 0], [6, 4, 1]]
    assert str(frame["time"].dtype) == "datetime64[us, UTC]"


def test_without_measurements_the_table_is_empty(tmp_path: Path) -> None:
    """A consumer may never have run."""
    assert load_metrics(tmp_path / "metrics.jsonl").empty


def test_the_summary_has_percentiles_in_ms() -> None:
    """The median of 1 to 100 ms is 50.5 ms, and 99 % lie at or below 99.01 ms."""
    assert analysis.summary(table([float(ms) for ms in range(1, 101)])) == {
        "houses": 100,
        "p50_ms": 50.5,
        "p99_ms": 99.01,
        "max_ms": 100.0,
    }
    assert analysis.summary(table([]))["p50_ms"] is None


# --- figures ---

PLOTS = (analysis.plot_latency, analysis.plot_latency_over_time)


@pytest.mark.parametrize("plot", PLOTS)
def test_a_figure_is_drawn_on_the_axes_that_it_is_given(plot: Any) -> None:
    """So that several can share a figure, which is what comes back: a cell that ends with it shows all of them."""
    figure = Picture()
    left, right = figure.subplots(1, 2)
    assert plot(table([1.0, 2.0, 900.0]), right) is figure
    assert right.get_title(loc="left") and not left.get_title(loc="left")
    assert "(ms)" in right.get_xlabel() + right.get_ylabel()


def test_the_title_of_the_latency_figure_states_the_finding() -> None:
    """Median and 99 % of the houses, with their units."""
    title = analysis.plot_latency(table([4.0] * 99 + [2500.0])).axes[0].get_title(loc="left")
    assert "Half of 100 houses were complete within 4 ms after" in title
    assert "99% within" in title


def test_the_figure_over_time_names_the_slowest_house() -> None:
    """Its latency, and when its last part was sent."""
    title = analysis.plot_latency_over_time(table([5.0, 5.0, 1500.0, 5.0])).axes[0].get_title(loc="left")
    assert title == "The slowest of 4 houses took 1.5 s:\nits last part was sent 0.5 s after the first house"


@pytest.mark.parametrize("plot", PLOTS)
@pytest.mark.parametrize(
    ("low_ms", "high_ms", "some"),
    [
        (6.0, 25.0, {"6", "8", "10", "15", "20"}),
        (5.0, 6.0, set()),
        (4.0, 60.0, {"5", "10", "20", "50"}),
        (6.0, 3200.0, {"10", "100", "1,000"}),
        (1.0, 5000.0, {"1", "10", "100", "1,000"}),
    ],
)
def test_a_logarithmic_axis_has_plain_numbers_enough_of_them(
    plot: Any, low_ms: float, high_ms: float, some: set[str]
) -> None:
    """No powers of ten, whatever the range; between four and nine numbers are to be seen."""
    ax = plot(table(np.geomspace(low_ms, high_ms, 200).tolist())).axes[0]
    ax.figure.draw_without_rendering()
    axis, (low, high) = (ax.xaxis, ax.get_xlim()) if plot is analysis.plot_latency else (ax.yaxis, ax.get_ylim())
    seen = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
    labels = [label.get_text() for at, label in seen if low <= at <= high]
    assert some <= set(labels) and 4 <= len(labels) <= 9, labels
    assert not any(label.get_text() for label in axis.get_minorticklabels())


@pytest.mark.parametrize("plot", PLOTS)
@pytest.mark.parametrize("latencies_ms", [[], [float("nan")], [3.0], [-1.0, 0.0, 3.0]])
def test_few_unknown_or_negative_latencies_still_make_a_figure(plot: Any, latencies_ms: list[float]) -> None:
    """Clocks of two machines may differ by more than the latency."""
    picture = plot(table(latencies_ms))
    assert picture._repr_mimebundle_()[0]["image/png"].startswith(b"\x89PNG")


@pytest.mark.parametrize("plot", PLOTS)
def test_a_figure_shows_itself_in_a_notebook_with_its_alt_text(plot: Any) -> None:
    """Where no picture can be shown the words are."""
    data, metadata = plot(table([1.0, 2.0]))._repr_mimebundle_()
    assert "2 houses" in data["text/plain"]
    assert metadata["image/png"]["alt"] == data["text/plain"]
    assert f'alt="{escape(data["text/plain"])}"' in data["text/html"]


def test_a_figure_is_saved_as_png_and_svg_with_its_alt_text_inside(tmp_path: Path) -> None:
    """The folder is made when it is absent."""
    picture = analysis.plot_latency(table([1.0, 2.0]))
    png, svg = save_figure(picture, tmp_path / "new", "latency")
    with Image.open(png) as image:
        assert image.info["Description"] == alt_text(picture)
    assert "Half of 2 houses" in svg.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0.0456, "0.0456 ms"),
        (99.96, "100 ms"),
        (999.4, "999 ms"),
        (999.6, "1 s"),
        (61_000, "61 s"),
        (1e6, "1,000 s"),
    ],
)
def test_a_duration_has_three_digits_and_no_power_of_ten(ms: float, text: str) -> None:
    """Rounded before the unit is chosen."""
    assert in_ms(ms) == text
