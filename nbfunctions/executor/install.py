"""Installs packages by ``uv`` into a folder: wheels only, so that nothing of theirs runs while building."""

from __future__ import annotations

import asyncio
import configparser
import contextlib
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path

from nbfunctions.errors import BuildFailed
from nbfunctions.executor.executor import Log
from nbfunctions.executor.requirements import Requirements

__all__ = ["install", "installer_environment"]

KEPT = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC")  # fmt: skip
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
PIP_TO_UV = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "cert": "SSL_CERT_FILE",
}
"""pip's settings and uv's variables: who has configured pip for a mirror means its packages."""
LINE_LIMIT = 65_536
INTERPRETER = re.compile(r"Using (C?Python|PyPy)\b.* interpreter at:? ")


async def install(python: Path, wishes: Requirements, folder: Path, log: Log) -> None:
    """Install into ``folder``, compiled; its output goes to ``log`` as it comes.

    Raises :class:`~nbfunctions.errors.BuildFailed`. Cancelling ends the installer.
    """
    program = _uv()
    with tempfile.TemporaryDirectory(prefix="nbfunctions-") as scratch:
        file = _written(Path(scratch, "requirements.txt"), wishes)
        process = await asyncio.create_subprocess_exec(
            program,
            *("pip", "install", "--target", str(folder), "--python", str(python), "--compile-bytecode"),
            *("--only-binary", ":all:", "--no-progress", "--color", "never", "--no-python-downloads"),
            *(("--require-hashes",) if wishes.hashed else ()),
            *("-r", str(file)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=installer_environment(os.environ),
            cwd=scratch,
            start_new_session=True,
            limit=LINE_LIMIT,
        )
        try:
            lines = await _follow(process, log, {str(folder): "packages", f"{scratch}/": ""})
            status = await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
    if status != 0:
        said = "".join(lines).strip()
        raise BuildFailed(f"the packages of requirements.txt could not be installed: {said or f'exit status {status}'}")
    # An installer's lock in the target folder is of no use to the function.
    await asyncio.to_thread((folder / ".lock").unlink, missing_ok=True)


def _written(file: Path, wishes: Requirements) -> Path:
    file.write_text("".join(f"{line}\n" for line in wishes.lines))
    return file


async def _follow(process: asyncio.subprocess.Process, log: Log, names: Mapping[str, str]) -> list[str]:
    """Hand on what the installer says, and return it; places of this host go by the ``names`` that a reader knows."""
    assert process.stdout is not None  # noqa: S101 - it was asked for
    lines: list[str] = []
    while True:
        try:
            raw = await process.stdout.readline()
        except ValueError:  # a line beyond the limit
            raw = await process.stdout.read(LINE_LIMIT)
        if not raw:
            return lines
        line = raw.decode("utf-8", "replace")
        if INTERPRETER.match(line):  # the runtime's key says it, and where it lies is this host's business
            continue
        for place, name in names.items():
            line = line.replace(place, name)
        lines.append(line)
        log("stdout", line)


def installer_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what of the server's environment an installer gets: its settings, proxies and certificates; no secrets."""
    kept = {name: value for name, value in environ.items() if name in KEPT or name.upper() in PROXIES}
    kept |= {name: value for name, value in environ.items() if name.startswith("UV_")}
    for option, variable in PIP_TO_UV.items():
        if variable in kept or (option == "index-url" and "UV_INDEX_URL" in kept):
            continue
        value = environ.get("PIP_" + option.upper().replace("-", "_")) or _pip_setting(environ, option)
        if value:
            if option == "extra-index-url":
                # pip takes the best version of all indexes; who has set it up so has packages that need it.
                kept.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
            # pip separates them by white space; uv's find-links by commas.
            kept[variable] = ("," if option == "find-links" else " ").join(value.split())
    kept.setdefault("PATH", os.defpath)
    return kept


def _pip_setting(environ: Mapping[str, str], option: str) -> str:
    home = Path(environ.get("HOME", "/nonexistent"))
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    files = [Path("/etc/pip.conf"), home / ".pip/pip.conf", config / "pip/pip.conf"]
    if "PIP_CONFIG_FILE" in environ:
        files.append(Path(environ["PIP_CONFIG_FILE"]))
    parser = configparser.RawConfigParser()
    with contextlib.suppress(configparser.Error, OSError, UnicodeDecodeError):
        parser.read(files)
    return parser.get("install", option, fallback="") or parser.get("global", option, fallback="")


def _uv() -> str:
    try:
        import uv

        return str(uv.find_uv_bin())
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if found is None:
        raise BuildFailed("packages can't be installed here: the program uv is missing; install the package uv")
    return found
