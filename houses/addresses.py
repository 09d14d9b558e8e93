"""Addresses of offset stores: what may stand in them, and what of them may be shown."""

import re
from typing import Annotated
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pydantic import AfterValidator, ValidationInfo

from houses.values import bad, locate

_REDIS_SCHEMES = ("redis", "rediss")
_MYSQL_SCHEMES = ("mysql", "mariadb")
_SCHEMES = ("sqlite", "postgresql", *_MYSQL_SCHEMES, *_REDIS_SCHEMES)
_REDIS_OPTIONS = {
    "redis": (),
    "rediss": ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"),
}
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
    if not set(options) <= set(_REDIS_OPTIONS[parts.scheme]):
        allowed = ", ".join(_REDIS_OPTIONS["rediss"])
        raise bad(f"must have no options but, with rediss://, {allowed}")


OffsetStore = Annotated[str, AfterValidator(_check_store)]
