"""The join in its plainest form: one record at a time, on dicts and lists. Shares no code with `houses`; what that does must equal this."""

import json
from base64 import b64encode
from typing import Any

NAMES = {1: "partition_1", 2: "partition_2", 3: "partition_3"}
STORNO = 3
DIGITS = set("0123456789")

Line = dict[str, Any]


def read_part(value: bytes | None) -> tuple[int, int, str, str, str] | None:
    """Number (1 to 3), id, ts, name and task of a part message; None when it is malformed."""
    try:
        fields = (value or b"").decode("utf-8").split("|")
    except UnicodeDecodeError:
        return None
    if len(fields) < 5 or fields[0] not in {f"{prefix}_{n}" for prefix in ("partition", "part") for n in (1, 2, 3)}:
        return None
    texts = []
    for field, start in zip(fields[1:5], ("id:", "ts:", "name:", "task:"), strict=True):
        if not field.startswith(start):
            return None
        texts.append(field[len(start) :])
    house_id, ts, name, task = texts
    if not is_id(house_id) or not ts:
        return None
    return int(fields[0][-1]), int(house_id), ts, name, task


def is_id(text: str) -> bool:
    """Whether a text is an id: 1 to 18 ASCII digits."""
    return 1 <= len(text) <= 18 and set(text) <= DIGITS


def read_storno(value: bytes | None) -> tuple[int, set[int]] | None:
    """Id and the part numbers that a storno cancels; None when it is malformed."""
    try:
        text = (value or b"").decode("utf-8")
    except UnicodeDecodeError:
        return None
    if is_id(text.rstrip(" \t\r\n")):
        return int(text), {1, 2, 3}
    try:
        pairs = json.loads(text, object_pairs_hook=lambda pairs: ("object", pairs))
    except (ValueError, RecursionError):
        return None
    if not isinstance(pairs, tuple) or has_double_key(pairs):
        return None
    record = dict(pairs[1])
    house_id, number = record.get("id"), record.get("partition", 0)
    if type(house_id) is not int or not 0 <= house_id < 10**18 or type(number) is not int or not 0 <= number <= 3:
        return None
    return house_id, {number} if number else {1, 2, 3}


def has_double_key(value: Any) -> bool:
    """Whether any object in ("object", pairs) holds a key twice."""
    if isinstance(value, tuple):
        keys = [key for key, _ in value[1]]
        return len(set(keys)) < len(keys) or any(has_double_key(member) for _, member in value[1])
    return isinstance(value, list) and any(map(has_double_key, value))


class Reference:
    """What must become of records, handed over one by one in the order in which the consumer takes them."""

    def __init__(self, topics: tuple[str, str] = ("teszt-partitioned", "house-storno")) -> None:
        """Nothing taken yet; `topics` are the names of the parts and the storno topic."""
        self.topics = topics
        self.houses: list[Line] = []
        self.storno: list[Line] = []
        self.rejects: list[Line] = []
        self.pending: dict[int, dict[int, tuple[int, Line, bytes]]] = {}
        """Id -> part number -> offset, members of its JSON object, message."""
        self.written: set[int] = set()
        self.evicted: set[int] = set()
        self.excluded: dict[int, set[int]] = {}
        self.storno_offset: dict[int, int] = {}
        self.delivered: list[tuple[float, int, int]] = []
        """Time, part number and id of each part."""

    def part(self, partition: int, offset: int, value: bytes | None, now_s: float = 0.0) -> None:
        """Take a record of the parts topic."""
        found = read_part(value)
        if found is None:
            self.reject(partition, offset, "malformed", value)
            return
        number, house_id, ts, name, task = found
        if number != partition + 1:
            self.reject(partition, offset, "wrong_partition", value)
            return
        self.delivered.append((now_s, number, house_id))
        if house_id in self.evicted:
            self.reject(partition, offset, "evicted", value)
        elif house_id in self.written or number in self.pending.get(house_id, {}):
            self.reject(partition, offset, "duplicate", value)
        else:
            members = {"ts": ts, "name": name, "task": task, "offset": offset}
            self.pending.setdefault(house_id, {})[number] = (offset, members, value or b"")
            if len(self.pending[house_id]) == 3:
                self.complete(house_id)

    def complete(self, house_id: int) -> None:
        """Write the line of a house whose three parts are there."""
        parts = self.pending.pop(house_id)
        self.written.add(house_id)
        excluded = self.excluded.get(house_id, set())
        shown = {1, 2, 3} if len(excluded) == 3 else {1, 2, 3} - excluded
        line: Line = {"id": house_id, "house": {NAMES[n]: parts[n][1] for n in sorted(shown)}}
        if excluded:
            self.storno.append(
                line | self.storno_members(house_id) | {"offsets": {str(n): parts[n][0] for n in (1, 2, 3)}}
            )
        else:
            self.houses.append(line)

    def storno_members(self, house_id: int) -> Line:
        """The state of a cancelled house, as its line says it."""
        excluded = self.excluded[house_id]
        state: Line = (
            {"storno": "full"} if len(excluded) == 3 else {"storno": "partial", "excluded_partitions": sorted(excluded)}
        )
        return state | {"storno_offset": self.storno_offset[house_id]}

    def cancel(self, offset: int, value: bytes | None) -> None:
        """Take a record of the storno topic."""
        found = read_storno(value)
        if found is None:
            self.reject(STORNO, offset, "malformed", value)
            return
        house_id, numbers = found
        before = self.excluded.get(house_id, set())
        if numbers <= before:
            return
        self.excluded[house_id] = before | numbers
        self.storno_offset[house_id] = offset
        if house_id in self.written:
            self.storno.append({"id": house_id, "house": {}} | self.storno_members(house_id) | {"late": True})

    def evict(self, then_s: float) -> None:
        """Give up each pending id whose missing parts were all overtaken by a higher id at `then_s` or before."""
        for house_id in sorted(self.pending):
            missing = {1, 2, 3} - self.pending[house_id].keys()
            overtaken = {number for time_s, number, i in self.delivered if time_s <= then_s and i > house_id}
            if missing <= overtaken:
                for number, (offset, _, value) in sorted(self.pending.pop(house_id).items()):
                    self.reject(number - 1, offset, "evicted", value)
                self.evicted.add(house_id)

    def reject(self, partition: int, offset: int, reason: str, value: bytes | None) -> None:
        """Write the line of a record that is no part of a house."""
        topic, partition = (self.topics[1], 0) if partition == STORNO else (self.topics[0], partition)
        raw = b64encode((value or b"")[:4096]).decode()
        self.rejects.append({"topic": topic, "partition": partition, "offset": offset, "reason": reason, "raw": raw})

    def register(self) -> Line:
        """What storno_ids.json says of the cancelled ids."""
        full = sorted(i for i, numbers in self.excluded.items() if len(numbers) == 3)
        partial = {str(i): sorted(numbers) for i, numbers in self.excluded.items() if len(numbers) < 3}
        return {"full": full, "partial": partial}
