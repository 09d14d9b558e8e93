"""The houses that wait for parts, and which ones: for people who ask what is missing."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from houses.config.config import Config
from houses.kafka.reader import read_ranges
from houses.pending import pending_at
from houses.records.decode import decode_parts
from houses.records.message import PART_NAMES, PARTS
from houses.records.metrics import last_metrics
from houses.snapshot import take_snapshot
from houses.system.log import Say, be_silent


@dataclass(frozen=True, slots=True)
class WaitingHouse:
    """A house of which one or two parts have come."""

    id: int
    offsets: Mapping[str, int]
    """Name of each part that has come -> offset of its record."""

    @property
    def missing(self) -> list[str]:
        """Names of the parts that have not come."""
        return [name for name in PART_NAMES if name not in self.offsets]

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return {"id": self.id, "offsets": dict(self.offsets), "missing": self.missing}


def waiting_houses(config: Config, say: Say = be_silent) -> list[WaitingHouse]:
    """The houses that are incomplete where the consumer stands now, by id.

    Args:
        say: told now and then how far it is.
    Raises:
        PositionError, BrokerError: see `snapshot.take_snapshot`.
    """
    snapshot = take_snapshot(config)
    said = last_metrics(config.metrics_path) or {}
    # What it said last may be later than its checkpoint.
    positions = [*map(max, snapshot.position, said.get("position", (0, 0, 0)))]
    pending = pending_at(config, positions, say).ids
    low = snapshot.checkpoint.low if snapshot.checkpoint else (0, 0, 0)
    ranges = {p: (max(low[p], snapshot.marks[p][0]), positions[p]) for p in range(len(PARTS))}
    offsets: dict[int, dict[str, int]] = defaultdict(dict)
    for run in read_ranges(config.kafka, snapshot.topics[0], ranges):
        batch = decode_parts(run.partition, run.offsets, run.values())
        for house_id, entry in zip(batch.ids, batch.entries, strict=True):
            if house_id in pending:
                offsets[house_id].setdefault(PARTS[run.partition].name, entry[0])
    return [WaitingHouse(house_id, offsets[house_id]) for house_id in pending]
