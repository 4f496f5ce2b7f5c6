"""What holds for every operator in every form: names, arguments, types, shapes."""

import inspect

import pytest
import torch

import operators
from operators import MIXED, OPERATORS, logits_operator, topk_operator
from tests.operators.forms import Form, every_form, every_soft_form, scores_of

NAN = float("nan")
INF = float("inf")


# Names and arguments


@pytest.mark.parametrize("name", OPERATORS)
def test_is_exported_under_its_name_and_takes_the_same_arguments(name: str) -> None:
    operator = OPERATORS[name]
    forms = [(name, operator.topk)]
    forms += [(f"{name}_logits", operator.logits)] if operator.logits else []
    for exported, function in forms:
        assert getattr(operators, exported) is function
        assert exported in operators.__all__
        signature = inspect.signature(function)
        assert list(signature.parameters) == ["scores", "k", "tau", "mask"]
        assert [signature.parameters[p].default for p in ("tau", "mask")] == [1.0, None]


@pytest.mark.parametrize("name", [n for n, o in OPERATORS.items() if o.trainable])
def test_logits_are_those_of_the_mask(name: str) -> None:
    scores = scores_of(6, 9)
    soft, logits = topk_operator(name)(scores, 3, 0.5), logits_operator(name)(scores, 3, 0.5)
    expected = soft if OPERATORS[name].logits else MIXED + (1 - 2 * MIXED) * soft
    torch.testing.assert_close(logits.sigmoid(), expected, rtol=1e-9, atol=1e-12)


@every_form
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scores": torch.tensor(1.0)}, r"scores has no dimension .* pass scores.reshape\(1\)"),
        ({"scores": torch.ones(2, 3, dtype=torch.int64)}, r"torch.int64 must be floating point"),
        ({"tau": torch.ones(2, 3) > 0}, r"tau of shape \[2, 3\] must be a number; pass a mask as"),
        ({"tau": None}, r"tau of None must be a number"),
        ({"k": 1.5}, r"k == 1.5 must be an int or an integer tensor"),
        ({"k": True}, r"k == True must be an int"),
        ({"k": torch.tensor([1.0, 2.0])}, r"k of torch.float32 must be of an integer type"),
        ({"k": torch.tensor([1, 2, 3])}, r"k of shape \[3\] must broadcast to the \[2\] rows"),
        ({"mask": torch.ones(2, 3)}, r"mask of torch.float32 must be torch.bool"),
        ({"mask": torch.ones(3) > 0}, r"mask of shape \[3\] .* \[2, 3\]; pass mask.expand_as"),
    ],
)
def test_wrong_arguments_are_named(form: Form, arguments: dict[str, object], message: str) -> None:
    given: dict[str, object] = {"scores": torch.ones(2, 3), "k": 1, **arguments}
    with pytest.raises(ValueError, match=message):
        form.call(**given)  # type: ignore[arg-type]


@every_soft_form
@pytest.mark.parametrize("tau", [0.0, -1.0, NAN, INF])
def test_a_temperature_that_is_none_is_named(form: Form, tau: float) -> None:
    with pytest.raises(ValueError, match=rf"tau == {tau} must be finite and above 0; use hard_top"):
        form.call(torch.ones(3), 1, tau)


# Types and shapes


@every_form
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_keeps_the_type_and_computes_halves_in_float32(form: Form, dtype: torch.dtype) -> None:
    scores = scores_of(3, 12).to(dtype).requires_grad_(form.soft)
    wide = scores.detach().to(torch.promote_types(dtype, torch.float32)).requires_grad_(form.soft)
    values, expected = form.call(scores, 4, 0.7), form.call(wide, 4, 0.7)
    assert values.dtype == dtype
    assert torch.equal(values, expected.to(dtype))
    if form.soft:
        upstream = scores_of(3, 12, seed=1).to(dtype)
        (gradient,) = torch.autograd.grad((values * upstream).sum(), scores)
        (exact,) = torch.autograd.grad((expected * upstream.to(wide.dtype)).sum(), wide)
        assert gradient.dtype == dtype
        assert torch.equal(gradient, exact.to(dtype))


@every_form
def test_float32_is_close_to_float64(form: Form) -> None:
    scores = scores_of(20, 30)
    narrow = form.call(scores.float(), 7, 0.5).double()
    wide = form.call(scores.float().double(), 7, 0.5)
    torch.testing.assert_close(form.mask(narrow), form.mask(wide), rtol=1e-4, atol=1e-6)


@every_form
def test_leading_dimensions_are_rows(form: Form) -> None:
    scores, valid = scores_of(2, 3, 2, 5), scores_of(2, 3, 2, 5, seed=1) > -0.5
    k = torch.arange(12).reshape(2, 3, 2) % 6
    rows = torch.stack(
        [
            form.call(s, int(places), 0.5, v)
            for s, places, v in zip(
                scores.reshape(12, 5), k.flatten(), valid.reshape(12, 5), strict=True
            )
        ]
    )
    for shape in ((12,), (3, 4), (2, 3, 2)):
        values = form.call(
            scores.reshape(*shape, 5), k.reshape(shape), 0.5, valid.reshape(*shape, 5)
        )
        torch.testing.assert_close(values.reshape(12, 5), rows, rtol=1e-12, atol=1e-14)


@every_form
def test_k_broadcasts_to_the_rows(form: Form) -> None:
    scores = scores_of(2, 3, 5)
    expected = form.call(scores, torch.tensor([[1, 3, 4]] * 2))
    torch.testing.assert_close(form.call(scores, torch.tensor([1, 3, 4])), expected)
    torch.testing.assert_close(form.call(scores, torch.tensor([[1, 3, 4]])), expected)
    narrow = torch.tensor([1, 3, 4], dtype=torch.uint8)
    torch.testing.assert_close(form.call(scores, narrow), expected)
    torch.testing.assert_close(form.call(scores, torch.tensor(3)), form.call(scores, 3))


@every_form
def test_layout_does_not_matter(form: Form) -> None:
    scores, valid = scores_of(6, 4, 5), scores_of(6, 4, 5, seed=1) > -1
    strided, holes = scores.transpose(0, 2)[::2], valid.transpose(0, 2)[::2]
    assert not strided.is_contiguous()
    values = form.call(strided, 2, 0.5, holes)
    assert torch.equal(values, form.call(strided.contiguous(), 2, 0.5, holes.contiguous()))
    spread = scores_of(3, 1).expand(3, 4)
    assert torch.equal(form.call(spread, 2), form.call(spread.contiguous(), 2))


@every_form
@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0,), (2, 0, 3), (0, 0)])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("k_per_row", [False, True])
def test_nothing_in_nothing_out(
    form: Form, shape: tuple[int, ...], masked: bool, k_per_row: bool
) -> None:
    scores = torch.empty(shape, requires_grad=form.soft)
    k = torch.ones(shape[:-1], dtype=torch.int64) if k_per_row else 1
    values = form.call(scores, k, mask=torch.ones(shape, dtype=torch.bool) if masked else None)
    assert values.shape == shape
    if form.soft:
        (gradient,) = torch.autograd.grad(values.sum(), scores)
        assert gradient.shape == shape


@every_form
def test_the_caller_s_tensors_are_left_alone_and_backward_can_run_twice(form: Form) -> None:
    scores, mask, k = scores_of(3, 5), scores_of(3, 5, seed=1) > -1, torch.tensor([1, 2, 3])
    before = [scores.clone(), mask.clone(), k.clone()]
    values = form.call(scores.requires_grad_(form.soft), k, 0.5, mask)
    if form.soft:
        upstream = torch.ones_like(values)
        once = torch.autograd.grad(values, scores, upstream, retain_graph=True)[0]
        assert torch.equal(once, torch.autograd.grad(values, scores, upstream)[0])
        assert torch.equal(upstream, torch.ones_like(values))
    for kept, original in zip((scores, mask, k), before, strict=True):
        assert torch.equal(kept, original)
