"""The outbox: mail that is no issue (confirmations, notices to editors) and the editors' webhook.

A row is queued in the transaction of what it tells of, once a cause, and sent by the same rules as
an issue: an unknown outcome is settled and never guessed. It knows no send and no edition.
"""

from newsletter.outbox.queue import enqueue, next_due, notify_editors
from newsletter.outbox.sending import flush

__all__ = ["enqueue", "flush", "next_due", "notify_editors"]
