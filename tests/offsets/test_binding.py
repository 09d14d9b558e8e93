"""How topics are compared with those that a folder is bound to."""

from dataclasses import replace

from houses.kafka.clients import TopicInfo
from houses.offsets.binding import Binding

PARTS, STORNO = TopicInfo("parts", "id-1", 3), TopicInfo("storno", "id-2", 1)
BINDING = Binding.new(PARTS, STORNO)


def test_the_very_topics_have_no_changes() -> None:
    """Name, id and number of partitions."""
    assert BINDING.changes(replace(PARTS), replace(STORNO)) == []


def test_each_change_says_what_is_there_and_whether_it_is_another_topic() -> None:
    """More partitions are a change too, of the same topic; each topic is compared by itself."""
    cases = {
        None: (True, "is gone"),
        replace(PARTS, name="other"): (True, "is not the topic of the configuration (other)"),
        replace(PARTS, id="new", partitions=4): (True, "was deleted and made anew (id new, was id-1)"),
        replace(PARTS, partitions=4): (False, "has 4 partitions, had 3"),
    }
    for found, (is_other, what) in cases.items():
        assert BINDING.changes(found, STORNO) == [(PARTS, found, is_other, what)]
        both = BINDING.changes(found, None)
        assert [change.bound for change in both] == [PARTS, STORNO] and both[1].is_other
