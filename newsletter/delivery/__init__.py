"""The ledger and the engine that sends by it: nobody twice, nobody skipped, and provably so.

A send has one delivery row a recipient and works in leased batches; every request is an attempt
that was committed before it left. This package knows providers by their interface only.
"""

from newsletter.delivery.control import cancel, pause, resolve, resume
from newsletter.delivery.counting import by_state as deliveries_by_state
from newsletter.delivery.engine import RunReport, run_due
from newsletter.delivery.guard import quarantine
from newsletter.delivery.leases import worked_on
from newsletter.delivery.naming import find_send
from newsletter.delivery.pacing import count_passed
from newsletter.delivery.proof import Matched, apply_event
from newsletter.delivery.reconciling import Reconciled, reconcile
from newsletter.delivery.runtime import UNTIL_IDLE, DeliveryRuntime, Policy, open_runtime
from newsletter.delivery.status import (
    attempts_once_in_doubt,
    counts,
    export_rows,
    list_status,
    sends_that_go_on,
    status,
)
from newsletter.delivery.verifying import verify

__all__ = [
    "UNTIL_IDLE",
    "DeliveryRuntime",
    "Matched",
    "Policy",
    "Reconciled",
    "RunReport",
    "apply_event",
    "attempts_once_in_doubt",
    "cancel",
    "count_passed",
    "counts",
    "deliveries_by_state",
    "export_rows",
    "find_send",
    "list_status",
    "open_runtime",
    "pause",
    "quarantine",
    "reconcile",
    "resolve",
    "resume",
    "run_due",
    "sends_that_go_on",
    "status",
    "verify",
    "worked_on",
]
