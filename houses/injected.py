"""What the producers injected on purpose, as a table: the truth behind every blame."""

from collections import Counter
from pathlib import Path

import orjson
import pandas as pd

from houses.errors import FolderError
from houses.producer.faults import FAULTS_NAME, KINDS
from houses.records.lines import split_lines
from houses.records.message import PART_NAMES


def truth(folder: Path | str) -> pd.DataFrame:
    """Per part (the index), what the producers injected on purpose, from faults.jsonl; a torn last line is left out.

    Columns: `drop`, `malformed`, `duplicate` (messages), and `delay_ms`, the largest delay that was set.

    Raises:
        FolderError: a whole line is none that the producers write.

    Example:
        >>> truth(exp.folder)["delay_ms"].to_dict()
        {'foundation': 0.0, 'wall': 0.0, 'roof': 300.0}
    """
    path = Path(folder) / FAULTS_NAME
    data = path.read_bytes() if path.exists() else b""
    counts: Counter[tuple[str, str]] = Counter()
    delays = dict.fromkeys(PART_NAMES, 0.0)
    for line in split_lines(data[: data.rfind(b"\n") + 1]):
        try:
            record = orjson.loads(line)
            counts[record["part"], record["fault"]] += 1
            delays[record["part"]] = max(delays[record["part"]], record.get("delay_ms", 0.0))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FolderError(
                f"{path}: not a line of faults: {line[:60].rstrip()!r}: remove it, or run again"
            ) from error
    rows = {name: [counts[name, kind] for kind in KINDS] for name in PART_NAMES}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(KINDS))
    return table.assign(delay_ms=pd.Series(delays)).rename_axis("part")
