"""config.yaml and the environment: what is accepted, and what each mistake is answered with."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy
import pytest
import yaml

from houses.config import config
from houses.config.config import Config
from houses.config.models import Section, Settings
from houses.config.raw import KNOWN_KEYS, is_secret
from houses.errors import ConfigError, FolderError

LEGACY = Path(__file__).parents[1] / "legacy"
PASSWORD = "HOUSES_KAFKA__SECURITY__SASL_PASSWORD"
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a text as config.yaml of a project of its own."""

    def write_text(text: str) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_text


def problems(path: Path, env: dict[str, str] | None = None) -> list[str]:
    """The lines of the error that loading gives, without the folder of the file."""
    with pytest.raises(ConfigError) as caught:
        config.load(path, env or {})
    return str(caught.value).replace(f"{path.parent}/", "").splitlines()


def value_of(loaded: Config, key: tuple[str, ...]) -> Any:
    """The attribute with the path of a key."""
    value: Any = loaded
    for name in key:
        value = getattr(value, name)
    return value


def test_shipped_file_holds_every_key_with_its_default(write: Write) -> None:
    """The project's config.yaml means the same as an empty one, and names each key that may stand in it."""
    text = (config.PROJECT_ROOT / "config.yaml").read_text(encoding="utf-8")
    shipped, bare = config.load(write(text), {}), config.load(write("{kafka: }"), {})
    assert shipped == bare
    assert [key for key in KNOWN_KEYS if not is_secret(key) and not re.search(rf"\b{key[-1]}:", text)] == []


def test_sections_without_keys_are_taken_as_empty(write: Write) -> None:
    """A section whose keys are all commented out has its defaults."""
    assert config.load(write("kafka:\nproducer:\n  rates:\nconsumer:\n"), {}).producer.msgs_per_sec == 200


def test_default_file_is_that_of_the_project_in_any_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the program was started plays no part."""
    monkeypatch.chdir(tmp_path)
    assert config.load(env={}).root == Path(__file__).resolve().parents[2]


def test_file_of_the_older_programs_loads_as_it_is(write: Write) -> None:
    """All its keys keep their meaning, and `../output/` is the output folder of the project."""
    loaded = config.load(write((LEGACY / "config.yaml").read_text(encoding="utf-8")), {})
    assert loaded.folder == loaded.root / "output"
    assert loaded.storno_ids_path == loaded.root / "output" / "storno_ids.json"
    assert loaded.storno_houses_path == loaded.root / "output" / "storno_houses.jsonl"
    assert (loaded.producer.msgs_per_sec, loaded.producer.acks, loaded.producer.linger_ms) == (200, 1, 50)
    assert (loaded.consumer.store, loaded.consumer.group_id, loaded.consumer.fetch_min_bytes) == (
        "kafka",
        "my-service",
        1024,
    )


def test_keys_without_effect_are_accepted_and_said_once(write: Write) -> None:
    """A note for each of the two, none for a file without them."""
    path = write((LEGACY / "config.yaml").read_text(encoding="utf-8"))
    assert config.load(path, {}).notes == (
        f"{path}: consumer.write_buffer_size has no effect any more; remove it",
        f"{path}: consumer.house_chan_buffer has no effect any more; remove it",
    )
    assert config.load(write("consumer: {}"), {}).notes == ()


def test_paths_with_backslashes_are_the_same_paths(write: Write) -> None:
    """A file written for Windows names the same places."""
    loaded = config.load(write(r"consumer: {output_file: '..\output\a\houses.jsonl'}"), {})
    assert loaded.houses_path == loaded.root / "output" / "a" / "houses.jsonl"


def test_output_files_all_stand_beside_the_houses(write: Write) -> None:
    """One folder holds everything that a consumer and its producers write."""
    loaded = config.load(write("consumer: {output_file: 'out/h.jsonl'}"), {})
    names = ["houses", "storno_houses", "rejects", "storno_ids", "offsets", "metrics", "base_id", "binding"]
    paths = [getattr(loaded, f"{name}_path") for name in names]
    assert {path.parent for path in paths} == {loaded.folder} == {loaded.root / "out"}
    assert len(set(paths)) == len(names)


def test_data_and_certificates_are_absolute_whatever_the_current_folder(write: Write) -> None:
    """librdkafka and the JVM would take relative paths from where the program was started."""
    loaded = config.load(write("kafka: {security: {ssl_ca_location: ca.pem}}"), {})
    assert loaded.kafka.security.ssl_ca_location == str(loaded.root / "ca.pem")
    assert loaded.data_dir == loaded.root / "output" / "kafka"
    elsewhere = config.load(write("kafka: {data_dir: /somewhere/else}"), {})
    assert elsewhere.data_dir == Path("/somewhere/else")


def test_rate_of_a_part_is_its_own_or_the_common_one(write: Write) -> None:
    """`msgs_per_sec` is per part; 0 is a rate (paused), not an absent one."""
    producer = config.load(write("producer: {msgs_per_sec: 7, rates: {wall: 0}}"), {}).producer
    assert [producer.rate(part) for part in ("foundation", "wall", "roof")] == [7, 0, 7]


@pytest.mark.parametrize(
    ("text", "store"),
    [("{}", "file"), ("{consumer_group: true}", "kafka"), ("{offset_store: kafka}", "kafka")],
)
def test_checkpoint_is_kept_where_either_key_says(write: Write, text: str, store: str) -> None:
    """`consumer_group: true` and `offset_store: kafka` mean the same."""
    assert config.load(write(f"consumer: {text}"), {}).consumer.store == store


def test_all_problems_are_reported_at_once_each_with_the_way_out(write: Write) -> None:
    """One line a problem: file, key path, bad value, what is allowed, the nearest known key."""
    path = write("""
kafka: {num_partitions: 4, bootstrap_servers: localhost, topic: a b, linger_ms: 4}
producer: {msgs_per_sec: -5, acks: yes, retries: 1.5, compression_type: zip, faults: {wall: {drop: 1.5}}}
consumer: {flush_evry: 1, max_batch: "10", consumer_group: 1, fetch_min_bytes: 9, fetch_max_bytes: 8}
consumr: {}
""")
    assert sorted(problems(path)) == [
        "config.yaml: consumer.consumer_group = 1: must be true or false",
        "config.yaml: consumer.fetch_max_bytes = 8: must be fetch_min_bytes (9) or more",
        "config.yaml: consumer.flush_evry: unknown key; the nearest known one is consumer.flush_every",
        "config.yaml: consumer.max_batch = '10': must be a whole number",
        "config.yaml: consumr: unknown key; the nearest known one is consumer",
        (
            "config.yaml: kafka.bootstrap_servers = 'localhost': "
            "must be host:port, several separated by commas, port 1 to 65535"
        ),
        "config.yaml: kafka.linger_ms: unknown key; the nearest known one is producer.linger_ms",
        "config.yaml: kafka.num_partitions = 4: must be 3",
        (
            "config.yaml: kafka.topic = 'a b': "
            "must be 1 to 249 letters, digits, dots, underscores or hyphens (a rule of Kafka)"
        ),
        "config.yaml: producer.acks = true: must be 'all', -1, 0 or 1",
        "config.yaml: producer.compression_type = 'zip': must be 'none', 'gzip', 'snappy', 'lz4' or 'zstd'",
        "config.yaml: producer.faults.wall.drop = 1.5: must be 1 or less",
        "config.yaml: producer.msgs_per_sec = -5: must be 0 or more",
        "config.yaml: producer.retries = 1.5: must be a whole number",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("producer: {msgs_per_sec: .nan}", "producer.msgs_per_sec = nan: must be a finite number"),
        ("producer: {msgs_per_sec: .inf}", "producer.msgs_per_sec = inf: must be a finite number"),
        ("producer: {msgs_per_sec: 20001}", "producer.msgs_per_sec = 20001: must be 20000 or less"),
        ("producer: {msgs_per_sec: true}", "producer.msgs_per_sec = true: must be a number"),
        ("producer: {msgs_per_sec: }", "producer.msgs_per_sec = (empty): must be a number"),
        ("producer: {storno_interval_sec: 0}", "producer.storno_interval_sec = 0: must be 0.01 or more"),
        ("producer: 5", "producer = 5: must be a section with keys of its own, indented below it"),
        ("producer: [a]", "producer = a list: must be a section with keys of its own, indented below it"),
        (
            "producer: {rates: {wal: 1}}",
            "producer.rates.wal: unknown key; the nearest known one is producer.rates.wall",
        ),
        ("producer: {faults: {roof: {qqq: 1}}}", "unknown key; known are drop, duplicate, malformed, delay_ms"),
        ("kafka: {topic: 2024}", "kafka.topic = 2024: must be text; put it in quotes"),
        ("kafka: {hello_topic: ..}", "kafka.hello_topic = '..': must be 1 to 249 letters"),
        ("kafka: {bootstrap_servers: 'a:1,b:0'}", "kafka.bootstrap_servers = 'a:1,b:0': must be host:port"),
        ("kafka: {data_dir: ''}", "kafka.data_dir = '': must be a path"),
        ("kafka: {maven_repository: ftp.example}", "must be an address that begins with https://"),
        ("kafka: {1: 2}", "kafka.1: unknown key"),
        (
            "consumer: {storno_topic: teszt-partitioned}",
            "consumer.storno_topic = 'teszt-partitioned': must differ from",
        ),
        ("consumer: {group_id: ''}", "consumer.group_id = '': must not be empty"),
        ("consumer: {offset_store: disk}", "consumer.offset_store = 'disk': must be file, kafka, or an address"),
        ("consumer: {offset_store: 'oracle://me:pw@h/d'}", "consumer.offset_store = 'oracle://***@h/d': must be file"),
        ("consumer: {offset_store: 'redis://h:0'}", "consumer.offset_store = 'redis://h:0': must be file, kafka, or"),
        ("consumer: {offset_store: 'redis://h:x'}", "consumer.offset_store = 'redis://h:x': must be file, kafka, or"),
        ("consumer: {offset_store: 'redis://a..b/0'}", "consumer.offset_store = 'redis://a..b/0': must be file, kafka"),
        ("consumer: {offset_store: 'redis://h/abc'}", "must name a database of Redis by its number"),
        ("consumer: {offset_store: 'redis://h/0/1'}", "must name a database of Redis by its number"),
        (
            "consumer: {offset_store: 'redis://h/0?db=3'}",
            "'redis://h/0?***': must have no options but, with rediss://,",
        ),
        ("consumer: {offset_store: 'rediss://h/0?decode_responses=true'}", "must have no options but, with rediss://,"),
        ("consumer: {offset_store: 'redis://h/0?socket_timeout=abc'}", "must have no options but, with rediss://,"),
        ("consumer: {offset_store: 'mysql://h'}", "consumer.offset_store = 'mysql://h': must be file, kafka, or"),
        ("consumer: {offset_store: 'mysql://[h/d'}", "consumer.offset_store = 'mysql://[h/d': must be file, kafka, or"),
        ("consumer: {offset_store: 'sqlite:///o.db?timeout=5'}", "must be a path without options: sqlite takes none"),
        ("consumer: {offset_store: 'sqlite://'}", "consumer.offset_store = 'sqlite://': must be file, kafka, or"),
        ("consumer: {offset_store: 'sqlite:///'}", "consumer.offset_store = 'sqlite:///': must name a file"),
        (
            "consumer: {offset_store: 'sqlite:///o.db', consumer_group: true}",
            "o.db': contradicts consumer_group: true",
        ),
        (
            "consumer: {offset_store: file, consumer_group: true}",
            "consumer.offset_store = 'file': contradicts consumer_group: true",
        ),
        ("consumer: {output_file: ../x.jsonl}", "consumer.output_file = '../x.jsonl': must be a file under"),
        ("consumer: {output_file: /etc/x.jsonl}", "consumer.output_file = '/etc/x.jsonl': must be a file under"),
        ("consumer: {output_file: '../output/../../x'}", "must be a file under"),
        ("consumer: {output_file: output/}", "consumer.output_file = 'output/': must name a file"),
        ("consumer: {output_file: '.'}", "consumer.output_file = '.': must name a file"),
        ('consumer: {output_file: "a\\0b"}', "consumer.output_file = 'a\\x00b': must name a file"),
        ("consumer: {output_file: output/metrics.jsonl}", "must not be the name of another output file"),
        ("consumer: {output_file: output/Faults.jsonl}", "must not be the name of another output file"),
        ("consumer: {output_file: output/houses_live.jsonl}", "= 'output/houses_live.jsonl': must not be the name of"),
        ("consumer: {storno_file: output/summary.json}", "storno_file = 'output/summary.json': must not be the name"),
        ("consumer: {output_file: output/closed_ids.bin}", "= 'output/closed_ids.bin': must end in .jsonl"),
        ("consumer: {output_file: output/houses.jsonl.tmp}", "= 'output/houses.jsonl.tmp': must end in .jsonl"),
        ("consumer: {output_file: output/.jsonl}", "= 'output/.jsonl': must end in .jsonl"),
        ("consumer: {storno_output_file: output/consumer.log}", "= 'output/consumer.log': must end in .jsonl"),
        ("consumer: {storno_file: config.yaml}", "consumer.storno_file = 'config.yaml': must end in .json"),
        ("consumer: {storno_file: output/s.jsonl}", "consumer.storno_file = 'output/s.jsonl': must end in .json"),
        (
            "consumer: {output_file: output/storno_houses.jsonl}",
            "consumer.storno_output_file = (empty): must be a file of its own",
        ),
        (
            "consumer: {storno_file: other/storno_ids.json}",
            "consumer.storno_file = 'other/storno_ids.json': must be in the folder of output_file (output/houses.jsonl)",
        ),
        (
            "consumer: {storno_output_file: output/houses.jsonl}",
            "consumer.storno_output_file = 'output/houses.jsonl': must be a file of its own",
        ),
        ("producer: {retries: 1, retries: 2}", "producer.retries: stands twice, the second time in line 1; remove one"),
        ("kafka: {}\nkafka: {}", "config.yaml: kafka: stands twice, the second time in line 2; remove one"),
    ],
)
def test_bad_value_is_answered_with_one_line_that_says_what_is_allowed(write: Write, text: str, words: str) -> None:
    """Each mistake gives exactly one problem."""
    (line,) = problems(write(text))
    assert line.startswith("config.yaml: ") and words in line


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "config.yaml: is empty; must hold the sections kafka, producer, consumer"),
        (b"# only comments\n", "config.yaml: is empty; must hold the sections"),
        (b"- a\n- b\n", "config.yaml: holds a list; must hold the sections"),
        (b"text", "config.yaml: holds 'text'; must hold the sections"),
        (b"kafka: {", "config.yaml, line 1 column 9: is not valid YAML: "),
        (b"kafka:\n\ttopic: a\n", "config.yaml, line 2 column 1: is not valid YAML: "),
        (b"kafka: {}\n---\nkafka: {}\n", "config.yaml, line 2 column 1: is not valid YAML: "),
        (b"kafka: {topic: \xff}", "config.yaml: is not UTF-8 text; save it as UTF-8"),
        ("kafka:".encode("utf-16"), "config.yaml: is not UTF-8 text; save it as UTF-8"),
        (b"kafka: {topic: \x00}", "config.yaml: is not valid YAML: "),
        (b"kafka: {topic: 2024-13-45}", "config.yaml: is not valid YAML: month must be in 1..12"),
        (b"producer: {seed: " + b"9" * 5000 + b"}", "config.yaml: is not valid YAML: Exceeds the limit"),
        (b"a: " + b"[" * 5000, "config.yaml: is not valid YAML: "),
        (b"kafka: !!python/object/apply:os.getcwd []", "config.yaml, line 1 column 8: is not valid YAML: "),
        (b"{? {a: b} : c}", "config.yaml, line 1 column 4: is not valid YAML: "),
    ],
)
def test_file_that_is_no_configuration_is_one_clear_line(tmp_path: Path, data: bytes, words: str) -> None:
    """Empty, not a mapping, not YAML, not text: said with the place, as far as it is known."""
    path = tmp_path / "config.yaml"
    path.write_bytes(data)
    (line,) = problems(path)
    assert line.startswith(words)


def test_missing_file_or_folder_in_its_place_is_one_clear_line(tmp_path: Path) -> None:
    """The path is named, and the option that names another."""
    (line,) = problems(tmp_path / "config.yaml")
    assert line == "config.yaml: No such file or directory; name another file with --config"
    (line,) = problems(tmp_path)
    assert line.endswith("Is a directory; name another file with --config")


def test_aliases_that_point_back_or_fan_out_neither_hang_nor_recurse(write: Write) -> None:
    """A million-fold fan of aliases and a mapping inside itself end as unknown keys."""
    fan = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{x: *a{i - 1}, y: *a{i - 1}}}\n" for i in range(1, 60))
    assert len(problems(write(fan))) == 60
    (line,) = problems(write("kafka: {q: &k {x: *k}}"))
    assert line.startswith("config.yaml: kafka.q: unknown key")


def test_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    """Editors on Windows write one."""
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xef\xbb\xbfproducer: {seed: 5}")
    assert config.load(path, {}).producer.seed == 5


def test_output_behind_a_symlink_out_of_the_project_is_refused(write: Write, tmp_path: Path) -> None:
    """A path counts where it really leads."""
    path = write("consumer: {output_file: away/houses.jsonl}")
    outside = tmp_path.with_name(tmp_path.name + "_outside")
    outside.mkdir()
    (tmp_path / "away").symlink_to(outside)
    (line,) = problems(path)
    assert "consumer.output_file = 'away/houses.jsonl': must be a file under" in line


def test_every_key_can_be_set_by_the_environment(write: Write) -> None:
    """The value of the environment wins over the file, for each key that there is."""
    special = {
        "num_partitions": ("3", 3),
        "topic": ("2024", "2024"),
        "bootstrap_servers": ("h:1", "h:1"),
        "maven_repository": ("https://mirror", "https://mirror"),
        "security_protocol": ("SSL", "SSL"),
        "sasl_mechanism": ("PLAIN", "PLAIN"),
        "compression_type": ("none", "none"),
        "ssl_endpoint_identification_algorithm": ("none", "none"),
        "acks": ("0", 0),
        "consumer_group": ("true", True),
        "offset_store": ("kafka", "kafka"),
        "output_file": ("b/h.jsonl", "b/h.jsonl"),
        "storno_file": ("b/i.json", "b/i.json"),
        "storno_output_file": ("b/s.jsonl", "b/s.jsonl"),
        "fetch_max_bytes": ("1000", 1000),
        "buffer_memory": ("2000", 2000),
    }
    names = {key for key, field in KNOWN_KEYS.items() if not _is_section(field.annotation) and not is_secret(key)}
    texts = {key: special.get(key[-1], _sample(key)) for key in names}
    loaded = config.load(
        write("consumer: {fetch_min_bytes: 77}"),
        {f"HOUSES_{'__'.join(key).upper()}": text for key, (text, _) in texts.items()},
    )
    assert {key: value_of(loaded, key) for key in names} == {
        key: str(loaded.root / value) if key[-1].endswith(("location", "_dir")) else value
        for key, (_, value) in texts.items()
    }


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _sample(key: tuple[str, ...]) -> tuple[str, Any]:
    text = key[-1].endswith(("topic", "_id", "location", "username", "_dir"))
    return (f"x-{key[-1]}", f"x-{key[-1]}") if text else ("1", 1)


def test_problem_in_the_environment_names_the_variable(write: Write) -> None:
    """A bad value, an unknown key, a section as YAML, single underscores, something that is not YAML."""
    env = {
        "HOUSES_PRODUCER__RATES__WALL": "fast",
        "HOUSES_PRODUCER__LINGER": "4",
        "HOUSES_PRODUCER__FAULTS": "{wall: {drop: 5}}",
        "HOUSES_PRODUCER_SEED": "1",
        "HOUSES_PRODUCER__RETRIES": "[",
        "HOUSES_RUN_DIR": "not a key of config.yaml",
    }
    assert sorted(problems(write("kafka: {}"), env)) == [
        "environment HOUSES_PRODUCER_SEED: producer.seed: unknown key; the nearest known one is HOUSES_PRODUCER__SEED",
        "environment HOUSES_PRODUCER__FAULTS: producer.faults.wall.drop = 5: must be 1 or less",
        (
            "environment HOUSES_PRODUCER__LINGER: producer.linger: "
            "unknown key; the nearest known one is HOUSES_PRODUCER__LINGER_MS"
        ),
        "environment HOUSES_PRODUCER__RATES__WALL: producer.rates.wall = 'fast': must be a number",
        "environment HOUSES_PRODUCER__RETRIES: producer.retries = '[': cannot be read as a YAML value",
    ]


def test_problems_of_file_and_environment_come_in_one_error(write: Write) -> None:
    """Nobody mends one place only to hear of the other."""
    lines = problems(write("producer: {linger_ms: -1}"), {"HOUSES_CONSUMER__MAX_BATCH": "0"})
    assert [line.split(":")[0] for line in lines] == ["config.yaml", "environment HOUSES_CONSUMER__MAX_BATCH"]


def test_override_of_one_alias_leaves_its_twin_alone(write: Write) -> None:
    """Two keys of the file may share one mapping by a YAML alias."""
    path = write("producer: {faults: {wall: &f {drop: 0.5}, roof: *f}}")
    faults = config.load(path, {"HOUSES_PRODUCER__FAULTS__WALL__DROP": "0.1"}).producer.faults
    assert (faults.wall.drop, faults.roof.drop) == (0.1, 0.5)


def test_secret_comes_from_the_environment_as_it_is(write: Write) -> None:
    """No YAML meaning is read into a password."""
    for password in ("12345", "*a: {b", " x ", "'q'"):
        secret = config.load(write("kafka: {}"), {PASSWORD: password}).kafka.security.sasl_password
        assert secret is not None and secret.get_secret_value() == password


@pytest.mark.parametrize(
    "text",
    [
        "kafka: {security: {sasl_password: hunter2}}",
        "kafka: {security: {ssl_key_password: hunter2}}",
        "kafka: {sasl_password: hunter2}",
        "kafka: {security: {sasl_pasword: hunter2}}",
        "kafka: {security: {sasl_password: {a: hunter2}}}",
        "kafka: {security: [hunter2]}",
        "kafka: {bootstrap_servers: 'SASL_SSL://user:hunter2@host:1'}",
        "kafka: {security: {sasl_password: 'hunter2}}",
        "kafka: {security: {sasl_password: hunter2: hunter2}}",
    ],
)
def test_secret_in_the_file_is_refused_and_never_shown(write: Write, text: str) -> None:
    """Not even where it stands in the wrong place or in broken YAML."""
    lines = problems(write(text))
    assert lines and "hunter2" not in "".join(lines)


def test_password_of_a_store_is_taken_out_of_its_address(write: Write, tmp_path: Path) -> None:
    """Of the file or the environment; what is shown and written has it no more, and a child process still gets it."""
    variable = "HOUSES_CONSUMER__OFFSET_STORE_PASSWORD"
    for text, env in (
        ("{offset_store: 'postgresql://me:p%40ss@h:1/d'}", {}),
        ("{offset_store: 'postgresql://me:p@ss@h:1/d'}", {}),
        ("{offset_store: 'postgresql://me@h:1/d'}", {variable: "p@ss"}),
    ):
        loaded = config.load(write(f"consumer: {text}"), env)
        assert loaded.consumer.store == "postgresql://me@h:1/d"
        assert loaded.secrets == {variable: "p@ss"}
        copied = tmp_path / "copy.yaml"
        loaded.dump(copied)
        assert not any(word in shown for word in ("p@ss", "p%40ss") for shown in (repr(loaded), copied.read_text()))
        assert config.load(copied, loaded.secrets).consumer == loaded.consumer
    assert loaded.with_values({"consumer.offset_store": "redis://:other@h"}).secrets == {variable: "other"}


def test_values_are_shown_without_secrets(write: Write) -> None:
    """An address, a section that holds one; the others as they were given."""
    given = {"consumer.offset_store": "redis://:hunter2@h", "producer.rates": {"wall": 5}, "kafka.topic": "t"}
    loaded = config.load(write("kafka: {}"), {PASSWORD: "hunter2"}).with_values(given)
    assert loaded.without_secrets(given) == given | {"consumer.offset_store": "redis://h"}
    assert "sasl_password" not in loaded.without_secrets({"kafka.security": {}})["kafka.security"]
    assert loaded.without_secrets({"consumer.storno_file": None}) == {"consumer.storno_file": None}


def test_password_of_the_environment_wins_over_that_of_an_address(write: Write) -> None:
    """As the environment does everywhere; an empty variable is none, and a program that gives an address means it."""
    variable = "HOUSES_CONSUMER__OFFSET_STORE_PASSWORD"
    path = write("consumer: {offset_store: 'redis://:old@h'}")
    for text, wins in (("new", "new"), ("", "old")):
        loaded = config.load(path, {variable: text})
        assert loaded.consumer.store == "redis://h" and loaded.secrets == {variable: wins}
    both = {variable: "new", "HOUSES_CONSUMER__OFFSET_STORE": "redis://:old@h"}
    assert config.load(write("kafka: {}"), both).secrets == {variable: "new"}
    assert loaded.with_values({"consumer.offset_store": "redis://:other@h"}).secrets == {variable: "other"}


@pytest.mark.parametrize(
    "address",
    [
        "redis://h:99999/0?password=hunter2",
        "redis://h/0?password=hunter2&db=3",
        "redis://:other@h/0?password=hunter2",
        "redis://h?password=a@hunter2",
        "rediss://h/0?ssl_password=hunter2",
        "mysql://me@h/d?passwd=hunter2",
        "mysql://me@h/d?charset=utf8mb4&ssl_key_PASSWORD=hunter2",
        "postgresql://me@h/d?sslpassword=hunter2",
        "postgresql://me@h/d?p%61ssword=hunter2",
        "postgresql://me@h/d?password%3Dhunter2",
        "postgresql://me@h/d?oauth_client_secret=hunter2",
        "postgresql://me:hunter2@h/d?password=x",
        "postgresql://me:hunter2?@h/d",
        "mysql://me:1/hunter2@h/d",
        "mysql://me:hunter2#@h/d",
        "mysql:me:hunter2@h/d",
        "sqlite:///o.db?password=hunter2",
    ],
)
def test_password_of_a_store_anywhere_else_is_refused_and_never_shown(write: Write, address: str) -> None:
    """Among the options, in whatever spelling, unescaped, or in an address that is none."""
    given = {"HOUSES_CONSUMER__OFFSET_STORE": address}
    for lines in (problems(write(f"consumer: {{offset_store: '{address}'}}")), problems(write("kafka: {}"), given)):
        assert len(lines) == 1 and "consumer.offset_store = " in lines[0] and "hunter2" not in lines[0]
    if "pass" in address:
        assert "environment, HOUSES_CONSUMER__OFFSET_STORE_PASSWORD, or before the host" in lines[0]


@pytest.mark.parametrize(
    "address",
    [
        "redis://h",
        "redis://h/",
        "redis://me@[::1]:6379/12",
        "rediss://h/0?ssl_ca_certs=/etc/ca.pem&ssl_cert_reqs=required",
        "postgresql://me@h:1/d?sslmode=require",
        "mariadb://me@h/d?charset=utf8mb4",
    ],
)
def test_address_of_a_store_stays_as_it_is(write: Write, address: str) -> None:
    """Options that change nothing about the records are allowed."""
    assert config.load(write(f"consumer: {{offset_store: '{address}'}}"), {}).consumer.store == address


def test_path_of_a_sqlite_store_starts_at_the_configuration(write: Write) -> None:
    """As all paths do; an absolute one stays."""
    loaded = config.load(write("consumer: {offset_store: 'sqlite:///output/o.db'}"), {})
    assert loaded.consumer.store == f"sqlite:///{loaded.root}/output/o.db"
    assert loaded.with_values({"consumer.offset_store": "sqlite:////a/o.db"}).consumer.store == "sqlite:////a/o.db"


def test_secret_is_in_no_text_of_a_configuration(write: Write, tmp_path: Path) -> None:
    """Neither in repr nor in what is written for a child process."""
    loaded = config.load(write("kafka: {}"), {PASSWORD: "hunter2"})
    loaded.dump(tmp_path / "copy.yaml")
    assert "hunter2" not in repr(loaded) + str(loaded.kafka) + (tmp_path / "copy.yaml").read_text(encoding="utf-8")


def test_environment_of_a_child_holds_secrets_but_no_overrides() -> None:
    """What was dumped for the child must not be overridden a second time; its password is nowhere else."""
    env = {PASSWORD: "x", "HOUSES_KAFKA__TOPIC": "other", "HOUSES_RUN_DIR": "/r", "PATH": "/bin"}
    assert config.child_environment(env) == {PASSWORD: "x", "HOUSES_RUN_DIR": "/r", "PATH": "/bin"}


def test_values_given_by_a_program_make_a_checked_copy(write: Write) -> None:
    """Dotted keys, numbers of numpy too; the original stays as it was."""
    before = config.load(write("producer: {seed: 3}"), {PASSWORD: "x"})
    after = before.with_values({"producer.msgs_per_sec": numpy.int64(5), "producer.rates": {"wall": 2}})
    assert (before.producer.msgs_per_sec, after.producer.msgs_per_sec) == (200, 5)
    assert (after.producer.rate("wall"), after.producer.seed) == (2, 3)
    assert after.kafka == before.kafka


def test_bad_values_given_by_a_program_are_the_same_problems(write: Write) -> None:
    """All at once, without a file name."""
    loaded = config.load(write("kafka: {}"), {})
    with pytest.raises(ConfigError) as caught:
        loaded.with_values({"producer.msgs_per_sec": math.nan, "a.b": 1, "kafka.security.sasl_password": "hunter2"})
    assert str(caught.value).splitlines() == [
        f"a.b: unknown key; known are {', '.join(Settings.model_fields)}",
        (
            "kafka.security.sasl_password: is a secret and belongs in the environment only: "
            "set HOUSES_KAFKA__SECURITY__SASL_PASSWORD"
        ),
        "producer.msgs_per_sec = nan: must be a finite number",
    ]


def test_written_configuration_means_the_same_in_another_folder(write: Write, tmp_path: Path) -> None:
    """An experiment's own config.yaml stands beside its output files; data folder and certificates stay where they were."""
    before = config.load(write("consumer: {write_buffer_size: 1}\nkafka: {security: {ssl_ca_location: ca.pem}}"), {})
    before = before.with_values({"consumer.output_file": "output/runs/é a/houses.jsonl"})
    path = before.folder / "config.yaml"
    path.parent.mkdir(parents=True)
    before.dump(path)
    after = config.load(path, {})
    assert (after.folder, after.kafka, after.producer) == (before.folder, before.kafka, before.producer)
    assert after.notes == ()
    with pytest.raises(ConfigError, match=r"consumer\.output_file = .*: must be under"):
        before.dump(tmp_path / "elsewhere" / "config.yaml")


def test_a_configuration_that_cannot_be_written_leaves_the_old_one(write: Write, tmp_path: Path) -> None:
    """Whatever interrupts the writing, the file is the old or the new one, never half of it or empty."""
    path = tmp_path / "copy.yaml"
    loaded = config.load(write("producer: {msgs_per_sec: 1}"), {})
    loaded.dump(path)
    old = path.read_bytes()
    with patch("os.replace", side_effect=OSError(28, "No space left on device")):
        with pytest.raises(FolderError, match=r"copy\.yaml: could not be written .* the old one stays"):
            loaded.with_values({"producer.msgs_per_sec": 2}).dump(path)
        assert path.read_bytes() == old


def test_copy_for_another_place_takes_its_output_files_from_there(write: Write, tmp_path: Path) -> None:
    """A run's folder need not be under the project."""
    loaded = config.load(write("kafka: {}"), {})
    there = tmp_path / "run" / "config.yaml"
    moved = loaded.with_values({"consumer.output_file": "houses.jsonl"}, path=there)
    assert (moved.houses_path, moved.data_dir) == (there.with_name("houses.jsonl"), loaded.data_dir)


def test_configuration_cannot_be_changed(write: Write) -> None:
    """What was checked stays true."""
    loaded = config.load(write("kafka: {}"), {})
    with pytest.raises(ValueError, match="frozen"):
        loaded.producer.seed = 1


def test_written_file_is_plain_yaml(write: Write, tmp_path: Path) -> None:
    """No tags of Python: any YAML reader takes it."""
    config.load(write("kafka: {}"), {}).dump(tmp_path / "copy.yaml")
    assert yaml.safe_load((tmp_path / "copy.yaml").read_text(encoding="utf-8"))["kafka"]["num_partitions"] == 3
