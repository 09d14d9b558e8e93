"""What can be wrong with storno_houses.jsonl, the register and the checkpoint."""

from support.damages import FAR, Damage, Do, added, both, changed, doubled, edited, house, late, late_storno, removed
from support.finished_run import Files


def late_line_before_its_house(files: Files) -> None:
    """House 7 is cut in two: a late line, then the line of the house."""
    files.write("storno_houses", [late_storno(7, 0), *files.read("storno_houses")])


def register_without(house_id: int) -> Do:
    """A full storno is not in the register."""
    return lambda files: files.set_register(full=[i for i in files.register["full"] if i != house_id])


def register_with(house_id: int) -> Do:
    """A full storno is in the register that nobody sent."""
    return lambda files: files.set_register(full=[*files.register["full"], house_id])


STORNO_FILE = [
    Damage("cancelled house removed", removed("storno_houses", house(7)), {"missing": 3}, "a part of house 7,"),
    Damage("cancelled house doubled", doubled("storno_houses", house(7)), {"double": 4}, "house 7 is written already"),
    Damage(
        "state of a cancelled house",
        edited("storno_houses", house(7), lambda r: [r | {"storno_offset": 1}]),
        {"storno": 1},
        "house 7: full storno by offset 1 is not what",
    ),
    Damage(
        "excluded part changed",
        changed("storno_houses", house(9), excluded_partitions=[3]),
        {"foreign": 1, "missing": 3},
        "not a line of a cancelled house",
    ),
    Damage(
        "excluded part's offset changed",
        changed("storno_houses", house(9), offsets={"1": 9, "2": 8, "3": 9}),
        {"wrong": 1, "double": 1, "missing": 1},
        "partition 1 offset 8",
    ),
    Damage(
        "offsets that differ from the parts'",
        changed("storno_houses", house(9), offsets={"1": 8, "2": 9, "3": 9}),
        {"foreign": 1, "missing": 3},
        "numbers that cannot be",
    ),
    Damage(
        "late line removed", removed("storno_houses", late(11, 4)), {"storno": 1}, "house 11: full storno by .*missing"
    ),
    Damage(
        "last late line removed",
        removed("storno_houses", late(12, 7)),
        {"storno": 1},
        "house 12: .*states storno of wall",
    ),
    Damage(
        "first late line removed",
        removed("storno_houses", late(12, 5)),
        {"storno": 1},
        "a line between them is missing",
    ),
    Damage(
        "late line doubled",
        doubled("storno_houses", late(11, 4)),
        {"storno": 1},
        "house 11: full storno was stated before",
    ),
    Damage(
        "late line without a storno",
        added("storno_houses", lambda _: late_storno(14, 4)),
        {"storno": 1},
        "house 14: full storno by offset 4 is not what",
    ),
    Damage(
        "late line of a house that is not written",
        added("storno_houses", lambda _: late_storno(1000, 8)),
        {"storno": 1},
        "house 1000: a late line, but the house is written nowhere",
    ),
    Damage("late line before its house", late_line_before_its_house, {"storno": 1}, "house 7: a late line, but"),
    Damage(
        "storno taken back",
        added("storno_houses", lambda _: late_storno(12, 5) | {"storno": "partial", "excluded_partitions": [2]}),
        {"storno": 1},
        "house 12: storno of wall takes back full storno",
    ),
    Damage(
        "late line by another storno",
        changed("storno_houses", late(11, 4), storno_offset=0),
        {"storno": 1},
        "house 11: full storno by offset 0 is not what",
    ),
]

REGISTER = [
    Damage(
        "register entry removed", register_without(1000), {"storno": 1}, "storno_ids.json: house 1000: no storno, but"
    ),
    Damage(
        "register entry added",
        register_with(2),
        {"storno": 1},
        "storno_ids.json: house 2: full storno, but .*no storno",
    ),
    Damage(
        "register entry smaller",
        both(register_without(11), lambda files: files.set_register(partial={"9": [2], "11": [1]})),
        {"storno": 2},
        "house 11: storno of foundation, but .* says full storno",
    ),
    Damage(
        "register entry larger",
        lambda files: files.set_register(partial={"9": [2, 3]}),
        {"storno": 2},
        "house 9: storno of wall and roof",
    ),
    Damage(
        "register names another storno",
        lambda files: files.set_register(offsets=files.register["offsets"] | {"7": 3}),
        {"storno": 1},
        "house 7: full storno by offset 3 is not what",
    ),
    Damage(
        "register gone", lambda files: files.config.storno_ids_path.unlink(), {"storno": 6}, "house 7: no storno, but"
    ),
    Damage(
        "register damaged",
        lambda files: files.config.storno_ids_path.write_bytes(b"{"),
        {"storno": 1},
        "storno_ids.json: cannot be read",
    ),
    Damage(
        "register too old", lambda files: files.set_register(generation=1), {"storno": 1}, "of generation 1, older than"
    ),
    Damage(
        "register goes less far", lambda files: files.set_register(storno_next=2), {"storno": 1}, "goes to offset 2 of"
    ),
]

CHECKPOINT = [
    Damage(
        "position behind the end",
        lambda files: files.set_checkpoint(next=[FAR, 32, 30]),
        {"checkpoint": 1, "missing": 0},
        "partition 0: position 1000000 is behind the end",
    ),
    Damage(
        "position too high",
        lambda files: files.set_checkpoint(next=[36, 33, 32]),
        {"missing": 4},
        "partition 2 offset 31: malformed, without a line",
    ),
    Damage(
        "storno position too high",
        both(lambda files: files.set_checkpoint(storno_next=11), lambda files: files.set_register(storno_next=11)),
        {"missing": 1, "storno": 2},
        "house 13: full storno by .*, but its last line states no storno",
    ),
    Damage(
        "storno position behind the end",
        both(lambda files: files.set_checkpoint(storno_next=FAR), lambda files: files.set_register(storno_next=FAR)),
        {"missing": 1, "storno": 2, "checkpoint": 1},
        "storno-.*: position 1000000 is behind the end 11",
    ),
    Damage(
        "low watermark too high",
        lambda files: files.set_checkpoint(low=[34, 32, 30]),
        {"checkpoint": 2},
        "offset 33: no line, and a restart begins at offset 34",
    ),
    Damage(
        "tail too high",
        lambda files: files.set_checkpoint(low=[32, 31, 30]),
        {"checkpoint": 1},
        "a restart reads .* partition 0 offset 32 again, but this file only from byte",
    ),
    Damage(
        "another folder's checkpoint",
        lambda files: files.set_checkpoint(folder="00000000-0000-0000-0000-000000000000"),
        {"checkpoint": 1},
        "belongs to another folder",
    ),
    Damage(
        "checkpoint damaged",
        lambda files: files.config.offsets_path.write_bytes(b"{}"),
        {"checkpoint": 1},
        "not a checkpoint",
    ),
    Damage(
        "older program's positions",
        lambda files: files.config.offsets_path.write_bytes(b'{"0":54,"1":54,"2":54}'),
        {"checkpoint": 1},
        "houses consume --rescan",
    ),
]
