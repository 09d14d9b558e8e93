"""What a restart reads again although it is done: the offsets that already have a line."""

from houses.errors import PositionError
from houses.records.decode import PartBatch, entry_bytes
from houses.records.lines import RAW_CAP_BYTES
from houses.records.message import STORNO


class DoneOffsets:
    """Offsets that already have a line.

    A record read again is skipped only when it is the one that the line speaks of.
    """

    def __init__(self) -> None:
        """Nothing done."""
        self._lines: tuple[dict[int, int | bytes], ...] = ({}, {}, {}, {})

    def add(self, partition: int, offset: int, content: int | bytes) -> None:
        """Note a line: the house id of a written part, or the (capped) bytes of a rejected record."""
        self._lines[partition][offset] = content

    def forget(self) -> None:
        """Free the memory: nothing will be read again."""
        for lines in self._lines:
            lines.clear()

    def end(self, partition: int) -> int:
        """The offset behind the last one that has a line; 0 without any."""
        return max(self._lines[partition], default=-1) + 1

    def count(self, partition: int, start: int, end: int) -> int:
        """How many offsets from `start` on and below `end` have a line."""
        return sum(start <= done < end for done in self._lines[partition])

    def without_done(self, batch: PartBatch) -> PartBatch:
        """The batch without what is done already; `PositionError` when a record is not the one of its line."""
        ids, entries, lines = [], [], self._lines[batch.partition]
        for house_id, entry in zip(batch.ids, batch.entries, strict=True):
            if lines.get(entry[0]) == house_id:  # the usual case, without the bytes of the message
                continue
            if not self.is_done(batch.partition, entry[0], house_id, entry_bytes(batch.partition, house_id, entry)):
                ids.append(house_id)
                entries.append(entry)
        rejects = [r for r in batch.rejects if not self.is_done(batch.partition, r.offset, None, r.raw)]
        return PartBatch(batch.partition, ids, entries, rejects)

    def is_done(self, partition: int, offset: int, house_id: int | None, raw: bytes) -> bool:
        """Whether this very record has its line; `PositionError` when another record has."""
        content = self._lines[partition].get(offset)
        if content is None:
            return False
        if content in (house_id, raw[:RAW_CAP_BYTES]):
            return True
        where = "the storno topic" if partition == STORNO else f"partition {partition}"
        raise PositionError(
            f"offset {offset} of {where} holds {raw[:60]!r}, but the files say {content!r}: "
            "this is not the topic that they were written from; start anew with: houses reset --archive"
        )
