"""Sends an issue to chosen addresses before it is scheduled: marked as a test, and counted nowhere.

Its links work as the real ones do: the web version by a link of its own, as the archive shows only
what was sent; leaving changes nothing for who is no subscriber.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, select

from newsletter.audience import is_suppressed, normalise_address, segments
from newsletter.clock import Clock
from newsletter.compiled import CompiledIssue, Recipient
from newsletter.drafting import issue_digest, load_issue
from newsletter.errors import DoesNotHold, Unreachable
from newsletter.providers.base import (
    Accepted,
    Answered,
    Batch,
    Denied,
    Message,
    Outcome,
    Provider,
    Rejected,
)
from newsletter.rendering import compile_issue, compose
from newsletter.scheduling.freezing import Frozen, keep
from newsletter.store import Store
from newsletter.store.schema import segment_members, subscribers
from newsletter.tokens import recipient_token, timed_token
from newsletter.workspace import Workspace

DRAFT = "draft"  # the purpose of the token that opens an unsent web version
DRAFT_AGE = timedelta(days=30)


async def send_test(
    workspace: Workspace,
    store: Store,
    clock: Clock,
    provider: Provider,
    slug: str,
    addresses: Sequence[str],
    *,
    nonce: str,
) -> dict[str, Any]:
    """`{issue, accepted: [email], rejected: [{email, reason}]}`. `nonce` makes the test unique.

    Raises `NotFound` or `BadInput` for the issue and the addresses, `DoesNotHold` when the
    provider refuses the request, `Unreachable` when it cannot be reached or did not say.
    """
    emails = list(dict.fromkeys(normalise_address(text).email for text in addresses))
    frozen = _keep_issue(workspace, store, clock, slug)
    with store.read() as connection:
        blocked = [e for e in emails if is_suppressed(connection, workspace.key, e)]
        wanted = [email for email in emails if email not in blocked]
        people = [_recipient(connection, workspace.key, email) for email in wanted]
        variants = [_variant(connection, frozen.compiled, person) for person in people]
    images = {image.asset.sha256: image.content for image in frozen.media}
    messages = [
        _marked(
            compose(
                frozen.compiled,
                person,
                variant=variant,
                at=clock.now(),
                metadata={"test": nonce},
                media=images.__getitem__,
            ),
            f"<test-{nonce}-{number}@{frozen.compiled.sender_email.rpartition('@')[2]}>",
            _links(workspace, frozen, clock),
        )
        for number, (person, variant) in enumerate(zip(people, variants, strict=True))
    ]
    rejected = [{"email": email, "reason": "suppressed, or has left"} for email in blocked]
    accepted: list[str] = []
    limits = provider.capabilities
    size = limits.whole_messages or limits.batch_size
    for start in range(0, len(messages), size):
        batch = Batch(key=f"test-{nonce}-{start}", messages=messages[start : start + size])
        outcome = await provider.send(provider.prepare(batch))
        _sort(outcome, wanted[start : start + size], accepted, rejected)
    return {"issue": slug, "accepted": accepted, "rejected": rejected}


def _keep_issue(workspace: Workspace, store: Store, clock: Clock, slug: str) -> Frozen:
    """Compiled without tracking, and kept so that its images and its web version can be opened."""
    with store.read() as connection:
        known = [segment["name"] for segment in segments(connection)]
    issue = load_issue(workspace, slug)
    rendered = compile_issue(workspace, issue, segments=known, tracked=False)
    compiled = rendered.compiled
    frozen = Frozen(slug, compiled.sha256, issue_digest(issue), compiled, rendered.media)
    with store.begin() as connection:
        keep(connection, frozen, clock.now())
    return frozen


def _recipient(connection: Connection, key: bytes, email: str) -> Recipient:
    """The subscriber of that address, or somebody whose links lead to no one."""
    row = connection.execute(
        select(subscribers).where(subscribers.c.email_key == normalise_address(email).key)
    ).first()
    if row is None:
        return Recipient(0, email, token=recipient_token(key, 0, 0))
    return Recipient(
        subscriber=row.id,
        email=email,
        first_name=row.first_name,
        last_name=row.last_name,
        fields={name: str(value) for name, value in row.fields.items()},
        token=recipient_token(key, 0, row.id),
    )


def _variant(connection: Connection, compiled: CompiledIssue, person: Recipient) -> str:
    member = select(segment_members.c.segment).where(
        segment_members.c.subscriber_id == person.subscriber
    )
    mine = set(connection.scalars(member)) | {"all"}
    return ",".join(name for name in compiled.segments if name in mine)


def _links(workspace: Workspace, frozen: Frozen, clock: Clock) -> tuple[re.Pattern[str], str]:
    """The web version's address in the issue, and the one that opens before it was sent."""
    public = f"{workspace.settings.site.base_url}/archive/{frozen.issue}"
    token = timed_token(workspace.key, DRAFT, frozen.sha256, clock.now())
    whole = re.compile(re.escape(public) + r"(?![\w-])")  # not that of an issue named alike
    return whole, f"{public}?draft={token}"


def _marked(message: Message, message_id: str, links: tuple[re.Pattern[str], str]) -> Message:
    """A test says so; with a Message-ID of its own, as else the real issue would seem a repeat."""
    web_version, draft = links
    headers = tuple(
        (name, message_id if name.lower() == "message-id" else value)
        for name, value in message.headers
    )
    return replace(
        message,
        subject=f"[Test] {message.subject}",
        html=web_version.sub(draft, message.html),
        text=web_version.sub(draft, message.text),
        headers=(*headers, ("X-Newsletter-Test", "1")),
    )


def _sort(
    outcome: Outcome, emails: Sequence[str], accepted: list[str], rejected: list[dict[str, str]]
) -> None:
    if isinstance(outcome, Denied):
        raise DoesNotHold(f"the provider refuses the test message: {outcome.reason}")
    if not isinstance(outcome, Answered):
        raise Unreachable(
            f"the provider did not take the test message: {outcome.reason}",
            hint="See that it runs (the local one: `newsletter mailbox`) and that its base_url is"
            " right, then try again.",
        )
    for email, result in zip(emails, outcome.outcomes, strict=True):
        match result:
            case Accepted():
                accepted.append(email)
            case Rejected():
                rejected.append({"email": email, "reason": result.reason})
            case _:
                rejected.append({"email": email, "reason": f"not now: {result.reason}"})
