"""The public side: sign-up, confirmation, preferences, archive, tracking, webhooks, health.

Handlers read a request, call the library and render a page; what a page does is in the library.
"""

from newsletter.web.app import create_app
from newsletter.web.server import address_of, listen, open_site, serve, serve_app

__all__ = ["address_of", "create_app", "listen", "open_site", "serve", "serve_app"]
