"""`tailorbird-agent status`: one question to the agent on this machine, printed for people or for machines."""

from __future__ import annotations

import sys

import grpc
from google.protobuf import json_format

from tailorbird_agent.config import Config
from tailorbird_api.agent.v1 import agent_service_pb2 as api
from tailorbird_api.agent.v1 import agent_service_pb2_grpc as api_grpc

TIMEOUT_S = 5.0
UNREACHABLE = 4


def show_status(config: Config, *, as_json: bool) -> int:
    """Print what the agent says; returns 0, or 4 when none answers."""
    address = config.control_socket
    with grpc.insecure_channel(f"unix:{address}") as channel:
        try:
            status = api_grpc.AgentServiceStub(channel).GetStatus(api.GetStatusRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            why = error.details() if isinstance(error, grpc.Call) else str(error)
            sys.stderr.write(
                f"tailorbird-agent: no agent answers at {address}\nwhy: {why}\n"
                f"fix: start one with `tailorbird-agent run --state {config.state}`\n"
            )
            return UNREACHABLE
    text = json_format.MessageToJson(status, preserving_proto_field_name=True) if as_json else "\n".join(_lines(status))
    sys.stdout.write(text + "\n")
    return 0


def _lines(status: api.GetStatusResponse) -> list[str]:
    card = status.card
    lines = [
        f"{card.name}: {card.cpu_model or card.machine}, {card.cores} cores, {card.memory_bytes >> 20} MiB",
        f"agent {card.agent_version}, up {status.uptime.ToSeconds()} s, event {status.last_event_sequence}",
        "runtimes: " + (", ".join(f"{each.name} {each.version}" for each in card.runtimes) or "none"),
        f"lease: {status.lease.holder}" if status.HasField("lease") else "lease: free",
    ]
    for each in status.deployments:
        state = api.DeploymentState.Name(each.state).removeprefix("DEPLOYMENT_STATE_").lower()
        lines.append(f"model {each.model}: {state}, bundle {each.active_sha256[:12] or 'none'}, {each.policy}")
        counts = f"{each.requests} requests, {each.misses} late, {each.switches} switches"
        lines.append(f"  rung {each.current_rung or 'none'}, {counts}")
    for reading in status.readings:
        value = f"{reading.value:g}" if reading.HasField("value") else "unavailable"
        lines.append(f"{reading.name}: {value}")
    return lines
