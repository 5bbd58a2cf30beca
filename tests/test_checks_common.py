"""What all instant checks share: verdicts that do not depend on chance, and the questions that every check asks."""

import re
from importlib import import_module
from pathlib import Path

import pytest
import torch

from checks import common, vae
from checks.common import CheckFailed, recognise, require_gradients, require_tensor, untouched

MODULES = [  # one for each notebook
    import_module(f"checks.{path.stem}")
    for path in sorted(Path(common.__file__).parent.glob("*.py"))
    if path.stem not in ("__init__", "common")
]
ONE = torch.ones(1, dtype=torch.float64)


def code_of(function, *arguments, **named):
    """The code with which a call fails; empty if it passes."""
    try:
        function(*arguments, **named)
    except CheckFailed as failure:
        return failure.code
    return ""


def test_a_failure_shows_one_sentence_and_keeps_its_code():
    failure = CheckFailed("half", "the ½ is missing")
    assert failure._render_traceback_() == ["Not yet: the ½ is missing"]
    assert failure.code == "half"


def test_an_answer_that_is_not_written_is_no_error_of_the_check():
    def answer(*arguments):
        raise NotImplementedError

    assert code_of(vae.vae_loss, answer) == "not-written"


@pytest.mark.parametrize(
    ("code", "call"),
    [
        ("dtype", lambda: torch.ones(2, 2) @ ONE.expand(2)),
        ("dtype", lambda: torch.nn.functional.linear(ONE, torch.ones(1, 1))),
        ("784", lambda: ONE.view(-1, 784)),
        ("784", lambda: ONE.view(-1, 1, 28, 28)),
        ("in-place", lambda: ONE.clone().requires_grad_().exp().add_(1).sum().backward()),
    ],
)
def test_what_pytorch_complains_of_is_said_in_the_words_of_the_course(code, call):
    assert code_of(vae.vae_loss, lambda *arguments: call()) == code


@pytest.mark.parametrize(
    ("error", "call"),
    [
        (RuntimeError, lambda: (ONE == 1).mean()),
        (RuntimeError, lambda: torch.where(ONE, ONE, ONE)),
        (RuntimeError, lambda: torch.ones(1, 2).long() @ ONE.expand(2)),
        (NotImplementedError, lambda: torch.distributions.Bernoulli(0.5).rsample()),
        (NotImplementedError, lambda: ONE - (ONE == 1)[0].logical_not().neg()),
    ],
)
def test_what_else_pytorch_complains_of_is_left_as_it_is(error, call):
    with pytest.raises(error):
        vae.vae_loss(lambda *arguments: call())


def test_an_earlier_exercise_that_is_not_written_is_named():
    def earlier(*arguments):
        raise NotImplementedError

    with pytest.raises(CheckFailed, match="your function calls `earlier`, which is not written yet"):
        vae.vae_loss(lambda *arguments: earlier(*arguments))


@pytest.mark.parametrize("state", [0, 1, 2])
def test_checks_draw_the_same_numbers_whatever_the_notebook_drew(state):
    seen = []

    @common.instant_check
    def check(answer):
        seen.append((torch.rand(3), torch.rand(3, generator=common.generator())))

    for seed in (state, state + 1):
        torch.manual_seed(seed)
        check(None)
        next_number = torch.rand(1)
        torch.manual_seed(seed)
        assert torch.equal(next_number, torch.rand(1))  # the notebook's generator is as it was
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))


def test_no_check_takes_its_numbers_from_elsewhere():
    for module in MODULES:
        assert not re.search(r"seed\(|Generator\(", Path(module.__file__).read_text(encoding="utf-8"))


def test_numbers_belong_to_a_course(monkeypatch):
    monkeypatch.delenv("VAE_COURSE_SEED", raising=False)
    ours = common.numbers(2, 3)
    assert torch.equal(ours, common.numbers(2, 3))
    monkeypatch.setenv("VAE_COURSE_SEED", "autumn")
    assert not torch.equal(ours, common.numbers(2, 3))


def test_recognise_names_the_slip_only_when_the_value_is_wrong():
    slips = {("half", "½ missing"): 2.0}
    assert code_of(recognise, 1.0, 1.0, slips, "?") == ""
    assert code_of(recognise, 2.0, 1.0, slips, "?") == "half"
    assert code_of(recognise, 3.0, 1.0, slips, "?") == "value"
    assert code_of(recognise, 2.0, 2.0, slips, "?") == ""


@pytest.mark.parametrize(
    ("function", "code"),
    [
        (lambda a, b: a * b, ""),
        (lambda a, b: a * b.detach(), "no-gradient"),
        (lambda a, b: a * b + 0 * b.detach(), ""),
        (lambda a, b: (a * b).detach(), "no-gradient"),
        (lambda a, b: a * b.detach() + 0 * b, "wrong-gradient"),
        (lambda a, b: a * (b + b.detach()) / 2, "wrong-gradient"),
    ],
)
def test_gradients_are_compared_by_value(function, code):
    assert code_of(require_gradients, function, a=2 * ONE, b=3 * ONE) == code


@pytest.mark.parametrize(
    ("value", "code"),
    [(ONE, ""), (1.0, "type"), (None, "type"), (torch.ones(2, dtype=torch.float64), "shape"), (ONE.float(), "dtype")],
)
def test_tensors_are_looked_at_before_their_values(value, code):
    assert code_of(require_tensor, value, (1,), "one number") == code


def test_inputs_stay_as_they_are():
    x = torch.ones(3)
    with pytest.raises(CheckFailed) as caught, untouched(x):
        x += 1
    assert caught.value.code == "in-place"
