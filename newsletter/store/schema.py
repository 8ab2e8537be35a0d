"""Every table. The module that owns a table is named above it; only that one writes to it.

One exception: the erasure of a person empties the copies of their data wherever they are.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from newsletter.store.types import BigKey, Instant, Json

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# --- audience -----------------------------------------------------------------------------------

subscribers = Table(
    "subscribers",
    metadata,
    Column("id", BigKey, primary_key=True),
    # `email` as it is written to; `email_key` is its form for comparison. Both are emptied by
    # erasure (`email_key` becomes "forgotten:<id>").
    Column("email", Text, nullable=False),
    Column("email_key", Text, nullable=False, unique=True),
    Column("first_name", Text, nullable=False, server_default=""),
    Column("last_name", Text, nullable=False, server_default=""),
    Column("fields", Json, nullable=False, server_default="{}"),
    Column("topics", Json, nullable=False, server_default="[]"),
    Column("frequency", Text, nullable=False, server_default="every"),
    Column("state", String(16), nullable=False),
    Column("state_reason", Text, nullable=False, server_default=""),
    # Why nobody may write to them whatever their state; '' unless an editor or provider said so.
    Column("suppressed", Text, nullable=False, server_default=""),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    CheckConstraint(
        "state IN ('pending','active','unsubscribed','bounced','complained','forgotten')",
        name="state",
    ),
    Index("ix_subscribers_state_id", "state", "id"),
    sqlite_autoincrement=True,
)

consents = Table(
    "consents",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("subscriber_id", BigKey, ForeignKey("subscribers.id"), nullable=False, index=True),
    Column("at", Instant, nullable=False),
    Column("how", String(32), nullable=False),  # form, confirmed, import, editor, withdrawn
    Column("text", Text, nullable=False),  # the wording shown, or the source that was named
    Column("details", Json, nullable=False, server_default="{}"),
)

subscriber_history = Table(
    "subscriber_history",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("subscriber_id", BigKey, ForeignKey("subscribers.id"), nullable=False, index=True),
    Column("at", Instant, nullable=False),
    Column("event", String(32), nullable=False),
    Column("detail", Text, nullable=False, server_default=""),
)

suppressions = Table(
    "suppressions",
    metadata,
    # HMAC of email_key under the workspace's key: outlives the erasure of the address.
    Column("email_hash", String(64), primary_key=True),
    # suppressed (by editors or a provider), bounced, complained or forgotten: an erased person may
    # sign up anew, the others may not.
    Column("kind", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Instant, nullable=False),
)

segment_members = Table(
    "segment_members",
    metadata,
    Column("segment", Text, primary_key=True),
    Column("subscriber_id", BigKey, ForeignKey("subscribers.id"), primary_key=True),
    Index("ix_segment_members_subscriber_id", "subscriber_id"),
)

# --- content ------------------------------------------------------------------------------------
# An index over the files under content/, which are the truth; it can be rebuilt from them.

content_items = Table(
    "content_items",
    metadata,
    Column("number", BigKey, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("sha256", String(64), nullable=False, index=True),
    Column("shingles", Integer, nullable=False),
    Column("source", Text, nullable=False, index=True),  # without lines
    Column("stamp", Text, nullable=False),  # of the file when it was read: another one, read anew
)

content_shingles = Table(
    "content_shingles",
    metadata,
    Column("hash", BigKey, primary_key=True),
    Column("item", BigKey, ForeignKey("content_items.number"), primary_key=True),
    Index("ix_content_shingles_item", "item"),
)

feeds = Table(
    "feeds",
    metadata,
    Column("url", Text, primary_key=True),
    Column("etag", Text, nullable=False, server_default=""),
    Column("last_modified", Text, nullable=False, server_default=""),
    Column("polled_at", Instant),
    Column("error", Text, nullable=False, server_default=""),
)

feed_entries = Table(
    "feed_entries",
    metadata,
    Column("url", Text, ForeignKey("feeds.url"), primary_key=True),
    Column("entry", Text, primary_key=True),
    Column("seen_at", Instant, nullable=False),
)

# --- scheduling ---------------------------------------------------------------------------------

frozen_issues = Table(
    "frozen_issues",
    metadata,
    Column("sha256", String(64), primary_key=True),  # of `compiled`
    Column("issue", Text, nullable=False, index=True),
    Column("compiled", LargeBinary, nullable=False),  # CompiledIssue.to_bytes()
    Column("source_sha256", String(64), nullable=False),  # of the issue's folder when frozen
    Column("created_at", Instant, nullable=False),
)

media = Table(
    "media",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("extension", String(8), nullable=False),
    Column("content_type", Text, nullable=False),
    Column("bytes", LargeBinary, nullable=False),
    Column("created_at", Instant, nullable=False),
)

links = Table(
    "links",
    metadata,
    Column("link", String(16), primary_key=True),  # hex of the 8 bytes in the link's token
    Column("issue", Text, nullable=False, index=True),
    Column("position", Integer, nullable=False),
    Column("url", Text, nullable=False),
)

sends = Table(
    "sends",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("send", Text, nullable=False, unique=True),  # the public name: <issue>.<n>
    Column("issue", Text, nullable=False),
    Column("frozen", String(64), ForeignKey("frozen_issues.sha256"), nullable=False),
    Column("segment", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("at", Instant, nullable=False),
    Column("edition", Text),
    Column("created_at", Instant, nullable=False),
    Column("started_at", Instant),
    Column("finished_at", Instant),
    # When the first of the recipients' rows were made; a send without it has none yet.
    Column("filled_at", Instant),
    # Not before this time: the provider asked for a pause.
    Column("not_before", Instant),
    # When a person last let a paused or held send go on: its lateness counts from here.
    Column("released_at", Instant),
    # Batches numbered up to it go first, as a sample; NULL: there is none.
    Column("canary", Integer),
    Column("canary_at", Instant),  # when the last of them was done
    Column("canary_passed", Boolean),
    Column("starts_at", Instant),  # of its first wave; NULL: `at`
    # Whether `at` is meant in each recipient's own time zone.
    Column("local_time", Boolean, nullable=False, server_default=text("false")),
    # How many have no row in `deliveries` yet: the table `eligible` has them.
    Column("unfilled", Integer, nullable=False, server_default="0"),
    Column("batch_size", Integer),  # how many recipients make a batch; NULL before the start
    CheckConstraint(
        "state IN ('scheduled','sending','sent','paused','held','cancelled')", name="state"
    ),
    # An issue is scheduled once; a cancelled one can be scheduled again.
    Index(
        "uq_sends_issue_live",
        "issue",
        unique=True,
        sqlite_where=text("state <> 'cancelled'"),
        postgresql_where=text("state <> 'cancelled'"),
    ),
    Index("ix_sends_state_at", "state", "at"),
    sqlite_autoincrement=True,
)

send_sources = Table(
    "send_sources",
    metadata,
    Column("send_id", Integer, ForeignKey("sends.id"), primary_key=True),
    Column("content", Text, primary_key=True),
    Index("ix_send_sources_content", "content"),
)

approvals = Table(
    "approvals",
    metadata,
    Column("issue", Text, primary_key=True),
    Column("frozen", String(64), primary_key=True),
    Column("approved_by", Text, nullable=False),
    Column("at", Instant, nullable=False),
)

editions = Table(
    "editions",
    metadata,
    Column("name", Text, primary_key=True),
    Column("date", String(16), primary_key=True),  # local date and hour it belongs to
    Column("send_at", Instant, nullable=False),
    # The issue's name, from just before its file is written; '' until then.
    Column("issue", Text, nullable=False, server_default=""),
    # Of the issue's folder when it was last looked at; '' while it has no draft.
    Column("source_sha256", String(64), nullable=False, server_default=""),
    # False where an issue of that name was there already: then only an approval sends it.
    Column("drafted_here", Boolean, nullable=False, server_default=text("false")),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("send_id", Integer, ForeignKey("sends.id")),
    Column("updated_at", Instant, nullable=False),
)

edition_items = Table(
    "edition_items",
    metadata,
    Column("name", Text, primary_key=True),
    Column("date", String(16), primary_key=True),
    Column("content", Text, primary_key=True),
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("until", Instant, nullable=False),
)

# --- outbox: mail that is no issue (confirmations, notices to editors) ----------------------------

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("kind", String(16), nullable=False),  # confirmation, notice, webhook
    Column("cause", Text, nullable=False, unique=True),  # once a cause
    Column("to_email", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("html", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("state", String(16), nullable=False),  # pending, sending, accepted, in_doubt, failed
    Column("reason", Text, nullable=False, server_default=""),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("not_before", Instant, nullable=False),
    # The request under way or in doubt: a repeat of it goes to the same provider, under the same
    # key and with the same bytes, or is none.
    Column("attempt", Text, nullable=False, server_default=""),
    Column("provider", Text, nullable=False, server_default=""),
    Column("body_sha256", String(64), nullable=False, server_default=""),
    Column("attempted_at", Instant),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Index("ix_outbox_state_not_before", "state", "not_before"),
)

# --- delivery: the ledger -----------------------------------------------------------------------

deliveries = Table(
    "deliveries",
    metadata,
    # Nothing is checked row by row that one statement vouches for: rows come from `sends` and
    # `subscribers`, of which none is ever deleted, and states from the table of transitions.
    Column("send_id", Integer, primary_key=True),
    Column("position", Integer, primary_key=True),  # 1..n within the send; a batch is a range
    Column("subscriber_id", BigKey, nullable=False),
    # A copy of what the message is made from, so that a repeat has the same bytes; emptied by
    # erasure once the outcome is known.
    Column("email", Text, nullable=False),
    Column("first_name", Text, nullable=False, server_default=""),
    Column("last_name", Text, nullable=False, server_default=""),
    Column("fields", Json, nullable=False, server_default="{}"),
    Column("variant", Text, nullable=False, server_default=""),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("attempt", Text),
    Column("provider_message_id", Text),
    Column("updated_at", Instant, nullable=False),
    Column("event_at", Instant),  # of the provider's event that gave the state
    Index("uq_deliveries_subscriber_id_send_id", "subscriber_id", "send_id", unique=True),
    # A row changes three times and no index knows of it: with room on its page, PostgreSQL writes
    # no index entry (heap-only tuples).
    postgresql_with={"fillfactor": 50},
)

# Who was eligible when a send started and has no row in `deliveries` yet.
eligible = Table(
    "eligible",
    metadata,
    Column("send_id", Integer, primary_key=True),
    Column("subscriber_id", BigKey, primary_key=True),
    sqlite_with_rowid=False,
)

batches = Table(
    "batches",
    metadata,
    Column("send_id", Integer, ForeignKey("sends.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("lo", Integer, nullable=False),  # positions lo..hi of the send's deliveries
    Column("hi", Integer, nullable=False),
    Column("state", String(16), nullable=False),  # open, leased, done
    Column("tries", Integer, nullable=False, server_default="0"),  # attempts made
    Column("failures", Integer, nullable=False, server_default="0"),  # in a row
    Column("failing_since", Instant),
    Column("not_before", Instant),
    Column("lease_holder", Text),
    # Grows with every lease: who lost the lease makes no attempt and gives nothing back.
    Column("lease_token", Integer, nullable=False, server_default="0"),
    Column("lease_until", Instant),
    Column("pool", Text, nullable=False, server_default=""),  # of domains with a rate of their own
    Column("due_at", Instant),  # of its wave: not leased before
    Column("provider", Text),  # the one it failed over to; NULL: the send's
    # Deliveries by state; NULL: not known, count the rows.
    Column("counts", Json),
    Index(
        "ix_batches_unfinished",
        "send_id",
        "number",
        sqlite_where=text("state <> 'done'"),
        postgresql_where=text("state <> 'done'"),
    ),
    Index(
        "ix_batches_uncounted",
        "send_id",
        "number",
        sqlite_where=text("counts IS NULL"),
        postgresql_where=text("counts IS NULL"),
    ),
)

# What events have changed of a batch's deliveries since `batches.counts` was written. Only added
# to beside the engine, so that a webhook waits for no batch.
count_changes = Table(
    "count_changes",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("send_id", Integer, nullable=False),
    Column("batch", Integer, nullable=False),
    Column("was", String(16), nullable=False),
    Column("became", String(16), nullable=False),
    Index("ix_count_changes_send_id_batch", "send_id", "batch"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", Text, primary_key=True),  # the idempotency key: follows from send, batch and try
    Column("send_id", Integer, ForeignKey("sends.id"), nullable=False),
    Column("batch", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("provider", Text, nullable=False),
    Column("positions", Json, nullable=False),  # ranges: [[lo, hi], …]
    Column("not_accepted", Json),  # ranges of those surely not accepted, once that is known
    Column("body_sha256", String(64), nullable=False),
    # started, answered, not_accepted, in_doubt, settled
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("started_at", Instant, nullable=False),
    Column("finished_at", Instant),
    Column("doubt_at", Instant),  # since when its outcome is unknown
    Column("asked", Integer, nullable=False, server_default="0"),  # times it was looked into
    Column("settle_at", Instant),  # when it is looked into next; NULL: a person must decide
    Column("day", String(10)),  # of the quota that it was counted on; NULL: on none
    UniqueConstraint("send_id", "batch", "number"),
    Index("ix_attempts_state_settle_at", "state", "settle_at"),
)

# Of a provider, shared by all workers: whether it is given anything new. No row: it never failed.
breakers = Table(
    "breakers",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("state", String(16), nullable=False),  # closed, open
    Column("failures", Integer, nullable=False, server_default="0"),  # of requests, in a row
    Column("failing_since", Instant),
    Column("reason", Text, nullable=False, server_default=""),  # of the last failure
    Column("openings", Integer, nullable=False, server_default="0"),  # in a row: the pause doubles
    Column("retry_at", Instant),  # when one batch may try it
    Column("probe_until", Instant),  # while one tries it; whoever claimed that may have vanished
    # Since when it fails again and again, which the editors are told once; and when it last closed.
    Column("episode", Instant),
    Column("closed_at", Instant),
)

# What is left at a provider while a send lasts, written down before it is made there.
kept_forms = Table(
    "kept_forms",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("name", String(32), primary_key=True),
    Column("send_id", Integer, ForeignKey("sends.id"), nullable=False),
    Column("state", String(16), nullable=False),  # asked, kept, refused
    Column("reason", Text, nullable=False, server_default=""),
    Column("retry_at", Instant),  # not tried to be made or removed before
)

ledger = Table(
    "ledger",
    metadata,
    # One row: which database this is, and how many attempts it knows of. Compared with a mark
    # outside the database, it shows that this is an older copy, or another one.
    Column("id", Integer, primary_key=True),
    Column("database", String(32), nullable=False),  # replaced when a quarantine is lifted
    Column("former", Json, nullable=False, server_default="[]"),  # what it was called before
    Column("sequence", BigKey, nullable=False, server_default="0"),  # attempts ever committed
    Column("place", Json, nullable=False, server_default="{}"),  # where the engine last met it
    # Why nothing is sent, for people, and the case for the code; '' while all is well.
    Column("quarantine", Text, nullable=False, server_default=""),
    Column("cause", String(16), nullable=False, server_default=""),
    Column("quarantined_at", Instant),
    # When it last caught up with the providers after it had been found behind.
    Column("restored_at", Instant),
    CheckConstraint("id = 1", name="one_row"),
)

# --- pacing: what all workers of a provider share ------------------------------------------------

pace = Table(
    "pace",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("pool", Text, primary_key=True),  # of domains with a rate of their own; '' for all
    Column("free_at", Instant, nullable=False),  # when the rate lets the next batch go
)

quotas = Table(
    "quotas",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("day", String(10), primary_key=True),  # YYYY-MM-DD in the site's zone
    # Recipients of attempts, without those who were surely not accepted.
    Column("used", Integer, nullable=False, server_default="0"),
)

waves = Table(
    "waves",
    metadata,
    Column("send_id", Integer, ForeignKey("sends.id"), primary_key=True),
    Column("at", Instant, primary_key=True),
    Column("recipients", Integer, nullable=False),
    # When its time was seen to have come: one that was missed for longer than the grace is held.
    Column("opened_at", Instant),
)

# --- events and tracking ------------------------------------------------------------------------

events = Table(
    "events",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("provider", Text, nullable=False),
    Column("provider_event_id", Text, nullable=False),  # or a digest of the event where it has none
    Column("type", String(16), nullable=False),
    Column("recipient", Text, nullable=False),
    Column("provider_message_id", Text, nullable=False, server_default=""),
    Column("send_id", Integer),
    Column("subscriber_id", BigKey),
    Column("machine", Boolean, nullable=False),  # an open or click that no person made
    Column("url", Text, nullable=False),  # of a click
    Column("at", Instant, nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("event", Json, nullable=False),
    UniqueConstraint("provider", "provider_event_id"),
    Index("ix_events_send_id_type", "send_id", "type"),
    Index("ix_events_provider_message_id", "provider_message_id"),
)

clicks = Table(
    "clicks",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("link", String(16), ForeignKey("links.link"), nullable=False, index=True),
    Column("send_id", Integer),  # known where the click is individual
    Column("subscriber_id", BigKey),  # only where tracking is individual
    Column("machine", Boolean, nullable=False),
    Column("at", Instant, nullable=False),
)

opens = Table(
    "opens",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("send_id", Integer, nullable=False, index=True),
    Column("subscriber_id", BigKey, nullable=False),
    Column("machine", Boolean, nullable=False),
    Column("at", Instant, nullable=False),
)

unsubscribes = Table(
    "unsubscribes",
    metadata,
    Column("send_id", Integer, primary_key=True),
    Column("subscriber_id", BigKey, primary_key=True),
    Column("at", Instant, nullable=False),
)
