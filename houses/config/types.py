"""The kinds of values in config.yaml, each with its check: numbers, paths, topics, addresses of servers and stores."""

import math
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from houses.errors import ConfigError

_STORNO_NAMES = {"storno_file": "storno_ids.json", "storno_output_file": "storno_houses.jsonl"}
_RESERVED = (
    "rejects.jsonl",
    "metrics.jsonl",
    "faults.jsonl",
    "houses_live.jsonl",
    "consumer_offsets.json",
    "producer_base_id.json",
    "binding.json",
    "summary.json",
)
"""Names of the project's other files with these endings; no output file has another ending."""


def bad(message: str, key: str = "") -> PydanticCustomError:
    """A problem in the words that the user reads; `key` points from a section to the key that is meant."""
    return PydanticCustomError("houses", "{message}", {"message": message, "key": key})


def locate(root: Path, text: str) -> Path:
    """Absolute path of what config.yaml names: relative to `root`; `../output/` is root/output.

    The older programs ran one folder below the project, so their paths begin with `../output/`; some with backslashes.
    """
    text = text.replace("\\", "/")
    return Path(os.path.abspath(root / (text.removeprefix("../") if text.startswith("../output/") else text)))


def beside(houses: Path, text: str | None, key: str, root: Path) -> Path:
    """Absolute path of `consumer.storno_file` or `storno_output_file` (the `key`), which may be left empty."""
    return houses.with_name(_STORNO_NAMES[key]) if text is None else locate(root, text)


def _check_output(text: str, info: ValidationInfo) -> str:
    """An output file stays under the project: a wrong path must not overwrite something elsewhere."""
    if not text.isprintable() or text.endswith(("/", "\\")) or not text.strip(" ./\\"):
        raise bad("must name a file")
    if info.context:
        root = info.context["root"]
        path = locate(root, text)
        if not path.resolve().is_relative_to(root.resolve()):
            raise bad(f"must be a file under {root}")
        if path.name.lower() in _RESERVED:
            raise bad("must not be the name of another output file: " + ", ".join(_RESERVED))
    return text


def _matches(pattern: str, words: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise bad(words)
        return text

    return AfterValidator(check)


def _ends_in(ending: str) -> AfterValidator:
    """A wrong name must not overwrite a file of another kind, nor have `reset` delete it."""
    return _matches(rf".*[^/\\]\{ending}", f"must end in {ending}")


def _absolute(text: str, info: ValidationInfo) -> str:
    if not text or not text.isprintable():
        raise bad("must be a path")
    return str(locate(info.context["root"], text)) if info.context else text


def _no_bool(value: Any) -> Any:
    # `acks: yes` is True in YAML, and True == 1 would quietly mean acks 1.
    return str(value).lower() if isinstance(value, bool) else value


def _check_servers(text: str) -> str:
    for server in text.split(","):
        match = re.fullmatch(r"(?:[\w.-]+|\[[0-9A-Fa-f:.%\w]+\]):(\d{1,5})", server.strip(), re.ASCII)
        if not match or not 1 <= int(match[1]) <= 65535:
            raise bad("must be host:port, several separated by commas, port 1 to 65535")
    return text


MAX_RATE_HZ = 20_000.0
"""Messages per second of one part."""
MIN_STORNO_INTERVAL_S, MAX_STORNO_INTERVAL_S = 0.01, 3600.0

Rate = Annotated[float, Field(ge=0, le=MAX_RATE_HZ)]
StornoInterval = Annotated[float, Field(ge=MIN_STORNO_INTERVAL_S, le=MAX_STORNO_INTERVAL_S)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
CountOrOff = Annotated[int, Field(ge=0, le=2**31 - 1)]
MAX_SECONDS = 1e9
"""What can be waited for."""
Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS)]
LinesFile = Annotated[str, AfterValidator(_check_output), _ends_in(".jsonl")]
RegisterFile = Annotated[str, AfterValidator(_check_output), _ends_in(".json")]
AbsolutePath = Annotated[str, AfterValidator(_absolute)]
Topic = Annotated[
    str,
    _matches(
        r"(?!\.\.?$)[A-Za-z0-9._-]{1,249}",
        "must be 1 to 249 letters, digits, dots, underscores or hyphens (a rule of Kafka)",
    ),
]
Address = Annotated[
    str, _matches(r"((https?|file)://\S+)?", "must be an address that begins with https://, http:// or file://")
]
Servers = Annotated[str, AfterValidator(_check_servers)]
NotBool = BeforeValidator(_no_bool)
Text = Annotated[str, Field(min_length=1, max_length=1000)]


_REDIS_SCHEMES = ("redis", "rediss")
_MYSQL_SCHEMES = ("mysql", "mariadb")
_SCHEMES = ("sqlite", "postgresql", *_MYSQL_SCHEMES, *_REDIS_SCHEMES)
_REDISS_OPTIONS = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
"""No others: `db` would win over the path, `decode_responses` would turn records into text, unknown ones are a TypeError."""
_SECRET = re.compile("pass|pwd|secret|token", re.IGNORECASE)
_STORE = (
    "must be file, kafka, or an address: sqlite:///PATH, postgresql://USER@HOST/DATABASE, mysql://USER@HOST/DATABASE or "
    "redis://HOST:PORT/NUMBER"
)
_MISPLACED = (
    "must have no password among its options: it belongs in the environment, HOUSES_CONSUMER__OFFSET_STORE_PASSWORD, "
    "or before the host, USER:PASSWORD@HOST"
)


def split_password(address: str) -> tuple[str, str | None]:
    """An address without the password of USER:PASSWORD@HOST, and the password; None when it has none."""
    try:
        place = urlsplit(address).netloc
    except ValueError:  # brackets that are no IPv6 address
        return address, None
    login, _, host = place.rpartition("@")
    user, _, password = login.partition(":")
    if not password:
        return address, None
    return address.replace(place, f"{user}@{host}" if user else host, 1), unquote(password)


def hide_password(text: str) -> str:
    """A text that may be an address, also a mistyped one, without login and options."""
    text = re.sub(r"(:(?://)?|//)(?:.*\?.*@.*|.*(?=@))", r"\1***", text, flags=re.DOTALL)
    return re.sub(r"\?.*[=%].*", "?***", text, flags=re.DOTALL)


def _check_store(text: str, info: ValidationInfo) -> str:
    """The address of a store, without its password, and with an absolute path where it is one of a file."""
    if text in ("file", "kafka"):
        return text
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in _SCHEMES or not rest or not text.isprintable():
        raise bad(_STORE)
    options = rest.partition("?")[2]
    names = [name for name, _ in parse_qsl(options, keep_blank_values=True)]
    if any(map(_SECRET.search, names)):
        raise bad(_MISPLACED)
    if scheme != "sqlite":
        _check_server(text, names)
        return text
    # As SQLAlchemy has it: three slashes before a relative path, four before an absolute one.
    if not rest.startswith("/") or len(rest) == 1:
        raise bad("must name a file: sqlite:///PATH, relative to this configuration, or sqlite:////ABSOLUTE/PATH")
    if "=" in options:  # a question mark alone may be part of the path
        raise bad("must be a path without options: sqlite takes none")
    return f"sqlite:///{locate(info.context['root'], rest[1:])}" if info.context else text


def _check_server(text: str, options: list[str]) -> None:
    try:
        parts = urlsplit(text)
    except ValueError:  # brackets that are no IPv6 address
        raise bad(_STORE) from None
    if "@" in parts.path + parts.query or parts.fragment:
        raise bad("must have % codes for these characters in user and password: / is %2F, ? %3F, # %23, @ %40")
    if not _names_host(parts) or (parts.scheme in _MYSQL_SCHEMES and not parts.path.strip("/")):
        raise bad(_STORE)
    if parts.scheme in _REDIS_SCHEMES:
        _check_redis(parts, options)


def _names_host(parts: SplitResult) -> bool:
    try:
        return bool((parts.hostname or "").encode("idna")) and parts.port != 0
    except ValueError:  # a port that is no number, a part of the host that is empty or too long
        return False


def _check_redis(parts: SplitResult, options: list[str]) -> None:
    # redis-py takes any other path for database 0.
    if not re.fullmatch(r"/?|/[0-9]{1,9}", parts.path):
        raise bad("must name a database of Redis by its number: redis://HOST:PORT/NUMBER")
    if not set(options) <= set(_REDISS_OPTIONS if parts.scheme == "rediss" else ()):
        raise bad(f"must have no options but, with rediss://, {', '.join(_REDISS_OPTIONS)}")


OffsetStore = Annotated[str, AfterValidator(_check_store)]


# --- of functions ---


def check_limits(
    name: str, value: float | Sequence[float], *, at_least: float, at_most: float = math.inf, count: int = 1
) -> None:
    """Refuse what is no number within its limits, or no list of `count` or more such numbers in ascending order.

    Raises:
        ConfigError: names the parameter and quotes its value.

    Example:
        >>> check_limits("seconds", 5.0, at_least=2)
    """
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    numbers: Any = value if is_list else [value]
    with suppress(TypeError):  # text, None: no numbers at all
        in_order = len(numbers) >= count and all(first < second for first, second in pairwise(numbers))
        if in_order and all(at_least <= number <= at_most for number in numbers):
            return
    limits = f"at least {at_least:,.10g}" + (f" and at most {at_most:,.10g}" if at_most < math.inf else "")
    of_list = f"{count} or more ascending numbers, each " if is_list else ""
    raise ConfigError(f"{name} = {value!r}: must be {of_list}{limits}")


def check_seconds(seconds: float) -> None:
    """Refuse a time that cannot be waited for, NaN too."""
    check_limits("seconds", seconds, at_least=0, at_most=MAX_SECONDS)
