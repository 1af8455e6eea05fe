"""A stock client of the Open Inference Protocol in its own process: many requests in flight, every answer checked.

It knows what torch answers under each version, and that is what it holds the claimed version to. Deadlines are tight
and relaxed by turns of the wall clock, the same in every client, so that the policy has to change the rung. What it saw
goes to the file `result`: lost and wrong answers in words, and when each request began and ended.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc.aio as triton
from tritonclient.grpc import InferInput

_TIMEOUT_S = 30.0


class Seen:
    """What came of the requests of this process. rows: began, ended (seconds since the epoch), version by number."""

    def __init__(self, versions: list[str]) -> None:
        self.numbers = {version: number for number, version in enumerate(versions)}
        self.requests = 0
        self.lost: list[str] = []
        self.wrong: list[str] = []
        self.rows: list[tuple[float, float, int]] = []


class Lane:
    """One request after the other."""

    def __init__(self, client: triton.InferenceServerClient, plan: dict[str, Any], store: Any, seen: Seen) -> None:
        self._client = client
        self._plan = plan
        self._images = store["images"]
        self._answers = {version: store[key] for version, key in plan["answers"].items()}
        self._tensors = [self._tensor(image[None]) for image in self._images]
        self._seen = seen

    def _tensor(self, image: np.ndarray) -> list[InferInput]:
        tensor = InferInput(self._plan["input"], list(image.shape), "FP32")
        tensor.set_data_from_numpy(image)
        return [tensor]

    async def run(self, number: int) -> None:
        """Until this process has sent the planned number and the file `stop` is there."""
        stop, index = Path(self._plan["stop"]), number * 7
        while self._seen.requests < self._plan["requests"] or not stop.exists():
            index += 1
            await self._ask(index)

    async def _ask(self, index: int) -> None:
        plan, seen = self._plan, self._seen
        seen.requests += 1
        picture, name = index % len(self._images), f"{index}"
        rungs = plan["rungs"]
        pinned = rungs[index // plan["pinned_every"] % len(rungs)] if index % plan["pinned_every"] == 0 else ""
        began = time.time()
        phase = int(began / plan["phase_s"])
        tight = phase % 2 and phase // plan["swing_phases"] % 2
        try:
            reply = await self._client.infer(
                plan["model"],
                self._tensors[picture],
                model_version=pinned,
                request_id=name,
                client_timeout=_TIMEOUT_S,
                parameters={"slo_us": plan["tight_us"] if tight else plan["relaxed_us"]},
            )
        except Exception as error:
            seen.lost.append(f"{began:.3f} {error}"[:300])
            return
        ended = time.time()
        told = reply.get_response()
        version = told.model_version
        seen.rows.append((began, ended, seen.numbers.get(version, -1)))
        expected = self._answers.get(version)
        if expected is None or (pinned and not version.endswith(f"/{pinned}")) or told.id != name:
            seen.wrong.append(f"version {version} for {pinned!r}, id {told.id} for {name}")
        elif not np.abs(reply.as_numpy(plan["output"])[0] - expected[picture]).max() <= plan["tolerance"]:
            seen.wrong.append(f"{version} image {picture}")


async def main(path: Path) -> None:
    """Run the plan beside `path` and write the result where it says."""
    plan = json.loads(path.read_text())
    store = dict(np.load(plan["arrays"]))
    seen = Seen(list(plan["answers"]))
    client = triton.InferenceServerClient(plan["target"])
    sys.stdout.write("up\n")
    sys.stdout.flush()
    await asyncio.gather(*(Lane(client, plan, store, seen).run(number) for number in range(plan["lanes"])))
    await client.close()
    rows = np.array(seen.rows, dtype=np.float64).reshape(-1, 3)
    np.savez(plan["result"], rows=rows, requests=seen.requests, lost=seen.lost, wrong=seen.wrong)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
