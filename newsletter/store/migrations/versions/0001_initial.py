"""The first schema, written out: a later change of the tables is a migration of its own."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # numbered by the database
_INSTANT = sa.BigInteger()  # microseconds since 1970-01-01T00:00Z
_JSON = sa.Text()


def upgrade() -> None:
    # audience
    _subscribers()
    _consents()
    _subscriber_history()
    _suppressions()
    _segment_members()
    # content
    _content_items()
    _content_shingles()
    _feeds()
    _feed_entries()
    # scheduling
    _frozen_issues()
    _media()
    _links()
    _sends()
    _send_sources()
    _approvals()
    _editions()
    _edition_items()
    _leases()
    # outbox
    _outbox()
    # delivery
    _deliveries()
    _batches()
    _attempts()
    # events and tracking
    _events()
    _clicks()
    _opens()
    _unsubscribes()


def _subscribers() -> None:
    op.create_table(
        "subscribers",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("email_key", sa.Text(), nullable=False),
        sa.Column("first_name", sa.Text(), server_default="", nullable=False),
        sa.Column("last_name", sa.Text(), server_default="", nullable=False),
        sa.Column("fields", _JSON, server_default="{}", nullable=False),
        sa.Column("topics", _JSON, server_default="[]", nullable=False),
        sa.Column("frequency", sa.Text(), server_default="every", nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("state_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("suppressed", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("updated_at", _INSTANT, nullable=False),
        sa.CheckConstraint(
            "state IN ('pending','active','unsubscribed','bounced','complained','forgotten')",
            name=op.f("ck_subscribers_state"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subscribers")),
        sa.UniqueConstraint("email_key", name=op.f("uq_subscribers_email_key")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_subscribers_state_id", "subscribers", ["state", "id"])


def _consents() -> None:
    op.create_table(
        "consents",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("subscriber_id", _KEY, nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("how", sa.String(length=32), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("details", _JSON, server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(
            ["subscriber_id"], ["subscribers.id"], name=op.f("fk_consents_subscriber_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_consents")),
    )
    op.create_index(op.f("ix_consents_subscriber_id"), "consents", ["subscriber_id"])


def _subscriber_history() -> None:
    op.create_table(
        "subscriber_history",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("subscriber_id", _KEY, nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("event", sa.String(length=32), nullable=False),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["subscriber_id"], ["subscribers.id"], name=op.f("fk_subscriber_history_subscriber_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subscriber_history")),
    )
    op.create_index(
        op.f("ix_subscriber_history_subscriber_id"), "subscriber_history", ["subscriber_id"]
    )


def _suppressions() -> None:
    op.create_table(
        "suppressions",
        sa.Column("email_hash", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("email_hash", name=op.f("pk_suppressions")),
    )


def _segment_members() -> None:
    op.create_table(
        "segment_members",
        sa.Column("segment", sa.Text(), nullable=False),
        sa.Column("subscriber_id", _KEY, nullable=False),
        sa.ForeignKeyConstraint(
            ["subscriber_id"], ["subscribers.id"], name=op.f("fk_segment_members_subscriber_id")
        ),
        sa.PrimaryKeyConstraint("segment", "subscriber_id", name=op.f("pk_segment_members")),
    )
    op.create_index("ix_segment_members_subscriber_id", "segment_members", ["subscriber_id"])


def _content_items() -> None:
    op.create_table(
        "content_items",
        sa.Column("number", _KEY, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("shingles", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("stamp", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_content_items")),
        sa.UniqueConstraint("id", name=op.f("uq_content_items_id")),
    )
    op.create_index(op.f("ix_content_items_sha256"), "content_items", ["sha256"])
    op.create_index(op.f("ix_content_items_source"), "content_items", ["source"])


def _content_shingles() -> None:
    op.create_table(
        "content_shingles",
        sa.Column("hash", _KEY, nullable=False),
        sa.Column("item", _KEY, nullable=False),
        sa.ForeignKeyConstraint(
            ["item"], ["content_items.number"], name=op.f("fk_content_shingles_item")
        ),
        sa.PrimaryKeyConstraint("hash", "item", name=op.f("pk_content_shingles")),
    )
    op.create_index("ix_content_shingles_item", "content_shingles", ["item"])


def _feeds() -> None:
    op.create_table(
        "feeds",
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("etag", sa.Text(), server_default="", nullable=False),
        sa.Column("last_modified", sa.Text(), server_default="", nullable=False),
        sa.Column("polled_at", _INSTANT, nullable=True),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("url", name=op.f("pk_feeds")),
    )


def _feed_entries() -> None:
    op.create_table(
        "feed_entries",
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("entry", sa.Text(), nullable=False),
        sa.Column("seen_at", _INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["url"], ["feeds.url"], name=op.f("fk_feed_entries_url")),
        sa.PrimaryKeyConstraint("url", "entry", name=op.f("pk_feed_entries")),
    )


def _frozen_issues() -> None:
    op.create_table(
        "frozen_issues",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("issue", sa.Text(), nullable=False),
        sa.Column("compiled", sa.LargeBinary(), nullable=False),
        sa.Column("source_sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_frozen_issues")),
    )
    op.create_index(op.f("ix_frozen_issues_issue"), "frozen_issues", ["issue"])


def _media() -> None:
    op.create_table(
        "media",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("extension", sa.String(length=8), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("bytes", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_media")),
    )


def _links() -> None:
    op.create_table(
        "links",
        sa.Column("link", sa.String(length=16), nullable=False),
        sa.Column("issue", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("link", name=op.f("pk_links")),
    )
    op.create_index(op.f("ix_links_issue"), "links", ["issue"])


def _sends() -> None:
    op.create_table(
        "sends",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("send", sa.Text(), nullable=False),
        sa.Column("issue", sa.Text(), nullable=False),
        sa.Column("frozen", sa.String(length=64), nullable=False),
        sa.Column("segment", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("edition", sa.Text(), nullable=True),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("started_at", _INSTANT, nullable=True),
        sa.Column("finished_at", _INSTANT, nullable=True),
        sa.Column("filled_at", _INSTANT, nullable=True),
        sa.Column("not_before", _INSTANT, nullable=True),
        sa.Column("released_at", _INSTANT, nullable=True),
        sa.CheckConstraint(
            "state IN ('scheduled','sending','sent','paused','held','cancelled')",
            name=op.f("ck_sends_state"),
        ),
        sa.ForeignKeyConstraint(["frozen"], ["frozen_issues.sha256"], name=op.f("fk_sends_frozen")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sends")),
        sa.UniqueConstraint("send", name=op.f("uq_sends_send")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_sends_state_at", "sends", ["state", "at"])
    op.create_index(
        "uq_sends_issue_live",
        "sends",
        ["issue"],
        unique=True,
        sqlite_where=sa.text("state <> 'cancelled'"),
        postgresql_where=sa.text("state <> 'cancelled'"),
    )


def _send_sources() -> None:
    op.create_table(
        "send_sources",
        sa.Column("send_id", sa.Integer(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["send_id"], ["sends.id"], name=op.f("fk_send_sources_send_id")),
        sa.PrimaryKeyConstraint("send_id", "content", name=op.f("pk_send_sources")),
    )
    op.create_index("ix_send_sources_content", "send_sources", ["content"])


def _approvals() -> None:
    op.create_table(
        "approvals",
        sa.Column("issue", sa.Text(), nullable=False),
        sa.Column("frozen", sa.String(length=64), nullable=False),
        sa.Column("approved_by", sa.Text(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("issue", "frozen", name=op.f("pk_approvals")),
    )


def _editions() -> None:
    op.create_table(
        "editions",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("date", sa.String(length=16), nullable=False),
        sa.Column("send_at", _INSTANT, nullable=False),
        sa.Column("issue", sa.Text(), server_default="", nullable=False),
        sa.Column("source_sha256", sa.String(length=64), server_default="", nullable=False),
        sa.Column("drafted_here", sa.Boolean(), server_default=sa.text("(false)"), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("send_id", sa.Integer(), nullable=True),
        sa.Column("updated_at", _INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["send_id"], ["sends.id"], name=op.f("fk_editions_send_id")),
        sa.PrimaryKeyConstraint("name", "date", name=op.f("pk_editions")),
    )


def _edition_items() -> None:
    op.create_table(
        "edition_items",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("date", sa.String(length=16), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", "date", "content", name=op.f("pk_edition_items")),
    )


def _leases() -> None:
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("until", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )


def _outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("to_email", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("html", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("not_before", _INSTANT, nullable=False),
        sa.Column("attempt", sa.Text(), server_default="", nullable=False),
        sa.Column("provider", sa.Text(), server_default="", nullable=False),
        sa.Column("body_sha256", sa.String(length=64), server_default="", nullable=False),
        sa.Column("attempted_at", _INSTANT, nullable=True),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("updated_at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sa.UniqueConstraint("cause", name=op.f("uq_outbox_cause")),
    )
    op.create_index("ix_outbox_state_not_before", "outbox", ["state", "not_before"])


def _deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("send_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("subscriber_id", _KEY, nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("first_name", sa.Text(), server_default="", nullable=False),
        sa.Column("last_name", sa.Text(), server_default="", nullable=False),
        sa.Column("fields", _JSON, server_default="{}", nullable=False),
        sa.Column("variant", sa.Text(), server_default="", nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("attempt", sa.Text(), nullable=True),
        sa.Column("provider_message_id", sa.Text(), nullable=True),
        sa.Column("updated_at", _INSTANT, nullable=False),
        sa.Column("event_at", _INSTANT, nullable=True),
        sa.CheckConstraint(
            "state IN ('pending','sending','accepted','delivered','bounced','complained',"
            "'rejected','skipped','in_doubt')",
            name=op.f("ck_deliveries_state"),
        ),
        sa.ForeignKeyConstraint(["send_id"], ["sends.id"], name=op.f("fk_deliveries_send_id")),
        sa.ForeignKeyConstraint(
            ["subscriber_id"], ["subscribers.id"], name=op.f("fk_deliveries_subscriber_id")
        ),
        sa.PrimaryKeyConstraint("send_id", "position", name=op.f("pk_deliveries")),
        sa.UniqueConstraint(
            "send_id", "subscriber_id", name=op.f("uq_deliveries_send_id_subscriber_id")
        ),
    )
    op.create_index("ix_deliveries_provider_message_id", "deliveries", ["provider_message_id"])
    op.create_index("ix_deliveries_send_id_state", "deliveries", ["send_id", "state"])
    op.create_index("ix_deliveries_subscriber_id", "deliveries", ["subscriber_id"])


def _batches() -> None:
    op.create_table(
        "batches",
        sa.Column("send_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("lo", sa.Integer(), nullable=False),
        sa.Column("hi", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failing_since", _INSTANT, nullable=True),
        sa.Column("not_before", _INSTANT, nullable=True),
        sa.Column("lease_holder", sa.Text(), nullable=True),
        sa.Column("lease_token", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_until", _INSTANT, nullable=True),
        sa.ForeignKeyConstraint(["send_id"], ["sends.id"], name=op.f("fk_batches_send_id")),
        sa.PrimaryKeyConstraint("send_id", "number", name=op.f("pk_batches")),
    )
    op.create_index("ix_batches_send_id_state", "batches", ["send_id", "state"])


def _attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("send_id", sa.Integer(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("positions", _JSON, nullable=False),
        sa.Column("not_accepted", _JSON, nullable=True),
        sa.Column("body_sha256", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("started_at", _INSTANT, nullable=False),
        sa.Column("finished_at", _INSTANT, nullable=True),
        sa.Column("doubt_at", _INSTANT, nullable=True),
        sa.Column("asked", sa.Integer(), server_default="0", nullable=False),
        sa.Column("settle_at", _INSTANT, nullable=True),
        sa.ForeignKeyConstraint(["send_id"], ["sends.id"], name=op.f("fk_attempts_send_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempts")),
        sa.UniqueConstraint(
            "send_id", "batch", "number", name=op.f("uq_attempts_send_id_batch_number")
        ),
    )
    op.create_index("ix_attempts_state_settle_at", "attempts", ["state", "settle_at"])


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("provider_event_id", sa.Text(), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("provider_message_id", sa.Text(), server_default="", nullable=False),
        sa.Column("send_id", sa.Integer(), nullable=True),
        sa.Column("subscriber_id", _KEY, nullable=True),
        sa.Column("machine", sa.Boolean(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("received_at", _INSTANT, nullable=False),
        sa.Column("event", _JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sa.UniqueConstraint(
            "provider", "provider_event_id", name=op.f("uq_events_provider_provider_event_id")
        ),
    )
    op.create_index("ix_events_provider_message_id", "events", ["provider_message_id"])
    op.create_index("ix_events_send_id_type", "events", ["send_id", "type"])


def _clicks() -> None:
    op.create_table(
        "clicks",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("link", sa.String(length=16), nullable=False),
        sa.Column("send_id", sa.Integer(), nullable=True),
        sa.Column("subscriber_id", _KEY, nullable=True),
        sa.Column("machine", sa.Boolean(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["link"], ["links.link"], name=op.f("fk_clicks_link")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clicks")),
    )
    op.create_index(op.f("ix_clicks_link"), "clicks", ["link"])


def _opens() -> None:
    op.create_table(
        "opens",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("send_id", sa.Integer(), nullable=False),
        sa.Column("subscriber_id", _KEY, nullable=False),
        sa.Column("machine", sa.Boolean(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_opens")),
    )
    op.create_index(op.f("ix_opens_send_id"), "opens", ["send_id"])


def _unsubscribes() -> None:
    op.create_table(
        "unsubscribes",
        sa.Column("send_id", sa.Integer(), nullable=False),
        sa.Column("subscriber_id", _KEY, nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("send_id", "subscriber_id", name=op.f("pk_unsubscribes")),
    )
