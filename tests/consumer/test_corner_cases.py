"""Rare meetings of two troubles: a lost side file and a gap, a cut and a newer cache, a doubt and waiting houses."""

from unittest.mock import patch

import pytest
from support.simulation import ALL, FakeSource, Lab, Poll, lab_of, parts

from houses.errors import BrokerError, PositionError

NOTHING = Poll((0, 0, 0, 0), 0.2)


def ids(lab: Lab, file: int) -> list[int]:
    """Ids in one of the three files."""
    return [line["id"] for line in lab.lines(lab.paths[file])]


@pytest.fixture
def cancelled_before_a_gap() -> Lab:
    """House 1 lacks its roof and is cancelled; the next storno was deleted unread, which the user has accepted."""
    lab = lab_of([1], [1], [], stornos=[b"1"])
    lab.consume(rest=True)
    lab.topics.records[3] += [b"8", b"9"]
    lab.topics.first[3] = 2
    lab.consume(rest=True, accept_gap=True)
    lab.topics.records[2] += parts(3, 1)
    return lab


def test_a_register_lost_after_a_gap_is_not_taken_for_empty(cancelled_before_a_gap: Lab) -> None:
    """Stornos below an accepted gap are only in the register: without it the start is refused."""
    lab = cancelled_before_a_gap
    lab.disk.put(lab.config.storno_ids_path, None)
    with pytest.raises(PositionError, match=r"offsets 0 to 0 were deleted, 1 of them unread"):
        lab.consume(rest=True)
    assert ids(lab, 0) == []


def test_a_register_counts_without_a_checkpoint(cancelled_before_a_gap: Lab) -> None:
    """It says itself how far it goes, so a lost checkpoint does not bring a cancelled house back."""
    lab = cancelled_before_a_gap
    lab.disk.put(lab.config.offsets_path, None)
    lab.consume(rest=True)
    assert (ids(lab, 0), ids(lab, 1)) == ([], [1])


def test_a_cut_below_the_cache_of_closed_ids_loses_no_house() -> None:
    """Damage behind the synced length, before the length that the newer cache covers: the houses are written again."""
    lab = lab_of([1, 2, 3], [1, 2, 3], [1, 2, 3])
    lab.consume([Poll((1, 1, 1, 0))])
    record = lab.disk.content(lab.config.offsets_path)
    lab.consume([Poll((1, 1, 1, 0)), Poll((1, 1, 1, 0))])
    lab.disk.put(lab.config.offsets_path, record)  # as if it had died before the record of the last generation
    content = lab.disk.content(lab.paths[0]) or b""
    at = content.index(b'{"id":2')
    lab.disk.put(lab.paths[0], content[:at] + bytes(20) + content[at + 20 :])
    lab.consume(rest=True)
    assert (ids(lab, 0), lab.lines(lab.paths[2])) == ([1, 2, 3], [])


def test_no_house_is_written_before_the_first_checkpoint() -> None:
    """Without a broker to compare the topics with there is no checkpoint, and the start fails instead of going on."""
    lab = lab_of([1], [1], [1])
    with (
        patch.object(FakeSource, "describe_topics", side_effect=BrokerError("no answer")),
        pytest.raises(BrokerError, match="no answer"),
    ):
        lab.consume([ALL])
    assert (lab.record(), ids(lab, 0)) == (None, [])


def test_a_doubt_holds_no_finished_house_back() -> None:
    """Houses that were joined before the broker's error are on the disk a second later, whatever the broker does."""
    lab = lab_of([1, 2], [1, 2], [1, 2], flush_every=100)
    seen: list[list[int]] = []

    def away(source: FakeSource) -> None:
        source.identity_in_doubt = True

    def describe(source: FakeSource, timeout_s: float) -> object:
        if source.identity_in_doubt and len(seen) < 5:
            lab.clock.now_s += timeout_s
            seen.append(ids(lab, 0))
            raise BrokerError("no answer")
        return lab.topics.infos()

    with patch.object(FakeSource, "describe_topics", describe):
        lab.consume([Poll((1, 1, 1, 0)), Poll((1, 1, 1, 0), 0.0, away), NOTHING])
    assert seen[0] == []
    assert seen[-1] == [1]
    assert ids(lab, 0) == [1, 2]


def test_records_that_a_stop_leaves_in_doubt_are_not_reported_as_read() -> None:
    """Metrics, checkpoint and files speak of the same position, and the next run reads on from it."""
    lab = lab_of([1, 2], [1, 2], [1, 2])

    def away(source: FakeSource) -> None:
        source.identity_in_doubt = source.over = True

    lab.consume([Poll((1, 1, 1, 0)), Poll((1, 1, 1, 0), 0.0, away)])
    assert lab.metrics is not None
    assert (lab.metrics.position, ids(lab, 0)) == ([1, 1, 1], [1])
    lab.consume(rest=True)
    assert ids(lab, 0) == [1, 2]


def test_reading_to_the_end_ends_when_the_parts_that_lack_were_never_sent() -> None:
    """The part that is ahead stays paused; what is left of it is said."""
    lab = lab_of(range(1, 60), [], [], max_pending_triplets=20)
    lab.consume([Poll((5, 5, 5, 5), 0.2)] * 200, rest=True)
    assert lab.source is not None
    assert lab.source.next[0] < 59
    assert any("of partition 0" in line for line in lab.said)
