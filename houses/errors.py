"""Errors that users see: each message quotes the bad value and says the next step."""

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it: 128 + SIGINT."""


class HousesError(Exception):
    """Anything that stops the work for a reason the user can act on (exit code 1, no traceback)."""


class ConfigError(HousesError):
    """config.yaml or an environment override holds a value that is not allowed."""


class BrokerError(HousesError):
    """No usable Kafka: not reachable, not Kafka, refused, or it lacks a topic."""


class AccessError(HousesError):
    """Kafka refuses the login or a right to a consumer that runs: unlike after a `BrokerError`, waiting does not help."""


class StoreError(HousesError):
    """The offset store (a database, Redis) does not answer, or refuses."""


class FolderError(HousesError):
    """The output folder is in use, damaged, or belongs to other topics."""


class PositionError(HousesError):
    """A read position does not fit the topic: records lost, topic made anew, or a foreign record."""


class MessageError(HousesError, ValueError):
    """A message, or a value meant for one, does not follow the wire format."""


def describe_error(error: BaseException) -> str:
    """An error in one line, as metrics and status show it."""
    return str(error) if isinstance(error, HousesError) else f"{type(error).__name__}: {error}"
