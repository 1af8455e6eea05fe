"""A stock client of the Open Inference Protocol in its own process: many requests in flight, every answer checked.

It knows what torch answers under each bundle, and that is what it holds the claimed version to. Writes one JSON object:
requests, lost, wrong, and the (start, end) wall-clock seconds of every request.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import numpy as np
import tritonclient.grpc.aio as triton
from tritonclient.grpc import InferInput


async def ask(client: triton.InferenceServerClient, plan: dict, store: dict, lane: int, result: dict) -> None:
    """One lane: one request after the other until the lanes sent the planned number and the file `stop` is there."""
    images, stop = store["images"], Path(plan["stop"])
    answers = {version: store[key] for version, key in plan["answers"].items()}
    index = lane
    while result["requests"] < plan["requests"] or not stop.exists():
        index = (index + 1) % len(images)
        tensor = InferInput(plan["input"], [1, *images.shape[1:]], "FP32")
        tensor.set_data_from_numpy(images[index : index + 1])
        result["requests"] += 1
        started = time.time()
        try:
            reply = await client.infer(plan["model"], [tensor], client_timeout=30)
        except Exception as error:
            result["lost"].append(str(error)[:200])
            continue
        result["spans"].append((started, time.time()))
        version = reply.get_response().model_version
        expected = answers.get(version)
        if expected is None:
            result["wrong"].append(f"unknown version {version}")
        elif np.abs(reply.as_numpy(plan["output"])[0] - expected[index]).max() > plan["tolerance"]:
            result["wrong"].append(f"{version} image {index}")


async def main(path: Path) -> None:
    """Run the plan beside `path` and write the result there."""
    plan = json.loads(path.read_text())
    store = dict(np.load(plan["arrays"]))
    result: dict = {"requests": 0, "lost": [], "wrong": [], "spans": []}
    client = triton.InferenceServerClient(plan["target"])
    sys.stdout.write("up\n")
    sys.stdout.flush()
    await asyncio.gather(*(ask(client, plan, store, lane * 7, result) for lane in range(plan["lanes"])))
    await client.close()
    Path(plan["result"]).write_text(json.dumps(result))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
