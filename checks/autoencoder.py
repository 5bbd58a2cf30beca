"""Instant checks of notebook 01, the plain autoencoder."""

from collections.abc import Callable
from itertools import pairwise
from numbers import Real

import torch
from torch import Tensor, nn

from checks.common import (
    close,
    correct,
    generator,
    instant_check,
    keeps_dtype,
    recognise,
    require,
    require_gradients,
    require_tensor,
    untouched,
)
from checks.common import numbers as numbers


@instant_check
def reconstruction_error(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check `answer(x, x_hat)`, squared error per image: (batch, D), (batch, D) -> (batch,)."""
    random = generator()
    for batch, pixels in [(5, 9), (1, 3), (5, 784), (7, 2)]:
        x, x_hat = torch.rand(2, batch, pixels, generator=random, dtype=torch.float64)
        with untouched(x, x_hat):
            error = answer(x, x_hat)
        require(
            getattr(error, "ndim", 1) > 0,
            "batch-sum",
            f"the result is one number; expected one per image, shape ({batch},): sum over the pixels of each (dim=1)",
        )
        require_tensor(error, (batch,), "one number per image, so sum over dim=1")
        require((error >= 0).all(), "negative", "an error is negative: square the differences before you add them up")
        require(
            (answer(x, x) == 0).all(), "not-zero", "a perfect reconstruction must have error 0; does x_hat take part?"
        )
        one_off = x.clone()
        one_off[:, 0] += 5.0
        recognise(
            answer(x, one_off),
            25.0,
            {
                ("pixel-mean", "you average over the pixels; equation (1.1) sums over them"): 25.0 / pixels,
                ("not-squared", "one pixel off by 5 costs 25, not 5: square the difference (and take no root)"): 5.0,
                ("784", "you multiply by 784; the number of pixels is x.shape[1], here another"): 25 * 784 / pixels,
                ("half", "one pixel off by 5 costs 25: there is no factor 1/2 in equation (1.1)"): 12.5,
            },
            "one pixel that is off by 5 must cost 25: look for factors that equation (1.1) does not have",
        )
        require(close(answer(x_hat, x), error), "asymmetric", "x and x_hat exchanged must give the same error")
        half = pixels // 2
        parts = answer(x[:, :half], x_hat[:, :half]) + answer(x[:, half:], x_hat[:, half:])
        require(
            close(parts, error), "not-additive", "the errors of the two halves of an image must add up to its error"
        )
        require(
            close(answer(x[-1:], x_hat[-1:]), error[-1:]), "batch", "an image's error depends on the rest of the batch"
        )
    keeps_dtype(answer, x, x_hat)
    require_gradients(lambda x_hat: answer(x, x_hat), x_hat=x_hat)
    correct("reconstruction_error: one number per image, summed over pixels, with the right gradient.")


class _Tiny(nn.Module):
    """A float64 network (batch, 6) -> (batch, 6) for the check of a training step."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6, dtype=torch.float64)

    def encode(self, x: Tensor) -> Tensor:
        return self.layer(x)

    def decode(self, z: Tensor) -> Tensor:
        return torch.sigmoid(z)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


@instant_check
def train_step(answer: Callable[[nn.Module, torch.optim.Optimizer, Tensor], Tensor]) -> None:
    """Check `answer(model, optimizer, x)`: one step on a minibatch x (batch, D), returns the detached loss."""
    for batch in (9, 1):
        _one_step(answer, batch)
    correct("train_step: right loss, fresh gradients, one step downhill.")


def _one_step(answer: Callable, batch: int) -> None:
    """Check where one step leads, and what comes back."""
    model, x, eta = _Tiny(), torch.rand(batch, 6, dtype=torch.float64), 0.05
    optimizer = torch.optim.SGD(model.parameters(), lr=eta)
    before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    loss = nn.functional.mse_loss(model(x), x) * 6  # a mean over all numbers; each image has 6
    gradients = torch.autograd.grad(loss, model.parameters())
    gradient = torch.cat([g.flatten() for g in gradients])
    for p in model.parameters():
        p.grad = torch.full_like(p, 100.0)  # left over from an earlier step
    with untouched(x):
        returned = answer(model, optimizer, x)
    moved = (nn.utils.parameters_to_vector(model.parameters()).detach() - before) / -eta
    slips = {
        ("no-step", "the weights did not move: after zero_grad(), call backward() and then step()"): 0 * gradient,
        ("no-backward", "the step followed an old gradient: call loss.backward() before the step"): 0 * gradient + 100,
        ("no-zero-grad", "old gradients were added to the new ones: call zero_grad() before backward()"): gradient
        + 100,
        ("uphill", "the step goes uphill: the sign of the loss is wrong"): -gradient,
        ("batch-sum", "you sum over the batch; the loss (1.1) is the mean over the images"): batch * gradient,
        ("pixel-mean", "you average over the pixels; the loss (1.1) sums over them"): gradient / 6,
        ("784", "you multiply by 784; the number of pixels is x.shape[1], here another"): gradient * 784 / 6,
        ("two-steps", "the step is twice as long as it should be: is step() or backward() called twice?"): 2 * gradient,
    }
    otherwise = "the weights moved, but not by one step down the gradient of (1.1) on this minibatch"
    recognise(moved, gradient, slips, otherwise)
    of_any_dtype = returned.double() if isinstance(returned, Tensor) else returned
    require_tensor(of_any_dtype, (), "the loss of this minibatch, one number, detached")
    require(
        not returned.requires_grad,
        "not-detached",
        "return loss.detach(): otherwise every stored loss keeps its whole graph alive",
    )
    require(close(returned, loss), "returned-loss", "return the loss of this minibatch, computed before the step")


class _Watched(torch.optim.SGD):
    """Plain SGD that notes at each step which minibatch the network has seen last."""

    def __init__(self, model: _Tiny, lr: float) -> None:
        super().__init__(model.parameters(), lr=lr)
        self.minibatches: list[Tensor] = []
        self.seen = torch.empty(0)
        model.layer.register_forward_pre_hook(self._look)
        self.register_step_pre_hook(lambda *_: self.minibatches.append(self.seen))

    def _look(self, _: nn.Module, given: tuple[Tensor, ...]) -> None:
        """Keep the images that a network gets, when it gets them to learn."""
        if torch.is_grad_enabled():
            self.seen = given[0].detach().clone()


@instant_check
def train_epoch(answer: Callable[[nn.Module, torch.optim.Optimizer, Tensor, int], None]) -> None:
    """Check `answer(model, optimizer, x, batch_size)`: a step for each minibatch of one shuffled pass over x (n, D)."""
    for n, batch_size in [(24, 6), (49, 8), (5, 9)]:
        model, x = _Tiny(), torch.rand(n, 6, dtype=torch.float64)
        parameters, eta, epochs = list(model.parameters()), 0.01, []
        for _ in range(2):
            before = [p.detach().clone() for p in parameters]
            optimizer = _Watched(model, eta)
            with untouched(x):
                answer(model, optimizer, x, batch_size)
            epochs.append(optimizer.minibatches)
            _require_one_pass(optimizer.minibatches, x, batch_size)
            after = [p.detach().clone() for p in parameters]
            _set(parameters, before)
            for minibatch in optimizer.minibatches:
                loss = nn.functional.mse_loss(model(minibatch), minibatch) * 6  # a mean; each image has 6 numbers
                slopes = torch.autograd.grad(loss, parameters)
                _set(parameters, [p.detach() - eta * slope for p, slope in zip(parameters, slopes, strict=True)])
            require(
                all(close(p, q) for p, q in zip(parameters, after, strict=True)),
                "steps",
                "the weights did not move by one `train_step` for each minibatch: is there a step too many, a gradient "
                "that was not cleared, another loss?",
            )
        first, second = ([*map(_key, minibatches)] for minibatches in epochs)
        new_order = f"in two epochs the minibatches are the same: draw a new permutation of all {n} images each time"
        require(n < batch_size or first != second, "same-order", new_order)
        blocks = "the minibatches are shuffled, but each holds the same images every time: shuffle the images"
        require(n < batch_size or {*map(frozenset, first)} != {*map(frozenset, second)}, "blocks", blocks)
        places = [_key(x).index(image) for images in second for image in images]
        kept = sum((after - before) % n == 1 for before, after in pairwise(places))  # about one, if shuffled
        still = "most images come after the same image as in x: shuffle them all, by torch.randperm"
        require(n < batch_size or kept < n / 2, "not-shuffled", still)
    correct("train_epoch: each image once, in a new random order, a step for each minibatch.")


def _set(parameters: list[Tensor], values: list[Tensor]) -> None:
    """Give parameters new values in place."""
    with torch.no_grad():
        for p, value in zip(parameters, values, strict=True):
            p.copy_(value)


def _key(images: Tensor) -> tuple[float, ...]:
    """What tells images apart: their first number."""
    return tuple(images[:, 0].tolist())


def _require_one_pass(minibatches: list[Tensor], x: Tensor, batch_size: int) -> None:
    """Require that the minibatches hold each image of `x` (n, 6) once, in another order, and have the right sizes."""
    n = len(x)
    require(minibatches, "no-step", "no step was taken: call train_step for each minibatch")
    seen, given = _key(torch.cat(minibatches)), _key(x)
    require({*seen} <= {*given}, "images", "the network gets images that are not in x: take whole rows, x[rows]")
    took_part = f"{n} images make one epoch; {len({*seen})} of them took part"
    require(
        len({*seen}) == n,
        "lost-images",
        f"{took_part}: go through a permutation to its end, the smaller last minibatch included",
    )
    require(len(seen) == n, "twice", f"{len(seen)} images were used in an epoch of {n}: each takes part exactly once")
    sizes = [len(part) for part in x.split(batch_size)]
    found = [len(part) for part in minibatches]
    require(
        found == sizes, "batch-size", f"{n} images, batch_size {batch_size}: sizes {sizes} are asked for, not {found}"
    )
    require(n < batch_size or seen != given, "not-shuffled", "the images come in their old order: shuffle them")


@instant_check
def nearest_label_confusion(answer: Callable[[Tensor, Tensor], float]) -> None:
    """Check `answer(z, labels)`: fraction of codes (n, latent_dim) whose nearest other code has another label."""
    line = torch.tensor([[0.0], [1.0], [3.0], [10.0], [10.5]], dtype=torch.float64)
    share = answer(line, torch.tensor([4, 4, 7, 2, 9]))
    require(
        isinstance(share, Real) or getattr(share, "ndim", None) == 0,
        "shape",
        "return one number between 0 and 1: the mean over all codes",
    )
    share = float(share)
    recognise(
        round(share, 6),
        0.6,
        {
            ("diagonal", "0 for codes that do meet strangers: every code is nearest to itself; exclude it"): 0.0,
            ("same-label", "you count neighbours with the *same* label; count those with another one"): 0.4,
            ("count", "you return a count; divide by the number of codes"): 3.0,
        },
        f"codes 0, 1, 3, 10, 10.5 with labels 4, 4, 7, 2, 9 give 0.6; you get {share:.3g}",
    )
    apart = answer(1e3 * line, torch.tensor([4, 4, 7, 2, 9]))
    own = "with codes that are far apart the result is another: give the distance of a code to itself as float('inf')"
    require(abs(apart - share) < 1e-6, "scale", own)
    none = answer(line, torch.tensor([1, 1, 1, 0, 0]))
    require(abs(none) < 1e-6, "value", "0 expected when every neighbour has the same label")
    random = generator()
    z = torch.randn(400, 5, generator=random, dtype=torch.float64) * torch.tensor([1.0, 1, 1, 1, 100])
    labels = torch.randint(10, (400,), generator=random)
    with untouched(z, labels):
        share = float(answer(z, labels))
    usual = (
        f"random labels are confused about 9 times in 10; you get {share:.3g}: is every code's own distance left out?"
    )
    require(0.8 < share < 0.98, "random-labels", usual)
    order = torch.randperm(400, generator=random)
    require(abs(answer(z[order], labels[order]) - share) < 1e-6, "order", "the order of the images must not matter")
    corner = torch.tensor([[0.0, 0, 0], [3, 0, 0], [2.5, 0, 2.5]], dtype=torch.float64)
    tower = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 0, 1.5], [0, 0, 100]], dtype=torch.float64)
    for codes, names, right in ((corner, [0, 1, 1], 1 / 3), (tower, [0, 0, 1, 1], 1 / 4)):
        require(
            abs(answer(codes, torch.tensor(names)) - right) < 1e-6,
            "distance",
            "use the Euclidean distance over all dimensions, as they are (torch.cdist)",
        )
    correct("nearest_label_confusion: the nearest *other* code, and the share of strangers.")
