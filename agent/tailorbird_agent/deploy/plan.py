"""From a manifest and its blobs to what a worker is told to serve."""

from __future__ import annotations

from tailorbird_agent.adapt import POLICY_NAMES, RungProfile, make_policy
from tailorbird_agent.deploy.manifest import Manifest
from tailorbird_agent.errors import RequestError
from tailorbird_agent.store.blobs import Blobs
from tailorbird_agent.worker.plan import RungPlan, ServePlan

DEFAULT_POLICY = "two-channel"


def serve_plan(
    manifest: Manifest, blobs: Blobs, *, policy: str, slo_us: float | None, memory_bytes: int | None = None
) -> ServePlan:
    """The plan, with every blob as a file. memory_bytes: what rungs may take; a ladder that fits stays in memory whole.

    Raises:
        StoreError: BLOB_MISSING.
    """
    return ServePlan(
        model=manifest.model,
        inputs=manifest.inputs,
        outputs=manifest.outputs,
        rungs=tuple(
            RungPlan(
                name=rung.name,
                runtime=rung.runtime,
                module=blobs.path(rung.module.sha256),
                parameters=tuple(blobs.path(each.sha256) for each in rung.parameters),
                threads=max(rung.threads, 1),
                accuracy=rung.accuracy,
                cpu_us=rung.cpu_us,
                golden=blobs.path(rung.golden.sha256),
                tolerance=rung.tolerance,
                memory_bytes=rung.memory_bytes,
            )
            for rung in manifest.rungs
        ),
        golden_inputs=blobs.path(manifest.golden_inputs.sha256),
        runtime_libraries=tuple((each.runtime, blobs.path(each.blob.sha256)) for each in manifest.runtime_blobs),
        policy=policy,
        slo_us=slo_us,
        memory_bytes=memory_bytes
        if memory_bytes and sum(rung.memory_bytes for rung in manifest.rungs) > memory_bytes
        else None,
    )


#: What a worker takes beside its rungs: interpreter, numpy, a runtime. Measured with LiteRT, rounded up.
WORKER_BYTES = 64 << 20


def worker_bytes(manifest: Manifest, model_memory_bytes: int) -> int:
    """What a worker of this bundle will take in memory, about."""
    rungs = sorted((rung.memory_bytes for rung in manifest.rungs), reverse=True)
    return WORKER_BYTES + max(min(sum(rungs), model_memory_bytes), rungs[0])


def check_policy(policy: str, manifest: Manifest) -> None:
    """Refuse a policy that cannot run on a ladder.

    Raises:
        RequestError: POLICY_UNKNOWN, with those that exist.
    """
    try:
        make_policy(policy, tuple(RungProfile(rung.name, rung.accuracy, rung.cpu_us) for rung in manifest.rungs))
    except ValueError as error:
        raise RequestError("POLICY_UNKNOWN", f"{error}.") from None


def available_policies(manifest: Manifest | None) -> tuple[str, ...]:
    """Policies that can run, with one static policy per rung."""
    pinned = () if manifest is None else tuple(f"static:{rung.name}" for rung in manifest.rungs)
    return (*POLICY_NAMES, *pinned)
