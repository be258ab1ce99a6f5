"""Answers, and dies soon after, when nobody asked it anything."""

import os
import threading


def main(req, res):
    threading.Timer(0.05, os._exit, [1]).start()
    res.send("ok")
