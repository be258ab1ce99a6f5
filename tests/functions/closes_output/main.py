"""Closes, replaces or restores what it prints to; every call prints first."""

import os
import sys
import tempfile

calls = 0


def main(req, res):
    global calls
    calls += 1
    print("call", calls, flush=True)
    print("mistake", calls, file=sys.stderr, flush=True)
    if req.payload == "close 1":
        os.close(1)
    if req.payload == "close 2":
        os.close(2)
    if req.payload == "close sys.stdout":
        sys.stdout.close()
    if req.payload == "replace":
        os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
    if req.payload == "restore":
        kept = os.dup(1)
        with tempfile.TemporaryFile() as file:
            os.dup2(file.fileno(), 1)
            print("elsewhere", flush=True)
        os.dup2(kept, 1)
        os.close(kept)
    res.send(str(calls))
