"""The instant checks of notebook 01: every wrong answer fails with its cause, every right one passes."""

import pytest
import torch
from torch.nn import functional as F

from checks import autoencoder as check
from checks.common import CheckFailed
from tools.cells import definitions

NOTEBOOK = definitions("01_autoencoder")


def test_notebook_answers_pass():
    check.reconstruction_error(NOTEBOOK.reconstruction_error)
    check.train_step(NOTEBOOK.train_step)
    check.pca_reconstruct(NOTEBOOK.pca_reconstruct)
    check.nearest_label_confusion(NOTEBOOK.nearest_label_confusion)


def in_place(x, x_hat):
    x -= x_hat
    return x.square().sum(1)


WRONG_ERRORS = {
    "batch-sum": lambda x, x_hat: (x - x_hat).square().sum(),
    "shape": lambda x, x_hat: (x - x_hat).square().sum(0),
    "pixel-mean": lambda x, x_hat: (x - x_hat).square().mean(1),
    "not-squared": lambda x, x_hat: (x - x_hat).abs().sum(1),
    "not-squared/2": lambda x, x_hat: (x - x_hat).norm(dim=1),
    "half": lambda x, x_hat: 0.5 * (x - x_hat).square().sum(1),
    "negative": lambda x, x_hat: (x - x_hat).square().sum(1) - 1,
    "in-place": in_place,
    "value": lambda x, x_hat: (x - x_hat).clamp(-1, 1).square().sum(1),
    "no-gradient": lambda x, x_hat: (x - x_hat).square().sum(1).detach(),
    "not-zero": lambda x, x_hat: F.binary_cross_entropy(x_hat, x.clamp(0, 1), reduction="none").sum(1),
    "wrong-gradient": lambda x, x_hat: ((x - x_hat) * (x - x_hat).detach()).sum(1),
    "dtype": lambda x, x_hat: (x - x_hat).float().square().sum(1),
}


@pytest.mark.parametrize("code", WRONG_ERRORS)
def test_wrong_reconstruction_error(code):
    with pytest.raises(CheckFailed) as caught:
        check.reconstruction_error(WRONG_ERRORS[code])
    assert caught.value.code == code.partition("/")[0]


@pytest.mark.parametrize(
    "answer",
    [
        lambda x, x_hat: F.mse_loss(x_hat, x, reduction="none").sum(1),
        lambda x, x_hat: torch.einsum("bd,bd->b", x - x_hat, x - x_hat),
        lambda x, x_hat: torch.stack([((a - b) ** 2).sum() for a, b in zip(x, x_hat, strict=True)]),
    ],
)
def test_right_reconstruction_error(answer):
    check.reconstruction_error(answer)


def loss_of(model, x):
    return (model(x) - x).square().sum(1).mean()


def step(loss=loss_of, zero=True, backward=True, steps=1, give=lambda loss: loss.detach()):
    """An answer to `train_step` with one thing changed."""

    def answer(model, optimizer, x):
        value = loss(model, x)
        if zero:
            optimizer.zero_grad()
        if backward:
            value.backward()
        for _ in range(steps):
            optimizer.step()
        return give(value)

    return answer


WRONG_STEPS = {
    "no-step": step(steps=0),
    "no-zero-grad": step(zero=False),
    "no-backward": step(zero=False, backward=False),
    "uphill": step(loss=lambda model, x: -loss_of(model, x)),
    "batch-sum": step(loss=lambda model, x: (model(x) - x).square().sum()),
    "pixel-mean": step(loss=lambda model, x: F.mse_loss(model(x), x)),
    "two-steps": step(steps=2),
    "not-detached": step(give=lambda loss: loss),
    "type": step(give=lambda loss: loss.item()),
    "returned-loss": step(give=lambda loss: loss.detach() * 0.9),
}


@pytest.mark.parametrize("code", WRONG_STEPS)
def test_wrong_train_step(code):
    with pytest.raises(CheckFailed) as caught:
        check.train_step(WRONG_STEPS[code])
    assert caught.value.code == code.partition("/")[0]


def zero_first(model, optimizer, x):
    optimizer.zero_grad(set_to_none=False)
    loss = F.mse_loss(model(x), x, reduction="sum") / len(x)
    loss.backward()
    optimizer.step()
    return loss.detach().clone()


@pytest.mark.parametrize("answer", [step(), zero_first])
def test_right_train_step(answer):
    check.train_step(answer)


WRONG_PCA = {
    "no-mean": lambda x, mean, v, k: (x - mean) @ v[:k].T @ v[:k],
    "not-centred": lambda x, mean, v, k: mean + x @ v[:k].T @ v[:k],
    "value": lambda x, mean, v, k: x @ v[:k].T @ v[:k] + mean * (1 + (k == 0)),
    "columns": lambda x, mean, v, k: mean + (x - mean) @ v[:, :k] @ v[:, :k].T,
    "all-directions": lambda x, mean, v, k: mean + (x - mean) @ v.T @ v * (k > 0),
    "shape": lambda x, mean, v, k: (x - mean) @ v[:k].T,
    "own-mean": lambda x, mean, v, k: x.mean(0) + (x - x.mean(0)) @ v[:k].T @ v[:k],
    "value/2": lambda x, mean, v, k: mean + 0.5 * (x - mean) @ v[:k].T @ v[:k],
}


@pytest.mark.parametrize("code", WRONG_PCA)
def test_wrong_pca(code):
    with pytest.raises(CheckFailed) as caught:
        check.pca_reconstruct(WRONG_PCA[code])
    assert caught.value.code == code.partition("/")[0]


@pytest.mark.parametrize(
    "answer",
    [
        lambda x, mean, v, k: torch.addmm(mean, x - mean, v[:k].T @ v[:k]),
        lambda x, mean, v, k: mean + sum(((x - mean) @ d)[:, None] * d for d in v[:k]) + 0 * x,
    ],
)
def test_right_pca(answer):
    check.pca_reconstruct(answer)


def neighbours(z):
    return torch.cdist(z, z).fill_diagonal_(float("inf")).argmin(1)


WRONG_CONFUSION = {
    "diagonal": lambda z, y: (y[torch.cdist(z, z).argmin(1)] != y).float().mean().item(),
    "same-label": lambda z, y: (y[neighbours(z)] == y).float().mean().item(),
    "count": lambda z, y: (y[neighbours(z)] != y).sum().item() * 1.0,
    "shape": lambda z, y: (y[neighbours(z)] != y).float(),
    "distance": lambda z, y: (y[neighbours(z[:, :1])] != y).float().mean().item(),
    "distance/2": lambda z, y: (y[neighbours(z[:, :2])] != y).float().mean().item(),
    "distance/3": lambda z, y: (y[neighbours(z.sum(1, keepdim=True))] != y).float().mean().item(),
    "distance/4": lambda z, y: (y[neighbours(z / z.std(0).clamp(min=1e-9))] != y).float().mean().item(),
    "value": lambda z, y: 0.5,
    "value/2": lambda z, y: 0.6,
}


@pytest.mark.parametrize("code", WRONG_CONFUSION)
def test_wrong_confusion(code):
    with pytest.raises(CheckFailed) as caught:
        check.nearest_label_confusion(WRONG_CONFUSION[code])
    assert caught.value.code == code.partition("/")[0]


def by_loop(z, labels):
    strangers = 0
    for i in range(len(z)):
        distance = (z - z[i]).norm(dim=1)
        distance[i] = torch.inf
        strangers += int(labels[distance.argmin()] != labels[i])
    return strangers / len(z)


@pytest.mark.parametrize(
    "answer",
    [by_loop, lambda z, y: (y[torch.cdist(z, z).topk(2, largest=False).indices[:, 1]] != y).float().mean()],
)
def test_right_confusion(answer):
    check.nearest_label_confusion(answer)
