"""Input that nobody should send: exactly one outcome each, or one clear error; and nothing of it reaches a terminal or a page raw."""

import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from typing import Any
from xml.etree import ElementTree

import click
import ipywidgets as widgets  # type: ignore[import-untyped]  # it ships no types
import pandas as pd
import pytest
from confluent_kafka import Producer
from hypothesis import given, settings
from hypothesis import strategies as st
from support import headless
from support import tiny_notebooks as tiny
from support.bad_input import (
    ARGUMENTS,
    BAD_PARAMETERS,
    CONFIGS,
    DAMAGES,
    GOOD_PART,
    GOOD_STORNO,
    HEADERS,
    HOSTILE,
    PARAMETERS_CELL,
    PARAMETERS_CELLS,
    PART_MESSAGES,
    STORNO_MESSAGES,
    VALUES,
    mutated,
    part_message,
    with_value,
)
from support.command_line import call, commands, on_terminal, read_houses
from support.finished_run import copy_run
from support.kafka_lab import make_lab, read_jsonl, wait_until
from support.records import TS, part_values, storno_values
from support.reference import STORNO, read_part, read_storno
from support.simulated_disk import SimulatedDisk
from support.simulation import ALL, Lab, Poll, Topics, check_end, config_of, lab_of, parts, reference_of

from houses.cli.look import _show_recent as show_recent
from houses.cli.main import main
from houses.cli.status import status_lines
from houses.config import config
from houses.config.config import Config
from houses.errors import HousesError, MessageError
from houses.kafka.clients import TopicInfo, client_config
from houses.lab.analysis.figure import mime_bundle, save_figure
from houses.lab.analysis.frames import load, load_metrics, truth
from houses.lab.analysis.latency import plot_latency
from houses.lab.analysis.sweep import plot_sweep
from houses.lab.analysis.timeline import plot_pending
from houses.lab.analysis.waterfall import plot_waterfall
from houses.lab.experiment import Experiment
from houses.lab.headless.parameters import Parameter, check, read_parameters
from houses.lab.headless.report import write_report
from houses.lab.results import Results
from houses.lab.widgets.dashboard import MetricsFeed
from houses.lab.widgets.panel import panel
from houses.lab.widgets.time_machine import time_machine
from houses.offsets.binding import Binding, load_binding, save_binding
from houses.offsets.checkpoint import Checkpoint
from houses.producer.faults import FAULTS_NAME, FaultLog
from houses.producer.ids import IdAllocator
from houses.records.lines import parse_house_line, parse_reject_line
from houses.records.message import PARTS, decode_part, decode_storno
from houses.records.metrics import Metrics, last_metrics
from houses.records.registers import ClosedIds, decode_ids, decode_stornos, encode_ids
from houses.system.files import REAL
from houses.verify.compact import compact
from houses.verify.recent import recent_houses
from houses.verify.snapshot import read_register
from houses.verify.verify import verify

SEED = 20260131


def is_raw(text: str) -> bool:
    """Whether a text holds what could steer a terminal."""
    return any(not character.isprintable() for character in text if character != "\n")


def refused(do: Callable[[], object]) -> str:
    """What is said of it; empty when it is taken. Any other error, or one without words or with too many, fails."""
    try:
        do()
    except HousesError as error:
        said = str(error)
    else:
        return ""
    assert said and all(0 < len(line) < 5_000 for line in said.splitlines())
    return said


# --- messages ---


def outcome_of(decode: Callable[[bytes | None], tuple[Any, ...]], value: bytes | None) -> tuple[Any, ...] | None:
    """What one message is read as; None when it is malformed, which has its reason in words."""
    found: list[Any] = []
    said = refused(lambda: found.extend(decode(value)))
    assert said.isprintable() and len(said) < 200 and bool(said) != bool(found)
    return tuple(found) or None


@pytest.mark.parametrize("value", PART_MESSAGES.values(), ids=PART_MESSAGES)
def test_an_odd_part_message_is_read_as_a_plain_parser_reads_it(value: bytes | None) -> None:
    """All of its fields are taken, or it is malformed for a reason in words."""
    assert outcome_of(decode_part, value) == read_part(value)


@pytest.mark.parametrize("value", STORNO_MESSAGES.values(), ids=STORNO_MESSAGES)
def test_an_odd_storno_is_read_as_a_plain_parser_reads_it(value: bytes | None) -> None:
    """Id and parts are taken, or it is malformed for a reason in words."""
    found = read_storno(value)
    assert outcome_of(decode_storno, value) == (found and (found[0], sum(1 << n - 1 for n in found[1])))


def joined(partitions: list[list[bytes | None]], random: Random) -> Lab:
    """A consumer that has read all of these in batches of any size, and said what has become of each."""
    lab = Lab(Topics(partitions))
    lab.consume([Poll(tuple(random.choice((0, 1, 7, 500)) for _ in range(4))) for _ in range(5)], rest=True)  # type: ignore[arg-type]  # four counts
    check_end(lab)
    return lab


def test_each_odd_message_has_exactly_one_outcome() -> None:
    """Between good ones, in each partition and in the storno topic: a part of its house, or one line that says why not."""
    odd = [value for value in PART_MESSAGES.values() if value is None or len(value) < 100_000]
    values = [mixed for value in odd for mixed in (value, value and value.replace(b"id:7", b"id:8"))]
    stornos = [value for value in STORNO_MESSAGES.values() if value is None or len(value) < 100_000]
    moved = [[v and re.sub(rb"^part(ition)?_1", b"partition_%d" % p.number, v) for v in values] for p in PARTS]
    lab = joined(
        [*([*parts(p.number, 1, 2), *moved[p.partition], *parts(p.number, 3)] for p in PARTS), stornos], Random(1)
    )
    assert len(lab.lines(lab.paths[0])) >= 2 and len(lab.lines(lab.paths[2])) > 300


def test_a_megabyte_has_its_outcome_too() -> None:
    """Of a reject the first 4,096 bytes are kept; of a part all."""
    large = [value for value in PART_MESSAGES.values() if value is not None and len(value) >= 100_000]
    stornos = [value for value in STORNO_MESSAGES.values() if value is not None and len(value) >= 100_000]
    assert len(large) == 4 and len(stornos) > 4
    joined([[*large], parts(2, 7), parts(3, 7), [*stornos]], Random(2))


@given(st.data())
@settings(max_examples=50)
def test_any_mixture_of_messages_has_exactly_one_outcome_each(data: st.DataObject) -> None:
    """Also in few ids, where houses, duplicates and stornos meet."""
    ids = st.integers(0, 5)
    some = [data.draw(st.lists(part_values(p, ids) | st.binary(max_size=40), max_size=20)) for p in range(3)]
    joined([*some, data.draw(st.lists(storno_values(ids) | st.binary(max_size=20), max_size=10))], Random(3))


def mutants(random: Random, count: int, house_ids: int) -> list[list[bytes | None]]:
    """So many records a partition and as many stornos: every second one of a few ids, and good but for one to three changes."""

    def one(good: bytes) -> bytes:
        return mutated(random, good) if random.random() < 0.5 else good

    partitions: list[list[bytes | None]] = [
        [one(part_message(f"partition_{p.number}", str(random.randrange(house_ids)))) for _ in range(count)]
        for p in PARTS
    ]
    stornos = [GOOD_STORNO.replace(b"7", b"%d" % random.randrange(house_ids)) for _ in range(count)]
    return [*partitions, [one(value) for value in stornos]]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_of_80_000_changed_messages_each_has_exactly_one_outcome(seed: int) -> None:
    """1,000 a partition and 1,000 stornos, every second one changed, for each of 40 seeds, through decoding, join, files and a checkpoint."""
    random = Random(SEED + seed)
    joined(mutants(random, 1000, 400), random)


def send(made: Config, partitions: list[list[bytes | None]], headers: list[tuple[str, str | bytes | None]]) -> None:
    """Records as they are to the three partitions and, last, the storno topic, with headers and odd keys."""
    producer = Producer(client_config(made.kafka) | {"linger.ms": 5, "message.max.bytes": 4_000_000})
    for partition, values in enumerate(partitions):
        topic, at = (made.consumer.storno_topic, 0) if partition == STORNO else (made.kafka.topic, partition)
        for number, value in enumerate(values):
            producer.produce(topic, value, key=(None, b"", b"\xff", HOSTILE)[number % 4], partition=at, headers=headers)
    assert producer.flush(60) == 0


def test_odd_messages_pass_through_kafka_and_are_verified(tmp_path: Path, kafka: str) -> None:
    """The fixed cases and some hundreds of changed ones, with headers and odd keys: `houses verify` finds one outcome each."""
    made = make_lab(tmp_path, kafka)
    small = [
        [value for value in values.values() if value is None or len(value) < 900_000]
        for values in (PART_MESSAGES, STORNO_MESSAGES)
    ]
    changed = mutants(Random(SEED), 100, 30)
    partitions = [changed[0] + small[0], *changed[1:STORNO], changed[STORNO] + small[1]]
    send(made, partitions, HEADERS)
    read_houses(made)
    certificate = verify(made)
    assert certificate.ok and certificate.proved, str(certificate)
    plain = reference_of(Topics(partitions))
    reasons = sorted(
        (r["partition"], r["offset"], r["reason"]) for r in plain.rejects if r["topic"] == "teszt-partitioned"
    )
    found = [line for line in read_jsonl(made.rejects_path) if line["topic"] == made.kafka.topic]
    assert sorted((line["partition"], line["offset"], line["reason"]) for line in found) == reasons
    assert sum(part_count for part_count in map(len, partitions)) > 500


# --- config.yaml ---


@pytest.mark.parametrize("data", CONFIGS.values(), ids=CONFIGS)
def test_a_bad_configuration_is_one_clear_error(tmp_path: Path, data: bytes) -> None:
    """Each line of it names the file and can be printed."""
    path = tmp_path / "config.yaml"
    path.write_bytes(data)
    said = refused(lambda: config.load(path, {}))
    assert said and not is_raw(said)
    assert all(str(path) in line for line in said.splitlines())


GOOD_CONFIG = b"""\
kafka: {topic: a-b, bootstrap_servers: 'h:1'}
producer: {msgs_per_sec: 1.5, rates: {wall: 7}, faults: {roof: {drop: 0.5}}, seed: 7}
consumer: {flush_every: 7, output_file: "out/h.jsonl"}
"""


@pytest.mark.slow
def test_of_3_000_changed_configurations_each_is_loaded_or_refused(tmp_path: Path) -> None:
    """No other error, whatever was changed."""
    random, path = Random(SEED), tmp_path / "config.yaml"
    said = []
    for _ in range(3000):
        path.write_bytes(mutated(random, GOOD_CONFIG))
        said.append(refused(lambda: config.load(path, {})))
        assert not is_raw(said[-1])
    assert 1000 < sum(map(bool, said)) < 3000


# --- files that the consumer reads at its start ---

STATE = ("consumer_offsets.json", "binding.json", "storno_ids.json", "closed_ids.bin")
JOURNAL = ("houses.jsonl", "storno_houses.jsonl", "rejects.jsonl")


def killed_lab() -> Lab:
    """A consumer that was stopped once and then killed: each file holds lines below and beyond the synced length."""
    lab = lab_of(range(6), range(6), range(6), stornos=[b'{"id":1}', b'{"id":2,"partition":2}', b"junk"])
    lab.topics.records[0] += [b"junk", GOOD_PART.replace(b"_1", b"_2")]
    lab.consume(rest=True)
    for part in PARTS:
        lab.topics.records[part.partition] += [*parts(part.number, 5, 6, 7, 8), None]
    lab.topics.records[STORNO] += [b'{"id":3}', b'{"id":7}', b"{"]
    lab.consume([ALL], kill=True)
    return lab


KILLED = killed_lab()
CONTENT = {
    path.name: KILLED.disk.content(path) or b"" for path in map(KILLED.config.folder.joinpath, (*STATE, *JOURNAL))
}


def restarted(name: str, data: bytes) -> tuple[Lab, str]:
    """A consumer that starts on the folder with other bytes in one file, and what it says when it does not."""
    lab = Lab(KILLED.topics, KILLED.config, disk=SimulatedDisk())
    for each, content in (CONTENT | {name: data}).items():
        lab.disk.put(lab.config.folder / each, content)
    return lab, refused(lambda: lab.consume(rest=True))


def bad_objects(good: bytes) -> Iterator[Any]:
    """Parameters of pytest: the bytes of a JSON object, damaged as a whole or in one member."""
    for name, damage in DAMAGES.items():
        yield pytest.param([damage(good.rstrip())], id=name)
    for name, value in VALUES.items():
        yield pytest.param(
            [json.dumps(record).encode() for record in with_value(json.loads(good), value)], id=f"member {name}"
        )


def cases(*names: str) -> list[Any]:
    """Parameters of pytest: name of a file that is one JSON object, and its content, damaged."""
    return [
        pytest.param(name, *each.values, id=f"{name} {each.id}")
        for name in names
        for each in bad_objects(CONTENT[name])
    ]


def is_register(data: bytes) -> bool:
    """Whether it is one, of whatever houses: nothing in it could tell that it is wrong."""
    try:
        return bool(decode_stornos(data))
    except ValueError:
        return False


@pytest.mark.parametrize(("name", "contents"), cases("consumer_offsets.json", "binding.json", "storno_ids.json"))
def test_a_damaged_state_is_refused_or_of_no_effect(name: str, contents: list[bytes]) -> None:
    """A restart says what is wrong, or comes to the same end as with the good file."""
    for data in contents:
        lab, said = restarted(name, data)
        if name == "storno_ids.json":
            assert not said  # it can be read again from the topic
        if not said and not (name == "storno_ids.json" and is_register(data)):
            check_end(lab)


@pytest.mark.parametrize(
    "damage", [*DAMAGES.values(), lambda good: good[:32], lambda good: good[:36], lambda good: good[32:]]
)
def test_a_damaged_cache_is_of_no_effect(damage: Callable[[bytes], bytes]) -> None:
    """The closed ids are found in the files again."""
    text = json.dumps({"x": CONTENT["closed_ids.bin"].hex()}).encode()
    lab, said = restarted("closed_ids.bin", damage(text))
    assert not said
    check_end(lab)


def test_a_cut_or_flipped_cache_is_of_no_effect() -> None:
    """At each of its bytes."""
    good = CONTENT["closed_ids.bin"]
    for at in range(len(good)):
        assert decode_ids(good[:at]) is None
        assert decode_ids(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]) is None
    assert decode_ids(encode_ids(ClosedIds(), 1, (0, 0, 0))) is not None


LINES = [
    pytest.param(name, at, *each.values, id=f"{name} {'last' if at else 'first'} line {each.id}")
    for name in JOURNAL
    for at in (0, -1)
    for each in bad_objects(CONTENT[name].splitlines()[at])
]


@pytest.mark.parametrize(("name", "at", "lines"), LINES)
def test_a_damaged_line_is_refused_or_nothing_is_lost_or_doubled(name: str, at: int, lines: list[bytes]) -> None:
    """A line that is not read at a start stays as it is, for `houses verify` to find; the last one may be cut, and is kept."""
    good = CONTENT[name].splitlines(keepends=True)
    for line in lines:
        changed = good.copy()
        changed[at] = line + b"\n"
        lab, _ = restarted(name, b"".join(changed))
        was, now, cut = (
            b"".join(changed),
            *(lab.disk.content(lab.config.folder / each) or b"" for each in (name, f"{name}.cut")),
        )
        assert was.endswith(cut) and now.startswith(was.removesuffix(cut))
        if cut:
            check_end(lab)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*STATE, *JOURNAL])
def test_of_3_500_changed_files_each_is_taken_or_refused(name: str) -> None:
    """500 of each file that a consumer starts from: an end in good order, or one clear error."""
    random = Random(f"{SEED}/{name}")
    for _ in range(500):
        restarted(name, mutated(random, CONTENT[name]))


# --- files that others read ---


def metrics_line() -> bytes:
    """As the consumer writes it."""
    metrics = Metrics("running", [3, 2, 1], [1, 1, 1], counts={"houses": 3}, pending=1, durable_latency_ms={"0.1": 3})
    return json.dumps({"time": TS, "pid": 7} | asdict(metrics)).encode() + b"\n"


FOLDER = CONTENT | {
    "producer_base_id.json": b'{"base_id":7}',
    "metrics.jsonl": metrics_line() * 2,
    "faults.jsonl": b'{"part":"wall","id":7,"fault":"delay","delay_ms":3.0,"ts":"%s"}\n' % TS.encode() * 2,
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A project with such a folder and without Kafka, for which status would wait three seconds."""
    monkeypatch.setattr("houses.cli.status._answering", lambda config: "Kafka:       not asked")
    monkeypatch.setattr("houses.cli.status._topics", lambda config: ([], None))
    made = config_of(tmp_path).with_values({"kafka.bootstrap_servers": "192.0.2.1:9092"})
    made.folder.mkdir()
    for name, content in FOLDER.items():
        (made.folder / name).write_bytes(content)
    return made


def look_at(feed: MetricsFeed) -> object:
    """As a panel does."""
    feed.poll()
    return feed.totals, feed.latest_ms, feed.ended_in_order, list(feed.points)


def read_all(made: Config) -> dict[str, str]:
    """All that reads the files of a folder without Kafka, and what each has against it."""
    feed, houses = MetricsFeed(made.metrics_path), (made.houses_path, made.storno_houses_path, 10)
    readers: dict[str, Callable[[], object]] = {
        "load": lambda: load(made.folder),
        "recent": lambda: [(house.to_json(), house.latency_ms, house.state) for house in recent_houses(*houses)],
        "show": lambda: show_recent(made, 10, False),
        "compact": lambda: compact(made),
        "last_metrics": lambda: last_metrics(made.metrics_path),
        "feed": lambda: look_at(feed),
        "load_metrics": lambda: load_metrics(made.metrics_path),
        "status": lambda: list(status_lines(made)),
        "truth": lambda: truth(made.folder),
        "fault log": lambda: FaultLog(made.folder / FAULTS_NAME).close(),
        "ids": lambda: IdAllocator(made.base_id_path).reserve_through(0),
        "register": lambda: read_register(made.storno_ids_path),
        "binding": lambda: load_binding(REAL, made.binding_path),
    }
    return {name: said for name, do in readers.items() if (said := refused(do))}


def test_a_good_folder_is_read_by_all(project: Config) -> None:
    """So that what is said of a bad one is about what is bad."""
    assert read_all(project) == {}


FILES = [
    pytest.param(name, *each.values, id=f"{name} {each.id}")
    for name in FOLDER
    if name not in ("closed_ids.bin", "consumer_offsets.json")
    for each in bad_objects(FOLDER[name].splitlines()[0] if name.endswith(".jsonl") else FOLDER[name])
]


@pytest.mark.parametrize(("name", "objects"), FILES)
def test_whoever_reads_a_damaged_file_says_so_or_passes_it_over(
    project: Config, name: str, objects: list[bytes]
) -> None:
    """Tables, newest houses, status, measurements, ids: a value, or one clear error; no other one."""
    for data in objects:
        rest = FOLDER[name].split(b"\n", 1)[1] if name.endswith(".jsonl") else b""
        (project.folder / name).write_bytes(data + b"\n" + rest)
        assert not any(map(is_raw, read_all(project).values()))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FOLDER if name not in ("closed_ids.bin", "consumer_offsets.json")])
def test_of_2_400_changed_files_each_is_read_or_refused(project: Config, name: str) -> None:
    """300 of each file."""
    random = Random(f"{SEED}/{name}")
    for _ in range(300):
        (project.folder / name).write_bytes(mutated(random, FOLDER[name]))
        assert not any(map(is_raw, read_all(project).values()))


@pytest.mark.slow
def test_of_12_000_changed_lines_and_records_each_is_read_or_refused() -> None:
    """3,000 of each: lines of houses, stornos and rejects, and checkpoints, as the consumer reads them; what is taken has numbers that can be."""
    random = Random(SEED)
    house, storno, reject, record = (CONTENT[name].splitlines()[-1] for name in (*JOURNAL, "consumer_offsets.json"))
    for _ in range(3000):
        refused(lambda: Checkpoint.decode(mutated(random, record), "source"))
        refused(lambda: parse_reject_line(mutated(random, reject), ("teszt-partitioned", "house-storno")))
        for good in (house, storno):
            try:
                line = parse_house_line(mutated(random, good))
            except MessageError:
                continue
            assert 0 <= line.id < 10**18 and all(0 <= offset < 2**63 for offset in line.offsets.values())


# --- the command line ---


def commanded(made: Config, words: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """What a command says; those of notebooks take no other configuration."""
    return call(None if words[0] in ("run", "--config") else made, *words)


@pytest.mark.parametrize("words", ARGUMENTS, ids=lambda words: ascii(" ".join(words))[1:60])
def test_bad_arguments_are_one_clear_error(project: Config, words: tuple[str, ...]) -> None:
    """Before anything is asked or sent: exit code 2 or 1, why on stderr, nothing on stdout."""
    project.dump(project.path)
    done = commanded(project, words)
    assert done.returncode in (1, 2) and done.stdout == ""
    assert "Error: " in done.stderr and not is_raw(done.stderr) and len(done.stderr) < 12_000
    assert "no answer" not in done.stderr


WORDS = [
    *("status", "show", "peek", "verify", "storno", "produce", "consume", "storno-loop", "hello", "send", "run", "reset", "naive"),
    *("--id", "--last", "--count", "--from", "--partition", "--part", "--rate", "--fault", "--seconds", "--interval", "-p", "--sweep"),
    *("--json", "--pending", "--topic", "--help", "--yes", "--all", "--", "7", "wall", "wall=5", "roof.drop=0.1", "01", "rate_hz"),
]  # fmt: skip


@pytest.mark.slow
def test_of_4_000_changed_command_lines_each_is_understood_or_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is carried out: exit code 0 when a verb would have been called, else 2 with the reason."""
    for _, command in commands():
        if not isinstance(command, click.Group):
            monkeypatch.setattr(command, "callback", lambda **values: 0)
    random = Random(SEED)
    for _ in range(4000):
        words = random.choices(WORDS, k=random.randint(1, 5))
        at = random.randrange(len(words))
        words[at] = mutated(random, words[at].encode()).decode("utf-8", "surrogateescape")
        assert main(words) in (0, 2), words
        assert not is_raw(capsys.readouterr().err), words


# --- parameters of notebooks ---


@pytest.fixture
def cell(tmp_path: Path) -> Path:
    """A notebook with parameters of each type."""
    return tiny.write(tmp_path / "tiny.ipynb", tiny.text("# Title"), tiny.code(PARAMETERS_CELL, "parameters"))


@pytest.mark.parametrize(
    ("name", "value"),
    [pytest.param(n, v, id=f"{n} {ascii(v)[:30]}") for n, values in BAD_PARAMETERS.items() for v in values],
)
def test_a_bad_parameter_is_one_clear_error(cell: Path, name: str, value: Any) -> None:
    """That quotes the value, as far as it is short, and says what it must be."""
    said = refused(lambda: check(read_parameters(cell), {name: value}, "tiny"))
    assert f"tiny: {name} = " in said and "must be" in said and not is_raw(said)


@pytest.mark.parametrize("source", PARAMETERS_CELLS.values(), ids=PARAMETERS_CELLS)
def test_a_parameters_cell_that_is_none_holds_nothing_that_could_be_given(tmp_path: Path, source: str) -> None:
    """It is not run and not believed: what it says is its text at most; the kernel will say what is wrong with it."""
    path = tiny.write(tmp_path / "odd.ipynb", tiny.code(source, "parameters"))
    found = {}
    refused(lambda: found.update(read_parameters(path)))
    assert all(isinstance(each.default, str | int) for each in found.values())
    assert "unknown parameter" in refused(lambda: check(found, {"other": 1}, "odd"))


@pytest.mark.parametrize("data", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_notebook_is_one_clear_error(tmp_path: Path, data: Callable[[bytes], bytes]) -> None:
    """As it names any file that is none."""
    path = tiny.write(tmp_path / "odd.ipynb", tiny.code(PARAMETERS_CELL, "parameters"))
    path.write_bytes(data(path.read_bytes()))
    assert "is no notebook of format 4" in refused(lambda: read_parameters(path))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of escapes in a text that is no Python
def test_of_5_000_changed_parameters_each_is_taken_or_refused(cell: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And the same for 1,000 changed cells; a value that is taken has the type of its parameter."""
    caplog.set_level(logging.CRITICAL, "papermill")  # it quotes the cells, and no report can hold half a character
    random, known = Random(SEED), read_parameters(cell)
    good = {"rate_hz": b"500.0", "count": b"3", "loud": b"True", "name": b"tiny", "sizes": b"1,20", "pair": b"(1, 2)"}
    types = {"rate_hz": float, "count": int, "loud": bool, "name": str, "sizes": list, "pair": object}
    for _ in range(5000):
        name = random.choice(list(good))
        values: dict[str, Any] = {}
        text = mutated(random, good[name]).decode("utf-8", "surrogateescape")
        refused(lambda: values.update(check(known, {name: text}, "tiny")))  # noqa: B023  # called at once
        assert all(isinstance(value, types[name]) for value in values.values())
    for _ in range(1000):
        text = mutated(random, PARAMETERS_CELL.encode()).decode("utf-8", "surrogateescape")
        tiny.write(cell, tiny.code(text, "parameters"))
        refused(lambda: check(read_parameters(cell), {}, "tiny"))


# --- terminals ---

ODD_NAME = "<b onclick='x'>[red]&amp;"
"""Of a folder; one with control characters is refused, as Kafka's files stand in it."""
LOOKS = (
    ("status",),
    ("show",),
    ("show", "--json"),
    ("show", "--id", "3"),
    ("show", "--id", "3", "--json"),
    ("show", "--pending"),
    ("show", "--pending", "--json"),
    ("peek", "--count", "100"),
    ("peek", "--count", "100", "--json"),
    ("peek", "--topic", HOSTILE),
    ("verify",),
    ("verify", "--json"),
    ("compact",),
    ("consume", "--until-end"),
    ("reset",),
)


@pytest.fixture(scope="module")
def finished(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A run of which each record and file name holds escapes, in a folder with such a name."""
    folder = tmp_path_factory.mktemp("run") / ODD_NAME
    folder.mkdir()
    made = make_lab(folder, kafka)
    made.dump(made.path)
    names = [[part_message(f"partition_{p.number}", str(i), name=HOSTILE) for i in range(5)] for p in PARTS]
    names[1] += [
        part_message("partition_2", "9", ts=HOSTILE),
        HOSTILE.encode(),
        part_message("partition_2", "3", name=HOSTILE),
    ]
    send(made, [*names, [b'{"id":2}', HOSTILE.encode()]], HEADERS)  # type: ignore[list-item]  # no tombstone among them
    read_houses(made)
    return made


HOSTILE_METRICS = {"state": HOSTILE, "last_error": HOSTILE, "counts": {HOSTILE: 3}}
DAMAGED: dict[str, Callable[[Config], object]] = {
    "nothing": lambda made: None,
    "metrics": lambda made: add(
        made.metrics_path, json.loads(made.metrics_path.read_bytes().splitlines()[-1]) | HOSTILE_METRICS
    ),
    "rejects": lambda made: edit(made.rejects_path, reason=HOSTILE, detail=HOSTILE),
    "houses": lambda made: edit(made.houses_path, completed_at=HOSTILE),
    "a line of houses": lambda made: made.houses_path.write_text(HOSTILE + "\n", "utf-8"),
    "stornos": lambda made: edit(made.storno_houses_path, storno=HOSTILE),
    "register": lambda made: made.storno_ids_path.write_text(json.dumps({HOSTILE: HOSTILE}), "ascii"),
    "register, generation": lambda made: edit(made.storno_ids_path, generation=HOSTILE, storno_next=HOSTILE),
    "checkpoint": lambda made: edit(made.offsets_path, folder=HOSTILE),
    "checkpoint, all": lambda made: made.offsets_path.write_text(HOSTILE, "utf-8"),
    "binding": lambda made: save_binding(REAL, made.binding_path, Binding.new(*[TopicInfo(HOSTILE, HOSTILE, 3)] * 2)),
    "topics of the binding": lambda made: save_binding(REAL, made.binding_path, of_other_topics(made)),
    "configuration": lambda made: made.path.write_text(f"kafka: {{topic: {json.dumps(HOSTILE)}}}", "utf-8"),
    "configuration, key": lambda made: made.path.write_text(f"{json.dumps(HOSTILE)}: 1", "utf-8"),
}


def of_other_topics(made: Config) -> Binding:
    """A binding to topics of the same names."""
    names = made.kafka.topic, made.consumer.storno_topic
    return Binding.new(*(TopicInfo(name, HOSTILE, 3) for name in names))


def add(path: Path, record: Any) -> None:
    """One more line."""
    path.write_bytes(path.read_bytes() + json.dumps(record).encode() + b"\n")


def edit(path: Path, **values: Any) -> None:
    """Other members in each line of a file."""
    lines = path.read_bytes().splitlines()
    path.write_text("".join(json.dumps(json.loads(line) | values) + "\n" for line in lines), "ascii")


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_no_verb_that_looks_prints_what_steers_a_terminal(
    finished: Config, tmp_path: Path, damage: Callable[[Config], object]
) -> None:
    """Whatever stands in topics, files and their names: an end with 0 or 1, and only signs that can be seen."""
    made = copy_run(finished, tmp_path / ODD_NAME)
    damage(made)
    for words in LOOKS:
        done = call(made, *words)
        assert done.returncode in (0, 1), words
        assert not is_raw(done.stdout), (words, done.stdout)
        assert not is_raw(done.stderr), (words, done.stderr)
        assert done.stdout or done.stderr, words


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo terminals there")
@pytest.mark.slow
def test_a_terminal_is_steered_by_us_alone(finished: Config) -> None:
    """Colours and bars are there, and nothing of what the records hold."""
    for words in (("show",), ("show", "--pending"), ("show", "--id", "3"), ("peek",), ("verify",), ("status",)):
        _, drawn = on_terminal(finished, *words, columns=300)
        assert "\x1b[?25h" in drawn or "red" in drawn, words
        assert not re.search(r"\x1b\[31mred|\x1b\]|[\x07\x7f\x9b\u202e]", drawn), words


# --- pages ---


class Tags(HTMLParser):
    """The tags of a page that are not ours to the eye of a browser."""

    def __init__(self, html: str) -> None:
        """Reads it all."""
        super().__init__()
        self.strange: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A picture from nowhere, or anything that runs by itself."""
        if ("src", "x") in attrs or any(name.startswith("on") for name, _ in attrs):
            self.strange.append(self.get_starttag_text() or tag)


HTML = "<img src=x onerror=alert(1)>&\"'</script><script onload=x>"


def test_what_we_look_for_is_found() -> None:
    """So that not to find it says something."""
    assert len(Tags(HTML).strange) == 2 and Tags(HOSTILE).strange
    assert not Tags(escape(HTML)).strange


@pytest.fixture
def results(finished: Config, tmp_path: Path) -> Results:
    """That run as a notebook sees it, in a folder whose name is HTML, with measurements that hold it too."""
    named = "<img src=x onerror=alert(1)>"
    made = copy_run(finished, tmp_path / "copy")
    made.folder.rename(made.root / named)
    made = made.with_values({"consumer.output_file": f"{named}/houses.jsonl"})
    add(made.metrics_path, last_line(made) | HOSTILE_METRICS | {"state": HTML, "last_error": HTML})
    return Results(made)


def last_line(made: Config) -> dict[str, Any]:
    """What the consumer measured last."""
    return dict(last_metrics(made.metrics_path) or {})


def test_tables_of_a_notebook_show_signs_as_they_are(results: Results) -> None:
    """Names, times, keys and reasons of anybody are text in each of them."""
    tables = [
        results.houses(),
        results.stornos(),
        results.rejects(),
        results.metrics(),
        results.peek(count=100),
        results.pending(),
    ]
    for table in tables:
        assert len(table) and not Tags(table.to_html()).strange
        assert not Tags(table._repr_html_()).strange  # what JupyterLab shows
    assert any("onerror" in table.to_html() for table in tables)


def test_the_time_machine_shows_signs_as_they_are(results: Results) -> None:
    """Its numbers, its errors, and the sentence for a page without a kernel."""
    shown = time_machine(results)
    wait_until(lambda: not shown._work.doing, "the moment is rebuilt")
    shown._line.value = len(results.metrics())
    wait_until(lambda: not shown._work.doing, "the moment is rebuilt")
    shown._complain(HTML)
    texts = [widget.value for widget in (shown._numbers, shown._picture, shown._error)]
    texts.append(shown._repr_mimebundle_()["text/html"])
    assert all(texts) and not any(Tags(text).strange for text in texts)
    assert "&lt;img" in texts[0] and "&lt;img" in texts[2] and "&lt;img" in texts[3]


def test_a_panel_shows_signs_as_they_are(exp: Experiment) -> None:
    """Errors go to the page as text, in widgets and a script that know no HTML."""
    shown = panel(exp)
    for text in (HTML, HOSTILE):
        shown._storno_id.value = text
        shown._storno_once.disabled = False
        shown._storno_once.click()
        assert "house id" in shown._dashboard.look(0)["error"]
    assert not any(isinstance(widget, widgets.HTML | widgets.HTMLMath) for widget in descendants(shown))
    assert not any(getattr(widget, "description_allow_html", False) for widget in descendants(shown))
    script = (config.PROJECT_ROOT / "houses" / "lab" / "widgets" / "chart.js").read_text("utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|srcdoc", script)


def descendants(widget: Any) -> Iterator[Any]:
    """A widget and all below it."""
    yield widget
    for child in getattr(widget, "children", ()):
        yield from descendants(child)


def test_figures_hold_signs_as_they_are(results: Results, tmp_path: Path) -> None:
    """In the alt text of a page, and in an SVG, which has to stay XML."""
    sweep = pd.DataFrame({HTML: [1, 2], "houses_per_s": [1.0, 2.0], "p50_ms": [1.0, 2.0], "p99_ms": [1.0, 2.0]})
    figures = [plot_sweep(sweep, HTML), plot_waterfall(results.story(3)), plot_latency(results.houses())]
    figures.append(plot_pending({HTML: results.metrics(), HOSTILE: results.metrics()}))
    for figure in figures:
        assert not Tags(mime_bundle(figure)[0]["text/html"]).strange
        _, svg = save_figure(figure, tmp_path, "odd")
        assert not any(
            element.tag.endswith(("}img", "}script")) for element in ElementTree.parse(svg).iter()
        )  # our own file


def test_a_report_shows_signs_as_they_are(tmp_path: Path) -> None:
    """What cells print, return as text and raise, the title of the page and the names of the run."""
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": HOSTILE + HTML},
        {"output_type": "stream", "name": "stderr", "text": HOSTILE + HTML},
        {"output_type": "execute_result", "execution_count": 1, "metadata": {}, "data": {"text/plain": HTML}},
        {"output_type": "error", "ename": HTML, "evalue": HTML, "traceback": [HTML, HOSTILE]},
    ]
    notebook = tiny.write(
        tmp_path / "odd.ipynb", tiny.text("# T"), tiny.code("x = " + repr(HTML)) | {"outputs": outputs}
    )
    run = headless.finished(notebook, {HTML: HOSTILE}, stopped=HTML)
    page = write_report(run, {HTML: Parameter(HTML, "str", HTML, HTML)}).read_text("utf-8")
    assert not Tags(page).strange and page.count("&lt;img src=x") > 8
