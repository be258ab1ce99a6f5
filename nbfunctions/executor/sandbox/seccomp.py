"""A seccomp filter for functions, assembled as classic BPF.

It takes away what a function never needs and what kernels were broken through: namespaces, mounts, tracing, keyrings,
BPF, io_uring, modules, unusual socket families. Everything else is allowed, so that numpy, pandas and threads work:
``clone3`` answers ENOSYS, on which the C library falls back to ``clone``, whose flags can be looked at.
"""

from __future__ import annotations

import errno
import platform
import struct
from typing import Final, NamedTuple

__all__ = ["filter_program"]


class Machine(NamedTuple):
    """A processor architecture: its audit number and its own call numbers."""

    audit: int
    denied: tuple[int, ...]
    clone: int
    socket: int
    x32: bool


# Calls from 424 on have one number on all architectures.
OPEN_TREE, MOVE_MOUNT, FSOPEN, FSCONFIG, FSMOUNT, FSPICK = 428, 429, 430, 431, 432, 433
CLONE3, MOUNT_SETATTR = 435, 442
IO_URING: Final = (425, 426, 427)
COMMON: Final = (OPEN_TREE, MOVE_MOUNT, FSOPEN, FSCONFIG, FSMOUNT, FSPICK, MOUNT_SETATTR, 438)  # 438 pidfd_getfd

X86_64: Final = Machine(
    audit=0xC000003E,
    denied=(
        *(101, 310, 311, 312),  # ptrace, process_vm_readv, process_vm_writev, kcmp
        *(155, 161, 165, 166),  # pivot_root, chroot, mount, umount2
        *(272, 308),  # unshare, setns
        *(163, 167, 168, 169, 179),  # acct, swapon, swapoff, reboot, quotactl
        *(172, 173, 175, 176, 313),  # iopl, ioperm, init_module, delete_module, finit_module
        *(246, 320),  # kexec_load, kexec_file_load
        *(248, 249, 250),  # add_key, request_key, keyctl
        *(103, 153, 135),  # syslog, vhangup, personality
        *(298, 304, 321, 323),  # perf_event_open, open_by_handle_at, bpf, userfaultfd
        *(164, 227, 159, 305),  # settimeofday, clock_settime, adjtimex, clock_adjtime
    ),
    clone=56,
    socket=41,
    x32=True,
)
AARCH64: Final = Machine(
    audit=0xC00000B7,
    denied=(
        *(117, 270, 271, 272),  # ptrace, process_vm_readv, process_vm_writev, kcmp
        *(41, 51, 40, 39),  # pivot_root, chroot, mount, umount2
        *(97, 268),  # unshare, setns
        *(89, 224, 225, 142, 60),  # acct, swapon, swapoff, reboot, quotactl
        *(105, 106, 273),  # init_module, delete_module, finit_module
        *(104, 294),  # kexec_load, kexec_file_load
        *(217, 218, 219),  # add_key, request_key, keyctl
        *(116, 58, 92),  # syslog, vhangup, personality
        *(241, 265, 280, 282),  # perf_event_open, open_by_handle_at, bpf, userfaultfd
        *(170, 112, 171, 266),  # settimeofday, clock_settime, adjtimex, clock_adjtime
    ),
    clone=220,
    socket=198,
    x32=False,
)
MACHINES: Final = {"x86_64": X86_64, "aarch64": AARCH64}

CLONE_NEW: Final = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET (NEWTIME can't be asked of ``clone``)."""
FAMILIES: Final = (1, 2, 10, 16)
"""Socket families a function may open: AF_UNIX, AF_INET, AF_INET6, AF_NETLINK (name resolution asks it)."""

LOAD, JUMP_EQUAL, JUMP_ABOVE, JUMP_SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, ARGUMENT = 0, 4, 16
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000


def _instruction(code: int, value: int, on_true: int = 0, on_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, on_true, on_false, value)


def _answer(number: int, answer: int) -> list[bytes]:
    return [_instruction(JUMP_EQUAL, number, 0, 1), _instruction(RETURN, answer)]


def filter_program(machine: str = platform.machine()) -> bytes | None:
    """Return the filter as an array of ``struct sock_filter``, or None for an architecture without a table."""
    table = MACHINES.get(machine)
    if table is None:
        return None
    refused = ERRNO | errno.EPERM
    missing = ERRNO | errno.ENOSYS
    program = [
        _instruction(LOAD, ARCHITECTURE),
        _instruction(JUMP_EQUAL, table.audit, 1, 0),
        _instruction(RETURN, KILL),
        _instruction(LOAD, NUMBER),
    ]
    if table.x32:
        # The x32 ABI has its own numbers for the same calls: none of it.
        program += [_instruction(JUMP_ABOVE, 0x40000000, 0, 1), _instruction(RETURN, missing)]
    for number in (CLONE3, *IO_URING):
        program += _answer(number, missing)
    for number in (*table.denied, *COMMON):
        program += _answer(number, refused)
    program += [
        _instruction(JUMP_EQUAL, table.clone, 0, 4),
        _instruction(LOAD, ARGUMENT),
        _instruction(JUMP_SET, CLONE_NEW, 0, 1),
        _instruction(RETURN, refused),
        _instruction(RETURN, ALLOW),
        _instruction(JUMP_EQUAL, table.socket, 0, len(FAMILIES) + 2),
        _instruction(LOAD, ARGUMENT),
        *(_instruction(JUMP_EQUAL, family, len(FAMILIES) - place, 0) for place, family in enumerate(FAMILIES)),
        _instruction(RETURN, ERRNO | errno.EAFNOSUPPORT),
        _instruction(RETURN, ALLOW),
    ]
    return b"".join(program)
