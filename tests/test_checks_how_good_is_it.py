"""The instant checks of notebook 07: every wrong answer fails with its cause, every right one passes."""

import math

import pytest
import torch

from checks import how_good_is_it as check
from checks.common import CheckFailed
from tools.cells import definitions

NOTEBOOK = definitions("07_how_good_is_it")


def test_notebook_answers_pass():
    check.refine(NOTEBOOK.refine)
    check.difference(NOTEBOOK.difference)


def loop(
    objective=lambda values: -values.sum(),
    optimise=lambda mu, logvar: [mu, logvar],
    optimizer=torch.optim.Adam,
    start=lambda given: given.clone().requires_grad_(),
    give=lambda mu, logvar: (mu.detach(), logvar.detach()),
    before=lambda optimizer: optimizer.zero_grad(),
    count=lambda steps: steps,
):
    """An answer to `refine` with one part exchanged."""

    def answer(elbo, mu, logvar, steps=300, lr=0.03):
        mu, logvar = start(mu), start(logvar)
        descent = optimizer(optimise(mu, logvar), lr=lr)
        for _ in range(count(steps)):
            before(descent)
            objective(elbo(mu, logvar)).backward()
            descent.step()
        return give(mu, logvar)

    return answer


def by_closure(elbo, mu, logvar, steps=300, lr=0.03):
    """Right: one tensor for both, gradients by autograd.grad, the mean for the sum, maximize for the sign."""
    both = torch.stack([mu, logvar]).requires_grad_()
    ascent = torch.optim.Adam([both], lr=lr, maximize=True)
    for _ in range(steps):
        (both.grad,) = torch.autograd.grad(elbo(*both).mean(), both)
        ascent.step()
    return tuple(both.detach())


def shared(elbo, mu, logvar, steps=300, lr=0.03):
    """Wrong: one mu and one logvar for all images."""
    refined = loop()(lambda m, s: elbo(m.expand_as(mu), s.expand_as(mu)), mu[:1], logvar[:1], steps, lr)
    return tuple(value.expand_as(mu).clone() for value in refined)


def each_step_a_new_optimizer(elbo, mu, logvar, steps=300, lr=0.03):
    for _ in range(steps):
        mu, logvar = loop()(elbo, mu, logvar, 1, lr)
    return mu, logvar


def without_steps(both, lr):
    optimizer = torch.optim.Adam(both, lr=lr)
    optimizer.step = lambda: None
    return optimizer


def looked_at(elbo, mu, logvar, steps=300, lr=0.03):
    """Right: the ELBO is computed once before and once after the steps, too."""
    elbo(mu, logvar)
    refined = loop()(elbo, mu, logvar, steps, lr)
    elbo(*refined)
    return refined


def same_noise(elbo, mu, logvar, steps=300, lr=0.03):
    """Every step sees the same draws, and PyTorch's generator is afterwards as it was."""

    def seeded(*both):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return elbo(*both)

    return loop()(seeded, mu, logvar, steps, lr)


def seeded(optimizer):
    torch.manual_seed(0)
    optimizer.zero_grad()


RIGHT = {
    "sum": loop(),
    "mean": loop(lambda values: -values.mean()),
    "zero_grad at another place": loop(before=lambda optimizer: optimizer.zero_grad(set_to_none=False)),
    "maximize": by_closure,
    "printed before and after": looked_at,
    "printed in each step": lambda elbo, mu, logvar, steps, lr: loop()(
        lambda *both: (elbo(*both).detach(), elbo(*both))[1], mu, logvar, steps, lr
    ),
    "stacked": lambda *given: torch.stack(loop()(*given)),
}
WRONG = {
    "downhill": loop(lambda values: values.sum()),
    "mu-fixed": loop(optimise=lambda mu, logvar: [logvar]),
    "logvar-fixed": loop(optimise=lambda mu, logvar: [mu]),
    "not-adam": loop(optimizer=torch.optim.SGD),
    "attached": loop(give=lambda mu, logvar: (mu, logvar)),
    "in-place": loop(start=lambda given: given.requires_grad_()),
    "pair": loop(give=lambda mu, logvar: mu.detach()),
    "order": loop(give=lambda mu, logvar: (logvar.detach(), mu.detach())),
    "accumulated": loop(before=lambda optimizer: None),
    "mu-fixed/both": loop(optimizer=without_steps),
    "new-optimizer": each_step_a_new_optimizer,
    "value": loop(optimizer=lambda both, lr: torch.optim.Adam(both, lr=lr, betas=(0.5, 0.9))),
    "shared/start": loop(start=lambda given: torch.full_like(given, given.mean()).requires_grad_()),
    "seeded": lambda elbo, mu, logvar, steps, lr: (torch.manual_seed(0), loop()(elbo, mu, logvar, steps, lr))[1],
    "some-images": loop(lambda values: -values[0]),
    "steps": loop(count=lambda steps: steps - 1),
    "not-adam/steps": loop(count=lambda steps: 300),
    "not-adam/decay": loop(optimizer=torch.optim.AdamW),
    "logvar-fixed/clamped": lambda elbo, mu, logvar, steps, lr: loop()(
        lambda mu, logvar: elbo(mu, logvar.clamp(-10, 10)), mu, logvar, steps, lr
    ),
    "shared": shared,
    "reused-draws": same_noise,
    "seeded/loop": loop(before=seeded),
    "shape": loop(give=lambda mu, logvar: (mu.detach()[0], logvar.detach()[0])),
    "shape/2": loop(give=lambda mu, logvar: (mu.detach().squeeze(), logvar.detach().squeeze())),  # one image
    "dtype": loop(give=lambda mu, logvar: (mu.detach().float(), logvar.detach().float())),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_refine(name):
    check.refine(RIGHT[name])


@pytest.mark.parametrize("code", WRONG)
def test_wrong_refine(code):
    with pytest.raises(CheckFailed) as caught:
        check.refine(WRONG[code])
    assert caught.value.code == code.partition("/")[0]


@pytest.mark.parametrize(
    "answer",
    [
        lambda a, b: ((a - b).mean(), (a - b).std() / len(a) ** 0.5),
        lambda a, b: ((a - b).mean(), (a - b).std() / torch.sqrt(torch.tensor(len(a)))),  # of float32
        lambda a, b: torch.stack([(a - b).mean(), (a - b).std() / len(a) ** 0.5]),
        lambda a, b: [a.mean() - b.mean(), ((a - b).var() / a.numel()).sqrt()],
        lambda a, b: (
            a.sub(b).sum() / len(b),
            ((a - b - (a - b).mean()) ** 2).sum().div(len(a) - 1).div(len(a)).sqrt(),
        ),
    ],
)
def test_right_difference(answer):
    check.difference(answer)


def root(a):
    return math.sqrt(len(a))


WRONG_DIFFERENCES = {
    "pair": lambda a, b: (a - b).mean(),
    "sign": lambda a, b: ((b - a).mean(), (b - a).std() / root(a)),
    "absolute": lambda a, b: ((a - b).abs().mean(), (a - b).std() / root(a)),
    "sum": lambda a, b: ((a - b).sum(), (a - b).std() / root(a)),
    "value": lambda a, b: ((a - b).median(), (a - b).std() / root(a)),
    "no-root-n": lambda a, b: ((a - b).mean(), (a - b).std()),
    "by-n": lambda a, b: ((a - b).mean(), (a - b).std() / len(a)),
    "variance": lambda a, b: ((a - b).mean(), (a - b).var() / root(a)),
    "squared": lambda a, b: ((a - b).mean(), (a - b).var() / len(a)),
    "unpaired": lambda a, b: ((a - b).mean(), (a.var() + b.var()).sqrt() / root(a)),
    "biased": lambda a, b: ((a - b).mean(), (a - b).std(correction=0) / root(a)),
    "one-model": lambda a, b: ((a - b).mean(), a.std() / root(a)),
    "value/2": lambda a, b: ((a - b).mean(), (a.std() - b.std()).abs() / root(a)),
    "type": lambda a, b: ((a - b).mean().item(), (a - b).std() / root(a)),
    "shape": lambda a, b: (a - b, (a - b).std() / root(a)),
    "dtype": lambda a, b: ((a - b).mean(), ((a - b).std() / root(a)).double()),
    "in-place": lambda a, b: (a.sub_(b).mean(), a.std() / root(a)),
}


@pytest.mark.parametrize("code", WRONG_DIFFERENCES)
def test_wrong_difference(code):
    with pytest.raises(CheckFailed) as caught:
        check.difference(WRONG_DIFFERENCES[code])
    assert caught.value.code == code.partition("/")[0]
