import sys


def main(req, res):
    for _ in range(1500):
        sys.stdout.write("é" * 1000 + "\n")
    sys.stderr.write("x" * 999_999 + "é" * 10)
    res.send("é" * 600_000)
