"""What the delivery engine keeps beside the ledger's rows, a function for each concern."""

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_INSTANT = sa.BigInteger()  # microseconds since 1970-01-01T00:00Z
_JSON = sa.Text()


def upgrade() -> None:
    """Each concern adds its own tables and columns."""
    _ledger()
    _pacing()
    _breakers()
    _database_identity()
    _kept_forms()


def _ledger() -> None:
    """Batches by pool, wave and provider, with their counts; a send's sample and its waves."""
    op.add_column("batches", sa.Column("pool", sa.Text(), server_default="", nullable=False))
    op.add_column("batches", sa.Column("due_at", _INSTANT, nullable=True))
    op.add_column("batches", sa.Column("provider", sa.Text(), nullable=True))
    op.add_column("batches", sa.Column("counts", _JSON, nullable=True))
    op.add_column("sends", sa.Column("canary", sa.Integer(), nullable=True))
    op.add_column("sends", sa.Column("canary_at", _INSTANT, nullable=True))
    op.add_column("sends", sa.Column("canary_passed", sa.Boolean(), nullable=True))
    op.add_column("sends", sa.Column("starts_at", _INSTANT, nullable=True))
    op.add_column(
        "sends",
        sa.Column("local_time", sa.Boolean(), server_default=sa.text("(false)"), nullable=False),
    )
    op.add_column("sends", sa.Column("unfilled", sa.Integer(), server_default="0", nullable=False))
    op.add_column("sends", sa.Column("batch_size", sa.Integer(), nullable=True))
    _fewer_indexes()
    op.create_table(
        "eligible",
        sa.Column("send_id", sa.Integer(), nullable=False),
        sa.Column("subscriber_id", _KEY, nullable=False),
        sa.PrimaryKeyConstraint("send_id", "subscriber_id", name=op.f("pk_eligible")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "count_changes",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("send_id", sa.Integer(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("was", sa.String(length=16), nullable=False),
        sa.Column("became", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_count_changes")),
    )
    op.create_index("ix_count_changes_send_id_batch", "count_changes", ["send_id", "batch"])


def _fewer_indexes() -> None:
    """No index of `deliveries` knows of what changes, and none of `batches` of what is done."""
    op.drop_index("ix_deliveries_provider_message_id", "deliveries")
    op.drop_index("ix_deliveries_send_id_state", "deliveries")
    op.drop_index("ix_deliveries_subscriber_id", "deliveries")
    with op.batch_alter_table("deliveries") as table:
        table.drop_constraint(op.f("uq_deliveries_send_id_subscriber_id"), type_="unique")
        table.drop_constraint(op.f("fk_deliveries_send_id"), type_="foreignkey")
        table.drop_constraint(op.f("fk_deliveries_subscriber_id"), type_="foreignkey")
        table.drop_constraint(op.f("ck_deliveries_state"), type_="check")
    op.create_index(
        "uq_deliveries_subscriber_id_send_id",
        "deliveries",
        ["subscriber_id", "send_id"],
        unique=True,
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE deliveries SET (fillfactor = 50)")
    op.drop_index("ix_batches_send_id_state", "batches")
    op.create_index(
        "ix_batches_unfinished",
        "batches",
        ["send_id", "number"],
        sqlite_where=sa.text("state <> 'done'"),
        postgresql_where=sa.text("state <> 'done'"),
    )
    op.create_index(
        "ix_batches_uncounted",
        "batches",
        ["send_id", "number"],
        sqlite_where=sa.text("counts IS NULL"),
        postgresql_where=sa.text("counts IS NULL"),
    )


def _breakers() -> None:
    """Of each provider that failed, whether it is given anything new."""
    op.create_table(
        "breakers",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failing_since", _INSTANT, nullable=True),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("openings", sa.Integer(), server_default="0", nullable=False),
        sa.Column("retry_at", _INSTANT, nullable=True),
        sa.Column("probe_until", _INSTANT, nullable=True),
        sa.Column("episode", _INSTANT, nullable=True),
        sa.Column("closed_at", _INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("provider", name=op.f("pk_breakers")),
    )


def _database_identity() -> None:
    """Which database this is, so that a copy and an older state of it can be told from it."""
    table = op.create_table(
        "ledger",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("database", sa.String(length=32), nullable=False),
        sa.Column("former", _JSON, server_default="[]", nullable=False),
        sa.Column("sequence", _KEY, server_default="0", nullable=False),
        sa.Column("place", _JSON, server_default="{}", nullable=False),
        sa.Column("quarantine", sa.Text(), server_default="", nullable=False),
        sa.Column("cause", sa.String(length=16), server_default="", nullable=False),
        sa.Column("quarantined_at", _INSTANT, nullable=True),
        sa.Column("restored_at", _INSTANT, nullable=True),
        sa.CheckConstraint("id = 1", name=op.f("ck_ledger_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger")),
    )
    op.bulk_insert(table, [{"id": 1, "database": uuid.uuid4().hex}])


def _kept_forms() -> None:
    """What is left at a provider while a send lasts."""
    op.create_table(
        "kept_forms",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("send_id", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("retry_at", _INSTANT, nullable=True),
        sa.ForeignKeyConstraint(["send_id"], ["sends.id"], name=op.f("fk_kept_forms_send_id")),
        sa.PrimaryKeyConstraint("provider", "name", name=op.f("pk_kept_forms")),
    )


def _pacing() -> None:
    """What all workers share of a provider's rates and quotas; the waves of a send."""
    op.create_table(
        "pace",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("free_at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("provider", "pool"),
    )
    op.create_table(
        "quotas",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("used", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("provider", "day"),
    )
    op.add_column("attempts", sa.Column("day", sa.String(length=10), nullable=True))
    op.create_table(
        "waves",
        sa.Column("send_id", sa.Integer(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("recipients", sa.Integer(), nullable=False),
        sa.Column("opened_at", _INSTANT, nullable=True),
        sa.ForeignKeyConstraint(["send_id"], ["sends.id"]),
        sa.PrimaryKeyConstraint("send_id", "at"),
    )
