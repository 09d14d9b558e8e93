"""Offset stores that are slow to answer, or say nothing, without a server."""

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from houses.errors import StoreError
from houses.sql_store import SqlStore


def test_an_error_without_words_is_told_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drivers raise some that are empty."""
    store = SqlStore(f"sqlite:///{tmp_path / 'offsets.db'}", None, lambda: "folder")

    def refuse() -> None:
        raise OperationalError(None, None, sqlite3.OperationalError(" \n"))

    monkeypatch.setattr(store._engine, "begin", refuse)
    with pytest.raises(StoreError, match=r"offsets.db: OperationalError; see that the database runs"):
        store.load()
