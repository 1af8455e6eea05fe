"""A Device against a real agent process."""

from __future__ import annotations

import dataclasses
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from tailorbird.bundle import BuiltRung, Bundle, pack
from tailorbird.cache import sha256_of
from tailorbird.compile.litert.single_op import single_op_candidate
from tailorbird.db import Store
from tailorbird.device import Device, LocalAgent
from tailorbird.errors import DeviceError, InputShapeError, LeaseError
from tailorbird.types import KERNEL, Candidate, Config, DeploymentState, KernelSpec, ModuleKind, TensorSpec

BRIEF = dataclasses.replace(KERNEL, min_seconds=0.005, max_seconds=0.5)
ADD = KernelSpec("add", 8, 8, 4, 4)


def test_the_card_describes_this_machine(device: Device):
    card = device.card
    assert card.name == device.name == "here"
    assert card.machine == os.uname().machine
    assert card.triple.startswith(card.machine)
    assert card.cores >= 1
    assert card.memory_bytes > 1 << 20
    assert card.runtime_version("litert")


def test_absent_sensors_have_no_value(device: Device):
    sensors = device.sensors()
    assert sensors.readings
    assert all(reading.source for reading in sensors.readings)
    assert any(reading.value is not None for reading in sensors.readings)
    assert sensors["no such sensor"] is None


def test_watching_gives_one_snapshot_after_another(device: Device):
    watch = device.watch_status(interval_s=0.1)
    first, second = next(watch), next(watch)
    watch.close()
    assert second.uptime_s > first.uptime_s
    assert first.card == device.card


class TestLease:
    def test_a_second_holder_is_told_who_has_the_device(self, device: Device):
        with device.lease("alice") as lease, pytest.raises(LeaseError) as caught:
            assert lease.holder == "alice"
            device.lease("bob")
        assert caught.value.reason == "LEASE_HELD"
        assert "alice" in caught.value.why
        assert caught.value.fix

    def test_who_waits_is_told_who_holds_the_device_and_gets_it_next(self, agent: LocalAgent, device: Device):
        told: list[str] = []
        held = device.lease("alice")

        def on_wait(holder: str) -> None:
            told.append(holder)
            held.release()

        with Device.connect(agent.control) as other, other.lease("bob", wait_s=30, on_wait=on_wait) as lease:
            assert told == ["alice"]
            assert device.status().lease.holder == lease.holder == "bob"

    def test_who_gives_up_waiting_leaves_the_line(self, device: Device):
        with device.lease("alice") as lease:
            with pytest.raises(LeaseError, match="cannot take") as caught:
                device.lease("bob", wait_s=30, give_up=lambda: True)
            assert "alice" in caught.value.why
            _wait_for(lambda: device.status().lease.waiting, lambda waiting: waiting == 0)
            assert not lease.wanted

    def test_a_holder_knows_that_others_wait(self, agent: LocalAgent, device: Device):
        done = threading.Event()

        def wait() -> None:
            with Device.connect(agent.control) as other, other.lease("bob", wait_s=30):
                done.set()

        with device.lease("alice", duration_s=1.0) as lease:
            waiting = threading.Thread(target=wait)
            waiting.start()
            assert _wait_for(lambda: lease.wanted, bool)
        assert done.wait(30)
        waiting.join()

    def test_tokens_grow(self, device: Device):
        with device.lease("a") as first:
            old = first.token
        with device.lease("b") as second:
            assert second.token > old

    def test_a_lease_is_renewed_for_as_long_as_it_is_held(self, device: Device):
        with device.lease("me", duration_s=1.0) as lease:
            first = lease.grant.expires
            renewed = _wait_for(lambda: device.status().lease, lambda now: now is not None and now.expires > first)
            assert renewed.fencing_token == lease.token
        assert device.status().lease is None

    def test_a_released_lease_gives_no_token(self, device: Device):
        lease = device.lease("me")
        lease.release()
        lease.release()
        with pytest.raises(LeaseError):
            _ = lease.token

    def test_held_leases_are_written_down(self, agent: LocalAgent, tmp_path: Path):
        with Store(tmp_path / "s.db") as store, Device.connect(agent.control, book=store.leases) as device:
            with device.lease("me") as lease:
                ((name, grant),) = store.leases.held()
                assert (name, grant.fencing_token) == ("here", lease.token)
            assert store.leases.held() == ()


def _wait_for(read, good, tries: int = 100):
    """The first good value; each read is a call to the agent, pauses are the agent's own."""
    pause = threading.Event()
    for _ in range(tries):
        value = read()
        if good(value):
            return value
        pause.wait(0.05)
    pytest.fail("it never came")


class TestMeasure:
    def test_results_come_in_order_and_failures_are_values(self, device: Device):
        good = single_op_candidate(ADD)
        bad = Candidate(ModuleKind.LITERT_MODEL, b"no model", good.args, "bad")
        seen: dict[int, bool] = {}
        results = device.measure([good, bad, good], BRIEF, on_result=lambda i, m: seen.update({i: m.ok}))
        assert [result.ok for result in results] == [True, False, True]
        assert seen == {0: True, 1: False, 2: True}
        assert results[1].error
        assert results[0].label == good.label
        assert results[0].cpu_median_us > 0
        assert len(results[0].cpu_us) == len(results[0].wall_us) >= BRIEF.min_runs

    def test_two_modules_are_compared_in_turns(self, device: Device):
        small = single_op_candidate(ADD)
        large = single_op_candidate(dataclasses.replace(ADD, height=4 * ADD.height, width=4 * ADD.width))
        found = device.compare(small, large, dataclasses.replace(BRIEF, min_seconds=0.1))
        assert len(found.first.blocks) == len(found.second.blocks) == found.rounds > 2
        assert found.high < 1.0
        assert found.decided
        broken = Candidate(ModuleKind.LITERT_MODEL, b"no model", small.args, "broken")
        with pytest.raises(DeviceError, match="broken: ModuleInvalidError"):
            device.compare(small, broken, BRIEF)

    def test_a_measurement_tells_its_circumstances(self, device: Device):
        (result,) = device.measure([single_op_candidate(ADD)], BRIEF)
        assert len(result.delay_us) in {0, len(result.cpu_us)}
        assert sum(result.blocks) == len(result.cpu_us)
        assert result.noted("kernel") == device.card.kernel
        assert float(result.noted("reference_us") or 0) > 0
        assert result.cut_short is None
        (short,) = device.measure(
            [single_op_candidate(ADD)], dataclasses.replace(BRIEF, mode="mlperf", min_runs=1024, max_seconds=0.02)
        )
        assert "of 1024 runs" in (short.cut_short or "")

    def test_the_context_is_the_kernel_and_the_power_mode(self, device: Device):
        status = device.status()
        assert device.context == f"kernel={status.card.kernel} {status.power_mode}".strip()

    def test_measuring_gives_the_device_back(self, device: Device):
        device.measure([single_op_candidate(ADD)], BRIEF)
        assert device.status().lease is None

    def test_measuring_waits_for_nobody(self, device: Device):
        with device.lease("alice"), pytest.raises(LeaseError):
            device.measure([single_op_candidate(ADD)], BRIEF)

    def test_nothing_to_measure_is_no_error(self, device: Device):
        assert device.measure([], BRIEF) == []


class TestBlobs:
    def test_a_blob_is_sent_once(self, device: Device):
        content = os.urandom(700_000)
        blobs = {sha256_of(content): content}
        progress: list[tuple[int, int]] = []
        assert device.push(blobs, on_progress=lambda *p: progress.append(p)) == len(content)
        assert progress[-1] == (len(content), len(content))
        assert device.push(blobs) == 0

    def test_many_blobs_of_any_size_travel_in_one_push(self, device: Device, tmp_path: Path):
        contents = [os.urandom(size) for size in (0, 1, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1)]
        blobs: dict[str, bytes | Path] = {sha256_of(content): content for content in contents}
        file = tmp_path / "blob"
        file.write_bytes(os.urandom(600_000))
        blobs[sha256_of(file)] = file
        assert device.push(blobs) == sum(map(len, contents)) + 600_000
        assert device.push(blobs) == 0

    def test_content_that_is_not_what_its_name_says_is_refused(self, device: Device):
        with pytest.raises(DeviceError) as caught:
            device.push({sha256_of(b"honest"): b"forged"})
        assert caught.value.reason == "BLOB_CORRUPT"
        assert caught.value.fix


@pytest.fixture(scope="module")
def bundle(agent: LocalAgent) -> Bundle:
    """Two rungs with different answers: a sum, and the same through a rectifier."""
    rng = np.random.default_rng(0)
    plain, rectified = (single_op_candidate(dataclasses.replace(ADD, activation=name)) for name in ("", "relu"))
    inputs = [{a.name: rng.standard_normal(a.shape, np.float32) for a in plain.args} for _ in range(4)]
    sums = [example["x"] + example["y"] for example in inputs]
    with Device.connect(agent.control) as device:
        card = device.card

    def rung(name: str, cpu_us: float, candidate: Candidate, outputs: list[np.ndarray]) -> BuiltRung:
        golden = tuple({"output_0": output} for output in outputs)
        return BuiltRung(name, Config(), "litert", candidate.module, cpu_us / 100, cpu_us, golden, tolerance=1e-5)

    return pack(
        "adder",
        [rung("r0", 10.0, plain, sums), rung("r1", 20.0, rectified, [np.maximum(s, 0) for s in sums])],
        inputs=plain.args,
        outputs=[TensorSpec("output_0", "FP32", sums[0].shape)],
        golden_inputs=inputs,
        card=card,
        slo_us=50_000,
    )


@pytest.fixture
def serving(device: Device, bundle: Bundle) -> Device:
    """A device that serves the bundle under the policy static-small."""
    device.push(bundle.blobs)
    device.stage(bundle.manifest_bytes)
    device.activate(bundle.sha256, commit=True)
    device.set_policy("adder", "static-small")
    return device


X = {name: np.full((1, 4, 4, 8), value, np.float32) for name, value in (("x", 1.0), ("y", -3.0))}


class TestDeploy:
    def test_a_bundle_goes_from_pushed_to_committed(self, device: Device, bundle: Bundle):
        device.push(bundle.blobs)
        sha256, staged = device.stage(bundle.manifest_bytes)
        assert sha256 == bundle.sha256
        assert staged.staged == sha256
        trial = device.activate(sha256)
        assert (trial.state, trial.active) == (DeploymentState.TRIAL, sha256)
        committed = device.commit("adder")
        assert committed.state is DeploymentState.COMMITTED
        assert committed.generation > staged.generation
        assert [rung.name for rung in committed.rungs] == ["r0", "r1"]
        assert committed.slo_us == 50_000
        assert device.deployment("adder") == device.deployments()[0]

    def test_staging_without_the_blobs_is_refused(self, device: Device, bundle: Bundle):
        honest = bundle.manifest.golden_inputs.sha256
        with pytest.raises(DeviceError) as caught:
            device.stage(bundle.manifest_bytes.replace(honest.encode(), b"0" * 64))
        assert caught.value.reason == "BLOB_MISSING"

    def test_a_bundle_for_another_cpu_is_refused(self, device: Device, bundle: Bundle):
        device.push(bundle.blobs)
        other = bundle.manifest_bytes.replace(device.card.triple.encode(), b"aarch64-linux-android")
        with pytest.raises(DeviceError) as caught:
            device.stage(other)
        assert caught.value.reason == "INCOMPATIBLE_TRIPLE"

    def test_rolling_back_to_nothing_is_refused(self, device: Device):
        with pytest.raises(DeviceError) as caught:
            device.rollback("never deployed")
        assert caught.value.reason in {"MODEL_NOT_FOUND", "NO_PREVIOUS"}

    def test_an_unknown_model_is_named(self, device: Device):
        with pytest.raises(DeviceError, match="'nothing'") as caught:
            device.deployment("nothing")
        assert caught.value.reason == "MODEL_NOT_FOUND"


class TestServe:
    def test_the_answer_names_its_rung_and_its_cost(self, serving: Device, bundle: Bundle):
        answer = serving.infer("adder", X)
        assert np.array_equal(answer.outputs["output_0"], X["x"] + X["y"])
        assert answer.version == f"{bundle.sha256[:12]}/r0"
        assert answer.rung == "r0"
        assert answer.wall_us > 0
        assert answer.missed is False

    def test_a_pinned_rung_answers(self, serving: Device):
        answer = serving.infer("adder", X, version="r1")
        assert answer.rung == "r1"
        assert np.all(answer.outputs["output_0"] == 0)

    def test_a_deadline_nobody_can_meet_is_missed(self, serving: Device):
        assert serving.infer("adder", X, slo_us=1e-3).missed is True

    def test_the_signature_is_the_bundles(self, serving: Device, bundle: Bundle):
        assert serving.signature("adder") == (bundle.manifest.inputs, bundle.manifest.outputs)

    def test_inputs_that_do_not_fit_are_a_usage_error(self, serving: Device):
        with pytest.raises(InputShapeError) as caught:
            serving.infer("adder", X | {"x": np.zeros((1, 2), np.float32)})
        assert caught.value.exit_code == 2
        with pytest.raises(InputShapeError, match="complex"):
            serving.infer("adder", X | {"x": X["x"].astype(np.complex64)})

    @pytest.mark.parametrize(
        ("model", "version", "reason"), [("nothing", "", "MODEL_NOT_FOUND"), ("adder", "r9", "RUNG_NOT_FOUND")]
    )
    def test_what_is_not_served_is_named(self, serving: Device, model: str, version: str, reason: str):
        with pytest.raises(DeviceError) as caught:
            serving.infer(model, X, version=version)
        assert caught.value.reason == reason

    def test_the_policy_can_be_read_and_set(self, serving: Device):
        deployment = serving.set_policy("adder", "static-large", slo_us=70_000)
        assert (deployment.policy, deployment.slo_us) == ("static-large", 70_000)
        policy = serving.policy("adder")
        assert (policy.name, policy.slo_us) == ("static-large", 70_000)
        assert {"two-channel", "static-small"} <= set(policy.available)
        assert serving.infer("adder", X).rung == "r1"

    def test_an_unknown_policy_is_refused(self, serving: Device):
        with pytest.raises(DeviceError) as caught:
            serving.set_policy("adder", "crystal-ball")
        assert caught.value.reason == "POLICY_UNKNOWN"


class TestEvents:
    def test_events_are_read_since_a_number(self, serving: Device):
        events = serving.events()
        numbers = [event.sequence for event in events]
        assert numbers == sorted(set(numbers))
        assert serving.events(since=numbers[-1]) == []
        assert serving.events(since=numbers[0])[0].sequence == numbers[1]
        assert serving.events(limit=2) == events[:2]

    def test_events_can_be_chosen_by_kind_and_model(self, serving: Device):
        staged = serving.events(kinds=["staged"], model="adder")
        assert staged
        assert {(event.kind, event.model) for event in staged} == {("staged", "adder")}

    def test_watching_sees_what_happens(self, serving: Device):
        watch = serving.watch_events(since=serving.status().last_event)
        serving.set_policy("adder", "static-large")
        event = next(watch)
        watch.close()
        assert event.sequence > 0
        assert event.kind


def test_one_device_serves_several_threads(serving: Device):
    answers: list[bool] = []

    def ask() -> None:
        answers.extend(serving.infer("adder", X, version="r0").rung == "r0" for _ in range(20))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 80
