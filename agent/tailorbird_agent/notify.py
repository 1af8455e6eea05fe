"""Telling systemd how the agent is: one datagram to the socket it names, nothing when it names none."""

from __future__ import annotations

import asyncio
import os
import socket


def notify(state: str) -> bool:
    """Send a state such as "READY=1"; whether somebody was told."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.connect("\0" + address[1:] if address.startswith("@") else address)
            sender.sendall(state.encode())
        except OSError:
            return False
    return True


async def keep_watchdog_fed() -> None:
    """Say "still here" twice per watchdog period, from the event loop: a loop that hangs goes unfed."""
    period_us = int(os.environ.get("WATCHDOG_USEC", "0") or 0)
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()) or period_us <= 0:
        return
    while True:
        if not notify("WATCHDOG=1"):
            return
        await asyncio.sleep(period_us / 2e6)
