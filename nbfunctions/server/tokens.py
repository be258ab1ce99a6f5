"""Tokens of users (spec, section 4.6): JSON Web Tokens that a project signs with a secret of its own."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from nbfunctions.errors import UserJwtInvalid
from nbfunctions.server.rules import is_id, is_team

__all__ = [
    "LIFE",
    "LONGEST",
    "OWN",
    "Claims",
    "claims_of",
    "header_of",
    "refuse",
    "seconds",
    "sign",
    "signed_by",
    "verify",
]

LIFE: Final = 900
"""Seconds a token lives where nothing else is said."""
LONGEST: Final = 86_400
"""Seconds a token may live: nobody can take it back."""
LEEWAY: Final = 10
"""Seconds by which two clocks may differ."""
OWN: Final = "HS256"
"""The algorithm of a project's own tokens, and of no others."""

EMAIL_LIMIT: Final = 320
"""Characters of an address that is shown."""


class Claims(msgspec.Struct, kw_only=True, frozen=True):
    """What a token that holds says of its user."""

    user_id: str
    teams: tuple[str, ...] = ()
    """Ids of teams, or ``id/role``."""
    email: str = ""
    expires_at: float
    """From when on the token is refused, in seconds since the epoch."""


def sign(secret: str, user_id: str, teams: Sequence[str], expires: int) -> str:
    """Return a token of a user; ``expires`` is in seconds since the epoch."""
    import jwt

    claims = {"userId": user_id, "exp": expires, **({"teams": list(teams)} if teams else {})}
    return jwt.PyJWS().encode(msgspec.json.encode(claims), secret, OWN, sort_headers=False)


def verify(token: str, secret: str, now: float) -> Claims:
    """Return what one of a project's own tokens says. Raises ``UserJwtInvalid``."""
    header = header_of(token)
    if header["alg"] != OWN:
        raise refuse("Unsupported header algo")
    if header.get("kid"):
        raise refuse("Unknown key ID")
    signed = signed_by(token, secret, OWN)
    # Whatever bears a date of issue is held to the usual life, as in the reference.
    if "iat" in signed and now >= seconds(signed, "iat") + LIFE - LEEWAY:
        raise refuse("Expired")
    return claims_of(signed, now, "userId", "teams")


def claims_of(signed: Mapping[str, Any], now: float, user: str, teams: str) -> Claims:
    """Return what a token says whose signature holds, if this is its time. Raises ``UserJwtInvalid``.

    ``user`` and ``teams`` are the names of its claims. Teams that can't be named in permissions are left out.
    """
    expires = seconds(signed, "exp") + LEEWAY
    if now >= expires:
        raise refuse("Expired")
    if "nbf" in signed and now < seconds(signed, "nbf") - LEEWAY:
        raise refuse("Not now")
    user_id, member_of, email = signed.get(user), signed.get(teams), signed.get("email")
    if not isinstance(user_id, str) or not is_id(user_id):
        raise refuse(
            f'The claim "{user}" is no user id: expected up to 36 of a-z A-Z 0-9 . _ - not starting with one of . _ -'
        )
    return Claims(
        user_id=user_id,
        teams=tuple(team for team in member_of if is_team(team)) if isinstance(member_of, list) else (),
        email=email if isinstance(email, str) and len(email) <= EMAIL_LIMIT else "",
        expires_at=expires,
    )


def header_of(token: str) -> Mapping[str, Any]:
    """Return a token's header, which nobody has vouched for; its ``alg`` is a text. Raises ``UserJwtInvalid``."""
    if token.count(".") < 2:
        raise refuse("Incomplete segments")
    header = _object(_decoded(token.partition(".")[0]))
    if not header.get("alg"):
        raise refuse("Missing header algo")
    if not isinstance(header["alg"], str):
        raise refuse("Unsupported header algo")
    return header


def signed_by(token: str, key: Any, algorithm: str) -> Mapping[str, Any]:
    """Return what a token says if it was signed so. Raises ``UserJwtInvalid``."""
    import jwt

    # A key that is too short to be one proves nothing.
    verifier = jwt.PyJWS(options={"enforce_minimum_key_length": True})
    try:
        payload = verifier.decode(token.encode("ascii", "replace"), key, [algorithm])
    except jwt.DecodeError:
        raise refuse("Signature failed") from None
    except jwt.PyJWTError as error:
        raise refuse(str(error)) from None
    return _object(payload)


def seconds(claims: Mapping[str, Any], name: str) -> float:
    """Return a claim that is a time. Raises ``UserJwtInvalid``."""
    value = claims.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 2**53:
        raise refuse(f'The claim "{name}" is no time')
    return float(value)


def refuse(reason: str) -> UserJwtInvalid:
    """Return the refusal of a token that can't count."""
    return UserJwtInvalid(f"Failed to verify JWT. Invalid token: {reason}")


def _decoded(segment: str) -> bytes:
    try:
        return base64.b64decode(segment + "=" * (-len(segment) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return b""


def _object(content: bytes) -> Mapping[str, Any]:
    try:
        found = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError):
        raise UserJwtInvalid("Failed to verify JWT. JSON failed: Syntax error") from None
    return found if isinstance(found, dict) else {}
