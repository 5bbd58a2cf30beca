"""Instant checks of notebook 01, the plain autoencoder."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from checks.common import (
    close,
    correct,
    generator,
    instant_check,
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
    for batch, pixels in [(1, 3), (5, 784), (7, 2)]:
        x, x_hat = torch.rand(2, batch, pixels, generator=random, dtype=torch.float64)
        with untouched(x, x_hat):
            error = answer(x, x_hat)
        require(
            getattr(error, "ndim", 1) > 0,
            "batch-sum",
            "the result is one number for the whole batch; sum over the pixels of each image only (dim=1)",
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
            close(answer(x[:1], x_hat[:1]), error[:1]), "batch", "an image's error depends on the rest of the batch"
        )
    require_gradients(lambda x_hat: answer(x, x_hat), x_hat=x_hat)
    correct("reconstruction_error: one number per image, summed over pixels, with the right gradient.")


class _Tiny(nn.Module):
    """A float64 network (batch, 6) -> (batch, 6) for the check of a training step."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.layer(x))


@instant_check
def train_step(answer: Callable[[nn.Module, torch.optim.Optimizer, Tensor], Tensor]) -> None:
    """Check `answer(model, optimizer, x)`: one step on a minibatch x (batch, 784), returns the detached loss."""
    model, x, eta = _Tiny(), torch.rand(9, 6, dtype=torch.float64), 0.05
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
        ("no-step", "the weights did not move: call optimizer.step()"): 0 * gradient,
        ("no-backward", "the step followed an old gradient: call loss.backward() before the step"): 0 * gradient + 100,
        ("no-zero-grad", "old gradients were added to the new ones: call optimizer.zero_grad()"): gradient + 100,
        ("uphill", "the step goes uphill: the sign of the loss is wrong"): -gradient,
        ("batch-sum", "you sum over the batch; the loss (1.1) is the mean over the images"): 9 * gradient,
        ("pixel-mean", "you average over the pixels; the loss (1.1) sums over them"): gradient / 6,
        ("two-steps", "the step is twice as long as it should be: is step() or backward() called twice?"): 2 * gradient,
    }
    otherwise = "the weights moved, but not by one step down the gradient of (1.1) on this minibatch"
    recognise(moved, gradient, slips, otherwise)
    require_tensor(returned, (), "the loss of this minibatch, one number, detached")
    require(
        not returned.requires_grad,
        "not-detached",
        "return loss.detach(): otherwise every stored loss keeps its whole graph alive",
    )
    require(close(returned, loss), "returned-loss", "return the loss of this minibatch, computed before the step")
    correct("train_step: right loss, fresh gradients, one step downhill.")


@instant_check
def pca_reconstruct(answer: Callable[[Tensor, Tensor, Tensor, int], Tensor]) -> None:
    """Check `answer(x, mean, directions, k)`: (n, D) reconstructed from k principal components."""
    random = generator()
    for n, dim in [(12, 5), (40, 9)]:
        scale = torch.linspace(3, 1, dim, dtype=torch.float64)
        x = 10 + scale * torch.randn(n, dim, generator=random, dtype=torch.float64)
        mean = x.mean(0)
        _, s, directions = torch.linalg.svd(x - mean, full_matrices=False)
        with untouched(x, mean, directions):
            nothing = answer(x, mean, directions, 0)
        require_tensor(nothing, (n, dim), "the code mapped back to pixels")
        recognise(
            nothing,
            mean.expand_as(x),
            {("no-mean", "add the mean back after the projection"): torch.zeros_like(x)},
            "with k = 0 every image must come back as the mean",
        )
        require(
            close(answer(mean[None], mean, directions, 1), mean[None]),
            "not-centred",
            "the mean image itself must come back unchanged: subtract the mean before you project",
        )
        require(
            close(answer(x[:3] + 1, mean, directions, 0), mean.expand(3, dim)),
            "own-mean",
            "use the mean that is given, not the mean of x: held-out images are centred with the training mean",
        )
        for k in range(1, dim + 1):
            x_hat = answer(x, mean, directions, k)
            require(
                k == dim or not close(x_hat, x),
                "all-directions",
                f"with k = {k} of {dim} directions every image comes back unchanged: keep only the first k rows",
            )
            code = (x_hat - mean) @ directions.T
            require(
                close(code[:, k:], torch.zeros_like(code[:, k:])),
                "columns",
                "the result has parts outside the first k directions: use rows (directions[:k]), not columns",
            )
            error, rest = (x - x_hat).square().sum(), s[k:].square().sum()
            require(
                close(error, rest),
                "value",
                f"with k = {k} the error is {error:.4g} where the singular values leave {rest:.4g}",
            )
    correct("pca_reconstruct: centred, projected on the first k directions, moved back.")


@instant_check
def nearest_label_confusion(answer: Callable[[Tensor, Tensor], float]) -> None:
    """Check `answer(z, labels)`: fraction of codes (n, latent_dim) whose nearest other code has another label."""
    line = torch.tensor([[0.0], [1.0], [3.0], [10.0], [10.5]], dtype=torch.float64)
    share = answer(line, torch.tensor([4, 4, 7, 2, 9]))
    require(
        isinstance(share, float) or (isinstance(share, Tensor) and share.ndim == 0),
        "shape",
        "return one number between 0 and 1: the mean over all codes",
    )
    recognise(
        round(float(share), 6),
        0.6,
        {
            ("diagonal", "0 for codes that do meet strangers: every code is nearest to itself; exclude it"): 0.0,
            ("same-label", "you count neighbours with the *same* label; count those with another one"): 0.4,
            ("count", "you return a count; divide by the number of codes"): 3.0,
        },
        f"codes 0, 1, 3, 10, 10.5 with labels 4, 4, 7, 2, 9 give 0.6; you get {share:.3g}",
    )
    none = answer(line, torch.tensor([1, 1, 1, 0, 0]))
    require(abs(none) < 1e-6, "value", "0 expected when every neighbour has the same label")
    random = generator()
    z = torch.randn(400, 5, generator=random, dtype=torch.float64) * torch.tensor([1.0, 1, 1, 1, 100])
    labels = torch.randint(10, (400,), generator=random)
    with untouched(z, labels):
        share = answer(z, labels)
    require(0.8 < share < 0.98, "random-labels", f"random labels are confused about 9 times in 10; you get {share:.3g}")
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
