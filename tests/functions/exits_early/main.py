import os
import signal
import sys


def main(req, res):
    if req.payload == "sys.exit":
        sys.exit(3)
    if req.payload == "os._exit":
        os._exit(3)
    if req.payload == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if req.payload == "fork" and os.fork():
        os.wait()
    res.send("alive")
