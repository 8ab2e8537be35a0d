"""Tells the opens and clicks of machines from those of people, by the user agent that asks.

Mail programs that fetch images ahead, link scanners, crawlers and scripts name themselves.
"""

from __future__ import annotations

import re

# Apple's Mail Privacy Protection sends exactly "Mozilla/5.0"; Gmail's proxy names itself.
_BARE = re.compile(r"Mozilla/[45]\.0", re.ASCII)
_NAMES = re.compile(
    r"GoogleImageProxy|YahooMailProxy|ggpht|bot\b|crawl|spider|slurp|preview|monitor|scanner"
    r"|safelinks|barracuda|proofpoint|mimecast|symantec|fireeye|trendmicro|sophos|forcepoint"
    r"|headless|phantomjs|curl/|wget/|python|httpx|aiohttp|go-http-client|java/|okhttp"
    r"|libwww|ruby|axios|node-fetch|facebookexternalhit|whatsapp|telegram|slack|discord",
    re.ASCII | re.IGNORECASE,
)


def is_machine(user_agent: str) -> bool:
    """Whether that user agent is no person's browser or mail program; nor is none at all."""
    agent = user_agent.strip()
    return not agent or bool(_BARE.fullmatch(agent)) or bool(_NAMES.search(agent))
