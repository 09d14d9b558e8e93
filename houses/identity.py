"""Whether the topics behind their names are still the ones that the folder was filled from, while a consumer runs."""

from collections.abc import Callable
from contextlib import suppress

from houses.errors import BrokerError
from houses.offsets.binding import Binding, check_topics
from houses.source import Source
from houses.system.log import Say

_TIMEOUT_S = 2.0
_DOUBT_TIMEOUT_S = 1.0
_DOUBT_EVERY_S = 2.0


class TopicIdentity:
    """Asks the broker for the ids of the topics; after a broker error they are in doubt until it has answered."""

    def __init__(self, binding: Binding, source: Source, now_s: float, say: Say) -> None:
        """Nothing is asked yet; `say` hears of the end of an outage."""
        self._say = say
        self._binding = binding
        self._source = source
        self._due_s = now_s

    def check(self, timeout_s: float = _TIMEOUT_S) -> None:
        """End the doubt.

        Raises:
            PositionError: a topic is another one. BrokerError: no broker to ask, and the doubt stays.
        """
        check_topics(self._binding, *self._source.describe_topics(timeout_s))
        if self._source.last_error:
            self._say("Kafka answers again")
        self._source.identity_in_doubt = False
        self._source.last_error = ""

    def _ask(self) -> None:
        # No broker to ask: the doubt stays.
        with suppress(BrokerError):
            self.check(_DOUBT_TIMEOUT_S)

    def ask_in_doubt(self, now_s: float) -> None:
        """Ask every two seconds while there is a doubt, also when no record comes."""
        if self._source.identity_in_doubt and now_s >= self._due_s:
            self._due_s = now_s + _DOUBT_EVERY_S
            self._ask()

    def is_known(self, should_stop: Callable[[], bool], meanwhile: Callable[[], None]) -> bool:
        """After a broker error no record is taken before its topic is known to be the same one.

        Args:
            should_stop: asked before each attempt; told to stop, it returns False.
            meanwhile: called after each attempt.
        """
        while self._source.identity_in_doubt and not should_stop():
            self._ask()
            meanwhile()
        return not self._source.identity_in_doubt
