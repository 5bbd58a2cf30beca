"""Run in a student's kernel, before the student's code: it tests answers, and sees what has been replaced meanwhile.

This file is sent to the kernel as text: the kernel can't read it.
"""


def guard():
    """Remember the functions that tests rely on; returns the function that tests an answer."""
    import builtins
    import math
    import sys

    import torch
    import torch.distributions

    in_torch = ["randn", "rand", "randint", "linspace", "zeros", "ones", "full", "eye", "arange"]
    in_torch += ["allclose", "equal", "isclose", "as_tensor", "tensor", "stack", "cat", "corrcoef", "logsumexp"]
    in_tensor = ["all", "any", "abs", "item", "sum", "mean", "std", "var", "max", "min", "isfinite", "double"]
    in_tensor += ["__eq__", "__lt__", "__gt__", "__le__", "__ge__", "__sub__", "__bool__", "__float__"]

    def functions():
        """The functions that tests rely on: {(owner, name): (function, its code)}."""
        ours = [module for name, module in sys.modules.items() if name.split(".")[0] in ("checks", "utils")]
        laws = [vars(torch.distributions)[name] for name in torch.distributions.__all__]
        owners = [builtins, math, torch.distributions, *ours, *(law for law in laws if isinstance(law, type))]
        watched = [(owner, name) for owner in owners for name in vars(owner)]
        watched += [(torch, name) for name in in_torch] + [(torch.Tensor, name) for name in in_tensor]
        watched += [(torch.autograd, "grad"), (torch.testing, "assert_close")]
        found = {(owner, name): getattr(owner, name, None) for owner, name in watched}
        return {
            key: (value, getattr(value, "__code__", None))
            for key, value in found.items()
            if callable(value) and key != (builtins, "input")  # the notebook's own, which changes from cell to cell
        }

    before = functions()
    execute, compiled, printed = exec, compile, print

    def test(name, answer, imports, check, hidden, done):
        """Test `answer`, called `name`, in names of its own.

        Prints lines that begin with the word `done`: first what had been replaced, then "checked" if the instant check
        passes, "tested" if the hidden test does, and last what the answer itself has replaced.
        """
        own = [(kind, "a tensor of its own") for kind in torch.Tensor.__subclasses__() if kind.__module__ == "__main__"]
        replaced = [key for key, value in functions().items() if before.setdefault(key, value) != value]
        for owner, key in replaced:
            function, code = before[owner, key]
            if code is not None:
                function.__code__ = code
            setattr(owner, key, function)
        names = {}
        execute(compiled(imports, "imports", "exec"), names)
        names[name] = answer
        try:
            printed(done, "replaced", *(f"{owner.__name__}.{key}" for owner, key in replaced + own))
            execute(compiled(check, "check", "exec"), names)
            printed(done, "checked")
            execute(compiled(hidden, "hidden", "exec"), names)
            printed(done, "tested")
        finally:
            now = functions()
            late = [key for key in before if now.get(key) != before[key]]
            printed(done, "replaced", *(f"{owner.__name__}.{key}" for owner, key in late))

    return test
