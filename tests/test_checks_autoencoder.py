"""The instant checks of notebook 01: every wrong answer fails with its cause, every right one passes."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from checks import autoencoder as check
from checks.common import CheckFailed
from tools.cells import definitions

NOTEBOOK = definitions("01_autoencoder")


def test_notebook_answers_pass():
    check.reconstruction_error(NOTEBOOK.reconstruction_error)
    check.train_step(NOTEBOOK.train_step)
    check.train_epoch(NOTEBOOK.train_epoch)
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
    "784": lambda x, x_hat: (x - x_hat).square().mean(1) * 784,
    "784/view": lambda x, x_hat: (x - x_hat).view(-1, 784).square().sum(1),
    "batch-sum/one image": lambda x, x_hat: (x - x_hat).square().sum(1).squeeze(),
    "batch": lambda x, x_hat: (x[0] - x_hat[0]).square().sum().expand(len(x)),
    "dtype/double": lambda x, x_hat: (x - x_hat).square().sum(1).double(),
    "half": lambda x, x_hat: 0.5 * (x - x_hat).square().sum(1),
    "negative": lambda x, x_hat: -(x - x_hat).square().sum(1),
    "negative/minus": lambda x, x_hat: (x - x_hat).square().sum(1) - 1,
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
    "pixel-mean/2": step(loss=lambda model, x: (model(x) - x).squeeze().square().mean(0).sum()),  # of one image
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


def by_parts(model, optimizer, x):
    return step(loss=lambda model, x: (model.decode(model.encode(x)) - x).square().sum(1).mean())(model, optimizer, x)


@pytest.mark.parametrize("answer", [step(), zero_first, by_parts])
def test_right_train_step(answer):
    check.train_step(answer)


RIGHT_STEP = step()


def epoch(rows=torch.randperm, size=lambda n: n, step=RIGHT_STEP, drop=0, times=1):
    """An answer to `train_epoch` with one thing changed: `rows(n)` is the order, `drop` that many minibatches."""

    def answer(model, optimizer, x, batch_size):
        for _ in range(times):
            minibatches = rows(len(x)).split(size(batch_size))
            for minibatch in minibatches[: len(minibatches) - drop]:
                step(model, optimizer, x[minibatch])

    return answer


def blocks(model, optimizer, x, batch_size):
    minibatches = x.split(batch_size)
    for i in torch.randperm(len(minibatches)):
        step()(model, optimizer, minibatches[i])


def shuffled_in_place(model, optimizer, x, batch_size):
    x.copy_(x[torch.randperm(len(x))])
    for minibatch in x.split(batch_size):
        step()(model, optimizer, minibatch)


def pixels_shuffled_too(model, optimizer, x, batch_size):
    epoch()(model, optimizer, torch.stack([row[torch.randperm(6)] for row in x]), batch_size)


def seeded(model, optimizer, x, batch_size):
    torch.manual_seed(0)
    epoch()(model, optimizer, x, batch_size)


def swapped(n):
    """Two images change places."""
    rows, pair = torch.arange(n), torch.randperm(n)[:2]
    rows[pair] = pair.flip(0)
    return rows


WRONG_EPOCHS = {
    "no-step": lambda model, optimizer, x, batch_size: None,
    "no-step/2": epoch(step=step(steps=0)),
    "lost-images": epoch(drop=1),
    "lost-images/2": epoch(rows=lambda n: torch.randint(n, (n,))),
    "lost-images/3": epoch(rows=lambda n: torch.randperm(n - 1)),
    "lost-images/4": lambda model, optimizer, x, batch_size: epoch()(model, optimizer, x[:batch_size], batch_size),
    "twice": epoch(times=2),
    "twice/2": epoch(rows=lambda n: torch.cat([torch.randperm(n), torch.randint(n, (3,))])),
    "batch-size": epoch(size=lambda n: n + 1),
    "batch-size/2": epoch(size=lambda n: 1),
    "batch-size/3": lambda model, optimizer, x, batch_size: epoch()(model, optimizer, x, len(x)),
    "images": pixels_shuffled_too,
    "batch-size/chunks": lambda model, optimizer, x, batch_size: epoch()(
        model, optimizer, x, -(-len(x) // -(-len(x) // batch_size))
    ),
    "not-shuffled": epoch(rows=torch.arange),
    "not-shuffled/rotated": epoch(rows=lambda n: torch.arange(n).roll(int(torch.randint(n, ())))),
    "not-shuffled/swapped": epoch(rows=swapped),
    "same-order": epoch(rows=lambda n: torch.randperm(n, generator=torch.Generator().manual_seed(0))),
    "seeded": seeded,
    "in-place": shuffled_in_place,
    "blocks": blocks,
    "steps": epoch(step=step(zero=False)),
    "steps/2": epoch(step=step(loss=lambda model, x: F.mse_loss(model(x), x))),
    "steps/3": epoch(step=step(loss=lambda model, x: (model(x) - x).square().sum())),
}


@pytest.mark.parametrize("code", WRONG_EPOCHS)
def test_wrong_train_epoch(code):
    with pytest.raises(CheckFailed) as caught:
        check.train_epoch(WRONG_EPOCHS[code])
    assert caught.value.code == code.partition("/")[0]


def by_loader(model, optimizer, x, batch_size):
    for (minibatch,) in DataLoader(TensorDataset(x), batch_size, shuffle=True):
        zero_first(model, optimizer, minibatch)


def by_index(model, optimizer, x, batch_size):
    order = torch.rand(len(x)).argsort().tolist()
    for start in range(0, len(x), batch_size):
        loss_of(model, x)  # looks at other images in between
        step()(model, optimizer, x[order[start : start + batch_size]])
    return loss_of(model, x).item()


@pytest.mark.parametrize("answer", [epoch(), by_loader, by_index, epoch(step=zero_first), epoch(step=by_parts)])
def test_right_train_epoch(answer):
    check.train_epoch(answer)


def neighbours(z):
    return torch.cdist(z, z).fill_diagonal_(float("inf")).argmin(1)


WRONG_CONFUSION = {
    "diagonal": lambda z, y: (y[torch.cdist(z, z).argmin(1)] != y).float().mean().item(),
    "same-label": lambda z, y: (y[neighbours(z)] == y).float().mean().item(),
    "scale/2": lambda z, y: (y[(torch.cdist(z, z) + 1000 * torch.eye(len(z))).argmin(1)] != y).float().mean().item(),
    "scale": lambda z, y: (y[torch.cdist(z, z).fill_diagonal_(100.0).argmin(1)] != y).float().mean().item(),
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
