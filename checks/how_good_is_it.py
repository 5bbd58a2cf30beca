"""Instant checks of notebook 07, how good is it?"""

import math
import statistics
from collections.abc import Callable

import torch
from torch import Tensor

from checks.common import (
    correct,
    generator,
    instant_check,
    keeps_dtype,
    recognise,
    require,
    require_items,
    require_tensor,
    untouched,
)
from checks.common import numbers as numbers

Elbo = Callable[[Tensor, Tensor], Tensor]
Pair = tuple[Tensor, Tensor]


class _Posteriors:
    """The first n of three Gaussian posteriors with slanted axes, for which the best upright Gaussian is known.

    As a function of `mu, logvar` it is the ELBO up to a constant, (n,), with noise of mean 0 in its gradient; it counts
    its calls and keeps the noise.
    """

    def __init__(self, n: int = 3) -> None:
        random = generator()
        self.mean = torch.tensor([[2.0, -1.0], [0.5, 1.5], [-2.5, 0.0]], dtype=torch.float64)[:n]
        slant = torch.randn(3, 2, 2, generator=random, dtype=torch.float64)[:n]
        scale = torch.tensor([0.4, 2.0, 9.0], dtype=torch.float64)[:n]
        self.precision = scale[:, None, None] * (slant @ slant.mT + torch.eye(2, dtype=torch.float64))
        self.best_logvar = -self.precision.diagonal(dim1=1, dim2=2).log()
        self.noise: list[Tensor] = []

    def value(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """The ELBO without noise."""
        off = mu - self.mean
        misses = torch.einsum("ni,nij,nj->n", off, self.precision, off)
        return 0.5 * (logvar - (logvar - self.best_logvar).exp()).sum(1) - 0.5 * misses

    def __call__(self, mu: Tensor, logvar: Tensor) -> Tensor:
        self.noise.append(torch.randn_like(mu))
        return self.value(mu, logvar) + 0.1 * (self.noise[-1] * (mu + logvar)).sum(1)


@instant_check
def refine(answer: Callable[[Elbo, Tensor, Tensor, int, float], Pair]) -> None:
    """Check `answer(elbo, mu, logvar, steps, lr)`: better `mu, logvar` by steps of Adam on the ELBO."""
    start = torch.tensor(
        [[[0.3, -0.2], [-0.4, 0.1], [0.2, 0.5]], [[1.0, -1.0], [0.8, -1.2], [1.1, -0.7]]], dtype=torch.float64
    )
    _steps(answer, tuple(start))
    wide = torch.tensor([[12.0, -12.0], [-12.5, 12.5], [12.2, -12.2]], dtype=torch.float64)
    for given in (tuple(start), tuple(start[:, :1]), (start[0], wide)):
        _one_step(answer, given)
    posteriors = _Posteriors()
    mu, logvar = answer(posteriors, *start, 1000, 0.02)
    _adam(answer, tuple(start))
    for name, value, best in (("mu", mu, posteriors.mean), ("logvar", logvar, posteriors.best_logvar)):
        i = (value - best).abs().amax(1).argmax().item()
        require(
            torch.allclose(value, best, atol=0.2),
            "value",
            f"after 1000 steps {name} of image {i} is {_rounded(value[i])}, the best is {_rounded(best[i])}: "
            "make all `steps` steps, with the same lr, on the ELBO of all images, with fresh gradients (zero_grad)",
        )
    correct("refine: each image ends at its own best mu and logvar; the given tensors are as they were.")


def _one_step(answer: Callable, start: Pair) -> None:
    """Check what comes back, and where one step leads: Adam's first step moves every number by `lr`."""
    posteriors = _Posteriors(len(start[0]))
    with untouched(*start):
        result = answer(posteriors, *start, 1, 0.25)
    require_items(result, 2, "pair", "return two tensors, mu and logvar")
    for name, new, old in zip(("mu", "logvar"), result, start, strict=True):
        require_tensor(new, old.shape, f"{name} of each image")
        require(not new.requires_grad, "attached", f"{name} comes back with its graph: return {name}.detach()")
        require(
            not torch.equal(new, old),
            f"{name}-fixed",
            f"{name} does not move: give Adam both, unclamped; each step: zero_grad(), backward(), step(); return them",
        )
    still = answer(posteriors, *start, 1, 1e-9)
    require(
        not torch.allclose(still[0], start[1], atol=1e-6), "order", "mu and logvar are exchanged: return mu, logvar"
    )
    require(
        len(start[0]) == 1 or not any((new.std(0) < 1e-3).all() for new in result),
        "shared",
        "all images end with the same mu or logvar: start at the given ones, each image at its own, (n, latent_dim)",
    )
    moved = torch.stack([new - old for new, old in zip(result, start, strict=True)])
    require(
        (posteriors.value(*result) > posteriors.value(*start)).any(),
        "downhill",
        "the step lowers the ELBO of every image: an optimiser minimises, so give it -ELBO",
    )
    require(
        (moved != 0).all(),
        "some-images",
        "only some of the images move: raise the ELBO of each of them, by the sum over all",
    )
    require(
        torch.allclose(moved.abs(), torch.full_like(moved, 0.25), atol=1e-4),
        "not-adam",
        f"one step of Adam with lr = 0.25 moves every number by 0.25; yours moves mu by {_rounded(moved[0, 0])}, "
        f"logvar by {_rounded(moved[1, 0])}: start at the given ones, use torch.optim.Adam, `steps` steps, no clamp",
    )


def _steps(answer: Callable, start: Pair) -> None:
    """Check that the ELBO is asked anew, with fresh noise, in each of `steps` steps."""
    posteriors = _Posteriors()
    with untouched(*start):
        answer(posteriors, *start, 7, 0.01)
    calls = len(posteriors.noise)
    require(calls >= 7, "steps", f"for steps = 7 your function calls elbo {calls} times; call it in each step")
    again = any(torch.equal(posteriors.noise[0], noise) for noise in posteriors.noise[1:])
    require(not again, "reused-draws", "two steps see the same noise: don't set a seed inside the loop")


def _adam(answer: Callable, start: Pair) -> None:
    """Check the steps after the first against Adam's, on an ELBO without noise."""
    result = answer(_Posteriors().value, *start, 20, 0.05)
    slips = {
        ("new-optimizer", "you make the optimizer anew in each step, and it forgets: make it once, before the loop"): (
            _by_adam(start, anew=True)
        ),
        ("accumulated", "the gradients of earlier steps are still there: zero_grad() before each backward()"): (
            _by_adam(start, zero=False)
        ),
    }
    otherwise = (
        "the first step is Adam's, the next ones are not: torch.optim.Adam with its defaults but for lr, no AdamW, "
        "scheduler, clipping or weight decay"
    )
    recognise(torch.stack(tuple(result)), _by_adam(start), slips, otherwise, atol=1e-4)


def _by_adam(start: Pair, *, anew: bool = False, zero: bool = True) -> Tensor:
    """`start`, stacked, after twenty steps of Adam; `anew` and not `zero` are the usual slips."""
    both, objective = torch.stack(start).requires_grad_(), _Posteriors().value
    optimizer = torch.optim.Adam([both], lr=0.05)
    for _ in range(20):
        if anew:
            optimizer = torch.optim.Adam([both], lr=0.05)
        if zero:
            optimizer.zero_grad()
        (-objective(*both).sum()).backward()
        optimizer.step()
    return both.detach()


@instant_check
def difference(answer: Callable[[Tensor, Tensor], Pair]) -> None:
    """Check `answer(a, b)`: mean and standard error of a - b, paired, scalars."""
    random = generator()
    for n in (3, 5, 400):
        hard = 90 + 25 * torch.randn(n, generator=random, dtype=torch.float64)
        a, b = hard + 3 * torch.randn(2, n, generator=random, dtype=torch.float64) + torch.tensor([[2.0], [0.0]])
        with untouched(a, b):
            result = answer(a, b)
        require_items(result, 2, "pair", "return two numbers, mean and error")
        mean, error = result
        require_tensor(mean, (), "one mean over the images")
        require_tensor(error, (), "one standard error")
        _compare(mean, error, a.tolist(), b.tolist())
    keeps_dtype(lambda a, b: answer(a, b)[1], a, b)
    correct("difference: taken image by image, with the standard error of its mean.")


def _compare(mean: Tensor, error: Tensor, a: list[float], b: list[float]) -> None:
    """Check both numbers against Python's own statistics, and name the usual slips."""
    pairs, n = [ours - theirs for ours, theirs in zip(a, b, strict=True)], len(a)
    expected, spread = statistics.fmean(pairs), statistics.stdev(pairs)
    recognise(
        mean,
        expected,
        {
            ("sign", "the sign is flipped: asked is a - b"): -expected,
            ("absolute", "you average absolute differences; keep their signs"): statistics.fmean(map(abs, pairs)),
            ("sum", "you add the differences up; take their mean"): expected * n,
        },
        f"the mean difference is {expected:.3f} nats; you get {mean:.3f}",
    )
    recognise(
        error,
        spread / math.sqrt(n),
        {
            (
                "no-root-n",
                "this is the spread of single differences; the error of their mean is smaller: (7.5)",
            ): spread,
            ("by-n", "divide by the square root of n, not by n"): spread / n,
            ("squared", "this is the square of the standard error"): spread**2 / n,
            ("variance", "you divide the variance by the square root of n: take .std(), not .var()"): spread**2
            / math.sqrt(n),
            ("unpaired", "the models are compared image by image: take the standard deviation of a - b"): math.hypot(
                statistics.stdev(a), statistics.stdev(b)
            )
            / math.sqrt(n),
            ("biased", "use .std() as it is, which divides by n - 1"): statistics.pstdev(pairs) / math.sqrt(n),
            ("one-model", "this is the standard error of a alone; take that of a - b"): statistics.stdev(a)
            / math.sqrt(n),
        },
        f"the standard error is {spread / math.sqrt(n):.4f} nats; you get {error:.4f}",
    )


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 4) for value in values.tolist()]
