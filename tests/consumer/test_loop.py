"""The running loop: when it commits, pauses, evicts and checkpoints, what it asks the broker, and what it says in figures."""

import json
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.simulation import ALL, FakeSource, Lab, Poll, Topics, check_end, config_of, lab_of, parts

from houses.errors import AccessError, BrokerError, FolderError, PositionError, StoreError
from houses.offsets.checkpoint import Checkpoint, FileStore

NOTHING = (0, 0, 0, 0)


def pause(seconds: float) -> Poll:
    """Nothing comes for so long."""
    return Poll(NOTHING, seconds)


def look(found: list[Any], what: Any) -> Poll:
    """Note something in the middle of a run, at a poll that brings nothing."""
    return Poll(NOTHING, 0.0, lambda source: found.append(what(source)))


def at_start(lab: Lab) -> list[Poll]:
    """The polls that bring the stornos, which are read before any part."""
    return [Poll((0, 0, 0, 1000))] if lab.topics.records[3] else []


# --- commit ---


def test_with_flush_every_1_each_batch_is_on_the_disk_before_the_next_poll() -> None:
    """No house counts as written that a power cut could take back."""
    lab = lab_of([1, 2], [1, 2], [1, 2])
    found: list[Any] = []
    durable = look(found, lambda _: lab.disk.durable(lab.config.houses_path).count(b"\n"))
    lab.consume([Poll((1, 1, 1, 0)), durable, Poll((1, 1, 1, 0)), durable])
    assert found == [1, 2]


def test_a_second_begins_anew_with_each_commit() -> None:
    """A house that comes long after the last one was written waits for others too."""
    lab = lab_of([1, 2], [1, 2], [1, 2], flush_every=100)
    found: list[Any] = []
    durable = look(found, lambda _: lab.disk.durable(lab.config.houses_path).count(b"\n"))
    lab.consume([Poll((1, 1, 1, 0)), pause(1.1), pause(5), durable, Poll((1, 1, 1, 0)), durable, pause(1.1), durable])
    assert found == [1, 1, 2]


def test_with_flush_every_3_two_houses_wait_for_a_third() -> None:
    """And are written with it."""
    lab = lab_of(range(9), range(9), range(9), flush_every=3)
    found: list[Any] = []
    durable = look(found, lambda _: lab.disk.durable(lab.config.houses_path).count(b"\n"))
    lab.consume([Poll((1, 1, 1, 0)), durable] * 4)
    assert found == [0, 0, 3, 3]
    assert len(lab.lines(lab.paths[0])) == 4  # the stop writes what waits


@pytest.mark.parametrize(("stornos", "index"), [([], 0), ([b"1"], 1)])
def test_no_line_waits_longer_than_a_second(stornos: list[bytes], index: int) -> None:
    """A house and a cancelled one that are alone are on the disk a second later."""
    lab = lab_of([1], [1], [1], stornos=stornos, flush_every=100)
    found: list[Any] = []
    durable = look(found, lambda _: lab.disk.durable(lab.paths[index]).count(b"\n"))
    lab.consume([*at_start(lab), Poll((1, 1, 1, 0)), pause(0.9), durable, pause(0.2), durable])
    assert found == [0, 1]


def test_a_failed_sync_ends_the_consumer_without_a_checkpoint() -> None:
    """Clear error, no second try, and the last record stays: after a power cut the house is written by the next run."""
    lab = lab_of([1], [1], [1])
    with pytest.raises(FolderError, match=r"houses\.jsonl: could not be synced .* start the consumer again"):
        lab.consume([ALL], sync_fuse=5)  # the first four belong to the binding and the checkpoint at the start
    record = lab.record()
    assert record and (record.generation, record.next) == (1, (0, 0, 0))
    assert lab.lines(lab.paths[0]) and not lab.disk.durable(lab.paths[0])
    lab.disk.cut_power(Random(1))
    lab.consume(rest=True)
    check_end(lab)


@pytest.mark.parametrize("sync_fuse", [1, 2, 3, 4])
def test_a_checkpoint_that_cannot_be_written_ends_the_consumer(sync_fuse: int) -> None:
    """Binding, side files and record alike: the error names the file."""
    lab = lab_of([1], [1], [1])
    with pytest.raises(
        FolderError, match=r"(binding\.json|storno_ids\.json|closed_ids\.bin|offsets\.json): could not be"
    ):
        lab.consume([ALL], sync_fuse=sync_fuse)
    lab.consume(rest=True)
    check_end(lab)


def test_a_folder_that_cannot_be_synced_ends_the_consumer_without_a_checkpoint() -> None:
    """At the start, and before a record: the names in it may not be on the disk, so nothing refers to them."""
    lab = lab_of([1], [1], [1])
    lab.disk.keeps_names = False
    with pytest.raises(FolderError, match=r"^/lab/output: could not be synced \(Input/output error\): nothing is lost"):
        lab.consume([ALL])
    lab.disk.keeps_names = True
    with pytest.raises(FolderError, match=r"^/lab/output: could not be synced .*then start again"):
        lab.consume([ALL, Poll(NOTHING, 0.0, lambda _: setattr(lab.disk, "keeps_names", False))])
    record = lab.record()
    assert record and record.generation == 1
    lab.disk.keeps_names = True
    lab.consume(rest=True)
    check_end(lab)


# --- checkpoints and the broker ---


def test_a_checkpoint_is_saved_every_interval_and_at_stop() -> None:
    """Generation by generation; with an interval of 0 at start and stop only."""
    for interval, wanted in ((1.0, [1, 1, 2, 2, 3]), (0.0, [1, 1, 1, 1, 1])):
        lab = lab_of([1], [1], [1], offset_save_interval_sec=interval)
        found: list[Any] = []
        generation = look(found, lambda _, lab=lab: lab.record().generation)
        lab.consume([generation, pause(0.6), generation, pause(0.6), generation, generation, pause(1.1), generation])
        assert found == wanted
        assert (lab.record() or pytest.fail("no record")).generation == wanted[-1] + 1


@pytest.mark.parametrize("fails", [False, True])
def test_the_interval_begins_at_the_end_of_a_checkpoint(monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    """With a store that takes longer than the interval, or says so late that it is away, there is time to read."""
    lab = lab_of([1], [1], [1], offset_save_interval_sec=1.0)
    tried: list[int] = []

    def save_slowly(_: FileStore, checkpoint: Checkpoint, **__: Any) -> None:
        tried.append(checkpoint.generation)
        lab.clock.now_s += 5.0
        if fails and checkpoint.generation > 1:
            raise StoreError("away")

    monkeypatch.setattr(FileStore, "save", save_slowly)
    found: list[Any] = []
    last_tried = look(found, lambda _: tried[-1])
    lab.consume([pause(0.9), last_tried, pause(0.2), last_tried, pause(0.9), last_tried, pause(0.2), last_tried])
    assert found == [1, 2, 2, 3]


def test_without_a_broker_there_is_no_checkpoint_and_the_last_one_stays_good() -> None:
    """It is said, shown in the figures, and made good when the broker is back."""
    lab = lab_of([1], [1], [1], offset_save_interval_sec=1.0)
    found: list[Any] = []

    def set_away(away: bool) -> Poll:
        return Poll(NOTHING, 1.1, lambda source: setattr(source, "broker_away", away))

    generation = look(found, lambda _: lab.record().generation)  # type: ignore[union-attr]
    lab.consume([ALL, set_away(True), generation, set_away(False), generation])
    assert found == [1, 2]
    assert any("no checkpoint taken, the last one stays good: no broker" in text for text in lab.said)
    assert lab.metrics and lab.metrics.last_error == ""


def test_a_store_that_refuses_the_right_ends_the_consumer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting does not help; what was read has its lines."""
    lab = lab_of([1], [1], [1], offset_save_interval_sec=1.0)

    def revoke(_: FakeSource) -> None:
        monkeypatch.setattr(FileStore, "save", refuse)

    def refuse(*_: object, **__: object) -> None:
        raise AccessError("Group authorization failed")

    with pytest.raises(AccessError, match="Group authorization failed"):
        lab.consume([ALL, Poll(NOTHING, 1.1, revoke)])
    assert [line["id"] for line in lab.lines(lab.config.houses_path)] == [1]


@pytest.mark.parametrize("change", [{"ids": ("new", "id-2")}, {"ids": ("id-1", "new")}, {"partitions": 4}])
def test_a_changed_topic_stops_the_consumer_before_a_record_is_written(change: dict[str, Any]) -> None:
    """Made anew behind its name, or with more partitions: seen at the next checkpoint at the latest."""
    lab = lab_of([1], [1], [1], offset_save_interval_sec=1.0)
    lab.consume(kill=True)
    before = lab.disk.content(lab.config.offsets_path) or b""

    def change_topics(_: FakeSource) -> None:
        for name, value in change.items():
            setattr(lab.topics, name, value)

    with pytest.raises(PositionError, match="start anew with: houses reset --archive"):
        lab.consume([ALL, Poll(NOTHING, 1.1, change_topics), pause(9)])
    after = json.loads(lab.disk.content(lab.config.offsets_path) or b"")
    assert after["next"] == json.loads(before)["next"] == [0, 0, 0]


def test_after_a_broker_error_no_record_is_taken_before_its_topic_is_known() -> None:
    """The topic was made anew during the outage: nothing of the new one reaches the files."""
    lab = lab_of([1, 2], [1, 2], [1, 2])

    def outage(source: FakeSource) -> None:
        source.identity_in_doubt = True
        lab.topics.ids = ("new", "id-2")

    with pytest.raises(PositionError, match="made anew"):
        lab.consume([Poll((1, 1, 1, 0)), Poll((1, 1, 1, 0), 0.0, outage)])
    assert [line["id"] for line in lab.lines(lab.paths[0])] == [1]


def test_records_that_came_in_doubt_are_left_to_the_next_run_when_told_to_stop() -> None:
    """No broker to ask, and a stop request: no record is taken, no checkpoint saved, nothing is lost."""
    lab = lab_of([1, 2], [1, 2], [1, 2])

    def outage(source: FakeSource) -> None:
        source.identity_in_doubt = source.broker_away = source.over = True

    lab.consume([Poll((1, 1, 1, 0)), Poll((1, 1, 1, 0), 0.0, outage)])
    assert [line["id"] for line in lab.lines(lab.paths[0])] == [1]
    assert (lab.record() or pytest.fail("no record")).next == (0, 0, 0)
    lab.consume(rest=True)
    check_end(lab)


def test_the_end_of_an_outage_is_said_once() -> None:
    """When the broker has answered, and only if its absence was noticed."""
    lab = lab_of([1, 2], [1, 2], [1, 2])

    def outage(source: FakeSource) -> None:
        source.identity_in_doubt, source.last_error = True, "_TRANSPORT: gone"

    lab.consume([Poll((1, 1, 1, 0)), Poll((1, 1, 1, 0), 0.0, outage)], rest=True)
    assert lab.said.count("Kafka answers again") == 1


# --- stornos come first ---


def test_stornos_sent_while_the_consumer_was_down_apply_before_the_first_part() -> None:
    """All of them are read before parts are, so the house goes straight to storno_houses.jsonl."""
    lab = lab_of([1], [1], [1])
    lab.consume(kill=True)
    lab.topics.records[3] += [b"5", b"6", b"1"]
    lab.consume([Poll((9, 9, 9, 1))] * 9)
    assert not lab.lines(lab.paths[0]) and [line["id"] for line in lab.lines(lab.paths[1])] == [1]
    assert "late" not in lab.lines(lab.paths[1])[0]


# --- pending is bounded ---


def test_the_partition_ahead_is_paused_and_read_on_later() -> None:
    """At the limit only what can complete houses is read; below half of it, everything again."""
    lab = lab_of(range(1, 41), range(1, 41), range(1, 41), max_pending_triplets=10)
    found: list[Any] = []
    paused = look(found, lambda source: sorted(source.paused))
    step = pause(0.1)
    lab.consume(
        [
            *(Poll((10, 9, 0, 0)), step, paused),  # 10 pending: foundation and wall wait for the roof
            *(Poll((9, 9, 5, 0)), step, paused),  # 5 pending: still
            *(Poll((9, 9, 1, 0)), step, paused),  # 4 pending: go on
            *(Poll((30, 0, 4, 0)), step, paused),  # the wall is behind now
        ]
    )
    assert found == [[0, 1], [0, 1], [], [0, 2]]
    lab.consume(rest=True)
    check_end(lab)
    assert not lab.lines(lab.paths[2])


def test_a_burst_does_not_overshoot_the_limit() -> None:
    """A thousand batches without a tenth of a second between them: pending stays at the limit, a twentieth and a batch."""
    ids = range(1, 1001)
    lab = lab_of(ids, ids, ids, max_pending_triplets=100)
    most: list[Any] = []
    pending = look(most, lambda _: len(lab.recovered.table.pending_ids()))  # type: ignore[union-attr]
    lab.consume(
        [Poll((7, 0, 0, 0)), pending] * 50 + [Poll((0, 7, 0, 0)), pending] * 50 + [Poll((0, 0, 7, 0)), pending] * 50
    )
    assert 100 <= max(most) <= 100 + 5 + 2 * 7


def test_a_late_part_makes_the_others_wait_and_costs_no_house() -> None:
    """The roof is an hour late: nothing is evicted, pending stays at the limit and a batch, and all houses are written."""
    ids = range(1, 301)
    lab = lab_of(ids, ids, ids, max_pending_triplets=20, max_pending_age_sec=1.0)
    most: list[Any] = []
    pending = look(most, lambda _: len(lab.recovered.table.pending_ids()))  # type: ignore[union-attr]
    lab.consume([Poll((8, 8, 0, 0), 60.0), pending] * 60 + [Poll((8, 8, 8, 0), 0.11), pending] * 60)
    assert max(most) <= 20 + 2 * 8
    assert not lab.lines(lab.paths[2]) and len(lab.lines(lab.paths[0])) > 250


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 12),
    st.tuples(*[st.integers(0, 9)] * 3).filter(all),
    st.lists(st.tuples(*[st.integers(0, 30)] * 3), max_size=20),
    st.tuples(*[st.sets(st.integers(0, 39), max_size=30)] * 3),
)
def test_everything_is_read_however_small_the_limit(
    limit: int, pace: tuple[int, int, int], bursts: list[tuple[int, int, int]], missing: tuple[set[int], ...]
) -> None:
    """Uneven partitions, missing parts and a limit of one: reading never comes to a standstill before the end."""
    # A last house is complete, so that every missing part is passed over.
    ids = [[i for i in range(40) if i not in gone] + [40] for gone in missing]
    lab = Lab(Topics([*(parts(n, *some) for n, some in enumerate(ids, 1)), []]), config_of(max_pending_triplets=limit))
    plan = [*(Poll((*burst, 1), 0.2) for burst in bursts), *[Poll((*pace, 1), 0.5)] * 3000]
    lab.consume(plan, rest=True)
    assert lab.source and lab.source.next == lab.topics.ends
    whole = set(ids[0]) & set(ids[1]) & set(ids[2])
    assert {line["id"] for line in lab.lines(lab.paths[0])} == whole
    outcomes = lab.outcomes()
    assert {what for what in outcomes.values() if not what.startswith("house")} <= {"evicted"}


def test_an_overdue_house_is_evicted_in_time() -> None:
    """Ten seconds after its wall was passed over, a second more at most; both parts get their line."""
    lab = lab_of([1, 2], [2], [1, 2])
    found: list[Any] = []
    rejects = look(found, lambda _: len(lab.lines(lab.paths[2])))
    lab.consume([ALL, *[Poll(NOTHING, 0.1)] * 99, rejects, *[Poll(NOTHING, 0.1)] * 25, rejects])
    assert found == [0, 2]
    details = [(line["partition"], line["offset"], line["reason"], line["detail"]) for line in lab.lines(lab.paths[2])]
    assert details == [(0, 0, "evicted", "no wall"), (2, 0, "evicted", "no wall")]


# --- figures ---


def test_the_figures_are_those_of_the_files() -> None:
    """Counts by outcome, positions, low watermarks, pending ids and their sum, lag."""
    foundations = parts(1, 1, 2, 2, 3, 10**17, 1)
    lab = Lab(
        Topics([[*foundations, b"bad"], parts(2, 1, 2, 10**17), [*parts(3, 1), *parts(2, 5)], [b"1", b"1", b"x"]])
    )
    lab.topics.records[2] += parts(3, 2)
    lab.consume([*at_start(lab), Poll((99, 99, 2, 99)), Poll((0, 0, 1, 0))])
    lab.topics.records[3].append(b"2")
    lab.consume([*at_start(lab), ALL])
    metrics = lab.metrics
    assert metrics
    assert metrics.state == "stopped"
    assert metrics.position == [7, 3, 3] and metrics.storno_position == 4 and metrics.lag == 0
    assert metrics.low_watermark == [3, 2, 3]
    assert metrics.pending == 2 and metrics.pending_id_sum == 3 + 10**17
    assert {kind: number for kind, number in metrics.counts.items() if number} == {"late": 1, "stornos": 1}
    assert metrics.checkpoint_generation == 4


def test_outcomes_are_counted_once() -> None:
    """Houses, cancelled ones, rejects by reason and valid stornos of this run; what is read again does not count again."""
    lab = Lab(Topics([[*parts(1, 1, 2, 2, 3), b"bad"], parts(2, 1, 2), [*parts(3, 1, 2), *parts(2, 5)], [b"1", b"x"]]))
    lab.consume([*at_start(lab), ALL])
    wanted = {"houses": 1, "cancelled": 1, "duplicate": 1, "malformed": 2, "wrong_partition": 1, "stornos": 1}
    assert {kind: number for kind, number in lab.counts.items() if number} == wanted
    lab.consume(rest=True)
    assert {kind: number for kind, number in lab.counts.items() if number} == {}


def fail(source: FakeSource) -> None:
    """A poll that has moved on already when it fails: nothing of it is handled."""
    source.next[0] += 2
    raise PositionError("outside the log")


def test_positions_of_a_failed_run_are_those_of_its_last_figures() -> None:
    """The files know of no record that the failed poll has passed."""
    lab = lab_of([1, 2, 3], [1], [1])
    with pytest.raises(PositionError, match="outside the log"):
        lab.consume([Poll((1, 1, 1, 0)), Poll(NOTHING, 1.1, fail)])
    assert lab.metrics and lab.metrics.position == [1, 1, 1]


def test_figures_of_a_run_that_fails_at_once_begin_where_it_began() -> None:
    """With the positions that recovery found, not with 0."""
    lab = lab_of([1], [1], [1], stornos=[b"1"])
    lab.consume(rest=True)
    with pytest.raises(PositionError, match="outside the log"):
        lab.consume([Poll(NOTHING, 0.0, fail)])
    assert lab.metrics and (lab.metrics.position, lab.metrics.storno_position) == ([1, 1, 1], 1)


def test_records_in_doubt_do_not_count_as_read() -> None:
    """While the broker cannot be asked, the figures say the positions from before the records that wait."""
    lab = lab_of([1, 2], [1, 2], [1, 2])
    seen: list[Any] = []

    def outage(source: FakeSource) -> None:
        source.identity_in_doubt = True

        def no_answer(_: float) -> Any:
            lab.clock.now_s += 1.1
            seen.append(lab.metrics and lab.metrics.position)
            source.over = len(seen) == 3
            raise BrokerError("no broker")

        source.describe_topics = no_answer  # type: ignore[assignment]  # this source only

    lab.consume([Poll((1, 1, 1, 0), 1.1), Poll((1, 1, 1, 0), 1.1, outage)])
    assert seen[:3] == [[1, 1, 1]] * 3
