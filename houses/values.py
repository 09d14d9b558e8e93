"""The kinds of values in config.yaml, each with its check, and what a path in it means."""

import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo
from pydantic_core import PydanticCustomError

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


def _check_jsonl(text: str) -> str:
    return _check_ending(text, ".jsonl")


def _check_json(text: str) -> str:
    return _check_ending(text, ".json")


def _check_ending(text: str, ending: str) -> str:
    """A wrong name must not overwrite a file of another kind, nor have `reset` delete it."""
    if Path(text.replace("\\", "/")).suffix != ending:
        raise bad(f"must end in {ending}")
    return text


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


def _check_topic(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", text) or text in (".", ".."):
        raise bad("must be 1 to 249 letters, digits, dots, underscores or hyphens (a rule of Kafka)")
    return text


Rate = Annotated[float, Field(ge=0, le=20_000)]  # messages per second of one part
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
CountOrOff = Annotated[int, Field(ge=0, le=2**31 - 1)]
Seconds = Annotated[float, Field(ge=0, le=1e9)]
LinesFile = Annotated[str, AfterValidator(_check_output), AfterValidator(_check_jsonl)]
RegisterFile = Annotated[str, AfterValidator(_check_output), AfterValidator(_check_json)]
AbsolutePath = Annotated[str, AfterValidator(_absolute)]
Topic = Annotated[str, AfterValidator(_check_topic)]
Servers = Annotated[str, AfterValidator(_check_servers)]
NotBool = BeforeValidator(_no_bool)
Text = Annotated[str, Field(min_length=1, max_length=1000)]
