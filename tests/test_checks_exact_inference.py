"""The instant checks of notebook 05 pass right answers, however written, and name the cause of each wrong one."""

import pytest
import torch

from checks import exact_inference as check
from checks.common import CheckFailed
from tools.cells import definitions

NOTEBOOK = definitions("05_exact_inference")
Model, observe, decode = NOTEBOOK.LinearGaussian, NOTEBOOK.observe, NOTEBOOK.decode


@pytest.fixture(autouse=True)
def double_precision():
    """The dtype of the notebook."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def identity(n):
    return torch.eye(n, dtype=torch.float64)


def exact(model, x):
    """Mean and covariance by the covariance of the pixels, not by M."""
    C = model.W @ model.W.T + model.sigma**2 * identity(len(model.b))
    gain = torch.linalg.solve(C, model.W)
    return (x - model.b) @ gain, identity(model.W.shape[1]) - model.W.T @ gain


def by_parts(
    shift=lambda model: model.b,
    noise=lambda s: s**2,
    factor=lambda s: s**2,
    invert=torch.inverse,
    prior=1.0,
    last=lambda mean, cov: (mean, cov),
):
    """An answer to `posterior` with one part replaced."""

    def answer(model, x):
        M = prior * noise(model.sigma) * identity(model.W.shape[1]) + model.W.T @ model.W
        mean = torch.einsum("ij,dj,bd->bi", invert(M), model.W, x - shift(model))
        return last(mean, factor(model.sigma) * invert(M))

    return answer


def image_by_image(model, x):
    precision = identity(model.W.shape[1]) + model.W.T @ model.W / model.sigma**2
    cov = torch.cholesky_inverse(torch.linalg.cholesky(precision))
    return torch.stack([cov @ model.W.T @ (image - model.b) for image in x]) / model.sigma**2, cov


def unpacked(model, x):
    W, b, sigma = model
    gain = torch.linalg.solve(W @ W.T + sigma**2 * identity(len(b)), W)
    return (x - b) @ gain, identity(W.shape[1]) - W.T @ gain


@pytest.mark.parametrize("answer", [NOTEBOOK.posterior, exact, by_parts(), image_by_image, unpacked])
def test_right_posterior(answer):
    check.posterior(answer)


def in_place(model, x):
    x -= model.b
    return exact(Model(model.W, torch.zeros_like(model.b), model.sigma), x)


WRONG_POSTERIORS = {
    "pair": lambda model, x: exact(model, x)[0],
    "transposed": by_parts(last=lambda mean, cov: (mean.T, cov)),
    "shape": by_parts(last=lambda mean, cov: (mean, cov.diagonal())),
    "shape/2": by_parts(last=lambda mean, cov: (mean, cov.expand(len(mean), *cov.shape))),
    "dtype": by_parts(last=lambda mean, cov: (mean.float(), cov)),
    "in-place": in_place,
    "no-b": by_parts(shift=lambda model: torch.zeros_like(model.b)),
    "sigma-for-variance": by_parts(noise=lambda s: s),
    "no-noise": by_parts(prior=0.0),
    "scaled": by_parts(last=lambda mean, cov: (0.25 * mean, cov)),
    "no-variance": by_parts(factor=lambda s: 1.0),
    "sigma-in-cov": by_parts(factor=lambda s: s),
    "precision": by_parts(last=lambda mean, cov: (mean, cov.inverse())),
    "deviation": by_parts(last=lambda mean, cov: (mean, cov.diagonal().sqrt().diag())),
    "diagonal": by_parts(invert=lambda M: (1 / M.diagonal()).diag()),
    "covariance": by_parts(last=lambda mean, cov: (mean, cov.diagonal().diag())),
    "mean": by_parts(last=lambda mean, cov: (mean.mean(0).expand_as(mean), cov)),
    "mean/2": lambda model, x: (exact(model, x)[0].clamp(-1, 1), exact(model, x)[1]),
    "value": by_parts(last=lambda mean, cov: (2 * mean, cov)),
    "wrong-gradient": by_parts(last=lambda mean, cov: (mean.detach(), cov)),
    "no-gradient": by_parts(shift=lambda model: model.b.detach()),
    "no-gradient/2": lambda model, x: tuple(part.detach() for part in exact(model, x)),
    "no-gradient/x": lambda model, x: exact(model, x.detach()),
    "wrong-gradient/2": by_parts(factor=lambda s: s.detach() ** 2),
    "wrong-gradient/3": by_parts(noise=lambda s: s * s.detach()),
}


@pytest.mark.parametrize("code", WRONG_POSTERIORS)
def test_wrong_posterior(code):
    with pytest.raises(CheckFailed) as caught:
        check.posterior(WRONG_POSTERIORS[code])
    assert caught.value.code == code.partition("/")[0]


def by_conditioning(model, x, seen):
    C = model.W @ model.W.T + model.sigma**2 * identity(len(model.b))
    filled = x.clone()
    solved = torch.linalg.solve(C[seen][:, seen], (x[:, seen] - model.b[seen]).T)
    filled[:, ~seen] = model.b[~seen] + (C[~seen][:, seen] @ solved).T
    return filled


def filled(part=observe, given=lambda model, x, seen: x[:, seen], last=None):
    """An answer to `fill_in` with one part replaced."""

    def answer(model, x, seen):
        mean, _ = exact(part(model, seen), given(model, x, seen))
        guess = decode(model, mean)
        return last(model, x, seen, guess) if last else torch.where(seen, x, guess)

    return answer


def whole(model, seen):
    return model


@pytest.mark.parametrize("answer", [by_conditioning, filled(), torch.no_grad()(filled())])
def test_right_fill_in(answer):
    check.fill_in(answer)


def test_the_notebooks_fill_in_is_right():
    check.fill_in(NOTEBOOK.fill_in)


def overwriting(model, x, seen):
    x[:, ~seen] = by_conditioning(model, x, seen)[:, ~seen]
    return x


WRONG_FILLS = {
    "type": lambda model, x, seen: None,
    "shape": filled(last=lambda model, x, seen, guess: guess[:, ~seen]),
    "in-place": overwriting,
    "seen": filled(last=lambda model, x, seen, guess: guess),
    "seen/2": filled(last=lambda model, x, seen, guess: torch.where(seen, guess, x)),
    "untouched": lambda model, x, seen: x.clone(),
    "nan": filled(last=lambda model, x, seen, guess: x * seen + guess * ~seen),
    "peeks": filled(part=whole, given=lambda model, x, seen: x.nan_to_num()),
    "as-zero": filled(part=whole, given=lambda model, x, seen: x.where(seen, torch.zeros_like(x))),
    "as-mean": filled(part=whole, given=lambda model, x, seen: x.where(seen, model.b)),
    "mean-image": lambda model, x, seen: torch.where(seen, x, model.b),
    "no-b": filled(last=lambda model, x, seen, guess: torch.where(seen, x, guess - model.b)),
    "value": filled(last=lambda model, x, seen, guess: torch.where(seen, x, guess.mean(0))),
    "value/2": filled(last=lambda model, x, seen, guess: torch.where(seen, x, guess.clamp(0, 1))),
}


@pytest.mark.parametrize("code", WRONG_FILLS)
def test_wrong_fill_in(code):
    with pytest.raises(CheckFailed) as caught:
        check.fill_in(WRONG_FILLS[code])
    assert caught.value.code == code.partition("/")[0]
