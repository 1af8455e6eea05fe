"""All models of this device: the way in (stage), the way to each one's runner, and what may be thrown away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet

from tailorbird_agent.deploy.compatible import Device, check_compatible, check_modules
from tailorbird_agent.deploy.manifest import Manifest, validate
from tailorbird_agent.deploy.runner import ModelRunner, Surroundings
from tailorbird_agent.errors import BundleError, RequestError, StoreError
from tailorbird_agent.store import gc
from tailorbird_agent.store.blobs import BlobStat
from tailorbird_agent.worker.serving import ServingWorker


class Models:
    """Every model the device knows, by name.

    store_lock: held by whoever changes the blob folder; it keeps collection away from blobs that are being judged.
    leased: digests the current lease keeps alive.
    """

    def __init__(
        self,
        around: Surroundings,
        device: Device,
        *,
        store_lock: asyncio.Lock,
        leased: Callable[[], AbstractSet[str]],
        blob_grace_s: float,
    ) -> None:
        self._around = around
        self._device = device
        self._store_lock = store_lock
        self._leased = leased
        self._blob_grace_s = blob_grace_s
        self._runners = {model: ModelRunner(model, around) for model in around.ledger.deployments}

    @property
    def runners(self) -> Mapping[str, ModelRunner]:
        """Runner of each model."""
        return self._runners

    def get(self, model: str) -> ModelRunner:
        """A model's runner.

        Raises:
            RequestError: MODEL_NOT_FOUND.
        """
        runner = self._runners.get(model)
        if runner is None:
            known = ", ".join(sorted(self._runners)) or "none"
            raise RequestError("MODEL_NOT_FOUND", f'"{model[:128]}"; models here: {known}.', model=model[:128])
        return runner

    def holding(self, bundle: str) -> ModelRunner:
        """The runner that knows a bundle.

        Raises:
            BundleError: NOT_STAGED.
        """
        for runner in self._runners.values():
            if bundle and bundle in runner.deployment.bundles:
                return runner
        raise BundleError("NOT_STAGED", f'"{bundle[:64]}".')

    async def stage(self, data: bytes, expected: int | None) -> tuple[str, ModelRunner]:
        """Verify a bundle and record it; nothing of it is loaded. Returns its identity.

        Raises:
            BundleError: MANIFEST_INVALID, INCOMPATIBLE_*, RUNTIME_MISSING, AGENT_TOO_OLD, GENERATION_CONFLICT.
            StoreError: BLOB_MISSING, BLOB_CORRUPT, DISK_FULL.
        """
        manifest = self._around.parse(data)
        validate(manifest)
        check_compatible(manifest, self._device)
        async with self._store_lock:
            await asyncio.to_thread(self._verify, manifest)
            bundle = await asyncio.to_thread(self._around.blobs.put, data)
            runner = self._runners.get(manifest.model) or ModelRunner(manifest.model, self._around)
            await runner.stage(bundle, expected)
            self._runners[manifest.model] = runner
        return bundle, runner

    def resume(self) -> None:
        """After a start: every model comes back to what was committed."""
        for runner in self._runners.values():
            self._around.spawn(runner.resume())

    async def shut_down(self) -> None:
        """Drain and end every worker."""
        await asyncio.gather(*(runner.shut_down() for runner in self._runners.values()))

    async def collect(self, *, grace_s: float | None = None, only: AbstractSet[str] | None = None) -> gc.Swept:
        """Throw away blobs nobody needs; see store.gc.collect."""
        async with self._store_lock:
            return await self.collect_locked(self._blob_grace_s if grace_s is None else grace_s, only)

    async def collect_locked(self, grace_s: float, only: AbstractSet[str] | None = None) -> gc.Swept:
        """The same, for a caller that holds the store lock."""
        bundles = set().union(*(each.bundles for each in self._around.ledger.deployments.values()))
        leased = frozenset(self._leased())

        def sweep() -> gc.Swept:
            present = [bundle for bundle in bundles if self._around.blobs.stat(bundle).complete]
            marked = gc.mark(self._around.blobs, present) | leased
            return gc.collect(self._around.blobs, marked, now_s=time.time(), grace_s=grace_s, only=only)

        return await asyncio.to_thread(sweep)

    def workers(self) -> Iterator[ServingWorker]:
        """Every worker that serves now."""
        for runner in self._runners.values():
            if runner.pointer.current is not None:
                yield runner.pointer.current.worker

    def sandbox(self) -> tuple[str, ...]:
        """Sandbox layers every serving worker has, empty while nothing serves."""
        layers = [worker.sandbox for worker in self.workers()]
        return tuple(layer for layer in layers[0] if all(layer in each for each in layers)) if layers else ()

    def _verify(self, manifest: Manifest) -> None:
        blobs = self._around.blobs
        stats: dict[str, BlobStat] = {}
        for ref in manifest.blobs():
            stat = stats.setdefault(ref.sha256, blobs.stat(ref.sha256))
            if not stat.complete:
                raise StoreError("BLOB_MISSING", f"Its digest is {ref.sha256}.", sha256=ref.sha256)
            if stat.offset_bytes != ref.size_bytes:
                raise BundleError(
                    "MANIFEST_INVALID", f"{ref.sha256[:12]} has {stat.offset_bytes} bytes, not {ref.size_bytes}."
                )
        for digest in stats:
            blobs.verify(digest)
            blobs.touch(digest)
        rungs = [(f'rung "{rung.name}"', blobs.path(rung.module.sha256)) for rung in manifest.rungs]
        libraries = [(f"the {each.runtime} library", blobs.path(each.blob.sha256)) for each in manifest.runtime_blobs]
        check_modules((*rungs, *libraries), self._device)
