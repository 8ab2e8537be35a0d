"""The service: what runs all day. Feeds, editions, sends and notices, each when its time has come.

It only calls the stages below it and decides nothing that they decide; the database is the truth,
and a second service on it does no harm.
"""

from newsletter.service.loops import Ended, serve
from newsletter.service.runtime import Runtime
from newsletter.service.steps import tick
from newsletter.service.ticker import Ticker

__all__ = ["Ended", "Runtime", "Ticker", "serve", "tick"]
