"""Instant checks of notebook 05, exact inference in the linear-Gaussian model."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

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


class LinearGaussian(NamedTuple):
    """A linear-Gaussian model as in the notebook."""

    W: Tensor
    b: Tensor
    sigma: Tensor


def _model(random: torch.Generator, pixels: int, dim: int, sigma: float) -> LinearGaussian:
    """A model whose columns are neither orthogonal nor alike."""
    W, b = (torch.randn(*shape, generator=random, dtype=torch.float64) for shape in ((pixels, dim), (pixels,)))
    return LinearGaussian(W * torch.arange(1, dim + 1) + 0.5, b, torch.tensor(sigma, dtype=torch.float64))


def _conditional(model: LinearGaussian, seen: Tensor) -> tuple[Tensor, Tensor]:
    """The covariance C of the pixels and the regression (seen, unseen), by the rule for any Gaussian."""
    C = model.W @ model.W.T + model.sigma**2 * torch.eye(len(model.b), dtype=torch.float64)
    return C, torch.linalg.lstsq(C[seen][:, seen], C[seen][:, ~seen], driver="gelsd").solution


@instant_check
def posterior(answer: Callable[[LinearGaussian, Tensor], tuple[Tensor, Tensor]]) -> None:
    """Check `answer(model, x)`: mean (batch, latent_dim) and covariance (latent_dim, latent_dim) of p(z|x)."""
    random = generator()
    model = _model(random, 5, 3, 0.5)
    x = torch.randn(7, 5, generator=random, dtype=torch.float64)
    with untouched(x, *model):
        result = answer(model, x)
    require(
        isinstance(result, tuple | list) and len(result) == 2,
        "pair",
        "return two tensors, the mean and the covariance",
    )
    require(getattr(result[0], "shape", None) != (3, 7), "transposed", "the mean is transposed: one row for each image")
    _require_shapes(result, 7, 3)
    _simplest(answer)
    for pixels, dim, batch, sigma in [(5, 3, 7, 0.5), (1, 1, 4, 2.0), (2, 4, 1, 0.7), (30, 6, 5, 0.02), (4, 2, 3, 30)]:
        model = _model(random, pixels, dim, sigma)
        x = model.b + 3 * torch.randn(batch, pixels, generator=random, dtype=torch.float64)
        mean, cov = answer(model, x)
        _require_shapes((mean, cov), batch, dim)
        joint = torch.cat([torch.eye(dim, dtype=torch.float64), model.W])  # what z and x make of the causes
        both = LinearGaussian(joint, torch.zeros(dim + pixels, dtype=torch.float64), model.sigma)
        right_mean, right_cov = _by_regression(both, x - model.b, dim)
        if dim > 1 and pixels > 1:
            lengths = model.W.square().sum(0) + model.sigma**2
            require(
                not close(cov, (model.sigma**2 / lengths).diag()),
                "diagonal",
                "your formula holds only where the columns of W are orthogonal: M is a matrix, invert it as one",
            )
        require(
            torch.allclose(cov, right_cov, rtol=1e-6, atol=1e-9),
            "covariance",
            f"the covariance is wrong for {pixels} pixels and {dim} dimensions: sigma^2 times the inverse of M",
        )
        require(
            torch.allclose(mean, right_mean, rtol=1e-6, atol=1e-7),
            "mean",
            f"the mean is wrong for {pixels} pixels and {dim} dimensions: the inverse of M times W^T (x - b)",
        )
    model = _model(random, 4, 2, 0.6)
    x = torch.randn(3, 4, generator=random, dtype=torch.float64)
    weights = torch.randn(5, 2, generator=random, dtype=torch.float64)

    def both(W: Tensor, b: Tensor, sigma: Tensor, x: Tensor) -> Tensor:
        """Mean (3, 2) and covariance (2, 2) under each other, every number with a weight of its own."""
        return torch.cat(answer(LinearGaussian(W, b, sigma), x)) * weights

    require_gradients(both, **model._asdict(), x=x)
    correct("posterior: mean and covariance, for columns of any kind and any amount of noise.")


def _require_shapes(result: tuple[Tensor, Tensor], batch: int, dim: int) -> None:
    require_tensor(result[0], (batch, dim), "one mean for each image")
    require_tensor(result[1], (dim, dim), "one covariance for all images")


def _by_regression(both: LinearGaussian, x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Mean and covariance of z given centred x, where codes without noise and pixels are jointly Gaussian."""
    C = both.W @ both.W.T
    noisy = C[dim:, dim:] + both.sigma**2 * torch.eye(len(C) - dim, dtype=torch.float64)
    weights = torch.linalg.solve(noisy, C[dim:, :dim])
    return x @ weights, C[:dim, :dim] - C[:dim, dim:] @ weights


def _simplest(answer: Callable) -> None:
    """One pixel x = 3 with b = 2, one code, W = 1, sigma^2 = 1/4: the mean is 4/5, the variance 1/5."""
    one = torch.ones(1, 1, dtype=torch.float64)
    mean, cov = answer(LinearGaussian(one, 2 * one[0], 0.5 * one[0, 0]), 3 * one)
    recognise(
        mean,
        0.8,
        {
            ("no-b", "b is missing: the mean is that of x - b"): 2.4,
            ("sigma-for-variance", "M contains sigma^2, and you take sigma"): 1 / 1.5,
            ("no-noise", "the noise is missing in M: the prior pulls the mean towards 0"): 1.0,
            ("scaled", "the mean has no factor sigma^2"): 0.2,
        },
        "for W = 1, b = 2, sigma = 0.5 and x = 3 the mean must be 0.8",
    )
    recognise(
        cov,
        0.2,
        {
            ("no-variance", "the covariance is sigma^2 times the inverse of M: sigma^2 is missing"): 0.8,
            ("sigma-in-cov", "the covariance is sigma^2 times the inverse of M, and you take sigma"): 0.4,
            ("precision", "this is the inverse of the covariance"): 5.0,
            ("deviation", "this is a standard deviation; asked is the covariance"): 0.2**0.5,
        },
        "for W = 1 and sigma = 0.5 the variance must be 0.2",
    )


@instant_check
def fill_in(answer: Callable[[LinearGaussian, Tensor, Tensor], Tensor]) -> None:
    """Check `answer(model, x, seen)`: images (batch, dim), unseen pixels replaced by their mean given the seen ones."""
    random = generator()
    cases = [([1, 0, 1, 1, 0, 1], 3, 5, 0.4), ([0, 1], 1, 1, 1.0), ([0, 0, 1, 0], 3, 2, 0.1), ([1, 1, 1, 0], 2, 3, 5.0)]
    for mask, dim, batch, sigma in cases:
        seen = torch.tensor(mask).bool()
        model = _model(random, len(mask), dim, sigma)
        x = model.b + 2 * torch.randn(batch, len(mask), generator=random, dtype=torch.float64)
        with untouched(x, seen, *model):
            filled = answer(model, x, seen)
        require_tensor(filled, x.shape, "whole images, seen and unseen pixels in their places")
        require(torch.equal(filled[:, seen], x[:, seen]), "seen", "the seen pixels must stay exactly as they are")
        require(
            not torch.equal(filled, x),
            "untouched",
            "the unseen pixels are still those of x",
        )
        hidden = answer(model, x.masked_fill(~seen, torch.nan), seen)
        require(
            hidden.isfinite().all(),
            "nan",
            "with nan under the blot nan comes out: take only x[:, seen] into the posterior",
        )
        C, regression = _conditional(model, seen)
        by_rule = model.b[~seen] + (x - model.b)[:, seen] @ regression
        everything = torch.linalg.solve(C, C - model.sigma**2 * torch.eye(len(mask), dtype=torch.float64))

        def rebuilt(
            image: Tensor, gain: Tensor = everything, model: LinearGaussian = model, seen: Tensor = seen
        ) -> Tensor:
            """Unseen pixels of the reconstruction of whole images."""
            return (model.b + (image - model.b) @ gain)[:, ~seen]

        peeked = "the unseen pixels of x take part: the posterior may know x[:, seen] only"
        as_mean = "unseen pixels count as the mean image; leave them out, with observe(model, seen)"
        recognise(
            filled[:, ~seen],
            by_rule,
            {
                ("peeks", peeked): rebuilt(x),
                ("as-zero", "unseen pixels count as 0; leave them out, with observe(model, seen)"): rebuilt(x * seen),
                ("as-mean", as_mean): rebuilt(torch.where(seen, x, model.b)),
                ("mean-image", "this is the mean image; the seen pixels tell more"): model.b[~seen].expand_as(by_rule),
                ("no-b", "b is missing: add the mean image to W z"): by_rule - model.b[~seen],
            },
            "the unseen pixels are not their mean given the seen ones: decode the posterior mean of the smaller model; "
            "is your `posterior` right?",
        )
        require(close(filled, hidden), "peeks", peeked)
    all_seen = torch.ones(4, dtype=torch.bool)
    require(close(answer(model, x, all_seen), x), "all-seen", "where all pixels are seen, x must come back")
    correct("fill_in: seen pixels untouched, the others at their mean given these.")
