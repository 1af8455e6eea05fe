"""Ray: `fit` on the workers of a Ray cluster, or of this machine. Ray Train launches them, `distributed` joins them.

    net, result = fit_on_ray(make_net, make_loader, workers=4, gpu=True, epochs=10)

A network that Ray Train users train in a loop of their own needs nothing of this: `net.fit` within that loop joins the
process group that Ray has set up.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tailorbird.errors import EnvironmentFaultError, TailorbirdError, UsageError
from tailorbird.supernet.checkpoint import contents, restore
from tailorbird.supernet.training.failure import TrainingError
from tailorbird.supernet.training.fit import FitResult
from tailorbird.supernet.training.judge import Validate

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet

_STATE = "supernet.pt"


def fit_on_ray(
    make_net: Callable[[], SuperNet],
    make_loader: Callable[[], Iterable[Any]],
    *,
    make_validation: Callable[[], Validate] | None = None,
    workers: int = 2,
    gpu: bool = False,
    storage: str | Path | None = None,
    **options: Any,
) -> tuple[SuperNet, FitResult]:
    """Train a SuperNet on Ray workers and bring it back, with what rank 0 says of the run.

    make_net, make_loader, make_validation: called in each worker, make_net here as well; all must make the same network
    from the same data. workers: processes, with one CPU each, or one GPU each with gpu. storage: a folder or address
    that workers and this program share; a temporary folder by default, which is enough on one machine. options: of
    `fit`.

    Uses the cluster that this program is connected to, that of RAY_ADDRESS, or starts one on this machine and stops it
    afterwards.

    Raises: UsageError; EnvironmentFaultError without Ray; TrainingError when a worker fails.
    """
    if workers < 1:
        raise UsageError(f"workers is {workers}", fix="pass at least 1")
    ray, train, torches = (_imported(name) for name in ("ray", "ray.train", "ray.train.torch"))

    def loop() -> None:
        net = make_net()
        net.to(torches.get_device())
        validate = None if make_validation is None else make_validation()
        result = net.fit(make_loader(), validate=validate, **options)
        if train.get_context().get_world_rank():
            train.report({})
            return
        with tempfile.TemporaryDirectory() as folder:
            torch.save(contents(net), Path(folder) / _STATE)
            train.report(asdict(result), checkpoint=train.Checkpoint.from_directory(folder))

    with _cluster(ray), tempfile.TemporaryDirectory(prefix="tailorbird-ray-") as temporary:
        trainer = torches.TorchTrainer(
            loop,
            scaling_config=train.ScalingConfig(num_workers=workers, use_gpu=gpu),
            run_config=train.RunConfig(storage_path=str(storage or temporary)),
        )
        try:
            found = trainer.fit()
        except Exception as error:
            raise _failure(error) from error
        with found.checkpoint.as_directory() as folder:
            state = torch.load(Path(folder) / _STATE, map_location="cpu", weights_only=True)
    net = make_net()
    restore(net, state)
    return net, FitResult(**{name: found.metrics[name] for name in FitResult.__dataclass_fields__})


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EnvironmentFaultError(
            "Ray Train is not installed", why=str(error), fix="pip install 'tailorbird[ray]'"
        ) from error


@contextmanager
def _cluster(ray: Any) -> Iterator[None]:
    """The cluster that is there, or one for a while."""
    if ray.is_initialized():
        yield
        return
    ray.init(include_dashboard=False)
    try:
        yield
    finally:
        ray.shutdown()


def _failure(error: Exception) -> TailorbirdError:
    """What the workers raised: the first that is not about another one, as it was there."""
    failures = [found for _, found in sorted(getattr(error, "worker_failures", {}).items())]
    causes = [getattr(found, "cause", found) for found in failures]
    own = [cause for cause in causes if isinstance(cause, TailorbirdError)]
    first = next((cause for cause in own if cause.reason != "RANK_LOST"), None)
    if first is not None and len(own) == len(causes):
        return first
    others = [cause for cause in causes if getattr(cause, "reason", "") != "RANK_LOST"]
    cause = (others or causes or [error])[0]
    return TrainingError(
        "training on Ray failed",
        why=f"{type(cause).__name__}: {str(cause).strip().splitlines()[0] if str(cause).strip() else 'no message'}",
        fix="run fit in one process on the same data to see the error alone, or read the logs of the Ray workers",
        reason="RAY_WORKER_FAILED",
    )
