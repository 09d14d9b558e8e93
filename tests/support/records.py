"""Hypothesis strategies for records of the topics: as we send them, as the older programs did, odd ones and broken ones."""

from collections.abc import Callable

from hypothesis import strategies as st

from houses.records.message import PARTS, Part, encode_part, encode_storno

TS = "2026-01-31T12:00:00.000000Z"
ODD_TEXTS = [
    "",
    "bob",
    "żółć",
    'quo"ted',
    "back\\slash",
    " ",
    "tab\there",
    "{}",
    "名",
    "a\nb",
    "\x7f",
    '","name":"',
    "ts:x",
]
JUNK = [None, b"", b"malf", b"\xff\xfe", b"partition_1|id:", b"partition_4|id:1|ts:a|name:b|task:c", b"|" * 9]


def part_values(partition: int, ids: st.SearchStrategy[int]) -> st.SearchStrategy[bytes | None]:
    """Records for one Kafka partition of the parts topic; most of them are parts as we send them."""
    plain = st.builds(_plain(PARTS[partition]), ids, st.sampled_from(PARTS[partition].workers))
    odd = st.builds(_odd(partition + 1), ids, st.sampled_from(ODD_TEXTS), st.sampled_from(ODD_TEXTS))
    older = ids.map(lambda i: f"part_{partition + 1}|id:00{i}|ts:20261123_141709|name:eve|task:x|more|fields".encode())
    foreign = st.builds(_plain(PARTS[(partition + 1) % 3]), ids, st.just("bob"))
    return weighted((plain, 12), (odd, 1), (older, 1), (foreign, 1), (st.sampled_from(JUNK), 1))


def storno_values(ids: st.SearchStrategy[int]) -> st.SearchStrategy[bytes | None]:
    """Records for the storno topic; most of them are stornos."""
    ours = st.builds(encode_storno, ids, st.sampled_from([None, *PARTS]))
    older = ids.map(lambda i: f"{i}\n".encode())
    spaced = ids.map(lambda i: f'{{"id": {i}, "partition": 0, "why": [1.5]}}'.encode())
    return weighted(
        (ours, 8), (older, 1), (spaced, 1), (st.sampled_from([*JUNK, b'{"id":true}', b'{"id":1,"id":1}']), 1)
    )


def weighted(*choices: tuple[st.SearchStrategy[bytes | None], int]) -> st.SearchStrategy[bytes | None]:
    """One of several strategies, each drawn about as often as its weight says."""
    return st.one_of([strategy for strategy, weight in choices for _ in range(weight)])


def _plain(part: Part) -> Callable[[int, str], bytes]:
    return lambda house_id, name: encode_part(part, house_id, TS, name)


def _odd(number: int) -> Callable[[int, str, str], bytes]:
    return lambda house_id, ts, name: f"partition_{number}|id:{house_id}|ts:{ts}|name:{name}|task:{name}".encode()
