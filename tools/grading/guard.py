"""Run in a student's kernel, before the student's code: it tests answers, and sees what has been replaced meanwhile.

This file is sent to the kernel as text: the kernel can't read it.
"""


def guard():
    """Remember the functions that tests rely on; returns the function that tests an answer."""
    import builtins
    import math
    import sys

    import torch
    import torch._dynamo  # an optimiser imports it late, and it wraps functions of torch
    import torch.distributions

    def functions():
        """What can be called in each watched module or class: {(owner, name): (function, its code)}."""
        modules = [module for name, module in sys.modules.items() if name.split(".")[0] in ("checks", "utils")]
        distributions = [vars(torch.distributions)[name] for name in torch.distributions.__all__]
        owners = [builtins, math, torch, torch.nn, torch.nn.functional, torch.autograd, torch.random, torch.Tensor]
        owners += [torch.distributions, *modules, *(thing for thing in distributions if isinstance(thing, type))]
        return {
            (owner, name): (value, getattr(value, "__code__", None))
            for owner in owners
            for name, value in vars(owner).items()
            if callable(value)
        }

    before = functions()
    execute, compiled, printed = exec, compile, print

    def test(name, answer, imports, check, hidden, done):
        """Test `answer`, called `name`, in names of its own; print the word `done` last, and what had been replaced."""
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
            printed(done, *(f"{owner.__name__}.{key}" for owner, key in replaced))
            execute(compiled(check, "check", "exec"), names)
            try:
                execute(compiled(hidden, "hidden", "exec"), names)
            except AssertionError:
                raise AssertionError(
                    "The instant check is content, but with other numbers this answer differs from the right one."
                ) from None
        finally:
            functions_now = functions()
            late = [key for key in before if functions_now.get(key) != before[key]]
            printed(done, *(f"{owner.__name__}.{key}" for owner, key in late))

    return test
