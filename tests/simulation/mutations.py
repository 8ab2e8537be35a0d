"""Known ways to break the engine, each of which the simulation must catch.

A mutation replaces one function of the engine for as long as it is entered. Names that are imported
are replaced where they are used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest import mock

from sqlalchemy import false, or_, select, text, true

from newsletter.delivery import (
    failover,
    guard,
    jobs,
    launching,
    leases,
    leaving,
    outcomes,
    proof,
    recording,
    sending,
    settling,
)
from newsletter.delivery.attempts import doubt, load_attempt, move_rows, record_answer
from newsletter.delivery.pacing import pace
from newsletter.delivery.pacing.quota import give_back
from newsletter.providers import mailbox, postmark
from newsletter.providers.base import Accepted, Answered, Deferred, Found, Unknown
from newsletter.providers.transport import InDoubt, Response

#: name → what makes the engine so
MUTATIONS: dict[str, Callable[[], dict[tuple[Any, str], Any]]] = {}

_Patches = dict[tuple[Any, str], Any]


def _mutation(make: Callable[[], _Patches]) -> Callable[[], _Patches]:
    MUTATIONS[make.__name__] = make
    return make


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """The engine, broken in the way of that name."""
    with ExitStack() as stack:
        for (target, attribute), value in MUTATIONS[name]().items():
            stack.enter_context(mock.patch.object(target, attribute, value))
        yield


@_mutation
def outcome_committed_before_the_request() -> _Patches:
    original = sending._commit_attempt

    def commit_attempt(job: Any, attempt: Any, number: int) -> bool:
        if not original(job, attempt, number):
            return False
        with job.runtime.store.begin() as connection:
            told = [Accepted("soon")] * len(attempt.positions)
            record_answer(connection, attempt, told, job.runtime.clock.now())
        return True

    return {(sending, "_commit_attempt"): commit_attempt}


@_mutation
def attempt_committed_after_the_request() -> _Patches:
    original = sending._commit_attempt
    make_request = sending.make_request
    waiting: list[Any] = []

    def commit_attempt(job: Any, attempt: Any, number: int) -> bool:
        waiting.append((job, attempt, number))
        return True

    async def request(job: Any, call: Any) -> Any:
        outcome = await make_request(job, call)
        for entry in [entry for entry in waiting if entry[0] is job]:
            waiting.remove(entry)
            original(*entry)
        return outcome

    return {(sending, "_commit_attempt"): commit_attempt, (sending, "make_request"): request}


@_mutation
def suppression_checked_once_only() -> _Patches:
    def rows_to_send(connection: Any, lease: Any, _now: Any) -> list[Any]:
        batch = {"b_send": lease.send_id, "b_lo": lease.lo, "b_hi": lease.hi}
        return list(connection.execute(leaving.ROWS.where(*leaving._WAITS), batch).all())

    return {
        (launching, "rows_to_send"): rows_to_send,
        (sending, "rows_to_send"): rows_to_send,
        (outcomes, "_OPEN"): outcomes._open(true()),
    }


@_mutation
def unknown_counted_as_not_accepted() -> _Patches:
    original = sending.record

    def record(connection: Any, job: Any, attempt: Any, outcome: Any) -> None:
        if isinstance(outcome, Unknown):
            outcome = Deferred(outcome.reason)
        original(connection, job, attempt, outcome)

    return {(sending, "record"): record}


def _failure(counts: Callable[[Any], bool]) -> _Patches:
    original = mailbox.failure

    def failure(result: Any, **more: Any) -> Any:
        return Deferred("not accepted, surely") if counts(result) else original(result, **more)

    return {(mailbox, "failure"): failure, (postmark, "failure"): failure}


@_mutation
def server_error_counted_as_not_accepted() -> _Patches:
    return _failure(lambda result: isinstance(result, Response) and result.status >= 500)


@_mutation
def time_out_counted_as_not_accepted() -> _Patches:
    return _failure(lambda result: isinstance(result, InDoubt))


@_mutation
def in_doubt_sent_again_blindly() -> _Patches:
    async def settle(job: Any, attempt: Any) -> None:
        with job.runtime.store.begin() as connection:
            now = job.runtime.clock.now()
            move_rows(connection, attempt, "miss", "a look-up shows that it was not accepted", now)
            settling.settle_if_clear(connection, attempt, now)
            leases.give_back(connection, job.lease, now)
        await asyncio.sleep(0)

    from newsletter.delivery import engine

    return {(engine, "settle"): settle}


@_mutation
def batch_done_before_its_rows() -> _Patches:
    original = leases.give_back

    def give_back(connection: Any, lease: Any, now: Any, **more: Any) -> bool:
        given = original(connection, lease, now, **more)
        done = "UPDATE batches SET state = 'done' WHERE send_id = :send AND number = :number"
        connection.execute(text(done), {"send": lease.send_id, "number": lease.number})
        return given

    return {(leases, "give_back"): give_back}


@_mutation
def partial_refusal_ignored() -> _Patches:
    def record(connection: Any, attempt: Any, outcomes: Any, now: Any) -> int | None:
        taken = [one if isinstance(one, Accepted) else Accepted("surely") for one in outcomes]
        return record_answer(connection, attempt, taken, now)

    return {(recording, "record_answer"): record, (settling, "record_answer"): record}


@_mutation
def look_up_within_the_lag_believed() -> _Patches:
    return {(jobs.Job, "lag"): timedelta(0)}


@_mutation
def failed_look_up_believed() -> _Patches:
    original = settling._record_found

    def record(connection: Any, job: Any, attempt: Any, found: Any, asked_at: Any) -> None:
        if isinstance(found, Found):
            found = replace(found, conclusive=True)
        original(connection, job, attempt, found, asked_at)

    return {(settling, "_record_found"): record}


@_mutation
def event_ignored_for_a_doubt() -> _Patches:
    original = proof._move

    def move(connection: Any, row: Any, event: Any, now: Any) -> Any:
        return "" if row.state == "in_doubt" else original(connection, row, event, now)

    return {(proof, "_move"): move}


@_mutation
def attempt_begun_for_a_stopped_send() -> _Patches:
    def count_try(connection: Any, lease: Any, **_more: Any) -> int | None:
        statement = text(
            "UPDATE batches SET tries = tries + 1 WHERE send_id = :send AND number = :number"
            " AND lease_token = :token RETURNING tries"
        )
        values = {"send": lease.send_id, "number": lease.number, "token": lease.token}
        return connection.execute(statement, values).scalar_one_or_none()

    return {(leases, "count_try"): count_try}


@_mutation
def request_of_a_dead_worker_forgotten() -> _Patches:
    original = leases.doubt

    def doubt(connection: Any, attempt: str, now: Any, **more: Any) -> bool:
        given = original(connection, attempt, now, **more)
        loaded = settling_load(connection, attempt)
        move_rows(connection, loaded, "miss", "a look-up shows that it was not accepted", now)
        settling.settle_if_clear(connection, loaded, now)
        return given

    from newsletter.delivery.attempts import load_attempt as settling_load

    return {(leases, "doubt"): doubt}


@_mutation
def refused_repeat_taken_for_the_first() -> _Patches:
    original = settling._record_repeat

    def record(connection: Any, job: Any, attempt: Any, outcome: Any) -> None:
        if isinstance(outcome, Deferred):
            now = job.runtime.clock.now()
            told = tuple(Deferred(outcome.reason) for _ in attempt.positions)
            record_answer(connection, attempt, told, now)
            outcome = Answered(told)
            settling.finish_answered(connection, job, outcome.outcomes)
            return
        original(connection, job, attempt, outcome)

    return {(settling, "_record_repeat"): record}


@_mutation
def key_not_reused() -> _Patches:
    original = settling._repeatable

    def repeatable(job: Any, attempt: Any) -> Any:
        prepared = original(job, attempt)
        if prepared is None:
            return None
        key = f"{attempt.id}-{attempt.asked}"
        return replace(prepared, key=key, headers={**prepared.headers, "Idempotency-Key": key})

    return {(settling, "_repeatable"): repeatable}


@_mutation
def late_answer_overwrites() -> _Patches:
    def record(connection: Any, attempt: Any, outcomes: Any, now: Any) -> bool:
        told = record_answer(connection, attempt, outcomes, now)
        if told:  # else it is of a repeat that another worker made as well
            return True
        for position, outcome in zip(attempt.positions, outcomes, strict=True):
            values = {"send": attempt.send_id, "position": position, "attempt": attempt.id}
            values["state"] = "accepted" if isinstance(outcome, Accepted) else "pending"
            statement = text(
                "UPDATE deliveries SET state = :state, attempt = :attempt"
                " WHERE send_id = :send AND position = :position"
            )
            connection.execute(statement, values)
        return True

    return {(recording, "record_answer"): record, (settling, "record_answer"): record}


@_mutation
def rows_in_flight_ignore_a_cancel() -> _Patches:
    return {(leases, "cancel_rest"): lambda *_args: False}


@_mutation
def repeated_to_somebody_who_left() -> _Patches:
    return {(settling, "someone_left"): lambda _attempt: select(false())}


@_mutation
def restored_database_trusted() -> _Patches:
    return {
        (guard, "against_mark"): lambda _row, _seen: None,
        (guard, "count_attempt"): lambda _connection, seen: seen,
        (guard.Questions, "_known_there"): lambda *_args: False,
    }


@_mutation
def batch_in_doubt_moved() -> _Patches:
    def may_take(provider: str, instead_of: tuple[str, ...]) -> Any:
        return or_(*map(failover.through, (provider, *instead_of)))

    unkept = leases._next_open.__wrapped__  # as it may have been made before
    return {(leases, "may_take"): may_take, (leases, "_next_open"): unkept}


@_mutation
def doubts_given_back_to_the_quota() -> _Patches:
    def lose(connection: Any, attempt: str, now: Any, **how: Any) -> bool:
        lost = doubt(connection, attempt, now, **how)
        if lost:
            loaded = load_attempt(connection, attempt)
            assert loaded is not None
            give_back(connection, attempt, len(loaded.positions))
        return lost

    return {(module, "doubt"): lose for module in (leases, recording)}


@_mutation
def clone_trusted() -> _Patches:
    trusted = {(guard, "against_mark"): lambda _row, _seen: None}
    return {**trusted, (guard, "_of_place"): lambda *_args: None}


@_mutation
def hours_left_out() -> _Patches:
    return {(pace, "next_opening"): lambda *_args: None}
