"""DINO: each formula against one written in float64 from the paper's text, and the algorithm as a whole."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from microtome.algorithm import parameter_groups
from microtome.dino import DinoAlgorithm, DinoHead, clip_each_, dino_loss, entropy, teacher_probabilities
from microtome.errors import UserError
from microtome.recipes import Dino
from tests.training import LENGTH, photo_tiles, published, small_settings


def algorithm(**recipe: object) -> DinoAlgorithm:
    settings = small_settings("dino", **recipe)
    return DinoAlgorithm(settings.recipe, settings.run, LENGTH, settings.seed)


def naive_loss(student: np.ndarray, teacher: np.ndarray, center: np.ndarray, student_temp: float, teacher_temp: float) -> float:
    """Equations of section 3.1: H(P_t(x), P_s(x')) summed over a global view x and any other view x', for each sample."""
    total, pairs = 0.0, 0
    for sample in range(student.shape[1]):
        for t, teacher_view in enumerate(teacher):
            for v, student_view in enumerate(student):
                if v == t:
                    continue
                p_t = [math.exp((x - c) / teacher_temp) for x, c in zip(teacher_view[sample], center, strict=True)]
                p_s = [math.exp(x / student_temp) for x in student_view[sample]]
                total += -sum(a / sum(p_t) * math.log(b / sum(p_s)) for a, b in zip(p_t, p_s, strict=True))
                pairs += 1
    return total / pairs


def test_loss_is_the_papers() -> None:
    rng = np.random.default_rng(0)
    student, teacher, center = rng.normal(size=(5, 3, 7)), rng.normal(size=(2, 3, 7)), rng.normal(size=7)
    targets = teacher_probabilities(torch.from_numpy(teacher), torch.from_numpy(center), 0.4)
    assert targets.sum(dim=-1) == pytest.approx(1.0)
    found = dino_loss(torch.from_numpy(student), targets, 0.5)
    assert float(found) == pytest.approx(naive_loss(student, teacher, center, 0.5, 0.4), rel=1e-12)
    in_float32 = dino_loss(torch.from_numpy(student).float(), targets.float(), 0.5)
    assert float(in_float32) == pytest.approx(float(found), rel=1e-6)


def test_loss_of_outputs_all_alike_is_ln_k() -> None:
    assert float(dino_loss(torch.zeros(6, 4, 64), torch.full((2, 4, 64), 1 / 64), 0.1)) == pytest.approx(math.log(64), rel=1e-6)


def test_entropy_is_shannons() -> None:
    assert entropy(torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])).tolist() == pytest.approx([math.log(2), 0.0])


def test_clipping_is_torchs_for_each_tensor_alone() -> None:
    gradients = [torch.randn(3, 4) * scale for scale in (0.01, 1.0, 100.0)]
    parameters = [nn.Parameter(torch.zeros(3, 4)) for _ in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
        torch.nn.utils.clip_grad_norm_([parameter], 1.0)
    expected = [float(gradient.norm()) for gradient in gradients]
    norms = clip_each_(gradients, 1.0)
    assert [float(norm) for norm in norms] == pytest.approx(expected)
    for gradient, parameter in zip(gradients, parameters, strict=True):
        assert torch.equal(gradient, parameter.grad)
    unclipped = [torch.full((2,), 5.0)]
    clip_each_(unclipped, 0.0)
    assert torch.equal(unclipped[0], torch.full((2,), 5.0))


@pytest.mark.parametrize("norm_last_layer", [True, False])
def test_head_is_the_papers(norm_last_layer: bool) -> None:
    recipe = small_settings("dino", norm_last_layer=norm_last_layer).recipe
    head = DinoHead(24, recipe).double()
    features = torch.randn(5, 24, dtype=torch.float64)
    hidden = features
    linears = [layer for layer in head.mlp if isinstance(layer, nn.Linear)]
    for number, layer in enumerate(linears):
        hidden = hidden @ layer.weight.T + layer.bias
        if number < 2:
            hidden = 0.5 * hidden * (1 + torch.erf(hidden / math.sqrt(2)))  # GELU
    hidden = hidden / hidden.pow(2).sum(dim=1, keepdim=True).sqrt()
    weights = head.last_layer.weight / head.last_layer.weight.pow(2).sum(dim=1, keepdim=True).sqrt()
    assert torch.allclose(head(features), hidden @ weights.T, rtol=1e-12)
    assert [layer.out_features for layer in linears] == [recipe.head_hidden, recipe.head_hidden, recipe.head_bottleneck]
    assert head.last_norm.requires_grad is not norm_last_layer
    assert (head.last_norm == 1).all()


def test_logits_are_not_rounded_to_bf16() -> None:
    """Which would take up to 0.002 from a logit, 0.05 nats at the teacher's temperature of 0.04."""
    head = DinoHead(24, small_settings("dino").recipe)
    features = torch.randn(5, 24)
    with torch.autocast("cpu", torch.bfloat16):
        bottleneck, logits = head.mlp(features), head(features)
    assert (bottleneck.dtype, logits.dtype) == (torch.bfloat16, torch.float32)
    direction = bottleneck.double() / bottleneck.double().norm(dim=1, keepdim=True)
    weights = head.last_layer.weight.double() / head.last_layer.weight.double().norm(dim=1, keepdim=True)
    assert torch.allclose(logits.double(), direction @ weights.T, rtol=0, atol=1e-6)


def test_head_at_the_published_size() -> None:
    recipe, _ = published("dino_vits16", Dino)
    with torch.device("meta"):
        head = DinoHead(384, recipe)
    trained = sum(parameter.numel() for parameter in head.parameters() if parameter.requires_grad)
    assert trained == 384 * 2048 + 2048 + 2048 * 2048 + 2048 + 2048 * 256 + 256 + 256 * 65536


def test_teacher_and_centre_follow() -> None:
    dino = algorithm()
    start = {name: value.double().clone() for name, value in dino.teacher.named_parameters()}
    with torch.no_grad():
        for parameter in dino.network.parameters():
            parameter.add_(torch.randn_like(parameter))
    rates = dino.rates(5)
    dino.loss(dino.network, dino.prepare(photo_tiles()), rates)
    logits = dino.teacher(dino.prepare(photo_tiles()).crops[:1], [None]).double()
    dino.after_update(rates, global_batch=8)
    assert torch.allclose(dino.center.double(), 0.1 * logits.mean(dim=0), rtol=1e-4, atol=1e-7)
    student = dict(dino.network.named_parameters())
    for name, value in dino.teacher.named_parameters():
        expected = rates.momentum * start[name] + (1 - rates.momentum) * student[name].double()
        assert torch.allclose(value.double(), expected, rtol=1e-5, atol=1e-7), name


def test_teacher_starts_as_the_student_and_never_gets_gradients_nor_drop_path() -> None:
    dino = algorithm()
    dino.loss(dino.network, dino.prepare(photo_tiles()), dino.rates(0)).backward()
    assert all(torch.equal(a, b) for a, b in zip(dino.network.parameters(), dino.teacher.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in dino.teacher.parameters())
    assert all(block.drop_path1.numbers is None for block in dino.teacher.backbone.blocks)
    assert all(block.drop_path1.numbers is not None for block in dino.network.backbone.blocks)


def test_last_layer_is_frozen_at_first() -> None:
    dino = algorithm(freeze_last_layer_epochs=0.5)
    for step, frozen in ((1, True), (2, False)):
        dino.loss(dino.network, dino.prepare(photo_tiles()), dino.rates(step)).backward()
        dino.before_update(step)
        assert (dino.network.head.last_layer.weight.grad is None) is frozen
        assert dino.network.head.mlp[0].weight.grad is not None


def test_biases_and_one_dimensional_parameters_do_not_decay() -> None:
    dino = algorithm()
    decayed, fixed = parameter_groups(dino.network)
    names = {id(parameter): name for name, parameter in dino.network.named_parameters()}
    assert "weight_decay" not in decayed
    assert fixed["weight_decay"] == 0.0
    decayed_names = {names[id(parameter)] for parameter in decayed["params"]}
    assert {"backbone.pos_embed", "backbone.cls_token", "head.last_layer.weight"} <= decayed_names
    assert all(name.endswith("bias") or "norm" in name for name in {names[id(parameter)] for parameter in fixed["params"]})
    assert len(names) == len(decayed["params"]) + len(fixed["params"]) + 1  # last_norm is not trained


@pytest.mark.parametrize("parts", [[8], [3, 5], [2, 2, 2, 2]])
def test_micro_batches_give_the_gradient_and_centre_of_the_whole(parts: list[int]) -> None:
    whole, split = algorithm(), algorithm()
    whole.loss(whole.network, whole.prepare(photo_tiles()), whole.rates(3)).backward()
    first = 0
    for n in parts:
        (split.loss(split.network, split.prepare(photo_tiles(n, first)), split.rates(3)) * n / 8).backward()
        first += n
    for one, other in zip(whole.network.parameters(), split.network.parameters(), strict=True):
        if one.grad is not None:
            assert (one.grad - other.grad).norm() <= 1e-5 * (one.grad.norm() + 1)
    values = [dino.after_update(dino.rates(3), 8) for dino in (whole, split)]
    assert torch.allclose(whole.center, split.center, rtol=1e-5, atol=1e-7)
    assert float(values[0]["entropy"]) == pytest.approx(float(values[1]["entropy"]), rel=1e-5)
    assert 0 <= float(values[0]["spread"]) < float(values[0]["entropy"])


def test_views_are_the_published_ones() -> None:
    recipe, run = published("dino_vits16", Dino)
    dino = DinoAlgorithm(recipe.model_copy(update={"out_dim": 16, "head_hidden": 8}), run, LENGTH, 0)
    (first, second), locals_ = dino.views
    assert (first[1].blur_probability, first[1].solarize_probability) == (1.0, 0.0)
    assert (second[1].blur_probability, second[1].solarize_probability) == (0.1, 0.2)
    assert len(locals_) == 8
    assert {(view.size_px, view.scale, view.blur_probability) for _, view in locals_} == {(96, (0.05, 0.4), 0.5)}
    assert [number for number, _ in dino.views[0] + dino.views[1]] == list(range(10))


def test_the_loss_is_summed_in_float32_under_bf16() -> None:
    dino = algorithm()
    prepared, rates = dino.prepare(photo_tiles()), dino.rates(3)
    seen = []

    def network(*crops: object) -> torch.Tensor:
        seen.append(dino.network(*crops))
        return seen[-1]

    with torch.autocast("cpu", torch.bfloat16):
        found = dino.loss(network, prepared, rates)
        teacher = dino.teacher(prepared.crops[:1], [None])
    assert seen[0].dtype == teacher.dtype == torch.float32
    targets = teacher_probabilities(teacher.double().unflatten(0, (2, 8)), dino.center.double(), rates.teacher_temp)
    exact = dino_loss(seen[0].double().unflatten(0, (-1, 8)), targets, dino.recipe.student_temp)
    assert float(found.detach()) == pytest.approx(float(exact.detach()), rel=1e-5)


def test_local_crops_as_large_as_global_ones_share_their_forward() -> None:
    dino, passes = algorithm(local_crops_px=32, drop_path_rate=0.3), []
    prepared = dino.prepare(photo_tiles())
    dino.network.backbone.norm.register_forward_hook(lambda *_: passes.append(1))
    (images,), (numbers,) = prepared.by_resolution()
    assert len(images) == len(numbers) == 5 * 8
    together = dino.loss(dino.network, prepared, dino.rates(3))
    assert len(passes) == 1
    apart = dino.loss(lambda *_: dino.network(prepared.crops, prepared.drop_path), prepared, dino.rates(3))
    assert len(passes) == 3
    assert float(together.detach()) == pytest.approx(float(apart.detach()), rel=1e-6)


def test_no_local_crops_is_allowed() -> None:
    dino = algorithm(local_crops=0)
    assert torch.isfinite(dino.loss(dino.network, dino.prepare(photo_tiles()), dino.rates(0)))


def test_a_crop_of_no_whole_number_of_patches_is_refused() -> None:
    with pytest.raises(UserError, match=r"local_crops_px: found 40 px.*multiple of 16.*32 or 48"):
        algorithm(local_crops_px=40)
    with pytest.raises(UserError, match=r"found 36 px.*multiple of 16.*32 or 48"):
        algorithm(global_crops_px=36)


def test_state_holds_student_teacher_heads_and_centre() -> None:
    dino, other = algorithm(), algorithm()
    with torch.no_grad():
        for value in dino.state_dict().values():
            value.add_(1.0)
    other.load_state_dict(copy.deepcopy(dino.state_dict()))
    assert {name.split(".")[0] for name in dino.state_dict()} == {"network", "teacher", "center"}
    assert all(torch.equal(a, b) for a, b in zip(dino.state_dict().values(), other.state_dict().values(), strict=True))
