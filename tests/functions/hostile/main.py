"""Tries what a function must not be able to do; the payload says what."""

import ctypes
import errno
import json
import os
import socket
import struct
import subprocess
import time

libc = ctypes.CDLL(None, use_errno=True)


def channel():
    """The runtime's own socket."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                return int(name)
        except OSError:
            pass
    raise LookupError("no socket")


def frame(head, body=b"", claimed=None):
    return struct.pack(">II", len(head), len(body) if claimed is None else claimed) + head + body


def read(path):
    with open(path, "rb") as file:
        return file.read(4096).decode("utf-8", "replace")


def write(path):
    with open(path, "w") as file:
        file.write("changed")


def pids():
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def status():
    with open("/proc/self/status") as file:
        lines = dict(line.rstrip("\n").split(":", 1) for line in file)
    return {name: lines[name].strip() for name in lines if name.startswith("Cap") or name in ("NoNewPrivs", "Seccomp")}


def fork_bomb(limit):
    children = []
    try:
        for _ in range(limit):
            child = os.fork()
            if not child:
                time.sleep(60)
                os._exit(0)
            children.append(child)
    except OSError:
        pass
    return len(children)


def hog(megabytes):
    held = [bytearray(b"x" * 1024 * 1024) for _ in range(megabytes)]
    return len(held)


def systemcall(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(number, *arguments)
    return "allowed" if result >= 0 else errno.errorcode[ctypes.get_errno()]


def grandchild(mark, session=True):
    subprocess.Popen(["/bin/sleep", mark], start_new_session=session, stdin=subprocess.DEVNULL)
    return "started"


def family(number):
    socket.socket(number, socket.SOCK_RAW if number == 17 else socket.SOCK_STREAM).close()


def speak(kind):
    pieces = {
        "garbage": b"\xff" * 64,
        "huge": frame(b"{}", claimed=2**32 - 1),
        "no json": frame(b"no json"),
        "wrong fields": frame(b'{"type":"answer","status":"200"}'),
        "status": frame(b'{"type":"answer","status":99}'),
        "kind": frame(b'{"type":"answer","kind":"exe"}'),
        "deep": frame(b"[" * 4000),
        "not utf-8": frame(b'{"type":"answer","layer":"\xff"}'),
        "hello": frame(b'{"type":"hello"}'),
        "two answers": frame(b'{"type":"answer","status":200}', b"one")
        + frame(b'{"type":"answer","status":200}', b"two"),
        "half": frame(b'{"type":"answer"}')[:-3],
    }
    os.write(channel(), pieces[kind])
    time.sleep(0.2)


def main(req, res):
    order = json.loads(req.payload)
    actions = {
        "read": read,
        "write": write,
        "list": os.listdir,
        "pids": pids,
        "status": status,
        "kill": os.kill,
        "fork_bomb": fork_bomb,
        "hog": hog,
        "systemcall": systemcall,
        "grandchild": grandchild,
        "family": family,
        "speak": speak,
        "close": lambda: os.close(channel()),
        "close and live": lambda: (os.close(channel()), time.sleep(60)),
        "deep": lambda: json.loads("[" * 100_000),
        "uid": os.getuid,
    }
    try:
        res.json({"result": actions[order[0]](*order[1:])})
    except OSError as error:
        res.json({"refused": errno.errorcode[error.errno]})
