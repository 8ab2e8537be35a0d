"""What the delivery engine keeps beside the ledger's rows, a function for each concern."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_INSTANT = sa.BigInteger()  # microseconds since 1970-01-01T00:00Z
_JSON = sa.Text()


def upgrade() -> None:
    """Each concern adds its own tables and columns."""
    _ledger()
    _breakers()


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
