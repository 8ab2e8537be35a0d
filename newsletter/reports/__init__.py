"""What a publisher wants to know afterwards: the report of a send, and counts for monitoring."""

from newsletter.reports.metrics import state_counts
from newsletter.reports.report import report

__all__ = ["report", "state_counts"]
