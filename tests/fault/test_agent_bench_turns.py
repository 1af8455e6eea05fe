"""Whoever measures and stops reading must not keep the device from the next holder."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import aclosing
from pathlib import Path

import pytest

from tailorbird_agent.benching import Bench
from tailorbird_agent.errors import LeaseError
from tailorbird_agent.lease import Leases
from tailorbird_agent.worker.plan import CandidatePlan, Protocol

PROTOCOL = Protocol("quick", 1, 1.0, 2.0)


def test_results_nobody_reads_do_not_outlive_the_lease(tmp_path: Path) -> None:
    candidates = [CandidatePlan("litert-model", tmp_path / "absent", (), label) for label in ("a", "b")]

    async def run() -> tuple[list[str], str]:
        leases = Leases(itertools.count(1).__next__, on_end=lambda lease, how: None)
        bench = Bench(leases)
        lease = await leases.acquire("sleeper", 60.0)
        async with aclosing(bench.measure(lease.token, candidates, PROTOCOL, (), 30.0)) as unread:
            await anext(unread)
            leases.release(lease.lease_id)
            following = await leases.acquire("next", 60.0)
            async with asyncio.timeout(30.0):
                measured = bench.measure(following.token, candidates, PROTOCOL, (), 30.0)
                labels = [timings.label async for _, timings in measured]
            with pytest.raises(LeaseError) as late:
                await anext(unread)
        await bench.stop()
        return labels, late.value.reason

    assert asyncio.run(run()) == (["a", "b"], "LEASE_LOST")
