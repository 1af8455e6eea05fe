"""The nine stages of the demo, each a call of the function its own command calls, with its time and figures."""

from __future__ import annotations

import importlib.metadata
import math
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from torch import nn

from tailorbird.demo import data as demo_data
from tailorbird.demo import resnet20
from tailorbird.demo.base import accuracy_of, train_base
from tailorbird.demo.plan import DemoPlan
from tailorbird.demo.size import fitting_source
from tailorbird.demo.traffic import BurnerSchedule
from tailorbird.device import Device
from tailorbird.errors import MissingFileError, TailorbirdError
from tailorbird.flow.compile import CompileOutcome, compile_ladder
from tailorbird.flow.data import Batches, Splits
from tailorbird.flow.deploy import DeployResult, deploy
from tailorbird.flow.inputs import InputSpec
from tailorbird.flow.network import Network, build_supernet
from tailorbird.flow.search import SearchOutcome, search_ladder
from tailorbird.flow.serve import Lane, Traffic, serve
from tailorbird.flow.source import Source
from tailorbird.flow.train import TrainingDocument, train
from tailorbird.flow.workspace import Note, Workspace, silent
from tailorbird.supernet.accuracy import accuracy
from tailorbird.supernet.training import Recipe
from tailorbird.types import AgentStatus
from tailorbird.ui import Run, render_report, write_run
from tailorbird.ui.run import BuildPoint, Figure, RungRow, Serving, StageTime
from tailorbird.units import byte_words, count_words, share_words, time_words

#: Below these, switching would be theatre: nobody needs to save a tenth of a millisecond.
LEAST_LARGEST_US = 1000.0
LEAST_RATIO = 3.0
#: The deadline over the largest rung's quiet 90th percentile, and the requests that this is measured with.
_SLO_FACTOR = 1.3
_PACED = 40
LARGE, SMALL, ADAPTIVE = "static-large", "static-small", "two-channel"


class Stage:
    """What a stage tells while it runs: figures for the report, whether the cache answered."""

    def __init__(self) -> None:
        self.cached = False
        self.figures: list[Figure] = []

    def found(self, name: str, words: str, value: float | None = None) -> None:
        """Note a result."""
        self.figures.append(Figure(name, words, None if value is None else float(value)))


class Demo:
    """The demo as a sequence of stages; each needs the ones before it. Close it, or use it as a context manager."""

    def __init__(
        self, workspace: Workspace, plan: DemoPlan, *, model: str = "digits", data: Path | None = None
    ) -> None:
        self.workspace = workspace
        self.plan = plan
        self.model = model
        self.stages: list[StageTime] = []
        self._data = data
        self._started = datetime.now(UTC)
        self._device: Device | None = None

    def __enter__(self) -> Demo:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect, and stop the agent if this demo started it. What is deployed survives on disk."""
        if self._device is not None:
            agent = self._device.agent
            self._device.close()
            if agent is not None:
                agent.stop()
            self._device = None

    # -- the stages, in order

    def prepare(self, note: Note = silent) -> tuple[nn.Module, Splits]:
        """1. A trained network and its data: trained here, or pretrained for CIFAR-10.

        Raises:
            MissingFileError: CIFAR-10 or its weights are not where --data says.
        """
        with self._stage("train", "Train the base network") as stage:
            if self.model == "digits":
                splits = demo_data.digits(seed=self.workspace.settings.seed)
                source = fitting_source(self.workspace)
                net, result = train_base(self.workspace, splits, source=source, steps=self.plan.base_steps, note=note)
                stage.cached = result.hit
            else:
                if self._data is None:
                    raise MissingFileError(
                        f"--model {self.model} needs --data",
                        why="neither weights nor images come with Tailorbird",
                        fix="give a folder with cifar10.zip and resnet_cifar10/resnet20.safetensors",
                    )
                note("reading images")
                net, splits = resnet20.load_pretrained(self._data), demo_data.cifar10(self._data)
            for name in ("validation", "test"):
                share = accuracy_of(net, getattr(splits, name))
                stage.found(f"{name} accuracy", share_words(share), share)
            stage.found("parameters", count_words(sum(p.numel() for p in net.parameters())))
        return net, splits

    def make_elastic(self, net: nn.Module, splits: Splits) -> Network:
        """2. tb.elastic."""
        with self._stage("supernet", "Make it elastic") as stage:
            digits = self.model == "digits"
            source = fitting_source(self.workspace) if digits else Source.parse("tailorbird.demo.resnet20:make")
            example = InputSpec((1, *splits.train[0].shape[1:]))
            network = build_supernet(self.workspace, source, [example], model=net)
            stage.cached = network.result.hit
            report = network.net.report
            stage.found("elastic dimensions", str(len(report.dimensions)), len(report.dimensions))
            stage.found("pinned axes", str(len(report.pinned)), len(report.pinned))
            stage.found("subnets", f"{report.subnets:,}", float(report.subnets))
            stage.found(
                "MACs", f"{count_words(report.macs_smallest)} to {count_words(report.macs_full)}", report.macs_full
            )
        return network

    def fine_tune(self, network: Network, splits: Splits, note: Note = silent) -> tuple[Network, TrainingDocument]:
        """3. Sandwich fine-tune.

        Raises:
            GateError: the full network lost more than the recipe allows.
        """
        plan = self.plan
        with self._stage("fine-tune", "Fine-tune all subnets") as stage:
            recipe = Recipe(
                steps=plan.tuning_steps,
                budget_s=plan.tuning_limit_s,
                lr=plan.tuning_lr,
                # A run of a hundred steps has no time for a curriculum: every subnet takes part from the start.
                ratios=(),
                sampling="independent",
                n_random=1,
                teacher="in-place",
                seed=self.workspace.settings.seed,
            )
            network, document = train(
                self.workspace,
                network,
                splits,
                recipe,
                batch=plan.tuning_batch,
                on_progress=lambda now: note(f"step {now.step}, loss {math.nan if now.loss is None else now.loss:.3f}"),
            )
            stage.cached = network.result.hit
            stage.found("steps", str(document.steps), document.steps)
            stage.found("speed", f"{document.rate:.0f} {document.unit}/s", document.rate)
            if document.backed_off:
                stage.found("learning rate halved", f"{document.backed_off} times", document.backed_off)
            stage.found("full network before", share_words(document.full_before), document.full_before)
            stage.found("full network after", share_words(document.full_after), document.full_after)
            stage.found("smallest subnet before", share_words(document.smallest_before), document.smallest_before)
            stage.found("smallest subnet after", share_words(document.smallest_after), document.smallest_after)
            stage.found("a random subnet", share_words(document.random_after), document.random_after)
            document.check()
        return network, document

    def start_agent(self) -> tuple[Device, AgentStatus]:
        """4. The agent of this machine, as a process of its own."""
        with self._stage("agent", "Start the agent") as stage:
            device = self._device = self.workspace.device("local")
            status = device.status()
            started = device.agent
            stage.found("process", "already running" if started is None else str(started.pid))
            stage.found("control socket", str(device.address))
            stage.found("runtimes", ", ".join(name for name, _ in status.card.runtimes))
        return device, status

    def search(self, network: Network, splits: Splits, note: Note = silent) -> SearchOutcome:
        """5. Profile, predict, evaluate, search."""
        with self._stage("search", "Profile, predict and search") as stage:
            found = search_ladder(self.workspace, network, splits, self._connected(), self.plan.search, note=note)
            stage.cached = found.result.hit
            document = found.document
            if document.profiling is not None:
                cost = document.profiling
                stage.found("kernels measured", f"{cost.kernels} of {cost.reachable}", cost.kernels)
                saving = cost.saving_end_to_end()
                stage.found("cheaper than measuring 2,000 subnets", f"{saving:.0f} times", saving)
            stage.found("subnets judged", str(document.evaluated), document.evaluated)
            stage.found("rungs", str(len(found.ladder.rungs)), len(found.ladder.rungs))
            if document.latency_error is not None:
                stage.found("latency error, held out", share_words(document.latency_error), document.latency_error)
            stage.found("accuracy error, left out", share_words(document.accuracy_error), document.accuracy_error)
            stage.found("profiling", f"{document.profile_s:.1f} s", document.profile_s)
            stage.found("accuracy probes", f"{document.accuracy_s:.1f} s", document.accuracy_s)
            stage.found("search", f"{document.search_s:.1f} s", document.search_s)
        return found

    def compile(self, found: SearchOutcome, splits: Splits, note: Note = silent) -> CompileOutcome:
        """6. Compile, tune, check, measure."""
        with self._stage("compile", "Compile, tune and measure") as stage:
            outcome = compile_ladder(
                self.workspace, found, splits, self._connected(), tune_s=self.plan.tvm_s, note=note
            )
            stage.cached = outcome.result.hit
            times = [rung.measured_us or 0.0 for rung in outcome.ladder.rungs]
            stage.found("smallest rung", time_words(min(times)), min(times))
            stage.found("largest rung", time_words(max(times)), max(times))
            shipped = [rung.runtime for rung in outcome.document.rungs]
            stage.found("ships", ", ".join(f"{shipped.count(name)} {name}" for name in sorted(set(shipped))))
            if (tuning := outcome.document.tuning) is not None:
                stage.found("kernels tuned", str(tuning.kernels), tuning.kernels)
                stage.found("candidates timed on the device", str(tuning.trials), tuning.trials)
        return outcome

    def deploy(self, outcome: CompileOutcome, splits: Splits, note: Note = silent) -> tuple[DeployResult, float]:
        """7. Pack, push, stage, golden-check, activate; then the deadline, from the ladder as it is served.

        Returns (what deploying did, deadline in microseconds).

        Raises:
            TailorbirdError: the ladder is too fast or too narrow for switching to make sense.
        """
        with self._stage("deploy", "Deploy the bundle") as stage:
            result = deploy(self._connected(), outcome.bundle, policy=ADAPTIVE, note=note)
            stage.found("bundle", result.bundle[:12])
            stage.found("size", byte_words(result.size_bytes), result.size_bytes)
            stage.found("sent", byte_words(result.sent_bytes), result.sent_bytes)
            stage.found("activation", f"{result.activate_s:.2f} s", result.activate_s)
            note("asking the ends of the ladder on the quiet device")
            small, large = outcome.ladder.rungs[0].name, outcome.ladder.rungs[-1].name
            _, smallest_us = self._paced(outcome, splits, small)
            quiet_us, largest_us = self._paced(outcome, splits, large)
            slo_us = _SLO_FACTOR * quiet_us
            self._connected().set_policy(outcome.ladder.model, ADAPTIVE, slo_us)
            stage.found("smallest rung as served", time_words(smallest_us), smallest_us)
            stage.found("largest rung as served", time_words(largest_us), largest_us)
            stage.found("SLO", time_words(slo_us), slo_us)
            check_ladder([smallest_us, largest_us])
        return result, slo_us

    def _paced(self, outcome: CompileOutcome, splits: Splits, rung: str) -> tuple[float, float]:
        """A rung asked at the pace of serving, where caches go cold between requests.

        Returns (90th percentile of the latency, median on-CPU time), microseconds.
        """
        device, model, pause_s = self._connected(), outcome.ladder.model, 1 / (3 * self.plan.rate_hz)
        image = splits.validation[0][:1].numpy()
        (tensor,), _ = device.signature(model)
        answers = []
        for _ in range(_PACED):
            time.sleep(pause_s)
            answers.append(device.infer(model, {tensor.name: image}, rung))
        latency_us = [answer.queue_us + answer.wall_us for answer in answers]
        return statistics.quantiles(latency_us, n=10)[-1], statistics.median(answer.cpu_us for answer in answers)

    def serve(self, outcome: CompileOutcome, splits: Splits, slo_us: float, note: Note = silent) -> Serving:
        """8. Three lanes under a burner that comes and goes."""
        plan, ladder = self.plan, outcome.ladder
        lanes = (Lane(ADAPTIVE), Lane(LARGE, ladder.rungs[-1].name), Lane(SMALL, ladder.rungs[0].name))
        images, labels = splits.test
        with (
            self._stage("serve", "Serve under a burner") as stage,
            BurnerSchedule(plan.bursts, plan.serve_s, tuple(sorted(os.sched_getaffinity(0)))) as burner,
        ):
            serving = serve(
                self._connected(),
                ladder.model,
                Traffic(lanes, plan.rate_hz, plan.serve_s, slo_us, self.workspace.settings.seed),
                images.numpy(),
                labels.numpy(),
                accuracy={rung.name: rung.accuracy for rung in ladder.rungs},
                tick=burner.tick,
                bursts=burner.bursts,
                note=note,
            )
            for lane in serving.lanes:
                stage.found(f"{lane.lane} late", share_words(lane.miss_share), lane.miss_share)
                stage.found(
                    f"{lane.lane} effective accuracy", share_words(lane.effective_accuracy), lane.effective_accuracy
                )
            stage.found("switches", str(len(serving.switches)), len(serving.switches))
        return serving

    def report(
        self,
        folder: Path,
        found: SearchOutcome,
        outcome: CompileOutcome,
        splits: Splits,
        status: AgentStatus,
        serving: Serving,
    ) -> tuple[Run, Path]:
        """9. run.json and report.html in a folder."""
        with self._stage("report", "Write the report"):
            folder.mkdir(parents=True, exist_ok=True)
            rungs = _rungs(found, outcome, splits)
        run = Run(
            title="From a PyTorch model to adaptive serving",
            model=f"{outcome.ladder.model}, {self.model}",
            created_at=self._started.strftime("%Y-%m-%d %H:%M UTC"),
            tailorbird_version=importlib.metadata.version("tailorbird"),
            card=status.card,
            sensors=status.sensors,
            stages=tuple(self.stages),
            front=found.document.front,
            rungs=rungs,
            predictions=found.document.predictions,
            prediction_error=found.document.latency_error,
            serving=serving,
        )
        write_run(run, folder / "run.json")
        page = folder / "report.html"
        page.write_text(render_report(run), encoding="utf-8")
        return run, page

    def _connected(self) -> Device:
        assert self._device is not None, "start_agent comes first"
        return self._device

    @contextmanager
    def _stage(self, name: str, title: str) -> Iterator[Stage]:
        stage = Stage()
        started = time.monotonic()
        yield stage
        self.stages.append(StageTime(name, title, time.monotonic() - started, stage.cached, tuple(stage.figures)))


def check_ladder(times_us: list[float]) -> None:
    """A ladder worth switching on: its largest rung takes at least 1 ms and 3 times the smallest, on one thread.

    Raises:
        TailorbirdError: it is not.
    """
    largest, smallest = max(times_us), min(times_us)
    if largest >= LEAST_LARGEST_US and largest >= LEAST_RATIO * smallest:
        return
    raise TailorbirdError(
        "this ladder is not worth switching on",
        why=f"its rungs take {time_words(smallest)} to {time_words(largest)}; the largest should take at least "
        f"{time_words(LEAST_LARGEST_US)} and {LEAST_RATIO:g} times the smallest",
        fix="use a larger model or a slower board",
        reason="LADDER_TOO_FAST",
    )


def _rungs(found: SearchOutcome, outcome: CompileOutcome, splits: Splits) -> tuple[RungRow, ...]:
    test = Batches(splits.test, 200)
    return tuple(
        RungRow(
            name=rung.name,
            accuracy=rung.accuracy,
            test_accuracy=accuracy(found.network.net, rung.config, test),
            predicted_us=rung.predicted_us,
            measured_us=rung.measured_us or 0.0,
            macs=rung.macs,
            params=rung.params,
            runtime=record.runtime,
            builds=tuple(
                BuildPoint(build.runtime, build.cpu_us, build.max_error or 0.0, build.verdict)
                for build in record.builds
                if build.cpu_us is not None
            ),
        )
        for rung, record in zip(outcome.ladder.rungs, outcome.document.rungs, strict=True)
    )
