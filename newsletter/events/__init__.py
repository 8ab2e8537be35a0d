"""What happens to messages after they left: provider events, clicks and opens.

Events are stored once each, matched to the ledger, and heeded; this package reads no webhook and
shows no page.
"""

from newsletter.events.ingest import ingest
from newsletter.events.tracking import record_click, record_open, target_of

__all__ = ["ingest", "record_click", "record_open", "target_of"]
