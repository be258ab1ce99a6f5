"""Prints from Python, from C code and from a subprocess."""

import ctypes
import subprocess
import sys

print("loaded")


def main(req, res):
    print("python", req.payload)
    print("mistake", file=sys.stderr)
    ctypes.CDLL(None).printf(b"c code\n")
    subprocess.run(["/bin/echo", "child"], check=True)
    res.send("")
