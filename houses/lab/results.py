"""What a folder and its topics hold, for notebooks: tables, measurements, raw messages, the certificate."""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from typing import Any

import orjson
import pandas as pd

from houses.config.config import SUMMARY_NAME, Config
from houses.errors import HousesError
from houses.kafka.reader import peek, printable
from houses.lab.analysis.blame import pending_table
from houses.lab.analysis.frames import Loaded, load, load_metrics, truth
from houses.lab.analysis.latency import summary
from houses.offsets.stores import checkpoint_store
from houses.records.blocks import file_length
from houses.records.message import part_named
from houses.records.metrics import last_metrics
from houses.system.files import REAL, replace_file
from houses.verify import story as lineage
from houses.verify.certificate import Certificate
from houses.verify.pending import PendingSet, pending_at, pending_houses
from houses.verify.story import Story
from houses.verify.verify import verify


class Results:
    """An output folder whose files have their usual names, while a consumer writes and afterwards."""

    def __init__(self, config: Config, about: Callable[[], dict[str, Any]] = dict) -> None:
        """Nothing is read yet. `about` gives what the summary says besides."""
        self.config, self.folder = config, config.folder
        """The configuration of the folder, and where it is."""
        self._about = about
        self._certificate: Certificate | None = None
        self._writing = threading.Lock()
        self._loaded: tuple[list[int], Loaded] | None = None

    def data(self) -> Loaded:
        """All tables as the files are now; see `Loaded` for their columns."""
        paths = (self.config.storno_houses_path, self.config.houses_path, self.config.rejects_path)
        sizes = [file_length(path) for path in paths]
        if self._loaded is None or self._loaded[0] != sizes:
            self._loaded = (sizes, load(self.folder))
        return self._loaded[1]

    def houses(self) -> pd.DataFrame:
        """One row per house of houses.jsonl, latencies in ms; see `Loaded.houses`."""
        return self.data().houses.copy()

    def stornos(self) -> pd.DataFrame:
        """One row per cancelled house; see `Loaded.stornos`."""
        return self.data().stornos.copy()

    def rejects(self) -> pd.DataFrame:
        """One row per record that became no house; see `Loaded.rejects`."""
        return self.data().rejects.copy()

    def pending(self) -> pd.DataFrame:
        """The houses that are pending where the consumer stands now; see `blame.pending_table` for the columns."""
        return pending_table(pending_houses(self.config))

    def pending_at(self, positions: Sequence[int]) -> PendingSet:
        """The houses that were pending when the consumer stood at these offsets (next to read, per partition)."""
        return pending_at(self.config, [*map(int, positions)])

    def story(self, house_id: int) -> Story:
        """All that topics and files tell of one house; `print` it, or draw it with `plot_waterfall`."""
        return lineage.story(self.config, house_id)

    def truth(self) -> pd.DataFrame:
        """What the producers injected on purpose, per part: what `blame` should find; see `frames.truth`."""
        return truth(self.folder)

    def metrics(self) -> pd.DataFrame:
        """What the consumer said of itself, ten rows a second in an experiment; see `load_metrics`."""
        return load_metrics(self.config.metrics_path)

    def latest(self) -> Mapping[str, Any]:
        """The consumer's last line of measurements; empty before the first."""
        return last_metrics(self.config.metrics_path) or {}

    def checkpoint(self) -> dict[str, Any]:
        """Where a restart would begin, as the consumer saved it last, from wherever `offset_store` says; empty before the first.

        Its keys are the fields of `checkpoint.Checkpoint`: `low`, `next` (offsets per partition), `storno_next` and so on.

        Raises:
            PositionError: the record is damaged. BrokerError: Kafka's group cannot be read.
        Example:
            exp.checkpoint()["low"]
        """
        with closing(checkpoint_store(self.config)) as store:
            saved = store.load()
        return asdict(saved) if saved else {}

    def peek(self, what: str | None = None, count: int = 3, start: int | None = None) -> pd.DataFrame:
        """Raw messages as they lie in Kafka, one row each: partition, offset, time (UTC, as the broker has it), key, value.

        Args:
            what: foundation, wall or roof: only this part's; "storno": stornos; None: all three parts.
            count: so many of each partition.
            start: the first offset wanted; None: the last ones.
        """
        topic = self.config.consumer.storno_topic if what == "storno" else self.config.kafka.topic
        partition = None if what in (None, "storno") else part_named(str(what)).partition
        found = peek(self.config, topic, partition, start, count)
        return pd.DataFrame(
            {
                "partition": [raw.partition for raw in found],
                "offset": [raw.offset for raw in found],
                "time": pd.to_datetime([raw.timestamp_ms for raw in found], unit="ms", utc=True),
                "key": [printable(raw.key) for raw in found],
                "value": [printable(raw.value) for raw in found],
            }
        )

    def verify(self) -> Certificate:
        """Prove from topics and files that every record has exactly one outcome.

        Raises:
            HousesError: something is missing, double or wrong; with the first ten culprits.
        """
        self._certificate = certificate = verify(self.config)
        self.write_summary()
        if not certificate.ok:
            raise HousesError(f"{self.folder}: not everything has exactly one outcome\n{certificate}")
        return certificate

    def forget_certificate(self) -> None:
        """What it says is over when messages come again."""
        self._certificate = None

    def counts(self) -> dict[str, Any]:
        """Houses by file: `houses`, `late` (those of them cancelled after they were written), `cancelled`; and `rejects` by reason."""
        data = self.data()
        is_late = data.stornos["id"].isin(data.houses["id"])
        reasons = data.rejects["reason"].value_counts()
        return {
            "houses": len(data.houses),
            "late": int(is_late.sum()),
            "cancelled": int((~is_late).sum()),
            "rejects": {str(reason): int(number) for reason, number in reasons.items() if number},
        }

    def summary(self) -> dict[str, Any]:
        """Counts, latencies (ms) and, after `verify`, the certificate."""
        latency = summary(self.data().houses)
        return self._about() | {
            "counts": self.counts(),
            "latency": {name: value for name, value in latency.items() if name.endswith("_ms")},
            "certificate": self._certificate and self._certificate.to_json(),
        }

    def saved_summary(self) -> dict[str, Any]:
        """What summary.json holds; empty before the first, or when it is damaged.

        Example:
            >>> exp.saved_summary()["counts"]["houses"] == len(exp.houses())
            True
        """
        try:
            return dict(orjson.loads((self.folder / SUMMARY_NAME).read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return {}

    def write_summary(self) -> None:
        """Write summary.json anew; a cell and a panel may do so at once."""
        with self._writing:
            data = orjson.dumps(self.summary(), option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY, default=str)
            replace_file(REAL, self.folder / SUMMARY_NAME, data + b"\n")
