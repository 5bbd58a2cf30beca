"""Start a notebook kernel for code that nobody has looked at: `python -I sandbox.py CONNECTION_FILE`.

The kernel may use so much memory, time and disk, and no more. On Linux it can read Python, the course's checks and
utils and its own folder, the current one, and write only there (Landlock, Linux 5.13 and newer). It dies with the
process that started it.

Most of a kernel's start is imports. On Linux `python -I sandbox.py --serve SOCKET` does them once, and then forks a
kernel for every `python -I sandbox.py CONNECTION_FILE SOCKET`; the sockets are inherited, so nobody else has them.
"""

import contextlib
import ctypes
import importlib
import json
import os
import pkgutil
import signal
import socket
import sys
import tempfile
from pathlib import Path

MEMORY = 4 << 30  # bytes
CPU_TIME = 600  # seconds
FILE_SIZE = 100 << 20  # bytes
FOLDERS = ["/usr", "/lib", "/lib64", "/bin", "/etc", "/sys", "/dev", sys.prefix, sys.base_prefix]
FILES = ["/proc/cpuinfo", "/proc/meminfo", "/proc/stat"]  # no more of /proc: it shows other processes' environments


def limit() -> None:
    """Bound memory, processor time and the size of files, where the system knows such limits."""
    with contextlib.suppress(ImportError):
        import resource

        for kind, most in [
            (resource.RLIMIT_DATA, MEMORY),
            (resource.RLIMIT_CPU, CPU_TIME),
            (resource.RLIMIT_FSIZE, FILE_SIZE),
            (resource.RLIMIT_CORE, 0),
        ]:
            resource.setrlimit(kind, (most, most))


def die_with_parent() -> None:
    """Ask Linux to kill this process as soon as the one that started it has ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def course() -> list[str]:
    """Import the course's packages and return their folders. Call it before they are out of reach."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    import checks
    import utils

    del sys.path[0]
    return [*checks.__path__, *utils.__path__]


def confine(own: Path) -> bool:
    """Allow reading only Python, checks, utils and the folder `own`, and writing only `own`; False where that fails."""
    ours = course()
    try:
        from landlock import FSAccess, LandlockError, Ruleset
    except ImportError:  # not Linux
        return False
    try:
        read = FSAccess.EXECUTE | FSAccess.READ_FILE | FSAccess.READ_DIR
        rules = Ruleset()
        folders = [*FOLDERS, *ours, f"/proc/{os.getpid()}"]
        rules.allow(*filter(os.path.exists, folders), rules=read)
        rules.allow(*filter(os.path.exists, FILES), rules=FSAccess.READ_FILE)
        rules.allow("/dev/null", rules=FSAccess.READ_FILE | FSAccess.WRITE_FILE)
        rules.allow(own)
        rules.apply()
    except (LandlockError, OSError):  # an older Linux
        return False
    return True


def run(connection_file: str) -> None:
    """Run a kernel in the current folder."""
    die_with_parent()
    limit()
    os.environ["SANDBOX_CONFINED"] = str(int(confine(Path.cwd())))
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance(argv=["-f", connection_file])


def serve(server: int) -> None:
    """Import what notebooks import, then fork a kernel for each order on the socket `server`, until nobody has that."""
    die_with_parent()
    import ipykernel.kernelapp  # noqa: F401
    import torch

    for folder in course():
        for module in pkgutil.iter_modules([folder]):
            importlib.import_module(f"{Path(folder).name}.{module.name}")
    sys.modules["utils.data"].load_digits("train")  # unpacks them
    torch.optim.SGD([torch.zeros(1, requires_grad=True)])  # the first optimizer makes PyTorch import a third more
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how the forked processes ended
    with socket.socket(fileno=server) as orders:
        while True:
            order, client, *_ = socket.recv_fds(orders, 1 << 16, 1)
            if not order:
                return
            try:
                child = os.fork()
            except OSError:  # too many processes: this kernel fails, the next may start
                child = None
            if child == 0:
                orders.close()
                keep(client[0], **json.loads(order))
            os.close(client[0])


def keep(client: int, connection_file: str, folder: str, environment: dict[str, str]) -> None:
    """Fork a kernel; when it ends, or the socket `client` is closed at its other end, end all that it started.

    So this process has to outlive the server.
    """
    kernel = os.fork()
    if kernel == 0:
        os.setsid()  # away from the terminal, and into a process group that the kernel can't leave
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(client)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        tempfile.tempdir = None  # the server's, which is out of reach
        run(connection_file)
        os._exit(0)

    def end(*_: object) -> None:
        for kill in (os.killpg, os.kill):  # the second if it has no group of its own yet
            with contextlib.suppress(ProcessLookupError):
                kill(kernel, signal.SIGKILL)
        os._exit(0)

    signal.signal(signal.SIGCHLD, end)
    os.read(client, 1)
    end()


def ask(connection_file: str, server: int) -> None:
    """Have a kernel forked with this process's folder and environment, and end with it.

    If the server has gone, run the kernel here.
    """
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # sent before the end, which comes anyway
    ours, theirs = socket.socketpair()
    wanted = {"connection_file": connection_file, "folder": os.getcwd(), "environment": dict(os.environ)}
    try:
        with socket.socket(fileno=server) as orders, theirs:
            socket.send_fds(orders, [json.dumps(wanted).encode()], [theirs.fileno()])
    except OSError:  # the server has ended
        run(connection_file)
    ours.recv(1)


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        serve(int(sys.argv[2]))
    elif len(sys.argv) == 3:
        ask(sys.argv[1], int(sys.argv[2]))
    else:
        run(sys.argv[1])
