"""A GPU for machines without one: it computes on the CPU, and refuses what a real GPU refuses.

After `switch_on()` PyTorch says that it has a GPU. A tensor that is made on it or moved to it is an `OnGpu`: it says so
itself, meets only its like (or single numbers), and does not become a NumPy array. So a notebook that forgets a
`.to(device)` or a `.cpu()` fails here as it would there. Speed, memory and random numbers are the CPU's.
"""

from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

GPU = torch.device("cuda", 0)
DEVICE_QUERIES = {torch.device, torch._C._nn._parse_to, torch._has_compatible_shallow_copy_type}
MOVES = {Tensor.to, Tensor.cpu, Tensor.cuda}
INDEXING = {Tensor.__getitem__, Tensor.__setitem__}  # a GPU's tensor takes the CPU's tensors in these


class OnGpu(Tensor):
    """A tensor of the pretended GPU."""

    @property
    def device(self) -> torch.device:
        """Where it pretends to be."""
        return GPU

    @property
    def is_cuda(self) -> bool:
        """As a real one says."""
        return True

    @property
    def is_cpu(self) -> bool:
        """As a real one says."""
        return False

    def __format__(self, spec: str) -> str:
        """A single number can be formatted wherever it is."""
        return format(self.item(), spec) if self.dim() == 0 else object.__format__(self, spec)


class Generator(torch.Generator):
    """A source of random numbers that knows for which place it was made."""

    def __new__(cls, device: torch.device | str = "cpu"):  # noqa: D102
        made = super().__new__(cls)
        made.place = GPU if is_gpu(device) else torch.device("cpu")
        return made

    @property
    def device(self) -> torch.device:
        """Where it pretends to be."""
        return self.place


def is_gpu(device: object) -> bool:
    """Whether an argument names the GPU."""
    return isinstance(device, str | torch.device) and str(device).startswith("cuda")


class Pretend(TorchFunctionMode):
    """Sees each call of PyTorch before it happens."""

    def __torch_function__(self, func, types, args=(), kwargs=None):  # noqa: D105
        kwargs = kwargs or {}
        if func in DEVICE_QUERIES:
            return func(*args, **kwargs)
        given = pytree.tree_leaves((args, kwargs))
        named = any(map(is_gpu, given))
        if named:  # what happens happens on the CPU
            args, kwargs = pytree.tree_map(
                lambda value: torch.device("cpu") if is_gpu(value) else value, (args, kwargs)
            )
        if func in MOVES:
            return move(func, given, args, kwargs)
        tensors = [value for value in given if isinstance(value, Tensor)]
        gpu = any(isinstance(tensor, OnGpu) for tensor in tensors)
        refuse(func, tensors, given, gpu, named)
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **kwargs)
        return on_gpu(result) if (gpu and func is not Tensor.copy_) or named else result


def move(func: Callable, given: list, args: tuple, kwargs: dict) -> Tensor:
    """`to`, `cpu` or `cuda`: the tensor in its new place, as a copy if that is another one."""
    here = isinstance(args[0], OnGpu)
    places = [value for value in given[1:] if isinstance(value, str | torch.device | Tensor)]
    there = func is Tensor.cuda
    if func is Tensor.to:
        there = isinstance(places[0], OnGpu) or is_gpu(places[0]) if places else here
    with torch._C.DisableTorchFunctionSubclass():
        result = func(*args, **kwargs) if func is Tensor.to else args[0]
        if there != here and result is args[0]:
            result = result.clone()
    return on_gpu(result) if there else result


def refuse(func: Callable, tensors: list[Tensor], given: list, gpu: bool, named: bool) -> None:
    """Raise what PyTorch raises: for tensors of both places, the wrong generator, or NumPy."""
    if gpu and func in (Tensor.numpy, Tensor.__array__):
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
    cpu = any(not isinstance(tensor, OnGpu) and tensor.dim() > 0 for tensor in tensors)
    may_meet = func is Tensor.copy_ or (func in INDEXING and isinstance(tensors[0], OnGpu))
    if gpu and cpu and not may_meet:
        raise RuntimeError(f"{func.__name__}: expected all tensors to be on the same device, found cuda:0 and cpu")
    if (gpu or named) and any(isinstance(value, torch.Generator) and not is_gpu(value.device) for value in given):
        raise RuntimeError(f"{func.__name__}: expected a 'cuda' device type for generator but found 'cpu'")


def on_gpu(result: object) -> object:
    """A result with all its tensors on the pretended GPU; they stay what they are otherwise, leaves of autograd too."""
    for tensor in pytree.tree_leaves(result):
        if type(tensor) is Tensor:
            tensor.__class__ = OnGpu
    return result


def on_cpu(saved: object) -> object:
    """The same with its tensors on the CPU, where a file holds them."""
    return pytree.tree_map(lambda value: value.cpu() if isinstance(value, OnGpu) else value, saved)


def switch_on() -> None:
    """From now on there is a GPU."""
    save, load = torch.save, torch.load
    torch.save = lambda saved, *args, **more: save(on_cpu(saved), *args, **more)
    torch.load = lambda *args, map_location, **more: pytree.tree_map(
        lambda value: value.to(map_location) if isinstance(value, torch.Tensor) else value,
        load(*args, map_location="cpu", **more),
    )
    torch.cuda.is_available = lambda: True
    torch.cuda.get_device_name = lambda: "a pretended GPU"
    torch.accelerator.current_stream = lambda: SimpleNamespace(is_capturing=lambda: False)  # optimisers ask it
    torch.Generator = Generator
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    Pretend().__enter__()
