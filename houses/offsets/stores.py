"""Which store keeps the checkpoint of a folder, as the configuration says."""

from houses.config.config import Config
from houses.errors import StoreError
from houses.kafka.clients import client_config
from houses.offsets.binding import load_binding
from houses.offsets.bounded_store import BoundedStore
from houses.offsets.checkpoint import CheckpointStore, FileStore
from houses.offsets.kafka_store import KafkaStore
from houses.system.files import REAL, FileOps


def checkpoint_store(config: Config, ops: FileOps = REAL) -> CheckpointStore:
    """The store that `consumer.offset_store` names; nothing is asked yet.

    Raises:
        StoreError: its driver is not installed, or cannot take an option of the address.
    """
    store = config.consumer.store
    if store == "file":
        return FileStore(ops, config.offsets_path)
    if store == "kafka":
        topics = (config.kafka.topic, config.consumer.storno_topic)
        return KafkaStore(client_config(config.kafka), config.consumer.group_id, topics)
    return BoundedStore(_server_store(config, store, ops))


def _server_store(config: Config, address: str, ops: FileOps) -> CheckpointStore:
    def folder() -> str | None:
        binding = load_binding(ops, config.binding_path)
        return binding.folder if binding else None

    secret = config.consumer.offset_store_password
    password = secret.get_secret_value() if secret else None
    try:
        if address.startswith("redis"):
            from houses.offsets.redis_store import RedisStore

            return RedisStore(address, password, folder)
        from houses.offsets.sql_store import SqlStore

        return SqlStore(address, password, folder)
    except ModuleNotFoundError as error:
        raise StoreError(
            f"consumer.offset_store = {address}: the package {error.name} is not installed: pip install 'houses[stores]'"
        ) from None
