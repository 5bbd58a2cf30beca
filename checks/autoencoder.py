"""Instant checks for notebook 01, the plain autoencoder."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from checks.common import correct, instant_check, require
from checks.common import numbers as numbers


def _generator() -> torch.Generator:
    """A generator of the check's own, so that the notebook's random numbers stay as they are."""
    generator = torch.Generator()
    generator.seed()
    return generator


@instant_check
def reconstruction_error(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check `answer(x, x_hat)`, squared error per image: (batch, D), (batch, D) -> (batch,)."""
    generator = _generator()
    for batch, pixels in [(1, 3), (5, 784), (7, 2)]:
        x = torch.rand(batch, pixels, generator=generator, dtype=torch.float64)
        x_hat = torch.rand(batch, pixels, generator=generator, dtype=torch.float64)
        given = x.clone(), x_hat.clone()
        error = answer(x, x_hat)
        require(isinstance(error, Tensor), f"the result is a {type(error).__name__}; return a tensor of shape (batch,)")
        require(
            error.ndim > 0,
            "the result is one number for the whole batch; sum over the pixels of each image only (dim=1)",
        )
        require(
            error.shape == (batch,),
            f"the result has shape {tuple(error.shape)} for {batch} images of {pixels} pixels; expected ({batch},): "
            "one number per image, so sum over dim=1",
        )
        require(torch.equal(x, given[0]) and torch.equal(x_hat, given[1]), "your function changes its input in place")
        require(error.dtype == torch.float64, "float64 went in and another dtype came out: don't convert")
        require((error >= 0).all(), "an error is negative: square the differences before you add them up")
        require((answer(x, x) == 0).all(), "a perfect reconstruction must have error 0; does x_hat take part?")
        one_off = x.clone()
        one_off[:, 0] += 5.0
        single = answer(x, one_off)
        require(
            not torch.allclose(single, torch.full_like(single, 25.0 / pixels)),
            "you average over the pixels; equation (1.1) sums over them",
        )
        require(
            not torch.allclose(single, torch.full_like(single, 5.0)),
            "one pixel that is off by 5 costs 25, not 5: square the difference (and take no root)",
        )
        require(
            torch.allclose(single, torch.full_like(single, 25.0)),
            f"one pixel that is off by 5 must cost 25, and costs {single[0]:.3g}: check factors such as 1/2",
        )
        require(torch.allclose(answer(x_hat, x), error), "x and x_hat exchanged must give the same error")
        half = pixels // 2
        parts = answer(x[:, :half], x_hat[:, :half]) + answer(x[:, half:], x_hat[:, half:])
        require(torch.allclose(parts, error), "the errors of the two halves of an image must add up to its error")
        require(
            torch.allclose(answer(x[:1], x_hat[:1]), error[:1]), "an image's error depends on the rest of the batch"
        )
    x_hat.requires_grad_()
    error = answer(x, x_hat).sum()
    require(error.requires_grad, "no gradient reaches x_hat: leave out .detach(), .item() and torch.no_grad()")
    correct("reconstruction_error: one number per image, summed over pixels, with a gradient.")


class _Tiny(nn.Module):
    """A float64 network (batch, 6) -> (batch, 6) for the checks of training."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.layer(x))


def _error(model: nn.Module, x: Tensor) -> Tensor:
    return (model(x) - x).square().sum(1).mean()


@instant_check
def train_step(answer: Callable[[nn.Module, torch.optim.Optimizer, Tensor], Tensor]) -> None:
    """Check `answer(model, optimizer, x)`: one step on a minibatch x (batch, 784), returns the detached loss."""
    with torch.random.fork_rng():
        torch.seed()
        model, x = _Tiny(), torch.rand(9, 6, dtype=torch.float64)
    eta = 0.05
    optimizer = torch.optim.SGD(model.parameters(), lr=eta)
    before = [p.detach().clone() for p in model.parameters()]
    loss = _error(model, x)
    gradients = torch.autograd.grad(loss, model.parameters())
    for p, g in zip(model.parameters(), gradients, strict=True):
        p.grad = 100 * torch.ones_like(g)  # a leftover from an earlier step
    returned = answer(model, optimizer, x)
    after = [p.detach().clone() for p in model.parameters()]
    moved = [a - b for a, b in zip(after, before, strict=True)]

    def moved_by(factor: float, leftover: float = 0.0) -> bool:
        return all(
            torch.allclose(m, -eta * (factor * g + leftover * torch.ones_like(g)))
            for m, g in zip(moved, gradients, strict=True)
        )

    require(any(m.abs().max() > 0 for m in moved), "the weights did not move: call optimizer.step()")
    require(not moved_by(0, 100), "the step followed an old gradient only: call loss.backward() before the step")
    require(not moved_by(1, 100), "old gradients were added to the new ones: call optimizer.zero_grad() first")
    require(not moved_by(-1), "the step goes uphill: the sign of the loss is wrong")
    require(not moved_by(9), "you sum over the batch; the loss (1.1) is the mean over the images")
    require(not moved_by(1 / 6), "you average over the pixels; the loss (1.1) sums over them and averages over images")
    require(not moved_by(2), "the step is twice as long as it should be: did you call step() or backward() twice?")
    require(moved_by(1), "the weights moved, but not by one step down the gradient of (1.1) on this minibatch")
    require(
        isinstance(returned, Tensor), f"return the loss as a tensor, detached; you returned {type(returned).__name__}"
    )
    require(returned.ndim == 0, f"return one number; yours has shape {tuple(returned.shape)}")
    require(not returned.requires_grad, "return loss.detach(): otherwise every stored loss keeps its whole graph alive")
    require(torch.allclose(returned, loss.detach()), "return the loss of this minibatch, computed before the step")
    correct("train_step: right loss, fresh gradients, one step downhill.")


@instant_check
def pca_reconstruct(answer: Callable[[Tensor, Tensor, Tensor, int], Tensor]) -> None:
    """Check `answer(x, mean, directions, k)`: (n, D) reconstructed from k principal components."""
    generator = _generator()
    for n, dim in [(12, 5), (40, 9)]:
        scale = torch.linspace(3, 1, dim, dtype=torch.float64)
        x = 10 + scale * torch.randn(n, dim, generator=generator, dtype=torch.float64)
        mean = x.mean(0)
        _, s, directions = torch.linalg.svd(x - mean, full_matrices=False)
        given = x.clone()
        nothing = answer(x, mean, directions, 0)
        require(isinstance(nothing, Tensor), f"return a tensor (n, D); you return {type(nothing).__name__}")
        require(
            nothing.shape == x.shape,
            f"the result has shape {tuple(nothing.shape)}; expected {tuple(x.shape)}: map the code back to pixels",
        )
        require(torch.equal(x, given), "your function changes its input in place")
        require(not torch.allclose(nothing, torch.zeros_like(x)), "add the mean back after the projection")
        require(torch.allclose(nothing, mean.expand_as(x)), "with k = 0 every image must come back as the mean")
        require(
            torch.allclose(answer(mean[None], mean, directions, 1), mean[None]),
            "the mean image itself must come back unchanged: subtract the mean before you project",
        )
        require(
            torch.allclose(answer(x[:3] + 1, mean, directions, 0), mean.expand(3, dim)),
            "use the mean that is given, not the mean of x: held-out images are centred with the training mean",
        )
        for k in range(1, dim + 1):
            x_hat = answer(x, mean, directions, k)
            code = (x_hat - mean) @ directions.T
            require(
                not torch.allclose(x_hat, x) or k == dim,
                f"with k = {k} of {dim} directions every image comes back unchanged: keep only the first k rows",
            )
            require(
                torch.allclose(code[:, k:], torch.zeros_like(code[:, k:]), atol=1e-8),
                "the result has parts outside the first k directions: use rows (directions[:k]), not columns",
            )
            error = (x - x_hat).square().sum()
            require(
                torch.allclose(error, s[k:].square().sum(), atol=1e-8),
                f"with k = {k} the error is {error:.4g} where the singular values leave {s[k:].square().sum():.4g}",
            )
    correct("pca_reconstruct: centred, projected on the first k directions, moved back.")


@instant_check
def nearest_label_confusion(answer: Callable[[Tensor, Tensor], float]) -> None:
    """Check `answer(z, labels)`: fraction of codes (n, latent_dim) whose nearest other code has another label."""
    line = torch.tensor([[0.0], [1.0], [3.0], [10.0], [10.5]])
    labels = torch.tensor([4, 4, 7, 2, 9])
    share = answer(line, labels)
    require(
        isinstance(share, float) or (isinstance(share, Tensor) and share.ndim == 0),
        "return one number between 0 and 1: the mean over all codes",
    )
    require(share != 0, "0 for codes that do meet strangers: every code is nearest to itself; exclude the diagonal")
    require(abs(share - 0.4) > 1e-6, "you count neighbours with the *same* label; count those with another one")
    require(share <= 1, "you return a count; divide by the number of codes")
    require(abs(share - 0.6) < 1e-6, f"codes 0, 1, 3, 10, 10.5 with labels 4, 4, 7, 2, 9 give 0.6; you get {share:.3g}")
    require(
        abs(answer(line, torch.tensor([1, 1, 1, 0, 0]))) < 1e-6, "0 expected when every neighbour has the same label"
    )
    generator = _generator()
    z = torch.randn(400, 5, generator=generator) * torch.tensor([1.0, 1, 1, 1, 100])
    random_labels = torch.randint(10, (400,), generator=generator)
    given = z.clone()
    share = answer(z, random_labels)
    require(torch.equal(z, given), "your function changes the codes in place")
    require(0.8 < share < 0.98, f"labels at random must be confused about 9 times in 10; you get {share:.3g}")
    order = torch.randperm(400, generator=generator)
    require(abs(answer(z[order], random_labels[order]) - share) < 1e-6, "the order of the images must not matter")
    two = torch.tensor([[0.0, 0.0], [3.0, 0.0], [2.5, 2.5]])
    require(
        abs(answer(two, torch.tensor([0, 1, 1])) - 1 / 3) < 1e-6,
        "use the Euclidean distance over all dimensions (torch.cdist)",
    )
    correct("nearest_label_confusion: the nearest *other* code, and the share of strangers.")
