from __future__ import annotations

from collections.abc import Iterator

import pytest
from grpc_health.v1 import health_pb2

from tailorbird_agent.authz import ALLOWED, Role, roles_of
from tailorbird_api.agent.v1 import agent_service_pb2
from tailorbird_api.inference import open_inference_pb2

SERVED = (agent_service_pb2, open_inference_pb2, health_pb2)


def served_methods() -> Iterator[str]:
    for module in SERVED:
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield f"/{service.full_name}/{method.name}"


def test_every_method_of_every_served_service_has_a_row() -> None:
    methods = set(served_methods())
    assert len(methods) > 25
    assert methods - ALLOWED.keys() == set()


def test_no_row_is_empty_or_names_a_method_that_does_not_exist() -> None:
    assert all(ALLOWED.values())
    unknown = ALLOWED.keys() - set(served_methods())
    assert unknown <= {"/grpc.health.v1.Health/List"}  # newer releases of the health package have it


def test_only_the_operator_changes_what_is_deployed() -> None:
    changing = ("StageBundle", "ActivateBundle", "CommitBundle", "RollbackBundle", "SetPolicy")
    for name in changing:
        assert ALLOWED[f"/tailorbird_api.agent.v1.AgentService/{name}"] == {Role.OPERATOR}


def test_who_may_only_infer_reaches_nothing_of_the_control_service() -> None:
    assert not [name for name, roles in ALLOWED.items() if Role.INFERENCE in roles and "AgentService" in name]


@pytest.mark.parametrize("peer", ["ipv4:127.0.0.1:5000", "ipv6:[::1]:5000", "", "vsock:3"])
def test_a_peer_that_is_no_unix_socket_may_only_infer(peer: str) -> None:
    assert roles_of(peer, {}) == {Role.INFERENCE}


def test_a_unix_peer_is_the_operator() -> None:
    assert roles_of("unix:", {}) == {Role.OPERATOR}
    assert roles_of("unix:/run/control.sock", {}) == {Role.OPERATOR}


@pytest.mark.parametrize(
    ("uri", "roles"),
    [
        (b"spiffe://home/operator/laptop", {Role.OPERATOR}),
        (b"spiffe://home/tuner/ci", {Role.TUNER}),
        (b"spiffe://home/root/laptop", set()),
        (b"spiffe://home", set()),
        (b"", set()),
    ],
)
def test_a_certificate_names_its_role(uri: bytes, roles: set[Role]) -> None:
    identities = {"transport_security_type": [b"ssl"], "peer_spiffe_id": [uri]}
    assert roles_of("ipv4:10.0.0.9:1", identities) == roles


def test_a_certificate_without_an_identity_may_do_nothing() -> None:
    assert roles_of("ipv4:10.0.0.9:1", {"transport_security_type": [b"ssl"]}) == set()
