"""Addresses of stores that are right in form, and what the drivers make of them; no server is needed."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
from support.kafka_lab import make_config

from houses.config.config import Config
from houses.errors import StoreError
from houses.kafka.clients import TopicInfo
from houses.offsets.binding import Binding, save_binding
from houses.offsets.checkpoint import Checkpoint
from houses.offsets.stores import checkpoint_store
from houses.system.files import REAL

RECORD = Checkpoint("", ("a", "b"), 1, (1, 2, 3), (4, 5, 6), 7, (8, 9, 10), (0, 1, 2))


def made_config(folder: Path, address: str) -> Config:
    """Of a project whose folder is bound to topics; no Kafka is asked."""
    folder.mkdir(exist_ok=True)
    made = make_config(folder, "127.0.0.1:1", {"consumer.offset_store": address})
    made.folder.mkdir(parents=True, exist_ok=True)
    save_binding(REAL, made.binding_path, Binding.new(TopicInfo("a", "a", 3), TopicInfo("b", "b", 1)))
    return made


def error_of(config: Config) -> str:
    """What is said when the record is asked for."""
    with pytest.raises(StoreError) as caught, closing(checkpoint_store(config)) as store:
        store.load()
    return str(caught.value)


@pytest.mark.parametrize("name", ["what?now", "a b", "100%25", "x@y", "a#b"])
def test_file_of_sqlite_is_where_its_path_says(tmp_path: Path, name: str) -> None:
    """Whatever characters the project's folder has in its name, and although a password is set for another store."""
    config = made_config(tmp_path / name, "redis://:hunter2@h")
    config = config.with_values({"consumer.offset_store": "sqlite:///output/o.db"})
    record = replace(RECORD, folder="x")
    with closing(checkpoint_store(config)) as store:
        assert store.load() is None
        store.save(record)
    assert (tmp_path / name / "output" / "o.db").is_file() and [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("mysql://me:hunter2@127.0.0.1:1/d?nonsense=1", "unexpected keyword argument 'nonsense'"),
        ("mysql://me:hunter2@127.0.0.1:1/d?charset=nonsense", "encoding"),
        ("mysql://me:hunter2@127.0.0.1:1/d?connect_timeout=abc", "invalid literal for int"),
        ("mysql://me:hunter2@127.0.0.1:1/d?ssl_ca=/no/such/file", "No such file"),
        ("mysql://me:hunter2@127.0.0.1:1/d?compress=1", "not supported"),
        ("mysql://me:hunter2@127.0.0.1:1/d?plugin=nonsense", "Can't load plugin"),
        ("postgresql://me:hunter2@127.0.0.1:1/d?nonsense=1", 'invalid connection option "nonsense"'),
        ("rediss://:hunter2@127.0.0.1:1/0?ssl_cert_reqs=nonsense", "Invalid SSL Certificate Requirements Flag"),
        ("rediss://:hunter2@127.0.0.1:1/0?ssl_ca_certs=/no/such/file", ""),
    ],
)
def test_option_that_a_driver_cannot_take_is_said_in_one_line(tmp_path: Path, address: str, why: str) -> None:
    """Whatever kind of error the driver raises."""
    said = error_of(made_config(tmp_path, address))
    assert said.startswith(address.replace("me:hunter2", "me").replace(":hunter2@", "")) and why in said
    assert "; check consumer.offset_store, " in said and "\n" not in said and "hunter2" not in said


def test_login_that_a_driver_cannot_do_is_said_in_one_line(tmp_path: Path) -> None:
    """PyMySQL raises a RuntimeError where it lacks a package for the login that the server wants."""
    config = made_config(tmp_path, "mysql://me:hunter2@h/d")
    with patch("pymysql.connect", side_effect=RuntimeError("'cryptography' package is required; not hunter2\nmore")):
        said = error_of(config)
    assert said == (
        "mysql://me@h/d: 'cryptography' package is required; not ***; check consumer.offset_store, the server and the password"
    )
