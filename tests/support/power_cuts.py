"""Power cuts by the thousand: from one seed come records, limits, and where the power goes; the files must end as they should.

Run by itself it repeats seeds, with what happened: `python3 lab.py crashtest --power-cut SEED`.
"""

from random import Random
from typing import Any

from houses.errors import BrokerError, FolderError
from houses.records.message import PARTS, encode_part, encode_storno
from support.records import TS
from support.reference import STORNO
from support.simulation import Lab, Poll, Records, Topics, check_end, config_of, damage, parts

_JUNK: Records = [None, b"", b"junk", b"\xff\xfe", b"partition_1|id:", b'{"id":true}']


def cut_and_recover(seed: int) -> int:
    """Consume until the power goes, start again on what the disk kept, some times over, then read to the end and compare.

    Args:
        seed: of everything that chance decides.
    Returns:
        How many times the power went with something not on the disk yet; it goes more often.
    Raises:
        AssertionError: a line that was on the disk is gone or has changed, or the end is not what the plain reference says.
    """
    random = Random(seed)
    lab = Lab(Topics([*_parts(random), []]), config_of(**_limits(random)), random)
    coming = _stornos(random)
    kept, telling = [b""] * 3, 0
    for _ in range(random.randint(1, 3)):
        for _ in range(random.choice([0, 0, 1])):  # only the process goes: what it has written is still there
            _consume_until_it_dies(lab, coming, random)
        _consume_until_it_dies(lab, coming, random)
        kept = [max(old, _whole(lab.disk.durable(path)), key=len) for old, path in zip(kept, lab.paths, strict=True)]
        telling += lab.disk.has_unsynced
        lab.disk.cut_power(random)
        _check_kept(lab, kept)
        if random.random() < 0.2:
            damage(lab, random.choice(["no side files", "bad side file", "no checkpoint"]), random)
    lab.group.failing = False
    lab.topics.records[STORNO] += coming
    assert lab.consume(rest=True)
    check_end(lab)
    _check_kept(lab, kept)
    return telling


def cuts_of(first_seed: int, cuts: int) -> tuple[int, int]:
    """Seed after seed until the power has gone so many times; gives how many times it did, and the number of seeds.

    Only those count that found something not on the disk yet.

    Raises:
        AssertionError: as `cut_and_recover`, with the command that repeats it.
    """
    done = seeds = 0
    while done < cuts:
        seed = first_seed + seeds
        try:
            done += cut_and_recover(seed)
        except Exception as error:
            raise AssertionError(f"again with: python3 lab.py crashtest --power-cut {seed}") from error
        seeds += 1
    return done, seeds


def _consume_until_it_dies(lab: Lab, coming: Records, random: Random) -> None:
    """At one of the operations on the disk, or at the end of the plan; perhaps with a failed sync before.

    Stornos come one by one meanwhile, else all would be read before the first part, and none be late.
    """

    def storno_comes(_: object) -> None:
        if coming and random.random() < 0.5:
            lab.topics.records[STORNO].append(coming.pop())

    plan = [_poll(random)._replace(act=storno_comes) for _ in range(random.randint(0, 10))]
    lab.group.failing = random.random() < 0.3
    sync_fuse = random.randint(1, 25) if random.random() < 0.15 else None
    try:
        lab.consume(plan, kill=random.random() < 0.5, fuse=random.randint(1, 90), sync_fuse=sync_fuse)
    except FolderError:
        assert sync_fuse is not None, "an error without a cause"
    except BrokerError:
        assert lab.group.failing, "an error without a cause"


def _check_kept(lab: Lab, kept: list[bytes]) -> None:
    for path, old in zip(lab.paths, kept, strict=True):
        assert (lab.disk.content(path) or b"").startswith(old), f"{path.name}: a line that was on the disk is gone"


def _whole(data: bytes) -> bytes:
    """The lines up to the first that is torn: a stretch of zeros, or without its end."""
    end = 0
    for line in data.splitlines(keepends=True):
        if b"\0" in line or not line.endswith(b"}\n") or not line.startswith(b"{"):
            break
        end += len(line)
    return data[:end]


# --- what chance decides ---


def _limits(random: Random) -> dict[str, Any]:
    return {
        "flush_every": random.choice([1, 3, 100]),
        "storno_flush_every": random.choice([1, 2]),
        "offset_save_interval_sec": random.choice([0.0, 0.2, 1.0]),
        "offset_store": random.choice(["file", "file", "kafka"]),
        # Nothing is given up here: which parts meet would depend on the time that crashes take.
        "max_pending_age_sec": 1e6,
    }


def _poll(random: Random) -> Poll:
    foundations, walls, roofs = (random.randint(0, 4) for _ in range(3))
    return Poll((foundations, walls, roofs, 9), random.choice([0.0, 0.3, 1.1]))


def _stornos(random: Random) -> Records:
    some = [encode_storno(random.randrange(6), random.choice([None, *PARTS])) for _ in range(random.randint(0, 6))]
    return [*some, random.choice(_JUNK)]


def _parts(random: Random) -> list[Records]:
    """Three partitions: mostly ascending ids that drift apart, with repeats, gaps and junk."""
    ids = list(range(random.choice([3, 6, 12])))
    return [_part_records(random, partition, ids) for partition in range(STORNO)]


def _part_records(random: Random, partition: int, ids: list[int]) -> Records:
    chosen = [i for i in ids if random.random() < 0.9]
    if random.random() < 0.3:
        random.shuffle(chosen)
    records: Records = []
    for house_id in chosen:
        records += parts(partition + 1, house_id)
        match random.random():
            case luck if luck < 0.1:  # an id again
                part = PARTS[partition]
                records.append(encode_part(part, random.choice(ids), TS, random.choice(part.workers)))
            case luck if luck < 0.15:
                records.append(random.choice(_JUNK))
            case luck if luck < 0.2:  # in the wrong partition
                records += parts((partition + 1) % 3 + 1, house_id)
    return records
