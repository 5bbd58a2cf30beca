"""Seeds, the device, minibatches and the training loop that notebook 01 writes out in full."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

LossFn = Callable[[nn.Module, Tensor], dict[str, Tensor]]

OTHER_NUMBERS = "It draws other random numbers than a CPU, so your results differ a little from those in the text."
NO_GPU = (
    "There is no GPU, so the notebook runs on the CPU: a minute or two.\n"
    "With a GPU 04 trains on all of MNIST: menu Runtime > Change runtime type > T4 GPU, then Runtime > Run all."
)


def pick_device() -> torch.device:
    """The GPU if PyTorch can use one through CUDA, else the CPU (Apple's MPS lacks the float64 of our checks).

    Prints which one, what a GPU means for the results, and on Colab without a GPU how to get one. Call it before
    PyTorch computes: a CPU then takes numbers below 1e-38 for 0, in every thread. It is slow with them, and in Adam the
    averages of a pixel that is nearly always paper fade to such numbers: after ten epochs, an epoch took 1.6 times as
    long.
    """
    torch.set_flush_denormal(True)
    gpu = torch.cuda.is_available()
    print(f"PyTorch {torch.__version__} on {torch.cuda.get_device_name() if gpu else 'the CPU'}")
    if gpu:
        print(OTHER_NUMBERS)
    elif "google.colab" in sys.modules:
        print(NO_GPU)
    return torch.device("cuda" if gpu else "cpu")


def set_seed(seed: int) -> None:
    """Seed PyTorch's generators on every device; call it before a model is made and before it is trained."""
    torch.manual_seed(seed)


def minibatches(x: Tensor, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Tensor]:
    """Cut `x` (n, ...) into shuffled minibatches of `batch_size` rows, the last one perhaps smaller.

    `x` stays where it is; only a permutation of n is drawn, on the generator's device, or else on the CPU: a seed gives
    the same minibatches wherever `x` is.
    Raises ValueError for a batch size below 1.
    """
    _check_batch_size(batch_size)
    device = generator.device if generator else "cpu"
    order = torch.randperm(len(x), generator=generator, device=device).to(x.device)
    return (x[rows] for rows in order.split(batch_size) if len(rows))


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; give the number of images per minibatch, 1 or more")


@dataclass
class History:
    """What `fit` measured: for each term of the loss its value after every epoch; entry 0 is the untrained network."""

    train: dict[str, list[float]] = field(default_factory=dict)
    heldout: dict[str, list[float]] = field(default_factory=dict)

    def record(self, split: str, terms: dict[str, float]) -> None:
        """Append one epoch's `terms` to `split`, which is "train" or "heldout"."""
        for name, value in terms.items():
            getattr(self, split).setdefault(name, []).append(value)


@torch.no_grad()
def evaluate(model: nn.Module, loss_fn: LossFn, x: Tensor, batch_size: int = 500) -> dict[str, float]:
    """Mean of every term of `loss_fn(model, minibatch)` over the images `x` (n, ...), without gradients.

    The network is in eval mode meanwhile. Raises ValueError when there are no images or the batch size is below 1.
    """
    _check_batch_size(batch_size)
    if len(x) == 0:
        raise ValueError("there are no images to evaluate the network on")
    was_training = model.training
    model.eval()
    totals: dict[str, Tensor] = {}
    try:
        for batch in x.split(batch_size):
            for name, value in loss_fn(model, batch).items():
                totals[name] = totals.get(name, 0.0) + value * len(batch)
    finally:
        model.train(was_training)
    return {name: float(total) / len(x) for name, total in totals.items()}


def fit(
    model: nn.Module,
    loss_fn: LossFn,
    x_train: Tensor,
    x_heldout: Tensor | None = None,
    *,
    epochs: int,
    batch_size: int = 128,
    lr: float = 1e-3,
    lr_decay: bool = False,
    on_epoch: Callable[[int], None] | None = None,
) -> History:
    """Train `model` with Adam on minibatches of `x_train` (n, ...) and return its `History`.

    `loss_fn(model, batch)` returns a dictionary of scalars; `"loss"` is minimised and every term is recorded.
    Epoch 0 is the untrained network. Both curves are measured after each epoch with the same weights: on the held-out
    images and on as many training images, the first ones; without held-out images, on the first 500. With `lr_decay`
    the learning rate is `lr` in the first half of the epochs and then falls linearly towards 0. `on_epoch(epoch)` is
    called before each epoch 1, 2, ..., `epochs`.

    Interrupting the kernel ends the training and returns the history so far.
    Raises ValueError for a negative number of epochs or a batch size below 1, and FloatingPointError,
    naming epoch, minibatch and terms, when the loss is no longer finite.
    """
    if epochs < 0:
        raise ValueError(f"epochs is {epochs}; give the number of passes over the data, 0 or more")
    _check_batch_size(batch_size)
    history = History()
    splits = {"train": x_train[:500]}
    if x_heldout is not None:
        splits = {"train": x_train[: len(x_heldout)], "heldout": x_heldout}

    def measure() -> float:
        """Record both splits; returns the loss to show: of the held-out images if there are any."""
        measured = {split: evaluate(model, loss_fn, x) for split, x in splits.items()}
        for split, terms in measured.items():
            history.record(split, terms)
        return measured[list(splits)[-1]]["loss"]

    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    model.train()
    measure()
    with tqdm(range(1, epochs + 1), unit="epoch", leave=False) as progress:
        try:
            for epoch in progress:
                if on_epoch:
                    on_epoch(epoch)
                if lr_decay:
                    optimizer.param_groups[0]["lr"] = lr * min(1, 2 * (1 - (epoch - 1) / epochs))
                steps = []
                for batch in minibatches(x_train, batch_size):
                    terms = loss_fn(model, batch)
                    optimizer.zero_grad()
                    terms["loss"].backward()
                    optimizer.step()
                    steps.append({name: value.detach() for name, value in terms.items()})
                _stop_if_not_finite(epoch, steps)
                progress.set_postfix(loss=f"{measure():.2f}")
        except KeyboardInterrupt:
            print(f"Interrupted: the history ends after epoch {len(history.train['loss']) - 1} of {epochs}.")
    return history


def _stop_if_not_finite(epoch: int, steps: list[dict[str, Tensor]]) -> None:
    """Check the losses of an epoch after it; checking every step would make a GPU wait each time."""
    finite = torch.stack([terms["loss"] for terms in steps]).isfinite().tolist()
    if all(finite):
        return
    first = finite.index(False)
    values = ", ".join(f"{name} = {value.item():g}" for name, value in steps[first].items())
    raise FloatingPointError(
        f"the loss is not finite in epoch {epoch}, minibatch {first + 1} of {len(steps)}: {values}. "
        "Usual causes: a learning rate that is too high, exp of a large logvar, the logarithm of zero."
    )


class DigitClassifier(nn.Module):
    """A small classifier of digits, with which the notebooks measure how convincing a decoded image is."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Dropout(0.2), nn.Linear(256, 10))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, 10) of images (n, 784) or (n, 1, 28, 28)."""
        return self.layers(x.flatten(1))

    @torch.no_grad()
    def confidence(self, x: Tensor) -> Tensor:
        """Probability (n,) that the classifier gives to its own first choice for each image."""
        return self(x).softmax(1).amax(1)


def train_classifier(x: Tensor, labels: Tensor, epochs: int = 20) -> DigitClassifier:
    """Train a `DigitClassifier` on images `x` (n, 784), pixels in [0, 1], with `labels` (n,); returned in eval mode."""
    classifier = DigitClassifier().to(x.device)

    def loss_fn(model: nn.Module, rows: Tensor) -> dict[str, Tensor]:
        return {"loss": F.cross_entropy(model(x[rows]), labels[rows])}

    fit(classifier, loss_fn, torch.arange(len(x), device=x.device), epochs=epochs)
    return classifier.eval()
