"""From which addresses and pages the server lets itself be called (spec, sections 3.2 and 12.1).

A server on loopback trusts whoever can reach it with the names of this machine only: a page in the user's browser that
reaches it under a name of its own (DNS rebinding) is refused, whatever it asks for.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, urlsplit

from nbfunctions.errors import GeneralUnknownOrigin, SettingInvalid
from nbfunctions.server.limits import is_own
from nbfunctions.server.wire import Head
from nbfunctions.settings import Settings

__all__ = ["Origins", "host_of"]

METHODS: Final = "GET, POST, PUT, PATCH, DELETE"
ALLOWED: Final = (
    "Origin, Cookie, Set-Cookie, X-Requested-With, Content-Type, Access-Control-Allow-Origin, "
    "Access-Control-Request-Headers, Accept, X-Appwrite-Project, X-Appwrite-Key, X-Appwrite-Locale, X-Appwrite-Mode, "
    "X-Appwrite-JWT, X-Appwrite-Response-Format, X-SDK-Version, X-Appwrite-ID, Content-Range, Range, Cache-Control, "
    "Expires, Pragma"
)
"""Request headers that a page may send."""
OWN: Final = ", Idempotency-Key, Last-Event-ID"
"""Those that additions read."""
FALLBACK: Final = "X-Fallback-Cookies"
READING: Final = ("GET", "HEAD", "OPTIONS")
SCHEMES: Final = ("http", "https", "ws", "wss")


class Origins:
    """Answers from where this server may be called."""

    def __init__(self, settings: Settings) -> None:
        self._platforms = ("localhost", *_names("origins", settings.origins))
        self._hosts = (settings.host.lower(), *_names("hosts", settings.hosts))
        self._is_loopback = _is_loopback(settings.host.lower()) or _leads_to_loopback(settings.host)
        self._known = {settings.host}
        """Hosts that were looked at and found good: at most as many as there are names for this machine."""
        self._anywhere = self._headers("http://localhost")

    def demand_host(self, headers: Mapping[str, str]) -> None:
        """Raises ``GeneralUnknownOrigin`` when the request's ``Host`` is none of this server's."""
        host = headers.get("host")
        if host is None or host in self._known:
            return
        name = host_of(host)
        if self._is_loopback and not (_is_loopback(name) or _matches(name, self._hosts)):
            raise GeneralUnknownOrigin(
                f"Invalid Host. This server is not called {name or host!r}; the setting `hosts` names further ones"
            )
        if len(self._known) < 100:
            self._known.add(host)

    def demand_origin(self, method: str, headers: Mapping[str, str]) -> None:
        """Raises ``GeneralUnknownOrigin`` when a page of a platform that isn't registered wants to change something."""
        if method not in READING:
            self.demand_platform(headers)

    def demand_platform(self, headers: Mapping[str, str]) -> None:
        """Raises ``GeneralUnknownOrigin`` when the request comes from a page of a platform that isn't registered."""
        origin = headers.get("origin") or headers.get("referer") or ""
        if not origin:
            return
        found = _split(origin)
        name = _name(found) if found else ""
        if found is not None and not name and found.scheme in ("", *SCHEMES) and origin != "null":
            return  # no host to compare (spec, section 11.1)
        if found is None or found.scheme not in SCHEMES:
            raise GeneralUnknownOrigin("Unsupported platform")
        if not self._is_platform(name, headers):
            raise GeneralUnknownOrigin(
                f"Invalid Origin. Register your new client ({name}) as a new Web platform on your project console "
                "dashboard"
            )

    def headers(self, headers: Mapping[str, str]) -> Head:
        """Return the headers of every answer to this request."""
        origin = headers.get("origin")
        if not origin:
            return self._anywhere
        found = _split(origin)
        if found is None or not found.hostname:
            return self._anywhere
        name = found.hostname if self._is_platform(_name(found), headers) else "localhost"
        scheme = found.scheme if found.scheme in SCHEMES else "http"
        return self._headers(f"{scheme}://{_bracketed(name)}{_port(found)}")

    def preflight(self, headers: Mapping[str, str]) -> Head:
        """Return the headers of the answer to ``OPTIONS`` (spec, section 12.1)."""
        return self._headers(headers.get("origin", ""), more=f"{OWN}, {FALLBACK}")

    def _headers(self, origin: str, *, more: str = OWN) -> Head:
        found = {
            "server": "Appwrite",
            "x-content-type-options": "nosniff",
            "access-control-allow-methods": METHODS,
            "access-control-allow-headers": ALLOWED + more,
            "access-control-expose-headers": FALLBACK,
            "access-control-allow-origin": origin,
            "access-control-allow-credentials": "true",
            "vary": "Origin, Accept-Encoding",
            "x-debug-fallback": "true",  # there are no cookie sessions
        }
        return Head([(name.encode(), value.encode("latin-1", "replace")) for name, value in found.items()])

    def _is_platform(self, name: str, headers: Mapping[str, str]) -> bool:
        return name == host_of(headers.get("host", "")) or _is_loopback(name) or _matches(name, self._platforms)


def _names(setting: str, value: str) -> tuple[str, ...]:
    """Return the hosts in a setting; raises ``SettingInvalid`` for what can't be one, as an address with a path."""
    names = tuple(name.strip().lower() for name in value.split(",") if name.strip())
    for name in names:
        if not _PATTERN.fullmatch(name):
            raise SettingInvalid(
                f"{setting}: expected hosts, as app.example.org or *.example.org, without scheme, port and path, "
                f"found {name!r}"
            )
    return names


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Return whether one of the patterns is this host's name; ``*.example.org`` is every name below it."""
    return any(
        name == pattern or (pattern.startswith("*.") and name.endswith(pattern[1:])) or pattern == "*"
        for pattern in patterns
    )


_PATTERN: Final = re.compile(r"\*|(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|[0-9a-f:]+", re.ASCII)
_HOST: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\s\[\]:/?#@\\]+?))\.?(?::[0-9]*)?", re.IGNORECASE | re.ASCII)


def host_of(header: str) -> str:
    """Return the name or address in a ``Host`` header; nothing if it is not one, with a port or without."""
    found = _HOST.fullmatch(header)
    return (found[1] or found[2]).lower() if found else ""


def _split(address: str) -> SplitResult | None:
    try:
        found = urlsplit(address)
        _ = found.port, found.hostname
    except ValueError:
        return None
    return found


def _name(address: SplitResult) -> str:
    """Return the host of an address; a dot at the end makes it no other."""
    return (address.hostname or "").removesuffix(".")


def _port(address: SplitResult) -> str:
    return f":{address.port}" if address.port else ""


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name


def _is_loopback(name: str) -> bool:
    return name == "localhost" or name.endswith(".localhost") or is_own(name)


def _leads_to_loopback(host: str) -> bool:
    """Return whether a server that listens on this name, or shortened address, listens on loopback."""
    try:
        [(*_, address), *_] = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        return False
    return is_own(str(address[0]))
