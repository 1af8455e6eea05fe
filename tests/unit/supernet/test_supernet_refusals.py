"""What cannot become a SuperNet is refused with the op and the line of the user's code; what can is exact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from tailorbird.errors import ElasticError, InputShapeError, ModelError
from tailorbird.supernet import SuperNet, elastic

torch.set_num_threads(1)
HERE = Path(__file__).name


class Body(nn.Module):
    """Two layers around whatever `step` does, (N, 8) -> (N, 4)."""

    def __init__(self, step: Callable[[Tensor], Any] = torch.relu) -> None:
        super().__init__()
        self.first, self.second, self.step = nn.Linear(8, 16), nn.Linear(16, 4), step
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Any:
        return self.second(self.step(self.first(x)))


def compiled(model: nn.Module, *inputs: Tensor) -> SuperNet:
    return elastic(model, inputs or (torch.randn(1, 8),), divisor=4)


def assert_exact(model: nn.Module, net: SuperNet, *inputs: Tensor) -> None:
    """The full net is the model bitwise, and the smallest subnet what it extracts to."""
    x = inputs or (torch.randn(5, 8),)
    config = net.space.smallest()
    with torch.no_grad():
        assert torch.equal(net(*x), model.eval()(*x))
        assert torch.equal(net(*x, config=config), net.extract(config)(*x))


# -- what the forward pass does


def branch(x: Tensor) -> Tensor:
    return x if x.sum() > 0 else -x


def counted(x: Tensor) -> Tensor:
    return x[: int(x.sum().item())]


def looped(x: Tensor) -> Tensor:
    for _ in range(int(x.abs().max())):
        x = x / 2
    return x


@pytest.mark.parametrize("step", [branch, counted, looped], ids=lambda step: step.__name__)
def test_data_dependent_control_flow_is_refused_with_its_line(step: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(ElasticError, match="cannot be captured") as caught:
        compiled(Body(step), torch.rand(4, 8))
    assert f"{HERE}:" in caught.value.what
    assert f"in {step.__name__}: " in caught.value.what
    assert "torch.where" in caught.value.fix


def test_item_without_control_flow_is_exact() -> None:
    model = Body(lambda x: x * x.abs().max().item())
    assert_exact(model, compiled(model))


class Dropping(Body):
    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.dropout(self.first(x), 0.5))


class Noisy(Body):
    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x) + torch.randn(16))


class Tossing(Body):
    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).bernoulli(0.5))


class Attending(Body):
    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)[None]
        return self.second(F.scaled_dot_product_attention(y, y, y, dropout_p=0.5)[0])


@pytest.mark.parametrize(
    ("make", "op"),
    [
        (Dropping, "dropout"),
        (Noisy, "randn"),
        (Tossing, "bernoulli"),
        (Attending, "scaled_dot_product_attention"),
    ],
)
def test_randomness_in_eval_mode_is_refused_with_its_op_and_line(make: type[Body], op: str) -> None:
    with pytest.raises(ElasticError, match="differently each time") as caught:
        compiled(make(), torch.randn(4, 8))
    assert f"{HERE}:" in caught.value.what
    assert "in forward: return self.second(" in caught.value.what
    assert f"the op {op} draws" in caught.value.why


class Counting(Body):
    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) * self.calls


class Stepping(Body):
    steps = 0

    def forward(self, x: Tensor) -> Tensor:
        self.steps += 1
        return super().forward(x) * self.steps


@pytest.mark.parametrize("make", [Counting, Stepping])
def test_an_answer_that_depends_on_earlier_calls_is_refused(make: type[Body]) -> None:
    model = make()
    with pytest.raises(ElasticError, match="differently each time") as caught:
        compiled(model)
    assert "state between calls" in caught.value.why
    assert model.calls == 0


class Counted(Body):
    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x)


def test_a_counter_that_changes_no_answer_counts_on() -> None:
    model = Counted()
    net = compiled(model)
    assert net.weights.calls == 0
    with torch.no_grad():
        net(torch.randn(2, 8))
        net(torch.randn(2, 8), config=net.space.smallest())
    assert net.weights.calls == 2
    assert_exact(model, net)


# -- what it returns


class Answer:
    def __init__(self, scores: Tensor) -> None:
        self.scores = scores


def test_an_object_that_hides_its_tensors_is_refused() -> None:
    class Model(Body):
        def forward(self, x: Tensor) -> Answer:
            return Answer(super().forward(x))

    with pytest.raises(ElasticError, match="returns a Answer") as caught:
        compiled(Model())
    assert f"{HERE}:" in caught.value.why
    assert "register_pytree_node" in caught.value.fix


def test_constants_beside_tensors_come_back_as_they_are() -> None:
    class Model(Body):
        def forward(self, x: Tensor) -> Any:
            return {"scores": super().forward(x), "kind": "head", "levels": (3, 0.5, None, True)}

    net = compiled(Model())
    found = net(torch.randn(3, 8), config=net.space.smallest())
    assert (found["kind"], found["levels"]) == ("head", (3, 0.5, None, True))


def test_a_size_among_the_outputs_is_captured_anew_for_each_batch() -> None:
    class Model(Body):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x), x.shape[0]

    net = compiled(Model(), torch.randn(3, 8))
    assert net(torch.randn(3, 8))[1] == 3
    assert not net.report.any_batch
    assert net(torch.randn(2, 8))[1] == 2


# -- what kind of module it is


def test_wrappers_around_the_model_are_taken_off() -> None:
    model = Body()
    for wrapped in (torch.compile(model), nn.DataParallel(model), nn.DataParallel(torch.compile(model))):
        net = compiled(wrapped)
        assert_exact(model, net)
        assert net.state_dict().keys() == model.state_dict().keys()


def test_a_compiled_layer_inside_the_model_runs_as_it_was_written() -> None:
    model, plain = Body(), Body()
    plain.load_state_dict(model.state_dict())
    model.first = torch.compile(model.first)
    assert_exact(plain, compiled(model))


def test_torchscript_is_refused() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = torch.jit.trace(nn.Linear(8, 4), torch.randn(1, 8))

        def forward(self, x: Tensor) -> Tensor:
            return self.part(x)

    with pytest.raises(ElasticError, match=r"Model.part is a TorchScript module"):
        compiled(Model())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_quantised_modules_are_refused_by_name() -> None:
    model = torch.ao.quantization.quantize_dynamic(Body(nn.ReLU()), {nn.Linear})
    with pytest.raises(ElasticError, match=r"Body.first is quantised") as caught:
        compiled(model)
    assert "quantise the subnets" in caught.value.fix


def test_lazy_modules_are_refused_until_they_have_run() -> None:
    model = nn.Sequential(nn.LazyLinear(16), nn.ReLU(), nn.LazyLinear(4))
    with pytest.raises(ElasticError, match=r"0.weight has no shape yet"):
        compiled(model)
    model(torch.randn(1, 8))
    assert_exact(model, compiled(model))


def test_weights_without_values_are_refused() -> None:
    with pytest.raises(ElasticError, match="has no values"):
        elastic(Body().to("meta"), (torch.randn(1, 8, device="meta"),))


def test_sparse_weights_are_refused() -> None:
    model = Body()
    model.register_buffer("adjacency", torch.eye(4).to_sparse())
    with pytest.raises(ElasticError, match=r"adjacency is stored as torch\.sparse_coo"):
        compiled(model)


def test_something_other_than_a_module_is_refused() -> None:
    with pytest.raises(ElasticError, match=r"needs a torch.nn.Module"):
        elastic(torch.relu, (torch.randn(1, 8),))  # type: ignore[arg-type]


def test_a_module_that_cannot_be_copied_is_refused_with_the_reason(tmp_path: Path) -> None:
    model = Body()
    with (tmp_path / "log").open("w") as model.log, pytest.raises(ModelError, match="cannot be copied") as caught:
        compiled(model)
    assert "TextIOWrapper" in caught.value.why


def test_a_module_that_keeps_its_activations_is_copied() -> None:
    class Model(Body):
        def forward(self, x: Tensor) -> Tensor:
            self.seen = [self.first(x)]
            return self.second(self.seen[0].relu())

    model = Model()
    model(torch.randn(2, 8))
    assert model.seen[0].requires_grad
    assert_exact(model, compiled(model))


def test_hooks_belong_to_the_network() -> None:
    model = Body()
    model.first.register_forward_hook(lambda _module, _inputs, output: output * 2)
    model.second.register_forward_pre_hook(lambda _module, inputs: (inputs[0] + 1,))
    assert_exact(model, compiled(model))


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, parametrizations.orthogonal, nn.utils.weight_norm])
def test_parametrised_weights_are_exact(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = Body()
    wrap(model.first)
    model(torch.randn(2, 8)).sum().backward()
    net = compiled(model)
    assert_exact(model, net)
    assert net.state_dict().keys() == model.state_dict().keys()


def test_a_network_without_parameters_is_itself() -> None:
    model = nn.Sequential(nn.ReLU(), nn.Flatten())
    net = compiled(model, torch.randn(1, 2, 4))
    assert net.space.size == 1
    assert net.elastic_fraction == 0
    assert_exact(model, net, torch.randn(3, 2, 4))


def test_frozen_parameters_stay_frozen() -> None:
    model = Body()
    model.first.requires_grad_(False)
    net = compiled(model)
    sub = net.extract(net.space.smallest())
    assert {n: p.requires_grad for n, p in sub.named_parameters()} == {
        n: p.requires_grad for n, p in model.named_parameters()
    }
    net(torch.randn(2, 8), config=net.space.smallest()).sum().backward()
    assert net.weights.first.weight.grad is None
    assert net.weights.second.weight.grad is not None


# -- number formats


@pytest.mark.filterwarnings("ignore:Complex modules:UserWarning")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.complex64], ids=str)
def test_other_floating_point_formats_are_exact(dtype: torch.dtype) -> None:
    model = Body(lambda x: x * 2).to(dtype)
    net = compiled(model, torch.randn(1, 8, dtype=dtype))
    x = torch.randn(5, 8, dtype=dtype)
    assert_exact(model, net, x)
    assert net.elastic_fraction > 0.5
    assert net(x, config=net.space.smallest()).dtype is dtype


def test_a_network_under_autocast_is_compiled_without_it_and_runs_with_it() -> None:
    model = Body().eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        net = compiled(model)
        x = torch.randn(5, 8)
        assert net(x).dtype is torch.bfloat16
        assert torch.equal(net(x), model(x))
        config = net.space.smallest()
        assert torch.equal(net(x, config=config), net.extract(config)(x))
    assert net(x).dtype is torch.float32
    assert_exact(model, net)


@pytest.mark.parametrize("enabled", [True, False])
def test_autocast_inside_the_forward_pass_is_kept(enabled: bool) -> None:
    class Model(Body):
        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                y = self.first(x.float()).relu()
            return self.second(y.float())

    model = Model().eval()
    net = compiled(model)
    assert not net.report.unknown_ops
    assert_exact(model, net)
    x, config = torch.randn(5, 8), net.space.smallest()
    with torch.no_grad():
        if not enabled:  # what torch.export makes of an active region does not run
            again = torch.export.export(net.extract(config), (x,), strict=False).module()
            assert torch.equal(again(x), net(x, config=config))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(net(x), model(x))
            assert torch.equal(net(x, config=config), net.extract(config)(x))


def test_regions_without_gradients_let_none_through() -> None:
    class Model(Body):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                y = self.first(x).relu()
            return self.second(y)

    net = compiled(Model())
    assert_exact(net.weights, net)
    for config in (net.space.full(), net.space.smallest()):
        net.zero_grad(set_to_none=True)
        net(torch.randn(2, 8), config=config).sum().backward()
        assert net.weights.first.weight.grad is None
        assert net.weights.second.weight.grad is not None


def test_compiling_in_inference_mode_leaves_the_net_trainable() -> None:
    model = Body()
    with torch.inference_mode():
        net = elastic(model, (torch.randn(1, 8),), divisor=4)
    net.train()(torch.randn(3, 8), config=net.space.smallest()).sum().backward()
    assert net.weights.first.weight.grad is not None


# -- inputs


def test_a_failing_forward_pass_is_reported_with_its_line() -> None:
    with pytest.raises(InputShapeError, match="does not run") as caught:
        compiled(Body(), torch.randn(1, 5))
    assert f"{HERE}:" in caught.value.what
    assert "float32 (1, 5)" in caught.value.fix


@pytest.mark.filterwarnings("ignore:.*nested tensors.*:UserWarning")
def test_inputs_that_are_not_dense_are_refused() -> None:
    with pytest.raises(InputShapeError, match="sparse_coo"):
        compiled(Body(), torch.eye(8).to_sparse())
    with pytest.raises(InputShapeError, match="nested"):
        compiled(Body(), torch.nested.nested_tensor([torch.randn(2, 8), torch.randn(3, 8)]))


def test_an_empty_example_is_refused_but_an_empty_batch_runs() -> None:
    model = Body()
    with pytest.raises(InputShapeError, match="is empty"):
        compiled(model, torch.randn(0, 8))
    net = compiled(model)
    assert net(torch.randn(0, 8)).shape == (0, 4)
    assert net(torch.randn(0, 8), config=net.space.smallest()).shape == (0, 4)


def test_model_and_inputs_on_different_devices_are_refused() -> None:
    with pytest.raises(InputShapeError, match="not on one device") as caught:
        elastic(Body(), (torch.randn(1, 8, device="meta"),))
    assert "the model is on cpu, the inputs on meta" in caught.value.why


class Placed(Body):
    """Makes constants of its own: a range, a lifted number, a plain attribute, an op that names its device."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = torch.ones(16)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x) + torch.arange(16, device=x.device) * torch.tensor(0.5).to(x.device)
        return self.second(y + self.offset.to(x.device) + torch.zeros(16, device=x.device))


def test_a_network_moves_to_another_device_with_its_constants() -> None:
    model = Placed()
    net = compiled(model)
    assert_exact(model, net)
    there, config = torch.randn(3, 8, device="meta"), net.space.smallest()
    net.train()(torch.randn(3, 8), config=config)
    moved = net.to("meta")
    for training in (True, False):
        moved.train(training)
        assert moved(there).device.type == "meta"
        assert moved(there, config=config).device.type == "meta"
    assert moved.extract(config)(there).device.type == "meta"
    with pytest.raises(InputShapeError, match="is on cpu, the network on meta"):
        moved(torch.randn(3, 8))


def test_halving_a_compiled_network_is_refused_at_its_inputs() -> None:
    net = compiled(Body()).half()
    with pytest.raises(InputShapeError, match="does not fit") as caught:
        net(torch.randn(2, 8, dtype=torch.float16))
    assert "expected float32" in caught.value.why
