"""The newest records of a topic."""

from pathlib import Path

from command_line import make_project, send_houses

from houses.ids import highest_id
from houses.producer import Producers
from houses.tail import last_records


def test_the_newest_records_are_found_while_the_topic_grows(tmp_path: Path, kafka: str) -> None:
    """A topic that is written all the time has no end to wait for, and the storno loop reads it then."""
    made = make_project(tmp_path, kafka)
    send_houses(made, 10)
    with Producers(made.with_values({"producer.msgs_per_sec": 5000.0}), made.kafka.topic, made.folder) as producers:
        for _ in range(5):
            begun = producers.highest_id
            records = last_records(made.kafka, made.kafka.topic, 10, timeout_s=5.0)
            assert highest_id(records) >= begun - 1000
