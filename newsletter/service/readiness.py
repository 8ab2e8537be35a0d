"""Tells systemd when the service is ready and when it ends (sd_notify(3)); elsewhere nothing."""

from __future__ import annotations

import logging
import os
import socket

_log = logging.getLogger(__name__)


def tell_system(state: str) -> None:
    """Send one line such as `READY=1` to `$NOTIFY_SOCKET`, if there is one."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
            to.connect(address)
            to.sendall(state.encode())
    except OSError as error:
        _log.warning("the system could not be told %s: %s", state, error)
