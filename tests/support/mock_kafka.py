"""librdkafka's own mock cluster: a Kafka inside this process whose answers can be made errors, one request after the other.

It answers no admin requests, keeps 5 MB a partition, and forgets transactions: for injected errors, nothing else.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import confluent_kafka

PRODUCE, FETCH, METADATA, OFFSET_COMMIT = 0, 1, 3, 8
"""Kinds of request: <https://kafka.apache.org/protocol#protocol_api_keys>."""

_PRODUCER = 0
_REASON_BYTES = 512


def _library() -> ctypes.CDLL:
    """The librdkafka that the wheel of confluent_kafka brings, and that its module has loaded already."""
    package = Path(confluent_kafka.__file__).parent
    folders = (package.with_name("confluent_kafka.libs"), package / ".dylibs")  # Linux and Windows; macOS
    (path,) = (path for folder in folders for path in folder.glob("librdkafka[-.]*"))
    library = ctypes.CDLL(str(path))
    for name, result, *arguments in (
        ("rd_kafka_conf_new", ctypes.c_void_p),
        (
            *("rd_kafka_conf_set", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p),
            *(ctypes.c_char_p, ctypes.c_size_t),
        ),
        ("rd_kafka_new", ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t),
        ("rd_kafka_destroy", None, ctypes.c_void_p),
        ("rd_kafka_handle_mock_cluster", ctypes.c_void_p, ctypes.c_void_p),
        ("rd_kafka_mock_cluster_bootstraps", ctypes.c_char_p, ctypes.c_void_p),
        ("rd_kafka_mock_topic_create", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int),
        ("rd_kafka_mock_topic_set_error", None, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int),
        ("rd_kafka_mock_clear_request_errors", None, ctypes.c_void_p, ctypes.c_int16),
        (
            *("rd_kafka_mock_push_request_errors_array", None, ctypes.c_void_p, ctypes.c_int16),
            *(ctypes.c_size_t, ctypes.POINTER(ctypes.c_int)),
        ),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class MockKafka:
    """A mock cluster of one broker."""

    def __init__(self, library: ctypes.CDLL, cluster: int) -> None:
        self._library, self._cluster = library, cluster
        self.address: str = library.rd_kafka_mock_cluster_bootstraps(cluster).decode()

    def make_topic(self, name: str, partitions: int) -> None:
        """A topic, empty."""
        assert self._library.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1) == 0

    def fail_next(self, request: int, *codes: int) -> None:
        """Answer the next requests of a kind with these errors, one each."""
        array = (ctypes.c_int * len(codes))(*codes)
        self._library.rd_kafka_mock_push_request_errors_array(self._cluster, request, len(codes), array)

    def spoil_topic(self, name: str, code: int) -> None:
        """Describe a topic with this error in all metadata; 0 for none."""
        self._library.rd_kafka_mock_topic_set_error(self._cluster, name.encode(), code)

    def fail_no_more(self, request: int) -> None:
        """Forget the errors of a kind of request that were not asked for yet."""
        self._library.rd_kafka_mock_clear_request_errors(self._cluster, request)


@contextmanager
def mock_kafka() -> Iterator[MockKafka]:
    """A cluster that lives as long as the block."""
    library, reason = _library(), ctypes.create_string_buffer(_REASON_BYTES)
    settings = library.rd_kafka_conf_new()
    for key, value in ((b"test.mock.num.brokers", b"1"), (b"log_level", b"0")):
        assert library.rd_kafka_conf_set(settings, key, value, reason, _REASON_BYTES) == 0, reason.value
    owner = library.rd_kafka_new(_PRODUCER, settings, reason, _REASON_BYTES)
    assert owner, reason.value
    try:
        yield MockKafka(library, library.rd_kafka_handle_mock_cluster(owner))
    finally:
        library.rd_kafka_destroy(owner)
