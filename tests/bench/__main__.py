"""``make bench``: every claim about speed beside what it is compared with, measured in this one run.

Rounds alternate between the sides of a comparison, so that a noisy neighbour hits both; figures are medians. Ends with
status 1 when a claim doesn't hold.
"""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec

from tests.bench.lists import walks
from tests.bench.load import Measured, measure
from tests.bench.peers import deployed_request, framework, post
from tests.serving import clean_environment, serving

ROUNDS: Final = 5
SECONDS: Final = 3.0
WARMING: Final = 1.0
PAGE_LIMIT: Final = 10.0
"""Milliseconds that a page may take."""

LOADING: Final = """
import time
import IPython, pandas
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
began = time.perf_counter()
shell.run_line_magic("load_ext", "nbfunctions")
print(time.perf_counter() - began)
"""

DEPLOYING: Final = """
import time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "nbfunctions")
shell.run_line_magic("functions", "")
times = []
for number in range(10):
    cell = f"def main(req, res):\\n    return res.send('{number}')\\n"
    began = time.perf_counter()
    handle = shell.run_cell_magic("function", "hello", cell)
    times.append(time.perf_counter() - began)
    assert handle() == str(number)
print(times[0], sorted(times[1:])[4])
"""


class Claim(msgspec.Struct, frozen=True):
    """One line of the result."""

    what: str
    ours: str
    against: str
    holds: bool


def main() -> int:
    """Measure everything and print a table; return the exit status."""
    with tempfile.TemporaryDirectory(prefix="nbfunctions-bench-") as folder:
        place = Path(folder)
        claims = [*throughput(place), *listing(place), *starting(place), loading(place), *deploying(place)]
    print(f"Python {platform.python_version()}, {platform.machine()}, {ROUNDS} rounds of {SECONDS:g} s, medians\n")
    print("| what | nbfunctions | against | holds |")
    print("|---|---|---|---|")
    for claim in claims:
        print(f"| {claim.what} | {claim.ours} | {claim.against} | {'yes' if claim.holds else 'NO'} |")
    return 0 if all(claim.holds for claim in claims) else 1


def throughput(place: Path) -> list[Claim]:
    """Warm executions through HTTP against the bare framework, with one and with sixteen connections."""
    environment = clean_environment(place / "home")
    theirs = post("/", {"data": "Ada"}, {})
    with serving(place / "data", environment=environment) as server, framework(place, environment) as port:
        sides = {"ours": (deployed_request(server), server.port, 201), "theirs": (theirs, port, 200)}
        claims = []
        for connections in (16, 1):
            found: dict[str, list[Measured]] = {name: [] for name in sides}
            for sent, where, status in sides.values():
                measure(sent, where, connections=connections, seconds=WARMING, status=status)
            for _ in range(ROUNDS):
                for name, (sent, where, status) in sides.items():
                    found[name].append(measure(sent, where, connections=connections, seconds=SECONDS, status=status))
            claims.append(_compared(connections, found["ours"], found["theirs"]))
    return claims


def _compared(connections: int, own: list[Measured], theirs: list[Measured]) -> Claim:
    ratios = [a.requests_per_second / b.requests_per_second for a, b in zip(own, theirs, strict=True)]
    ratio = statistics.median(ratios)

    def shown(found: list[Measured]) -> str:
        rate = statistics.median(one.requests_per_second for one in found)
        p50, p99 = (statistics.median(getattr(one, name) for one in found) for name in ("p50", "p99"))
        return f"{rate:,.0f}/s, p50 {p50:.2f} ms, p99 {p99:.2f} ms"

    return Claim(
        f"warm synchronous execution, {connections} connection{'s' if connections > 1 else ''}: ratio {ratio:.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f})",
        shown(own) + " (key, row on disk, sandbox)",
        "functions-framework: " + shown(theirs) + " (none of that)",
        ratio >= 1,
    )


def listing(place: Path) -> list[Claim]:
    """Milliseconds of a page of 25 at five places of long lists, beside a request that reads nothing."""
    claims = []
    for walk in walks(place):
        shown = ", ".join(f"{median:.1f}" for median in walk.medians)
        what = f"a page of {walk.what}, at five places from first to last"
        against = f"a request that reads nothing takes {walk.bare:.1f} ms; must be under {PAGE_LIMIT:g} ms"
        claims.append(Claim(what, f"{shown} ms", against, max(walk.medians) < PAGE_LIMIT))
    return claims


def starting(place: Path) -> list[Claim]:
    """Seconds until a server is ready: on a fresh data directory, and on one that is there."""
    environment = clean_environment(place / "home")
    fresh: list[float] = []
    again: list[float] = []
    for number in range(ROUNDS):
        for times in (fresh, again):
            began = time.perf_counter()
            with serving(place / f"start-{number}", environment=environment):
                times.append(time.perf_counter() - began)
    bare = _seconds([sys.executable, "-c", "pass"], environment)
    return [
        _limited("server ready, fresh data directory", fresh, 1.0, f"a bare Python start takes {bare * 1000:.0f} ms"),
        _limited("server ready, used data directory", again, 1.0, f"a bare Python start takes {bare * 1000:.0f} ms"),
    ]


def loading(place: Path) -> Claim:
    """Seconds of ``%load_ext`` once pandas and IPython are imported."""
    environment = clean_environment(place / "home")
    times = [float(_printed(LOADING, environment)) for _ in range(ROUNDS)]
    return _limited("%load_ext, pandas and IPython imported", times, 0.150, "limit 150 ms")


def deploying(place: Path) -> list[Claim]:
    """Seconds of ``%%function`` without dependencies, until the deployment is active."""
    environment = clean_environment(place / "home")
    first, later = [], []
    try:
        for _ in range(ROUNDS):
            one, rest = map(float, _printed(DEPLOYING, environment).split())
            first.append(one)
            later.append(rest)
    finally:
        subprocess.run([sys.executable, "-m", "nbfunctions", "stop"], env=environment, check=True, capture_output=True)
    return [
        _limited("%%function without packages, first of a kernel", first, 0.5, "limit 0.5 s"),
        _limited("%%function without packages, changed cell", later, 0.5, "limit 0.5 s"),
    ]


def _limited(what: str, times: list[float], limit: float, against: str) -> Claim:
    median = statistics.median(times)
    spread = f"{median * 1000:.0f} ms ({min(times) * 1000:.0f} to {max(times) * 1000:.0f})"
    return Claim(what, spread, f"{against}; must be under {limit * 1000:.0f} ms", median < limit)


def _printed(program: str, environment: dict[str, str]) -> str:
    found = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    if found.returncode != 0:
        raise RuntimeError(found.stdout[-2000:] + found.stderr[-2000:])
    return found.stdout.strip().splitlines()[-1]


def _seconds(command: list[str], environment: dict[str, str]) -> float:
    def one() -> float:
        began = time.perf_counter()
        subprocess.run(command, env=environment, check=True)
        return time.perf_counter() - began

    return statistics.median(one() for _ in range(ROUNDS))


if __name__ == "__main__":
    sys.exit(main())
