"""A run document with every part present, small enough to read."""

from tailorbird.types import Cache, DeviceCard, Reading, Sensors
from tailorbird.ui.run import (
    BuildPoint,
    Burst,
    Figure,
    FrontPoint,
    LaneSummary,
    PredictionPoint,
    Request,
    Run,
    RungRow,
    Serving,
    StageTime,
    Switch,
)

LANES = ("two-channel", "static-large", "static-small")

CARD = DeviceCard(
    name="bench-1",
    agent_version="0.1.0",
    machine="x86_64",
    triple="x86_64-linux-gnu",
    cpu_model="Example <CPU> & Co",
    llvm_cpu="znver4",
    cores=2,
    isa_features=("avx2", "fma"),
    caches=(Cache(1, "Data", 32768, 1), Cache(3, "Unified", 32 << 20, 2)),
    memory_bytes=8 << 30,
    libc="glibc 2.36",
    kernel="6.1.0",
    runtimes=(("litert", "2.3.0"), ("tvm", "0.1.14.post1")),
)


def sample_run(*, serving: bool = True) -> Run:
    """The document; without serving when asked."""
    rungs = (
        RungRow("r0", 0.95, 0.94, 300.0, 310.0, 5_000_000, 40_000, "tvm", (BuildPoint("tvm", 310.0, 1e-6, "ok"),)),
        RungRow("r1", 0.98, None, 1200.0, 1180.0, 38_000_000, 236_000, "litert", ()),
    )
    return Run(
        title="A <script>alert(1)</script> title",
        model="residual net",
        created_at="2026-11-20 10:00 UTC",
        tailorbird_version="0.1.0",
        card=CARD,
        sensors=Sensors((Reading("temperature_c", None, "/sys"), Reading("frequency_hz", 2.6e9, "/proc"))),
        stages=(StageTime("train", "Train", 12.5, cached=False, figures=(Figure("accuracy", "98.0 %"),)),),
        front=(FrontPoint(300.0, 0.95, on_front=True), FrontPoint(500.0, 0.90, on_front=False)),
        rungs=rungs,
        predictions=(PredictionPoint("subnet 1", 300.0, 310.0, held_out=True),),
        prediction_error=0.03,
        serving=_serving() if serving else None,
    )


def _serving() -> Serving:
    requests = tuple(
        Request(
            lane, 0.1 * k, "r0" if lane == "static-small" else "r1", 900.0 + 3000 * (k % 3 == 0), k % 3 == 0, k % 5 > 0
        )
        for k in range(30)
        for lane in LANES
    )
    lanes = tuple(LaneSummary(lane, 30, 10, 1 / 3, 0.8, 0.5, 0.1, 0.6, 900.0, None, 1) for lane in LANES)
    switch = Switch(1.0, "r1", "r0", "waits", 'P(on time) .71 -> .98 </script> "quoted"')
    return Serving(2000.0, 10.0, 3.0, lanes, requests, (switch,), (Burst(1.0, 2.0, 2),))
