"""Users of an issuer: tokens that somebody else signs, verified with the public keys that it publishes (JWKS)."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
import time
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import IO, Any, Final
from urllib.parse import urlsplit

import msgspec

from nbfunctions import __version__
from nbfunctions.errors import SettingInvalid, UserJwtInvalid
from nbfunctions.server import tokens
from nbfunctions.settings import Settings

__all__ = ["Issuer"]

log = logging.getLogger("nbfunctions")

ALGORITHMS: Final = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
    "EdDSA": "OKP",
}
"""What an issuer may sign with, and the kind of key it takes. None that a public key could be the secret of."""
FRESH: Final = 600.0
"""Seconds after which keys are fetched anew."""
KEPT: Final = 3600.0
"""Seconds after which keys that could not be fetched anew count no more."""
PAUSE: Final = 30.0
"""Seconds between two attempts to fetch keys, whoever asks for what."""
TIMEOUT: Final = 5.0
"""Seconds an attempt may take."""
SIZE_LIMIT: Final = 1_000_000
"""Bytes of an issuer's keys."""


class Key(msgspec.Struct, frozen=True):
    """A public key, as far as it says what it is for."""

    kid: str
    kind: str
    algorithm: str
    """The only one it is for; empty where it doesn't say."""
    public: Any


class Issuer:
    """Verifies the tokens of the issuer that the settings name."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.jwt_jwks_url
        self._issuer = settings.jwt_issuer
        self._audience = settings.jwt_audience
        self._user_claim = settings.jwt_user_claim
        self._teams_claim = settings.jwt_teams_claim
        self._keys: tuple[Key, ...] = ()
        self._fetched = self._asked = -math.inf
        self._fetching: asyncio.Task[None] | None = None

    @staticmethod
    def of(settings: Settings) -> Issuer | None:
        """Return the issuer, if there is one. Raises ``SettingInvalid`` when it is told by halves, or without TLS."""
        if not settings.jwt_jwks_url:
            for name in ("jwt_issuer", "jwt_audience"):
                if getattr(settings, name):
                    raise SettingInvalid(f"{name}: it means nothing without jwt_jwks_url, which is not set")
            return None
        for name, what in (("jwt_issuer", "whose tokens count"), ("jwt_audience", "for whom they must be")):
            if not getattr(settings, name):
                raise SettingInvalid(f"{name}: with jwt_jwks_url it must say {what}, found nothing")
        if not _is_private(settings.jwt_jwks_url):
            raise SettingInvalid(
                "jwt_jwks_url: expected an address that begins with https://, or with http:// on this machine itself, "
                f"found {settings.jwt_jwks_url!r}"
            )
        return Issuer(settings)

    async def verify(self, token: str, now: float) -> tokens.Claims:
        """Return what a token of the issuer says. Raises ``UserJwtInvalid``."""
        header = tokens.header_of(token)
        algorithm = header["alg"]
        if algorithm not in ALGORITHMS:
            raise tokens.refuse("Unsupported header algo")
        signed = tokens.signed_by(token, await self._key(header, now), algorithm)
        if signed.get("iss") != self._issuer:
            raise tokens.refuse("Unknown issuer")
        audience = signed.get("aud")
        if self._audience not in (audience if isinstance(audience, list) else [audience]):
            raise tokens.refuse("Not for this audience")
        if "iat" in signed and now < tokens.seconds(signed, "iat") - tokens.LEEWAY:
            raise tokens.refuse("Not now")
        return tokens.claims_of(signed, now, self._user_claim, self._teams_claim)

    async def _key(self, header: Mapping[str, Any], now: float) -> Any:
        """Return the public key that a token names, or the only one there is when it names none.

        Keys that are known are never waited for: newer ones are fetched beside.
        """
        if now - self._fetched >= KEPT:
            self._keys = ()
        found = self._find(header)
        if (found is None or now - self._fetched >= FRESH) and self._fetching is None and now - self._asked >= PAUSE:
            self._asked = now
            self._fetching = asyncio.create_task(self._fetch(now))
        if found is None and self._fetching is not None:
            await asyncio.shield(self._fetching)
            found = self._find(header)
        if found is not None:
            return found.public
        if not self._keys:
            raise UserJwtInvalid("Failed to verify JWT. The keys of its issuer can't be fetched at the moment")
        raise tokens.refuse("Unknown key ID")

    def _find(self, header: Mapping[str, Any]) -> Key | None:
        algorithm, kid = header["alg"], header.get("kid")
        fits = [
            key
            for key in self._keys
            if key.kind == ALGORITHMS[algorithm]
            and key.algorithm in ("", algorithm)
            and (kid is None or key.kid == kid)
        ]
        return fits[0] if fits and (kid is not None or len(fits) == 1) else None

    async def _fetch(self, now: float) -> None:
        """Replace the keys by what the issuer publishes now; keep them when it can't be asked."""
        try:
            async with asyncio.timeout(TIMEOUT):
                self._keys = await asyncio.to_thread(_read_keys, self._url, TIMEOUT)
            self._fetched = now
        except (OSError, ValueError, HTTPException) as error:
            log.warning("the keys of %s can't be fetched: %s", self._url, str(error) or f"no end within {TIMEOUT:g} s")
        finally:
            self._fetching = None


class _NoDetours(urllib.request.HTTPRedirectHandler):
    """An address that leads elsewhere is not the one that was set."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        return None


def _read_keys(url: str, seconds: float) -> tuple[Key, ...]:
    """Return the keys at an address; those of another kind are left out. Raises ``OSError``, ``ValueError``,
    ``HTTPException``."""
    # No proxy of the environment can reach this machine's own loopback.
    proxies: dict[str, str] | None = {} if _is_loopback(url) else None
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies), _NoDetours)
    opener.addheaders = [("Accept", "application/json"), ("User-Agent", f"nbfunctions/{__version__}")]
    until = time.monotonic() + seconds
    content = b""
    with opener.open(url, timeout=seconds) as answer:
        while piece := answer.read1(65536):
            content += piece
            if len(content) > SIZE_LIMIT:
                raise ValueError(f"more than {SIZE_LIMIT} bytes")
            if time.monotonic() > until:
                raise TimeoutError(f"no end within {seconds:g} s")
    try:
        found = msgspec.json.decode(content, type=_KeySet)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"no set of keys: {error}") from None
    keys = tuple(key for one in found.keys if (key := _public_key(one)) is not None)
    if not keys:
        raise ValueError(f"none of its {len(found.keys)} keys can be used")
    return keys


class _KeySet(msgspec.Struct):
    keys: list[dict[str, Any]]


def _public_key(described: dict[str, Any]) -> Key | None:
    """Return a key of a set if it is one that tokens can be verified with."""
    import jwt

    kid, kind, algorithm = (described.get(name, "") for name in ("kid", "kty", "alg"))
    if kind not in ALGORITHMS.values() or described.get("use", "sig") != "sig":
        return None
    if not isinstance(kid, str) or not isinstance(algorithm, str) or ALGORITHMS.get(algorithm, kind) != kind:
        return None
    public = {name: value for name, value in described.items() if name not in ("d", "alg")}
    try:
        return Key(kid, kind, algorithm, jwt.PyJWK(public).key)
    except jwt.PyJWTError as error:
        log.warning("a key %r of the issuer can't be used: %s", kid, error)
        return None


def _is_private(url: str) -> bool:
    """Return whether nobody on the way can change what is read there."""
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(url)))
    except ValueError:
        return False


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
