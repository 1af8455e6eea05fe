"""TVM modules: right answers, right CPU, clear refusals."""

from __future__ import annotations

import dataclasses
import platform
import shutil
import struct

import pytest
import torch
from compile_models import HOST, RASPBERRY, OptionA, ResidualNet, SqueezeExcite, noise, settled
from torch import nn

from tailorbird.compile.base import CompileTarget, backend
from tailorbird.compile.capture import capture
from tailorbird.compile.tvm.target import linker, runtime_library, tvm_target
from tailorbird.compile.verify import verify
from tailorbird.errors import CompileError, EnvironmentFaultError, InputShapeError, VerifyError
from tailorbird.types import DeviceCard, ModuleKind

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the modules are compiled for x86_64")

_ELF_MACHINES = {62: "x86_64", 183: "aarch64"}


def _build(module, *inputs, target=HOST):
    return backend("tvm").build(capture(module, inputs), target)


def _machine(library: bytes) -> str:
    assert library[:4] == b"\x7fELF"
    return _ELF_MACHINES[struct.unpack_from("<H", library, 18)[0]]


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (ResidualNet(), (1, 1, 16, 16)),
        (OptionA(), (2, 4, 8, 8)),
        (SqueezeExcite(), (1, 8, 7, 9)),
        (nn.Sequential(nn.Linear(6, 8), nn.Hardtanh(-2, 2), nn.Linear(8, 3)), (2, 6)),
    ],
    ids=["residual", "option A", "squeeze-excite", "no convolution"],
)
def test_a_network_answers_as_torch_does(module, shape) -> None:
    settled(module)
    x = noise(*shape)
    built = _build(module, x)
    assert built.kind is ModuleKind.TVM_MODEL
    assert _machine(built.module) == "x86_64"
    assert verify(built, module, [(x,), (x * 3,)]).max_error < 1e-5


def test_a_subnet_that_resizes_its_image_answers_as_torch_does() -> None:
    class Shrunk(nn.Sequential):
        def forward(self, x):
            return super().forward(nn.functional.interpolate(x, (5, 6), mode="bilinear", align_corners=False))

    module, x = settled(Shrunk(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2))), noise(1, 3, 8, 10)
    assert verify(_build(module, x), module, [(x,)]).max_error < 1e-5


def test_relu6_stays_in_the_kernel_of_its_convolution() -> None:
    from tailorbird.compile.tvm.pipeline import import_network, prepare
    from tailorbird.tune.kernels import extract_kernels

    network = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 8, 1))
    prepared = prepare(import_network(capture(settled(network), (noise(1, 3, 8, 8),))), HOST)
    names = sorted(name for name, _, _ in extract_kernels(prepared, HOST))
    assert sum("conv2d" in name for name in names) == 2
    assert not [name for name in names if "conv2d" not in name and "transpose" not in name]


def test_packed_weights_answer_the_same() -> None:
    from tailorbird.compile.tvm.backend import built
    from tailorbird.compile.tvm.pipeline import finish, import_network, prepare

    module, x = settled(nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU())), noise(1, 3, 8, 8)
    network = capture(module, (x,))
    library = finish(prepare(import_network(network), HOST, pack_weights=True), HOST)
    assert verify(built(network, HOST, library, 0.0, ()), module, [(x,)]).max_error < 1e-5


@pytest.mark.skipif(shutil.which("aarch64-linux-gnu-gcc") is None, reason="gcc-aarch64-linux-gnu is not installed")
def test_a_rung_is_built_for_another_cpu_and_refused_on_this_one() -> None:
    module, x = settled(ResidualNet()), noise(1, 1, 16, 16)
    built = _build(module, x, target=RASPBERRY)
    assert _machine(built.module) == "aarch64"
    with pytest.raises(CompileError, match="cannot run on this"):
        verify(built, module, [(x,)])


def test_the_target_comes_from_the_devices_card() -> None:
    card = DeviceCard(
        "pi", "0.1", "aarch64", "aarch64-linux-gnu", "Cortex-A72", "cortex-a72", 4, ("asimd",), (), 1 << 30, "", "", ()
    )
    assert CompileTarget.from_card(card, threads=2) == CompileTarget("aarch64-linux-gnu", "cortex-a72", 2, ("asimd",))
    assert str(tvm_target(CompileTarget.from_card(card)).attrs["mcpu"]) == "cortex-a72"
    with pytest.raises(CompileError, match="8 threads"):
        CompileTarget.from_card(card, threads=8)


def test_without_a_cpu_name_the_cards_features_are_used() -> None:
    target = tvm_target(CompileTarget("x86_64-linux-gnu", "", 1, ("avx2", "fma", "sse4_2", "ibrs")))
    assert sorted(str(feature) for feature in target.attrs["mattr"]) == ["+avx2", "+fma", "+sse4.2"]


def test_an_unknown_cpu_is_refused() -> None:
    with pytest.raises(CompileError, match="no-such-cpu"):
        tvm_target(CompileTarget("x86_64-linux-gnu", "no-such-cpu"))


def test_a_missing_cross_compiler_is_named_with_its_package() -> None:
    with pytest.raises(EnvironmentFaultError, match="riscv64-linux-gnu-gcc") as caught:
        linker(CompileTarget("riscv64-linux-gnu", ""))
    assert caught.value.fix == "apt-get install gcc-riscv64-linux-gnu"


def test_the_runtime_library_is_the_hosts_own_or_none() -> None:
    assert runtime_library("x86_64-linux-gnu").name == "libtvm_runtime.so"
    with pytest.raises(CompileError, match="aarch64-linux-gnu") as caught:
        runtime_library("aarch64-linux-gnu")
    assert "pip download apache-tvm==" in caught.value.fix


def test_an_operation_tvm_lacks_is_a_compile_error() -> None:
    class Histogram(nn.Module):
        def forward(self, x):
            return torch.histc(x, 4)

    with pytest.raises(CompileError, match="cannot import"):
        _build(Histogram(), noise(8))


def test_wrong_answers_crashes_and_shapes_are_told_apart() -> None:
    module, x = settled(nn.Sequential(nn.Linear(4, 4))), noise(1, 4)
    built = _build(module, x)
    other = settled(nn.Sequential(nn.Linear(4, 4)))
    with pytest.raises(VerifyError, match="differs from torch"):
        verify(built, other, [(x,)])
    with pytest.raises(VerifyError, match="ended its process"):
        verify(dataclasses.replace(built, module=b"no library"), module, [(x,)])
    with pytest.raises(InputShapeError, match="do not fit"):
        verify(built, module, [(noise(2, 4),)])
    with pytest.raises(CompileError, match="cannot run"):
        verify(dataclasses.replace(built, runtime="abacus"), module, [(x,)])


def test_verifying_neither_trains_the_subnet_nor_leaves_it_evaluating() -> None:
    module, x = settled(ResidualNet()), noise(1, 1, 16, 16)
    built = backend("litert").build(capture(module, (x,)), HOST)
    module.train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert verify(built, module, [(x,)]).max_error < 1e-5
    assert module.training
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_there_is_no_backend_for_an_unknown_runtime() -> None:
    with pytest.raises(CompileError, match="abacus"):
        backend("abacus")
