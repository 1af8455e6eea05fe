"""The store's behaviour, the same on every database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from tailorbird.db import MeasurementKey, Store
from tailorbird.errors import EnvironmentFaultError
from tailorbird.types import Cache, DeviceCard, Figure, LeaseGrant, Measurement, Verdict
from tailorbird.types.schedule import ScheduleRecord

CARD = DeviceCard(
    name="rpi4-1",
    agent_version="0.1.0",
    machine="aarch64",
    triple="aarch64-linux-gnu",
    cpu_model="Cortex-A72",
    llvm_cpu="cortex-a72",
    cores=4,
    isa_features=("asimd", "crc32"),
    caches=(Cache(1, "Data", 32768, 1), Cache(2, "Unified", 1 << 20, 4)),
    memory_bytes=4 << 30,
    libc="glibc 2.36",
    kernel="6.6",
    runtimes=(("litert", "2.3.0"),),
    board="Raspberry Pi 4",
)
KEY = MeasurementKey("rpi4-1", "litert", "2.3.0", "kernel", '{"op":"add"}', "kernel", 1)
GOOD = Measurement(
    "add",
    (2.0, 2.5),
    (1.0, 1.25),
    Verdict.CONTENDED,
    "wait share 9 %",
    environment=(("k", "v"),),
    delay_us=(0.0, 3.0),
    blocks=(2,),
)
RECORD = ScheduleRecord("target", "abc", "conv", (1, 32, 32, 8), 0, "[1]", "[2]", 3.5, compiler="apache-tvm")


class TestDevices:
    def test_a_device_is_found_by_the_name_it_was_put_under(self, store: Store, clock):
        put = store.devices.put("rpi4-1", "unix:/run/a/control.sock", ("kitchen", "arm", "kitchen"))
        assert store.devices.find("rpi4-1") == put
        assert (put.tags, put.card, put.added, put.last_seen) == (("arm", "kitchen"), None, clock.now, None)

    def test_a_card_comes_back_as_it_was_seen(self, store: Store, clock):
        store.devices.put("rpi4-1", "unix:/a", ("arm",))
        clock.advance(60)
        store.devices.seen("rpi4-1", "unix:/a", CARD)
        found = store.devices.find("rpi4-1")
        assert found is not None
        assert (found.card, found.last_seen, found.tags) == (CARD, clock.now, ("arm",))

    def test_an_unknown_device_that_answers_is_added(self, store: Store):
        store.devices.seen("new", "unix:/n", CARD)
        assert [record.name for record in store.devices.all()] == ["new"]

    def test_forgetting_says_whether_there_was_something_to_forget(self, store: Store):
        store.devices.put("a", "unix:/a")
        assert store.devices.remove("a")
        assert not store.devices.remove("a")
        assert store.devices.all() == ()


class TestMeasurements:
    def test_a_measurement_comes_back_whole(self, store: Store):
        store.measurements.add(KEY, GOOD)
        assert store.measurements.find(KEY) == GOOD

    def test_the_newest_measurement_answers(self, store: Store):
        newer = replace(GOOD, cpu_us=(9.0,))
        store.measurements.add_all([(KEY, GOOD), (KEY, newer)])
        assert store.measurements.find(KEY) == newer

    @pytest.mark.parametrize(
        "change",
        [
            {"device": "b"},
            {"runtime": "tvm"},
            {"runtime_version": "9"},
            {"subject": "x"},
            {"mode": "m"},
            {"threads": 2},
            {"context": "kernel=7"},
        ],
    )
    def test_no_part_of_the_key_may_differ(self, store: Store, change):
        store.measurements.add(KEY, GOOD)
        assert store.measurements.find(replace(KEY, **change)) is None

    def test_the_newest_answers_even_when_the_clock_was_set_back(self, store: Store, clock):
        store.measurements.add(KEY, GOOD)
        clock.advance(-3600)
        newer = replace(GOOD, cpu_us=(9.0,))
        store.measurements.add(KEY, newer)
        assert store.measurements.find(KEY) == newer
        assert store.measurements.newest("kernel") == {KEY: newer}

    def test_all_of_a_kind_are_listed(self, store: Store):
        subnet = replace(KEY, kind="subnet", threads=2)
        store.measurements.add_all([(KEY, GOOD), (subnet, GOOD), (subnet, replace(GOOD, cpu_us=(7.0,)))])
        found = store.measurements.newest("subnet")
        assert {key: m.cpu_us for key, m in found.items()} == {subnet: (7.0,)}

    def test_many_keys_are_looked_up_at_once(self, store: Store):
        keys = [replace(KEY, subject=f"s{number}") for number in range(1200)]
        store.measurements.add_all((key, replace(GOOD, label=key.subject)) for key in keys)
        found = store.measurements.find_all([*keys, replace(KEY, subject="unknown")])
        assert {key: measurement.label for key, measurement in found.items()} == {key: key.subject for key in keys}

    def test_figures_are_the_newest_of_each_name(self, store: Store):
        for value in (1.0, 2.0):
            for name in ("stream", "gemm-fp32"):
                key = replace(KEY, kind="figure", subject=name)
                store.measurements.add_figure(key, Figure(name, value, "GFLOP/s", GOOD))
        assert [(f.name, f.value) for f in store.measurements.figures("rpi4-1")] == [
            ("gemm-fp32", 2.0),
            ("stream", 2.0),
        ]
        assert store.measurements.figures("other") == ()


class TestSchedules:
    def test_records_come_back_in_order_failures_included(self, store: Store):
        failed = replace(RECORD, cpu_us=None, error="crashed")
        sink = store.schedules.on("rpi4-1")
        sink.add(RECORD)
        sink.add(failed)
        assert sink.records() == (RECORD, failed)

    def test_devices_do_not_see_each_other(self, store: Store):
        store.schedules.on("a").add(RECORD)
        assert store.schedules.on("b").records() == ()
        assert store.schedules.devices() == ("a",)


class TestBundles:
    def test_a_bundle_is_found_by_a_unique_beginning_of_its_digest(self, store: Store):
        first = store.bundles.put("ab" + "0" * 62, "net", "rpi", "/b/1", b"{}")
        store.bundles.put("ac" + "0" * 62, "net", "rpi", "/b/2", b"{}")
        assert store.bundles.find("ab") == first
        assert store.bundles.find("a") is None
        assert store.bundles.find("%b") is None

    def test_packing_again_moves_the_folder(self, store: Store):
        store.bundles.put("a" * 64, "net", "rpi", "/old", b"{}")
        store.bundles.put("a" * 64, "net", "rpi", "/new", b"{}")
        assert [record.folder for record in store.bundles.of_model("net")] == ["/new"]

    def test_activations_are_listed_latest_first_each_bundle_once(self, store: Store):
        one, two = "1" * 64, "2" * 64
        for sha256 in (one, two):
            store.bundles.put(sha256, "net", "rpi", "/b", b"{}")
        for generation, sha256 in enumerate((one, two, one), start=1):
            store.bundles.activated(sha256, "rpi", generation)
        assert [record.sha256 for record in store.bundles.on_device("rpi")] == [one, two]

    def test_an_unknown_bundle_cannot_have_been_activated(self, store: Store):
        with pytest.raises(EnvironmentFaultError):
            store.bundles.activated("f" * 64, "rpi", 1)


class TestLeases:
    def test_a_lease_shows_until_it_is_released_or_expires(self, store: Store, clock):
        kept = LeaseGrant("l1", "me", 7, clock.now + timedelta(seconds=30))
        store.leases.lease_taken("rpi", kept)
        store.leases.lease_taken("rpi", LeaseGrant("l2", "me", 8, clock.now + timedelta(seconds=30)))
        store.leases.lease_released("l2")
        store.leases.lease_released("never taken")
        assert store.leases.held() == (("rpi", kept),)
        renewed = replace(kept, expires=clock.now + timedelta(seconds=90))
        store.leases.lease_taken("rpi", renewed)
        clock.advance(60)
        assert store.leases.held() == (("rpi", renewed),)
        clock.advance(60)
        assert store.leases.held() == ()


class TestStages:
    def test_the_newest_result_of_a_stage_is_found(self, store: Store, clock):
        store.stages.stage_built("a" * 64, "search", "/a", 1.5)
        clock.advance(1)
        store.stages.stage_built("b" * 64, "search", "/b", 2.5)
        newest = store.stages.newest("search")
        assert newest is not None
        assert (newest.folder, newest.seconds) == ("/b", 2.5)
        assert store.stages.newest("train") is None


def test_times_are_utc_whatever_zone_the_clock_speaks(location: str):
    tokyo = timezone(timedelta(hours=9))
    with Store(location, clock=lambda: datetime(2026, 1, 1, 9, 0, tzinfo=tokyo)) as store:
        added = store.devices.put("a", "unix:/a").added
        found = store.devices.find("a")
    assert found is not None
    assert added == found.added == datetime(2026, 1, 1, tzinfo=UTC)
    assert found.added.utcoffset() == timedelta(0)
