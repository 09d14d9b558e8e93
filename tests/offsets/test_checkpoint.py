"""The checkpoint record, its file store, the side files and the folder's binding."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap64
from support.simulated_disk import Crash, SimulatedDisk
from support.simulation import config_of

from houses.errors import FolderError, PositionError
from houses.kafka.clients import TopicInfo
from houses.offsets.binding import Binding, load_binding, save_binding
from houses.offsets.checkpoint import Checkpoint, FileStore
from houses.records.message import MAX_ID, Storno
from houses.records.registers import (
    ClosedIds,
    StornoRegister,
    decode_ids,
    encode_ids,
    encode_stornos,
    load_closed_ids,
    load_stornos,
    stage_side_files,
)

PATH = Path("/out/consumer_offsets.json")
NUMBERS = st.integers(0, 2**63 - 1)
TRIPLES = st.tuples(NUMBERS, NUMBERS, NUMBERS)


def record_of(folder: str, topics: tuple[str, str], numbers: tuple[int, int], *triples: tuple[int, ...]) -> Checkpoint:
    """A record whose low watermarks are no later than its next offsets, and whose tails begin in the files."""
    low, behind, tail, synced = (*_ordered(*triples[:2]), *_ordered(*triples[2:]))
    return Checkpoint(folder, topics, numbers[0], low, behind, numbers[1], synced, tail)


def _ordered(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(map(min, first, second)), tuple(map(max, first, second))


RECORDS = st.builds(
    record_of,
    st.uuids().map(str),
    st.tuples(st.text(), st.text()),
    st.tuples(NUMBERS, NUMBERS),
    TRIPLES,
    TRIPLES,
    TRIPLES,
    TRIPLES,
)
RECORD = Checkpoint("f", ("a", "b"), 3, (1, 2, 3), (4, 5, 6), 7, (8, 9, 10), (0, 1, 2))
HUGE = 2**63 - 1
LARGEST = Checkpoint("f" * 36, ("x" * 22, "y" * 22), HUGE, (HUGE,) * 3, (HUGE,) * 3, HUGE, (HUGE,) * 3, (HUGE,) * 3)


# --- the record ---


@given(RECORDS)
def test_a_record_is_read_as_it_was_written(record: Checkpoint) -> None:
    """encode and decode are inverses; a record is one line."""
    data = record.encode()
    assert Checkpoint.decode(data, "x") == record and b"\n" not in data


def test_the_largest_record_fits_a_kafka_commit() -> None:
    """4096 bytes of metadata are Kafka's default limit; no pending part is in it."""
    assert len(LARGEST.encode()) < 1024


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=3)
)
MEMBERS = st.sampled_from(
    ["format", "folder", "topic_ids", "generation", "low", "next", "storno_next", "synced", "tail", "x"]
)


@given(st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()))
def test_what_is_no_record_is_refused(data: bytes) -> None:
    """Any bytes, any JSON: PositionError that names the source and the way on, never another error."""
    with pytest.raises(PositionError, match=r"^source: .*houses consume --rescan"):
        Checkpoint.decode(data, "source")


@given(
    MEMBERS, JSON | st.sampled_from([-1, 1.5, True, [1, 2], [1, 2, 3, 4], [1, 2, "3"], [1, 2, -3], [1, 2, True], "0"])
)
def test_a_record_with_a_bad_member_is_refused(name: str, value: Any) -> None:
    """Missing, of another type, negative, too many: refused, or as good as before."""
    members = json.loads(RECORD.encode())
    for bad in (members | {name: value}, {key: kept for key, kept in members.items() if key != name}):
        try:
            found = Checkpoint.decode(json.dumps(bad).encode(), "source")
        except PositionError:
            continue
        numbers = (*found.low, *found.next, *found.synced, *found.tail, found.generation, found.storno_next)
        assert len(numbers) == 14 and all(type(number) is int and number >= 0 for number in numbers)
        assert type(found.folder) is str and all(type(topic) is str for topic in found.topic_ids)
        assert len(found.topic_ids) == 2


def test_the_file_of_the_older_consumer_is_recognised() -> None:
    """It says the next offsets only, whatever was pending: refused, with the command that goes on."""
    data = (Path(__file__).parents[1] / "legacy" / "consumer_offsets.json").read_bytes()
    with pytest.raises(PositionError, match=r'written by the older consumer .*"0":54.*houses consume --rescan'):
        Checkpoint.decode(data, "consumer_offsets.json")


# --- the file store ---


def test_a_store_gives_back_what_was_saved_last() -> None:
    """None before the first; forgotten records stay beside it."""
    disk = SimulatedDisk()
    store = FileStore(disk, PATH)
    assert store.load() is None and store.name == str(PATH)
    store.save(RECORD)
    store.save(LARGEST)
    assert FileStore(disk, PATH).load() == LARGEST
    store.forget()
    assert store.load() is None
    assert disk.content(PATH.with_name("consumer_offsets.json.old")) == LARGEST.encode() + b"\n"
    store.forget()  # nothing to forget is fine


@given(st.integers(1, 8), st.integers(0, 1000))
def test_a_saved_record_survives_any_crash_of_the_next_save(fuse: int, seed: int) -> None:
    """Old or new, never a mixture, never nothing."""
    disk = SimulatedDisk()
    store = FileStore(disk, PATH)
    store.save(LARGEST)
    disk.fuse = fuse
    wanted = [RECORD, LARGEST]
    try:
        store.save(RECORD)
        wanted = [RECORD]
    except Crash:
        pass
    disk.cut_power(Random(seed))
    assert store.load() in wanted


# --- the binding ---

BINDING = Binding.new(TopicInfo("p", "id-1", 3), TopicInfo("s", "id-2", 1))


def test_a_binding_is_read_as_it_was_written() -> None:
    """And every new one has a UUID of its own."""
    disk = SimulatedDisk()
    assert load_binding(disk, PATH) is None
    save_binding(disk, PATH, BINDING)
    assert load_binding(disk, PATH) == BINDING
    assert Binding.new(BINDING.parts, BINDING.storno).folder != BINDING.folder


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b'{"folder":"x","parts":{},"storno":{}}'])
def test_a_damaged_binding_is_refused(data: bytes) -> None:
    """Guessing which topics a folder belongs to could mix two of them."""
    disk = SimulatedDisk()
    disk.put(PATH, data)
    with pytest.raises(FolderError, match="damaged .*reset --archive"):
        load_binding(disk, PATH)


# --- side files ---

IDS = st.sets(st.one_of(st.integers(0, 100), st.integers(0, MAX_ID)), max_size=30)


def closed_of(written: set[int], evicted: set[int]) -> ClosedIds:
    """Closed ids."""
    closed = ClosedIds()
    closed.add_written(written)
    closed.add_evicted(evicted)
    return closed


@given(IDS, IDS, NUMBERS, TRIPLES)
def test_closed_ids_are_read_as_they_were_written(
    written: set[int], evicted: set[int], generation: int, lengths: tuple[int, ...]
) -> None:
    """Both sets, the generation and the file lengths that they cover."""
    found = decode_ids(encode_ids(closed_of(written, evicted), generation, lengths))
    assert found is not None
    assert found[:2] == (generation, lengths) and (set(found[2]), set(found[3])) == (written, evicted)


@given(IDS, IDS, st.integers(0, 10**6), st.integers(1, 255))
def test_a_flipped_bit_in_the_cache_is_noticed(written: set[int], evicted: set[int], position: int, flip: int) -> None:
    """Wherever it is; so is any cut. A damaged cache counts as none."""
    data = bytearray(encode_ids(closed_of(written, evicted), 1, (1, 2, 3)))
    assert decode_ids(bytes(data[: position % len(data)])) is None
    data[position % len(data)] ^= flip
    assert decode_ids(bytes(data)) is None


@given(st.binary(max_size=100))
def test_garbage_in_the_cache_counts_as_none(data: bytes) -> None:
    """No error, and no ids."""
    assert decode_ids(data) is None


def test_ten_million_sequential_ids_take_no_space() -> None:
    """The cache stays small however many houses there are."""
    closed = ClosedIds()
    closed.replace(BitMap64(range(10_000_000)), BitMap64())
    assert len(encode_ids(closed, 1, (1, 2, 3))) < 5_000
    assert closed.overlaps({9_999_999: 0}.keys()) and not closed.overlaps({10_000_000: 0}.keys())


@given(
    st.lists(st.tuples(st.integers(0, MAX_ID), st.integers(1, 7), st.none() | NUMBERS), max_size=20), NUMBERS, NUMBERS
)
@settings(deadline=None)
def test_a_register_is_read_as_it_was_written(
    stornos: list[tuple[int, int, int | None]], generation: int, end: int
) -> None:
    """storno_ids.json gives back states, offsets and the offset from which stornos are not in it."""
    register, found, disk, config = StornoRegister(), StornoRegister(), SimulatedDisk(), config_of()
    for house_id, mask, offset in stornos:
        register.merge(Storno(house_id, mask), offset)
    stage_side_files(config, disk, register, ClosedIds(), generation, end, (0, 0, 0))
    assert load_stornos(config, disk, found) == end
    assert (found.masks, found.offsets) == (register.masks, register.offsets)


def test_the_register_keeps_the_form_of_the_older_one() -> None:
    """`full` is a list of ids, `partial` maps ids to part numbers; readers of the older file find what they know."""
    register = StornoRegister()
    for house_id, mask in ((21, 7), (7, 7), (9, 0b010), (22, 0b101)):
        register.merge(Storno(house_id, mask), house_id)
    found = json.loads(encode_stornos(register, 3, 30))
    assert found["full"] == [7, 21] and found["partial"] == {"9": [2], "22": [1, 3]}


@pytest.mark.parametrize(
    "data",
    [
        None,
        b"",
        b"[]",
        b"{}",
        b'{"full":[1]}',
        b'{"full":[1],"partial":{"7":[9]},"offsets":{},"storno_next":5}',
        b"{",
        b"\xff",
    ],
)
def test_a_damaged_register_is_read_anew_from_the_topic(data: bytes | None) -> None:
    """From offset 0, and with nothing of the damaged one."""
    register, disk, config = StornoRegister(), SimulatedDisk(), config_of()
    disk.put(config.storno_ids_path, data)
    assert load_stornos(config, disk, register) == 0
    assert not register.masks and not register.offsets


def test_the_register_of_the_older_consumer_is_read_anew_from_the_topic() -> None:
    """It does not say how far it goes."""
    register, disk, config = StornoRegister(), SimulatedDisk(), config_of()
    disk.put(config.storno_ids_path, (Path(__file__).parents[1] / "legacy" / "storno_ids.json").read_bytes())
    assert load_stornos(config, disk, register) == 0 and not register.masks


@pytest.mark.parametrize(
    ("generation", "tail", "lengths", "fits"),
    [
        (5, (0, 0, 0), (10, 20, 30), True),
        (4, (10, 20, 30), (99, 99, 99), True),
        (6, (0, 0, 0), (10, 20, 30), False),  # older than the record
        (5, (0, 21, 0), (10, 30, 30), False),  # does not reach the tail
        (5, (0, 0, 0), (10, 20, 29), False),  # speaks of more than there is
    ],
)
def test_a_cache_counts_only_when_it_fits_record_and_files(
    generation: int, tail: tuple[int, ...], lengths: tuple[int, ...], fits: bool
) -> None:
    """It must be as new as the record, reach the tail that is read, and speak of no line that is not there."""
    disk, config, closed = SimulatedDisk(), config_of(), ClosedIds()
    disk.put(config.closed_ids_path, encode_ids(closed_of({1}, {2}), 5, (10, 20, 30)))
    assert load_closed_ids(config, disk, closed, generation, list(tail), lengths) == fits
    assert set(closed.written) == ({1} if fits else set())
