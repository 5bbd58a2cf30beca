"""Start a notebook kernel for code that nobody has looked at: `python -I sandbox.py CONNECTION_FILE`.

The kernel may use so much memory, time and disk, and no more. On Linux it can read Python, the course's checks and
utils and its own folder, the current one, and write only there (Landlock, Linux 5.13 and newer). It dies with the
process that started it.
"""

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

MEMORY = 4 << 30  # bytes
CPU_TIME = 600  # seconds
FILE_SIZE = 100 << 20  # bytes
FOLDERS = ["/usr", "/lib", "/lib64", "/bin", "/etc", "/sys", "/dev", sys.prefix, sys.base_prefix]
FILES = ["/proc/cpuinfo", "/proc/meminfo", "/proc/stat"]  # of /proc no more: other processes' environments lie there


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


def confine(own: Path) -> bool:
    """Leave Python, utils and the folder `own` to be read, and only `own` to be written; False if that can't be."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    import checks  # now, before the folder that they lie in is out of reach
    import utils

    del sys.path[0]

    try:
        from landlock import FSAccess, LandlockError, Ruleset
    except ImportError:  # not Linux
        return False
    try:
        read = FSAccess.EXECUTE | FSAccess.READ_FILE | FSAccess.READ_DIR
        rules = Ruleset()
        folders = [*FOLDERS, *utils.__path__, *checks.__path__, f"/proc/{os.getpid()}"]
        rules.allow(*filter(os.path.exists, folders), rules=read)
        rules.allow(*filter(os.path.exists, FILES), rules=FSAccess.READ_FILE)
        rules.allow("/dev/null", rules=FSAccess.READ_FILE | FSAccess.WRITE_FILE)
        rules.allow(own)
        rules.apply()
    except (LandlockError, OSError):  # an older Linux
        return False
    return True


if __name__ == "__main__":
    die_with_parent()
    limit()
    os.environ["SANDBOX_CONFINED"] = str(int(confine(Path.cwd())))
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance(argv=["-f", sys.argv[1]])
