"""The database: schema, migrations and connections. SQLite or PostgreSQL, the same code on both."""

from newsletter.store.database import Store, open_store
from newsletter.store.notifying import notify
from newsletter.store.types import canonical_json

__all__ = ["Store", "canonical_json", "notify", "open_store"]
