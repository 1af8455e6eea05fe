"""A client of a device pool, to be killed: does its share of numbered jobs and commits each before the next report.

    python pool_client.py STORE RESULTS NAME FIRST LAST

A job writes blobs to the device, one after the other, under the fencing token it was given; then a line is added to
RESULTS: where the agent accepted them, with which token, from whom.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import Future
from pathlib import Path

from tailorbird.cache import sha256_of
from tailorbird.db import Store
from tailorbird.device import Device, Devices, Lease

BLOBS = 12


def main(database: str, results: Path, name: str, first: int, last: int) -> None:
    done = {int(line.split()[0]) for line in results.read_text().splitlines()} if results.exists() else set()
    todo = [number for number in range(first, last) if number not in done]

    def work(number: int):
        def run(device: Device, lease: Lease) -> str:
            token = lease.token
            for _ in range(BLOBS):
                content = os.urandom(2000)
                device.push({sha256_of(content): content}, lease=lease)
            return f"{number} {device.name} {token} {name} {os.getpid()}\n"

        return run

    options = {"lease_s": 1.0, "turn_s": 0.2, "linger_s": 0.2, "holder": f"{name}:{os.getpid()}", "attempts": 50}
    with Store(database) as store, Devices(store).pool("class:board", **options) as pool:
        futures: list[Future[str]] = [pool.submit(work(number)) for number in todo]
        for future in futures:
            with results.open("a") as file:
                file.write(future.result())
    print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
