"""Waits for a process of its own, which sleeps as many seconds as the payload says; answers how often it was called."""

import subprocess

calls = 0


def main(req, res):
    global calls
    calls += 1
    print("waiting", flush=True)
    if req.payload:
        subprocess.run(["/bin/sleep", req.payload])
    res.send(str(calls))
