"""Measure speed, side by side in one run: `make bench`; prints the tables of docs/performance.md.

Training: images per second of the course's loop (`utils.training`), of the loop of many tutorials (DataLoader,
ToTensor for each image, `.item()` at each step), and of the layers' products alone, launched one by one. Same
network, loss, batch size and number of epochs for each; the held-out loss, measured too, must agree.
Notebooks: seconds from the kernel's start to the first figure and to the end, peak memory, and how long the pictures
with sliders take to answer.
"""

import argparse
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator

import nbformat
import torch
import torchvision
from nbclient import NotebookClient
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tools.cells import definitions
from tools.notebook import NOTEBOOKS
from utils.data import binarize, load_digits
from utils.training import evaluate, fit, pick_device, set_seed

BATCH, EPOCHS = 128, 2
DEVICE = pick_device()
VAE = definitions("04_vae", device=DEVICE)
AE = definitions("01_autoencoder", device=DEVICE)


def negative_elbo(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The loss of notebook 04 for grey images `x` (batch, 784), binarised anew."""
    x = binarize(x)
    logits, mu, logvar = model(x)
    return VAE.vae_loss(logits, x, mu, logvar)


class ConvVAE(VAE.VAE):
    """The VAE of notebook 04 with two convolutions on each side, latent_dim 20."""

    def __init__(self) -> None:
        super().__init__(784, 400, 20)
        down = [
            nn.Unflatten(1, (1, 28, 28)),
            nn.Conv2d(1, 16, 4, 2, 1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 4, 2, 1),
            nn.ReLU(),
        ]
        up = [nn.ReLU(), nn.Unflatten(1, (32, 7, 7)), nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.ReLU()]
        self.encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(1568, 40))
        self.decoder = nn.Sequential(nn.Linear(20, 1568), *up, nn.ConvTranspose2d(16, 1, 4, 2, 1), nn.Flatten())


MODELS = {
    "autoencoder 784-400-32": (lambda: AE.Autoencoder(784, 400, 32), AE.reconstruction_loss),
    "VAE 784-400-20": (lambda: VAE.VAE(784, 400, 20), negative_elbo),
    "convolutional VAE": (ConvVAE, negative_elbo),
}


def synchronised_time() -> float:
    """The time, when the device has done all that it was asked for."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def ours(model: nn.Module, loss_fn: Callable, x: Tensor) -> None:
    """The course's loop; it measures itself on a few images only."""
    fit(model, loss_fn, x, x[:BATCH], epochs=EPOCHS, batch_size=BATCH)


def tutorial_loop(model: nn.Module, loss_fn: Callable, x: Tensor) -> None:
    """The loop of many tutorials, on torchvision's MNIST class (each image becomes a picture, then a tensor)."""
    digits = object.__new__(torchvision.datasets.MNIST)  # without its files
    digits.data, digits.targets = (255 * x).round().byte().view(-1, 28, 28).cpu(), torch.zeros(len(x))
    digits.transform, digits.target_transform = torchvision.transforms.ToTensor(), None
    loader = DataLoader(digits, BATCH, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(EPOCHS):
        total = 0.0
        for batch, _ in loader:
            optimizer.zero_grad()
            loss = loss_fn(model, batch.to(DEVICE).view(-1, 784))["loss"]
            loss.backward()
            total += loss.item()
            optimizer.step()


def layers_alone(model: nn.Module, loss_fn: Callable, x: Tensor) -> None:
    """Each layer with weights, forward and backward, on inputs of the right shape; no loss, no optimiser, no data."""
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)]
    inputs: dict[nn.Module, Tensor] = {}
    hooks = [m.register_forward_pre_hook(lambda m, given: inputs.setdefault(m, given[0].detach())) for m in layers]
    loss_fn(model, x[:BATCH])
    for hook in hooks:
        hook.remove()
    outputs = [torch.ones_like(layer(inputs[layer])) for layer in layers]
    for layer in layers[1:]:  # the first needs no gradient of its input, which is the data
        inputs[layer].requires_grad_()
    for _ in range(EPOCHS * math.ceil(len(x) / BATCH)):
        for layer, output in zip(layers, outputs, strict=True):
            wanted = [t for t in (inputs[layer], *layer.parameters()) if t.requires_grad]
            torch.autograd.grad(layer(inputs[layer]), wanted, output)


LOOPS = {"this course": ours, "DataLoader": tutorial_loop, "layers alone": layers_alone}


def digits(source: str = "embedded") -> tuple[Tensor, Tensor]:
    """Training images, grey, and held-out ones, binary."""
    set_seed(0)
    return load_digits("train", source, DEVICE)[0], binarize(load_digits("heldout", source, DEVICE)[0])


def spread(values: list[float], form: str) -> str:
    """Median, lowest and highest of `values`, each written in the `form`."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def training(repeats: int) -> Iterator[str]:
    """The rows of the table on training."""
    x, x_heldout = digits()
    yield f"| images per second | {' | '.join(LOOPS)} | course / DataLoader | course / layers | held-out loss |"
    yield "|---|---|---|---|---|---|---|"
    for name, (make, loss_fn) in MODELS.items():
        speeds: dict[str, list[float]] = {loop: [] for loop in LOOPS}
        losses: dict[str, float] = {}
        for i in range(repeats + 1):  # the first round warms up; loops take turns, so that all run under the same load
            for loop, run in LOOPS.items():
                set_seed(0)
                model = make().to(DEVICE)
                start = synchronised_time()
                run(model, loss_fn, x)
                speeds[loop].append(EPOCHS * len(x) / (synchronised_time() - start))
                losses[loop] = evaluate(model, loss_fn, x_heldout)["loss"]
            if i == 0:
                speeds = {loop: [] for loop in LOOPS}
        assert math.isclose(losses["this course"], losses["DataLoader"], rel_tol=0.03), losses
        shown = [spread(values, ",.0f") for values in speeds.values()]
        course, tutorial, floor = (statistics.median(v) for v in speeds.values())
        terms = f"{losses['this course']:.1f} and {losses['DataLoader']:.1f}"
        yield f"| {name} | {' | '.join(shown)} | {course / tutorial:.1f} | {course / floor:.2f} | {terms} |"


LAST_CELL = """
import json, resource, time
import ipywidgets
answers = []
for box in [made for made in Out.values() if isinstance(made, ipywidgets.VBox)]:
    for row in box.children[:-2]:
        number = row.children[0]
        for step in range(1, 6):
            start = time.perf_counter()
            number.value = type(number.value)(number.min + step / 6 * (number.max - number.min))
            answers.append(time.perf_counter() - start)
print(json.dumps([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, answers]))
"""


def notebooks() -> Iterator[str]:
    """The rows of the table on notebooks."""
    yield "| notebook | imports | first figure after | whole notebook | peak memory | answer to a slider |"
    yield "|---|---|---|---|---|---|"
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        notebook.cells.append(nbformat.v4.new_code_cell(LAST_CELL))
        where = {"metadata": {"path": path.parent}}
        client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where)
        ended: dict[int, float] = {}
        client.on_cell_executed = lambda cell_index, ended=ended, **_: ended.update({cell_index: time.perf_counter()})
        start = time.perf_counter()
        client.execute()
        code = [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
        drawn = next(i for i in code if any("image/png" in o.get("data", {}) for o in notebook.cells[i].outputs))
        peak, answers = json.loads(notebook.cells[-1].outputs[0].text)
        moments = [ended[code[1]] - ended[code[0]], ended[drawn] - start, ended[code[-2]] - start]
        memory = f"{peak / (1e9 if sys.platform == 'darwin' else 1e6):.1f} GB"
        answer = "no slider"
        if answers:
            answer = f"{1000 * statistics.median(answers):.0f} ms (at most {1000 * max(answers):.0f})"
        shown = [*(f"{seconds:.1f} s" for seconds in moments), memory, answer]
        yield f"| {path.stem} | {' | '.join(shown)} |"


def main() -> None:
    """Print the machine and the tables."""
    parser = argparse.ArgumentParser(description="Measure the speed of training and of the notebooks.")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-notebooks", action="store_true")
    arguments = parser.parse_args()
    where = torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"{platform.machine()}, {os.cpu_count()} cores"
    print(f"{where}; PyTorch {torch.__version__}, Python {platform.python_version()}; batches of {BATCH},")
    print(f"{EPOCHS} epochs of 8,000 images; median of {arguments.repeats} turns (lowest to highest)\n")
    for row in training(arguments.repeats):
        print(row, flush=True)
    print()
    for row in notebooks() if not arguments.no_notebooks else ():
        print(row, flush=True)


if __name__ == "__main__":
    main()
