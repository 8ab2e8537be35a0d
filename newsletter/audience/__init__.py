"""The audience: who is written to, on whose consent, and who never again.

It knows people, addresses, segments and suppression; it must not know issues or how mail
travels.
"""

from newsletter.audience.addresses import Address, BadAddress, comparison_key, normalise_address
from newsletter.audience.people import add, find, show
from newsletter.audience.privacy import erase, forget, personal_data
from newsletter.audience.segments import (
    check_segment_name,
    segment_exists,
    segment_select,
    segment_size,
    segments,
)
from newsletter.audience.signup import (
    Signup,
    confirm,
    record_consent,
    subscribe,
    unsubscribe,
    update_preferences,
)
from newsletter.audience.suppression import (
    is_suppressed,
    mark_bounced,
    mark_complained,
    mark_suppressed,
    suppress,
)
from newsletter.audience.values import FREQUENCIES

__all__ = [
    "FREQUENCIES",
    "Address",
    "BadAddress",
    "Signup",
    "add",
    "check_segment_name",
    "comparison_key",
    "confirm",
    "erase",
    "find",
    "forget",
    "is_suppressed",
    "mark_bounced",
    "mark_complained",
    "mark_suppressed",
    "normalise_address",
    "personal_data",
    "record_consent",
    "segment_exists",
    "segment_select",
    "segment_size",
    "segments",
    "show",
    "subscribe",
    "suppress",
    "unsubscribe",
    "update_preferences",
]
