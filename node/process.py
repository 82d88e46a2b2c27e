"""What a process of the node asks of the kernel: die with the parent, no network, no core dump."""

import ctypes
import gc
import os
import resource
import signal
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000


class SandboxError(OSError):
    """The kernel refused a restriction that was asked for."""


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends.

    Call it first thing in a child, and after ``leave_network``: a change of credentials clears
    the death signal (prctl(2)). The starting *thread* counts, so children are started from
    threads that live as long as they should.

    Parameters
    ----------
    parent
        Process id of the parent, as the parent knew it; if it is gone already, this process ends.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def leave_network() -> None:
    """Put this process into an empty network namespace; call it before any thread exists.

    Raises
    ------
    SandboxError
        Neither the plain call nor the one through a new user namespace is permitted here.
    """
    if _unshare(_CLONE_NEWNET) == 0:
        return
    user, group = os.geteuid(), os.getegid()
    if _unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise SandboxError(f"unshare(CLONE_NEWUSER | CLONE_NEWNET): {reason}")
    # Without these maps the process would appear as nobody and its files as someone else's.
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")


def renounce_privileges() -> None:
    """Forbid this process and its children to gain privileges (setuid programs), for good."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def forbid_core_dumps() -> None:
    """Write no core file when this process crashes: its memory holds patient data."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def limit_memory(limit_bytes: int) -> None:
    """Cap the private writable memory of this process; beyond it an allocation fails.

    RLIMIT_DATA and not RLIMIT_AS: torch and CUDA reserve address space far beyond what they use.
    """
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))


def give_way() -> None:
    """Let every other process have the processor first: receiving comes before inference."""
    os.nice(10)


def prefer_as_memory_victim() -> None:
    """Ask the kernel to kill this process before others when the machine runs out of memory."""
    Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")


def keep_what_is_loaded() -> None:
    """Look for no garbage among what is here now: that costs a receiver a tenth of its time."""
    gc.collect()
    gc.freeze()


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise SandboxError(f"prctl({option}): {os.strerror(ctypes.get_errno())}")


def _unshare(flags: int) -> int:
    return int(ctypes.CDLL(None, use_errno=True).unshare(flags))
