"""What the delivery engine keeps beside the ledger's rows, a function for each concern."""

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Each concern adds its own tables and columns."""
