"""No request is lost or answered by the wrong bundle while bundles change under load."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
from agentkit.bundles import Bundle, make_bundle, sample
from agentkit.process import Agent, infer_request, output

from tailorbird_api.inference import open_inference_pb2_grpc as oip_grpc

SWAPS, CLIENTS, IN_FLIGHT, REQUESTS = 10, 2, 4, 600


@dataclass
class Client:
    """Keeps IN_FLIGHT requests on their way until told to stop; checks each answer against who claims it."""

    address: str
    by_version: dict[str, tuple[Bundle, int]]
    stop: threading.Event
    answered: int = 0
    failures: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)

    def run(self) -> None:
        with grpc.insecure_channel(f"unix:{self.address}") as channel:
            stub = oip_grpc.GRPCInferenceServiceStub(channel)
            flight = []
            while not self.stop.is_set() or flight:
                while len(flight) < IN_FLIGHT and not self.stop.is_set():
                    x = sample((1, 16), seed=self.answered + len(flight))
                    flight.append((x, stub.ModelInfer.future(infer_request(x), timeout=20)))
                x, call = flight.pop(0)
                self._check(x, call)

    def _check(self, x: np.ndarray, call: grpc.Future) -> None:
        error = call.exception()
        if error is not None:
            self.failures.append(str(error))
            return
        response = call.result()
        self.answered += 1
        self.versions.append(response.model_version.split("/")[0])
        bundle, rung = self.by_version[response.model_version]
        if not np.allclose(output(response), bundle.answer(x, rung), atol=0.1):
            self.failures.append(f"{response.model_version} answered {output(response)}")


def test_bundles_change_under_load_without_a_lost_or_wrong_answer(tmp_path: Path) -> None:
    bundles = [make_bundle(number) for number in range(SWAPS + 1)]
    by_version = {f"{b.sha256[:12]}/r{rung}": (b, rung) for b in bundles for rung in range(3)}
    stop = threading.Event()
    with Agent(tmp_path / "s") as agent:
        agent.deploy(bundles[0])
        clients = [Client(agent.fields["inference"], by_version, stop) for _ in range(CLIENTS)]
        threads = [threading.Thread(target=client.run) for client in clients]
        for thread in threads:
            thread.start()
        try:
            for bundle in bundles[1:]:
                agent.deploy(bundle)
                seen = [len(client.versions) for client in clients]
                # The next swap waits until every client was answered by this bundle.
                while not all(
                    bundle.sha256[:12] in client.versions[count:] or client.failures
                    for client, count in zip(clients, seen, strict=True)
                ):
                    agent.status()
            while sum(client.answered for client in clients) < REQUESTS and not any(c.failures for c in clients):
                agent.status()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert [failure for client in clients for failure in client.failures] == []
        assert sum(client.answered for client in clients) >= REQUESTS
        order = {bundle.sha256[:12]: number for number, bundle in enumerate(bundles)}
        for client in clients:
            assert set(client.versions) == set(order), "each bundle answered somebody"
        final = agent.deployment()
        assert (final.active_sha256, final.previous_sha256) == (bundles[-1].sha256, bundles[-2].sha256)
        kept = {each.name for each in (tmp_path / "s" / "blobs").iterdir()}
        assert {bundles[-1].sha256, bundles[-2].sha256} <= kept


def test_a_newer_activation_supersedes_an_older_one_and_something_serves_throughout(tmp_path: Path) -> None:
    with Agent(tmp_path / "s") as agent:
        first, second, third = (make_bundle(number) for number in range(3))
        agent.deploy(first)
        x = sample((1, 16))
        outcomes = []

        def deploy(bundle: Bundle) -> None:
            try:
                outcomes.append(agent.deploy(bundle).active_sha256)
            except grpc.RpcError as error:
                outcomes.append(error.code())

        threads = [threading.Thread(target=deploy, args=(bundle,)) for bundle in (second, third)]
        for thread in threads:
            thread.start()
        served = set()
        while any(thread.is_alive() for thread in threads):
            served.add(agent.infer(x).model_version.split("/")[0])
        for thread in threads:
            thread.join()
        assert served <= {each.sha256[:12] for each in (first, second, third)}
        active = agent.deployment().active_sha256
        assert active in {second.sha256, third.sha256}
        allowed = {grpc.StatusCode.ABORTED, grpc.StatusCode.FAILED_PRECONDITION}
        assert active in outcomes
        assert all(each in allowed or isinstance(each, str) for each in outcomes)
