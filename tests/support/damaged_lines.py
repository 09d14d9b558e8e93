"""What can be wrong with houses.jsonl and rejects.jsonl."""

from houses.records.message import PARTS
from support.damages import (
    FAR,
    Damage,
    added,
    because,
    both,
    changed,
    doubled,
    edited,
    house,
    house_of,
    late_storno,
    of_storno,
    part_changed,
    reject,
    removed,
)
from support.finished_run import EVICTED, PENDING, TS, Files


def evict_written_house(files: Files) -> None:
    """House 5 is given up, although its parts came in order."""
    lines = []
    for part in PARTS:
        value = f"partition_{part.number}|id:5|ts:{TS}|name:{part.workers[0]}|task:{part.name}"
        lines.append(reject(files, 5, "evicted", value.encode()) | {"partition": part.partition})
    files.edit("houses", house(5), lambda _: [])
    files.add("rejects", *lines)


HOUSE_FILE = [
    Damage(
        "house line removed", removed("houses", house(3)), {"missing": 3}, "partition 1 offset 3: a part of house 3,"
    ),
    Damage("house line doubled", doubled("houses", house(3)), {"double": 4}, "houses.jsonl byte .*house 3 is written"),
    Damage("id changed", changed("houses", house(3), id=FAR), {"wrong": 3}, "not of this house"),
    Damage("id of another house", changed("houses", house(3), id=4), {"wrong": 3, "double": 1}, "house 4 is written"),
    Damage(
        "id that cannot be", changed("houses", house(3), id=-3), {"foreign": 1, "missing": 3}, "numbers that cannot"
    ),
    Damage(
        "offset changed",
        part_changed("houses", house(3), 2, offset=4),
        {"wrong": 1, "double": 1, "missing": 1},
        "offset 4: the record there is not of this house",
    ),
    Damage(
        "offset not in the topic",
        part_changed("houses", house(3), 2, offset=FAR),
        {"foreign": 1, "missing": 1},
        "no such offset",
    ),
    Damage(
        "ts changed",
        part_changed("houses", house(3), 1, ts="x"),
        {"wrong": 1},
        "partition 0 offset 3: .*something else",
    ),
    Damage("name changed", part_changed("houses", house(3), 2, name="eve"), {"wrong": 1}, "partition 1 offset 3"),
    Damage("task changed", part_changed("houses", house(3), 3, task="x"), {"wrong": 1}, "partition 2 offset 3"),
    Damage("ts escaped", part_changed("houses", house(3), 3, ts='"\\'), {"wrong": 1}, "partition 2 offset 3"),
    Damage(
        "part removed",
        edited("houses", house(3), lambda r: [r | {"house": {"partition_1": r["house"]["partition_1"]}}]),
        {"foreign": 1, "missing": 3},
        "not a line of a finished house",
    ),
    Damage(
        "later offset of a part that came twice",
        both(
            edited("houses", house(3), lambda _: [house_of(3, (10, 3, 3))]),
            changed("rejects", lambda record: record["offset"] == 10, offset=3),
        ),
        {"wrong": 1},
        "offset 10: the partition holds this part at an earlier offset",
    ),
    Damage(
        "cancelled house among the finished",
        added("houses", lambda _: house_of(7, (7, 7, 7))),
        {"double": 4},
        "storno_houses.jsonl byte 0: house 7 is written already",
    ),
    Damage(
        "storno line among the finished",
        added("houses", lambda _: late_storno(11, 4)),
        {"foreign": 1},
        "not a line of a finished house",
    ),
    Damage(
        "no JSON",
        lambda files: files.add_bytes("houses", b"junk\n"),
        {"foreign": 1},
        r"houses.jsonl byte \d+: not a house line: b'junk",
    ),
    Damage(
        "last line unfinished below the synced length",
        lambda files: files.add_bytes("houses", b'{"id":1'),
        {"foreign": 1},
        "the last line has no end",
    ),
    Damage(
        "pending house written",
        added("houses", lambda _: house_of(PENDING[1], (34, 31, 0))),
        {"wrong": 1, "double": 1},
        "partition 2 offset 0: ",
    ),
]

REJECTS_FILE = [
    *(
        Damage(f"{reason} line removed", removed("rejects", because(reason)), {"missing": 1}, "without a line")
        for reason in ("malformed", "wrong_partition", "duplicate", "evicted")
    ),
    *(
        Damage(f"{reason} line doubled", doubled("rejects", because(reason)), {"double": 1}, "has a line already")
        for reason in ("malformed", "wrong_partition", "duplicate", "evicted")
    ),
    *(
        Damage(
            f"{right} called {wrong}",
            changed("rejects", because(right), reason=wrong),
            {"wrong": 1},
            f"rejects.jsonl byte .*reason is not '{wrong}'",
        )
        for right, wrong in (
            ("malformed", "duplicate"),
            ("malformed", "wrong_partition"),
            ("malformed", "evicted"),
            ("wrong_partition", "malformed"),
            ("duplicate", "malformed"),
            ("duplicate", "because"),
            ("evicted", "duplicate"),
        )
    ),
    Damage("raw changed", changed("rejects", because("duplicate"), raw="AAAA"), {"wrong": 1}, "something else"),
    Damage(
        "raw no base64", changed("rejects", because("duplicate"), raw="?"), {"foreign": 1, "missing": 1}, "reject line"
    ),
    Damage(
        "another topic",
        changed("rejects", because("duplicate"), topic="x"),
        {"foreign": 1, "missing": 1},
        "reject line",
    ),
    Damage(
        "another offset",
        changed("rejects", because("malformed"), offset=FAR),
        {"foreign": 1, "missing": 1},
        "no such offset",
    ),
    Damage(
        "a house's part rejected too",
        added("rejects", lambda files: reject(files, 0, "malformed", b"x")),
        {"double": 1, "wrong": 1},
        "partition 0 offset 0: the offset has a line already",
    ),
    Damage("finished house evicted", evict_written_house, {"wrong": 1}, "house 5 is evicted, but no partition held"),
    Damage(
        "evicted house written",
        added("houses", lambda _: house_of(EVICTED, (21, 20, 29))),
        {"double": 4},
        "house 20 is evicted here, and written",
    ),
    Damage(
        "pending part called a duplicate",
        added(
            "rejects",
            lambda files: reject(
                files, 33, "duplicate", f"partition_1|id:50|ts:{TS}|name:alice|task:foundation".encode()
            ),
        ),
        {"wrong": 1},
        "offset 33: the reason is not 'duplicate'",
    ),
    Damage(
        "storno line removed", removed("rejects", of_storno), {"missing": 1}, "offset 2: a malformed storno without"
    ),
    Damage("storno line doubled", doubled("rejects", of_storno), {"double": 1}, "offset 2: has a line already"),
    Damage("storno raw changed", changed("rejects", of_storno, raw="AAAA"), {"wrong": 1}, "offset 2: .*something else"),
    Damage(
        "good storno called malformed",
        changed("rejects", of_storno, offset=1),
        {"wrong": 1, "missing": 1},
        "offset 1: the reason is not",
    ),
    Damage(
        "storno offset not in the topic",
        changed("rejects", of_storno, offset=FAR),
        {"foreign": 1, "missing": 1},
        "no such offset",
    ),
    Damage(
        "gap that is none",
        added(
            "rejects", lambda files: reject(files, 2, "gap", b"", "offsets 2 to 4 were deleted before they were read")
        ),
        {"wrong": 1},
        "declares offsets 2 to 4 lost; Kafka has them from 0 on",
    ),
    Damage(
        "gap without its end",
        added("rejects", lambda files: reject(files, 2, "gap", b"", "lost")),
        {"foreign": 1},
        "not a gap at offset",
    ),
]
