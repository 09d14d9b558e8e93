"""The sections of config.yaml as pydantic models: every key with its unit, its bounds and its default."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator, model_validator

from houses.config.types import (
    AbsolutePath,
    Address,
    Count,
    CountOrOff,
    LinesFile,
    NotBool,
    OffsetStore,
    Rate,
    RegisterFile,
    Seconds,
    Servers,
    Share,
    StornoInterval,
    Text,
    Topic,
    bad,
    beside,
    locate,
    split_password,
)


class Section(BaseModel):
    """A section of config.yaml: unknown keys are refused, `5.0` is no whole number, nothing changes after loading."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        # Defaults too are checked and made absolute, in the context of the file that leaves them out.
        validate_default=True,
        revalidate_instances="always",
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_section(cls, value: Any) -> Any:
        """A section whose keys are all commented out is None in YAML."""
        return {} if value is None else value


class SecurityConfig(Section):
    """Passed to librdkafka under the same names, `_` as `.`; the two secrets come from the environment only."""

    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_username: Text | None = None
    sasl_password: SecretStr | None = None
    ssl_ca_location: AbsolutePath | None = None
    ssl_certificate_location: AbsolutePath | None = None
    ssl_key_location: AbsolutePath | None = None
    ssl_key_password: SecretStr | None = None
    ssl_endpoint_identification_algorithm: Literal["https", "none"] | None = None


class KafkaConfig(Section):
    """Where Kafka is, and the topics."""

    bootstrap_servers: Servers = "127.0.0.1:9092"
    topic: Topic = "teszt-partitioned"
    num_partitions: Literal[3] = 3
    hello_topic: Topic = "teszt-topic"
    data_dir: AbsolutePath = "output/kafka"
    """Folder of the local Kafka; absolute once it was loaded from a file."""
    maven_repository: Address = ""
    """Repository address for the jars of the local Kafka; empty: Maven Central."""
    security: SecurityConfig = SecurityConfig()


class Rates(Section):
    """Messages per second of each part; None: `msgs_per_sec`."""

    foundation: Rate | None = None
    wall: Rate | None = None
    roof: Rate | None = None


class PartFaults(Section):
    """Faults injected into one part's stream: shares from 0 to 1 of its messages, and a delay of all of them."""

    drop: Share = 0.0
    duplicate: Share = 0.0
    malformed: Share = 0.0
    delay_ms: Annotated[float, Field(ge=0, le=3_600_000)] = 0.0


class Faults(Section):
    """Faults of each part."""

    foundation: PartFaults = PartFaults()
    wall: PartFaults = PartFaults()
    roof: PartFaults = PartFaults()


class ProducerConfig(Section):
    """The three producer threads and the storno loop."""

    msgs_per_sec: Rate = 200.0
    rates: Rates = Rates()
    compression_type: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "snappy"
    linger_ms: Annotated[float, Field(ge=0, le=900_000)] = 5.0
    batch_size: Count = 65_536  # bytes
    buffer_memory: Annotated[int, Field(ge=1024, le=2**40)] = 33_554_432  # bytes
    acks: Annotated[Literal["all", -1, 0, 1], NotBool] = "all"
    retries: CountOrOff = 2_147_483_647
    faults: Faults = Faults()
    seed: int | None = None
    storno_interval_sec: StornoInterval = 15.0

    def rate(self, part: str) -> float:
        """Messages per second of one part: its own rate, else `msgs_per_sec`."""
        own: float | None = getattr(self.rates, part)
        return self.msgs_per_sec if own is None else own


class ConsumerConfig(Section):
    """The join consumer. The order of the keys matters to the checks that compare two of them."""

    output_file: LinesFile = "output/houses.jsonl"
    storno_file: RegisterFile | None = None
    """None: storno_ids.json beside `output_file`."""
    storno_output_file: LinesFile | None = None
    """None: storno_houses.jsonl beside `output_file`."""
    flush_every: Count = 1
    storno_flush_every: Count = 50
    log_every: CountOrOff = 1000  # houses
    write_buffer_size: CountOrOff | None = None
    house_chan_buffer: CountOrOff | None = None
    max_pending_triplets: Count = 50_000
    max_pending_age_sec: Seconds = 10.0
    fetch_min_bytes: Annotated[int, Field(ge=1, le=100_000_000)] = 1
    fetch_max_bytes: Annotated[int, Field(ge=1, le=2_147_483_135)] = 10_485_760
    offset_save_interval_sec: Seconds = 30.0
    consumer_group: bool = False
    group_id: Text = "houses"
    offset_store: OffsetStore | None = None
    offset_store_password: SecretStr | None = None
    """Of a database or Redis; from the environment, else taken out of the address, which can be shown then."""
    storno_topic: Topic = "house-storno"
    max_batch: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000  # messages
    poll_timeout_ms: Annotated[float, Field(ge=0, le=1000)] = 5.0
    metrics_interval_sec: Annotated[float, Field(ge=0.01, le=3600)] = 1.0

    @property
    def store(self) -> str:
        """Where the checkpoint is kept: file, kafka or an address without its password."""
        return self.offset_store or ("kafka" if self.consumer_group else "file")

    @model_validator(mode="before")
    @classmethod
    def _password_apart(cls, value: Any) -> Any:
        address = value.get("offset_store") if isinstance(value, dict) else None
        if not isinstance(address, str):
            return value
        address, password = split_password(address)
        if password is None:
            return value
        # Text is that of the environment, which wins; a SecretStr that of the configuration of which this is a copy.
        given = value.get("offset_store_password")
        kept = given if isinstance(given, str) else SecretStr(password)
        return value | {"offset_store": address, "offset_store_password": kept}

    @field_validator("storno_file", "storno_output_file")
    @classmethod
    def _beside_output_file(cls, value: str | None, info: ValidationInfo) -> str | None:
        output_file = info.data.get("output_file")
        if not info.context or not output_file:
            return value
        houses = locate(info.context["root"], output_file)
        path = beside(houses, value, str(info.field_name), info.context["root"])
        if path.parent != houses.parent:
            raise bad(f"must be in the folder of output_file ({output_file}), or empty")
        ids = beside(houses, info.data.get("storno_file"), "storno_file", info.context["root"])
        if path == houses or (info.field_name != "storno_file" and path == ids):
            raise bad("must be a file of its own")
        return value

    @field_validator("fetch_max_bytes")
    @classmethod
    def _not_below_minimum(cls, value: int, info: ValidationInfo) -> int:
        if value < info.data.get("fetch_min_bytes", 1):
            raise bad(f"must be fetch_min_bytes ({info.data['fetch_min_bytes']}) or more")
        return value

    @field_validator("offset_store")
    @classmethod
    def _fits_consumer_group(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value not in (None, "kafka") and info.data.get("consumer_group"):
            raise bad(
                "contradicts consumer_group: true; set one of the two (consumer_group: false, or offset_store: kafka)"
            )
        return value


class Settings(Section):
    """All of config.yaml."""

    kafka: KafkaConfig = KafkaConfig()
    producer: ProducerConfig = ProducerConfig()
    consumer: ConsumerConfig = ConsumerConfig()

    @field_validator("consumer")
    @classmethod
    def _own_storno_topic(cls, value: ConsumerConfig, info: ValidationInfo) -> ConsumerConfig:
        kafka = info.data.get("kafka")
        if kafka and value.storno_topic in (kafka.topic, kafka.hello_topic):
            raise bad("must differ from kafka.topic and kafka.hello_topic", "storno_topic")
        return value
