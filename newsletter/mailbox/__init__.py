"""The local provider: a mail server for development, demos and tests, in a process of its own.

It has an HTTP API of its own, keeps what it accepts on disk, shows it in a web inbox, posts events
to the newsletter, and can be told to fail. It knows nothing of issues, subscribers or the ledger.
"""
