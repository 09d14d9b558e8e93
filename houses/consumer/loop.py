"""One run of the consumer: poll, decode, join, write, checkpoint, again and again, until it is told to stop."""

import logging
import operator
import time
from collections import Counter
from collections.abc import Callable

from houses.config.models import ConsumerConfig
from houses.consumer.checkpointer import Checkpointer
from houses.consumer.recovery import Recovered
from houses.consumer.reporter import Reporter, outcomes
from houses.consumer.source import Chunk, Source, TopicIdentity
from houses.errors import BrokerError, MessageError, StoreError
from houses.records.decode import House, decode_parts
from houses.records.message import STORNO, Reject, decode_storno, utc_now
from houses.system.text import counted

LOG = logging.getLogger(__name__)

_COMMIT_DELAY_S = 1.0
_EVICT_EVERY_S = 1.0
_BALANCE_EVERY_S = 0.1


class ConsumerLoop:
    """One run of the consumer, from a recovered state to its stop."""

    def __init__(
        self,
        limits: ConsumerConfig,
        recovered: Recovered,
        checkpointer: Checkpointer,
        source: Source,
        reporter: Reporter,
        should_stop: Callable[[], bool],
    ) -> None:
        """Nothing is read or written yet."""
        self._limits, self._recovered, self._checkpointer = limits, recovered, checkpointer
        self._journal, self._table = recovered.journal, recovered.table
        self._source, self._reporter = source, reporter
        self._identity = TopicIdentity(recovered.binding, source)
        self._should_stop = should_stop
        self._replaying = True
        self._crowded = False
        self._look_at = 0
        self._checkpoint_error = ""
        self._queued_since_s: float | None = None
        self._due_s = dict.fromkeys(("metrics", "evict", "balance", "checkpoint"), time.monotonic())

    def run(self, until: list[int] | None) -> Counter[str]:
        """Read until told to stop, or until the four positions of `until` are reached; returns the outcomes by kind.

        After an error the figures stay as they were: positions may have moved on to records that were not handled.
        """
        self._begin()
        while not self._should_stop() and not (until and self._at_end(until)):
            self._step()
        self._commit()
        self._checkpoint(last=True)
        self._fill_metrics()
        return self._reporter.counts

    def _begin(self) -> None:
        """First checkpoint before the first house; then all stornos before the first part.

        Lines of gaps come before it: behind the checkpoint nobody would know of them.
        """
        recovered = self._recovered
        self._journal.append_rejects(recovered.gaps)
        self._reporter.counts["gap"] += len(recovered.gaps)
        self._journal.commit()
        self._source.next[:] = recovered.begin
        self._save_checkpoint()
        self._reporter.metrics.state = "recovering"
        self._fill_metrics()
        self._reporter.write()  # where it begins: what a crash costs is counted from here
        self._source.assign_storno(recovered.begin[STORNO])
        end = self._source.storno_end()
        while not self._should_stop() and self._source.next[STORNO] < end:
            self._step()
        self._source.assign_parts(recovered.begin[:STORNO])
        topics = f"{recovered.binding.parts.name} and {recovered.binding.storno.name}"
        LOG.info(f"Reading {topics} into {self._journal.houses.path.parent}")
        self._reporter.metrics.state = "running"

    def _at_end(self, until: list[int]) -> bool:
        """Whether `until` is reached, or cannot be: the rest is of parts that are ahead, and the others have no more."""
        unread = {index for index, end in enumerate(until) if self._source.next[index] < end}
        paused = self._source.paused
        if not unread or not unread <= paused or paused == {0, 1, 2}:  # all paused: eviction will make room
            return not unread
        left = ", ".join(f"{until[p] - self._source.next[p]} of partition {p}" for p in sorted(unread))
        LOG.info(
            f"Not read: {left}. {self._limits.max_pending_triplets} houses may be pending "
            "(consumer.max_pending_triplets), and the parts that they wait for were not sent"
        )
        return True

    def _step(self) -> None:
        starts = list(self._source.next)
        chunks = self._source.poll(self._limits.max_batch, self._limits.poll_timeout_ms / 1000)
        now_s = time.monotonic()
        if chunks:
            ends = list(self._source.next)
            self._source.next[:] = starts  # in doubt nothing counts as read
            if not self._identity.is_known(self._should_stop, self._while_in_doubt):
                return  # told to stop meanwhile: the next run reads these records again
            self._source.next[:] = ends
            self._checkpointer.marks.note(now_s, starts, self._journal.lengths)
            for chunk in chunks:
                self._handle(chunk, now_s)
            self._end_replay(now_s)
        self._commit_when_due(now_s)
        self._periodic(now_s)

    def _handle(self, chunk: Chunk, now_s: float) -> None:
        if chunk.partition == STORNO:
            self._handle_stornos(chunk)
            return
        batch = decode_parts(*chunk)
        if self._replaying:
            batch = self._recovered.done.without_done(batch)
        houses, rejects = self._table.add(batch, now_s)
        self._write_houses(houses)
        self._write_rejects(batch.rejects + rejects)

    def _end_replay(self, now_s: float) -> None:
        if self._replaying and all(map(operator.ge, self._source.next, self._recovered.replay_until)):
            self._replaying = False
            self._recovered.done.forget()
            self._table.note_all_delivered(now_s)

    def _write_houses(self, houses: list[House]) -> None:
        if houses:
            cancelled = self._journal.append_houses(houses, self._table.stornos, utc_now())
            self._reporter.written(houses, cancelled)
            self._log(len(houses))

    def _log(self, new: int) -> None:
        every, counts = self._limits.log_every, self._reporter.counts
        total = counts["houses"] + counts["cancelled"]
        if every and total // every > (total - new) // every:
            rest = f"{len(self._table.pending_ids()):,} pending, {counted(self._source.lag(), 'message')} to read"
            LOG.info(f"{counted(total, 'house')}, {counts['cancelled']:,} of them cancelled; {rest}")

    def _write_rejects(self, rejects: list[Reject]) -> None:
        self._journal.append_rejects(rejects)
        self._reporter.counts.update(reject.reason for reject in rejects)

    def _handle_stornos(self, chunk: Chunk) -> None:
        for offset, value in zip(chunk.offsets, chunk.values, strict=True):
            try:
                storno = decode_storno(value)
            except MessageError as error:
                reject = Reject(STORNO, offset, "malformed", str(error), value or b"")
                if not self._recovered.done.is_done(STORNO, offset, None, reject.raw):
                    self._write_rejects([reject])
                continue
            self._reporter.counts["stornos"] += 1
            if self._table.cancel(storno, offset):
                self._journal.append_late(storno.id, self._table.stornos)
                self._reporter.counts["late"] += 1

    def _commit_when_due(self, now_s: float) -> None:
        houses, storno, rejects = self._journal.queued
        if not houses + storno + rejects:
            return
        if self._queued_since_s is None:
            self._queued_since_s = now_s
        enough = houses >= self._limits.flush_every or storno >= self._limits.storno_flush_every
        if enough or now_s - self._queued_since_s >= _COMMIT_DELAY_S:
            self._commit()

    def _commit(self) -> None:
        self._journal.commit()
        self._queued_since_s = None
        self._reporter.committed()

    def _periodic(self, now_s: float) -> None:
        if self._is_due("evict", now_s, _EVICT_EVERY_S):
            self._write_rejects(self._table.evict(now_s - self._limits.max_pending_age_sec))
        if sum(self._source.next) >= self._look_at or self._is_due("balance", now_s, _BALANCE_EVERY_S):
            self._balance()
        if now_s >= self._due_s["checkpoint"]:
            self._commit()
            self._checkpoint()
        self._identity.ask_in_doubt(now_s)
        self._report(now_s)

    def _report(self, now_s: float) -> None:
        if self._is_due("metrics", now_s, self._limits.metrics_interval_sec):
            self._fill_metrics()
            self._reporter.write()
            to_read = counted(self._reporter.metrics.lag, "message")
            LOG.debug(f"{outcomes(self._reporter.counts) or 'no house yet'}; {to_read} to read")

    def _is_due(self, what: str, now_s: float, interval_s: float) -> bool:
        if now_s < self._due_s[what]:
            return False
        self._due_s[what] = now_s + interval_s
        return True

    def _balance(self) -> None:
        """Keep the number of pending ids near its limit, by reading only what can complete them."""
        limit, pending = self._limits.max_pending_triplets, self._table.pending_at_most()
        if self._crowded or pending >= limit:
            pending = len(self._table.pending_ids())
            self._crowded = pending >= limit // 2 if self._crowded else pending >= limit
            self._reporter.metrics.state = "waiting" if self._crowded else "running"
            self._source.pause(self._table.partitions_to_pause() if self._crowded else set())
        # So many records can bring as many ids, perhaps before the next tenth of a second.
        self._look_at = sum(self._source.next) + max(1, limit // 20 if self._crowded else limit - pending)

    def _while_in_doubt(self) -> None:
        # What was joined before the doubt does not wait for its end.
        self._commit_when_due(time.monotonic())
        self._report(time.monotonic())

    def _checkpoint(self, *, last: bool = False) -> None:
        """Compare the topics, then save; without a broker to ask there is no record, and the last one stays good."""
        try:
            self._save_checkpoint(last=last)
            self._checkpoint_error = ""
        except (BrokerError, StoreError) as error:
            self._checkpoint_error = f"no checkpoint taken, the last one stays good: {error}"
            LOG.info(self._checkpoint_error)

    def _save_checkpoint(self, *, last: bool = False) -> None:
        try:
            self._identity.check()
            self._checkpointer.save(self._source.next[:STORNO], self._source.next[STORNO], last=last)
        finally:  # from its end on: a slow store leaves time to read between two
            self._due_s["checkpoint"] = time.monotonic() + (self._limits.offset_save_interval_sec or float("inf"))

    def _fill_metrics(self) -> None:
        metrics, positions = self._reporter.metrics, self._source.next[:STORNO]
        pending = self._table.pending_ids()
        metrics.position, metrics.storno_position = positions, self._source.next[STORNO]
        metrics.low_watermark = list(self._checkpointer.low_watermarks(positions))
        metrics.lag = self._source.lag()
        metrics.pending, metrics.pending_id_sum = len(pending), sum(pending)
        metrics.oldest_pending_age_s = round(self._checkpointer.oldest_pending_age_s(positions, time.monotonic()), 3)
        metrics.last_error = self._source.last_error or self._checkpoint_error
        metrics.checkpoint_generation = self._checkpointer.generation
