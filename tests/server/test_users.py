"""Users: what their tokens prove, what they may do, and which executions they see (spec, sections 4.2 to 4.6)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from nbfunctions.errors import SettingInvalid
from nbfunctions.server import identity, issuer
from nbfunctions.server.administration import create_project, first_access
from nbfunctions.server.app import App
from nbfunctions.server.server import Server
from nbfunctions.settings import Settings
from tests.server.asking import client, deploy, execute, given, refused, wait_for_execution
from tests.serving import Serving, clean_environment, serving

START = 1_800_000_000
SEEN = "/functions/nothing/executions"
"""Answers 404 to whoever may ask, and tells others why they may not."""
EXECUTIONS = "/functions/f/executions"


def encoded(part: bytes | dict[str, Any]) -> str:
    content = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def signed(header: bytes | dict[str, Any], claims: bytes | dict[str, Any], secret: str | bytes) -> str:
    """Return a token signed with HMAC-SHA256, whatever its header says."""
    content = f"{encoded(header)}.{encoded(claims)}"
    key = secret if isinstance(secret, bytes) else secret.encode()
    return f"{content}.{encoded(hmac.digest(key, content.encode(), hashlib.sha256))}"


HS256 = {"typ": "JWT", "alg": "HS256"}
JANE = {"userId": "jane", "exp": START + 900}


class Clock:
    """Stands still until it is set."""

    now: float = START

    def __call__(self) -> float:
        return self.now


class Place:
    """A server in this process, with a clock of its own, and a client of it."""

    def __init__(self, server: Server, api: httpx.AsyncClient, clock: Clock) -> None:
        self.server, self.api, self.clock = server, api, clock

    async def ask(self, token: str, **headers: str) -> httpx.Response:
        """Ask as somebody with a token, beside the key that is always there."""
        return await self.api.get(SEEN, headers={"X-Appwrite-JWT": token, **headers})

    async def is_user(self, token: str) -> bool:
        """Return whether the token counts; a refusal must be one of tokens."""
        answer = await self.ask(token)
        if answer.status_code == 404:
            refused(answer, 404, "function_not_found")
            return True
        refused(answer, 401, "user_jwt_invalid")
        return False

    async def why_not(self, token: str) -> str:
        said = refused(await self.ask(token), 401, "user_jwt_invalid")
        assert said.startswith("Failed to verify JWT. ")
        return said.removeprefix("Failed to verify JWT. ")

    async def secret(self) -> str:
        return await self.server.store.get_token_secret("default")

    async def make(self, user_id: str = "jane", **body: Any) -> str:
        """Return a token that the server makes."""
        return str(given(await self.api.post(f"/users/{user_id}/jwts", json=body), 201)["jwt"])


@contextlib.asynccontextmanager
async def running(data_dir: Path, **settings: Any) -> AsyncIterator[Place]:
    clock = Clock()
    server = Server(Settings(data_dir=data_dir, **settings), clock=clock)
    # Nothing is executed here: the loops and the sandbox needn't start.
    await server.store.open()
    project, key = await first_access(server.store, data_dir)
    transport = httpx.ASGITransport(App(server))
    headers = {"X-Appwrite-Project": project, "X-Appwrite-Key": key}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost/v1", headers=headers) as api:
        yield Place(server, api, clock)
    await server.store.close()


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with running(tmp_path / "data") as found:
        yield found


# -- a project's own tokens -----------------------------------------------------------------------------------


async def test_a_token_is_made_in_the_contracts_form(place: Place) -> None:
    header, claims, _ = (await place.make()).split(".")
    assert base64.urlsafe_b64decode(header + "==") == b'{"typ":"JWT","alg":"HS256"}'
    assert json.loads(base64.urlsafe_b64decode(claims + "==")) == {"userId": "jane", "exp": START + 900}
    token = await place.make("joe", duration="60", teams=["t", "t/owner"])
    assert token == signed(
        b'{"typ":"JWT","alg":"HS256"}',
        b'{"userId":"joe","exp":%d,"teams":["t","t/owner"]}' % (START + 60),
        await place.secret(),
    )
    assert await place.is_user(token)


async def test_a_token_ends_ten_seconds_late(place: Place) -> None:
    token = await place.make(duration=100)
    caller = await identity.user(place.server, "default", token, START)
    assert (caller.user_id, caller.expires_at) == ("jane", START + 110)
    place.clock.now = START + 109.9
    assert await place.is_user(token)
    place.clock.now = START + 110
    assert await place.why_not(token) == "Invalid token: Expired"


@pytest.mark.parametrize(
    ("header", "claims", "reason"),
    [
        (HS256, {**JANE, "exp": START - 9}, ""),
        (HS256, {**JANE, "exp": START - 10}, "Invalid token: Expired"),
        (HS256, {**JANE, "exp": START + 0.5}, ""),
        (HS256, {**JANE, "iat": START - 889}, ""),
        (HS256, {**JANE, "iat": START - 890}, "Invalid token: Expired"),
        (HS256, {**JANE, "nbf": START + 10}, ""),
        (HS256, {**JANE, "nbf": START + 11}, "Invalid token: Not now"),
        (HS256, {"userId": "jane"}, 'Invalid token: The claim "exp" is no time'),
        (HS256, {**JANE, "exp": "tomorrow"}, 'Invalid token: The claim "exp" is no time'),
        (HS256, {**JANE, "exp": True}, 'Invalid token: The claim "exp" is no time'),
        (HS256, {**JANE, "exp": 10**400}, 'Invalid token: The claim "exp" is no time'),
        (HS256, {**JANE, "nbf": None}, 'Invalid token: The claim "nbf" is no time'),
        (HS256, b'{"userId":"jane","exp":NaN}', "JSON failed: Syntax error"),
        (HS256, b"no JSON", "JSON failed: Syntax error"),
        (HS256, b"[" * 50_000, "JSON failed: Syntax error"),
        (HS256, b"[]", 'Invalid token: The claim "exp" is no time'),
        ({**HS256, "kid": "1"}, JANE, "Invalid token: Unknown key ID"),
        ({"typ": "JWT"}, JANE, "Invalid token: Missing header algo"),
        ({**HS256, "alg": ""}, JANE, "Invalid token: Missing header algo"),
        (b"[]", JANE, "Invalid token: Missing header algo"),
        ({**HS256, "alg": "none"}, JANE, "Invalid token: Unsupported header algo"),
        ({**HS256, "alg": "hs256"}, JANE, "Invalid token: Unsupported header algo"),
        ({**HS256, "alg": "HS512"}, JANE, "Invalid token: Unsupported header algo"),
        ({**HS256, "alg": "RS256"}, JANE, "Invalid token: Unsupported header algo"),
        ({**HS256, "alg": ["HS256"]}, JANE, "Invalid token: Unsupported header algo"),
        ({**HS256, "crit": ["x"], "x": 1}, JANE, "Invalid token: Unsupported critical extension: x"),
        (b"{", JANE, "JSON failed: Syntax error"),
        (b"\xff", JANE, "JSON failed: Syntax error"),
    ],
)
async def test_a_token_that_is_signed_is_still_looked_at(place: Place, header: Any, claims: Any, reason: str) -> None:
    token = signed(header, claims, await place.secret())
    assert (await place.is_user(token)) if not reason else (await place.why_not(token) == reason)


USER = "is no user id: expected up to 36 of a-z A-Z 0-9 . _ - not starting with one of . _ -"


@pytest.mark.parametrize("user", ["", "-jane", "jane doe", "a" * 37, "jané", "auth0|1", 1, None, ["jane"]])
async def test_a_user_has_an_id(place: Place, user: object) -> None:
    token = signed(HS256, {**JANE, "userId": user}, await place.secret())
    assert await place.why_not(token) == f'Invalid token: The claim "userId" {USER}'


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda token: "x", "Invalid token: Incomplete segments"),
        (lambda token: token.rpartition(".")[0], "Invalid token: Incomplete segments"),
        (lambda token: "..", "JSON failed: Syntax error"),
        (lambda token: "!!!" + token, "JSON failed: Syntax error"),
        (lambda token: token[:-1], "Invalid token: Signature failed"),
        (lambda token: token + "A", "Invalid token: Signature failed"),
        (lambda token: token + ".x", "Invalid token: Signature failed"),
        (lambda token: token.rpartition(".")[0] + ".", "Invalid token: Signature failed"),
        (lambda token: token.rpartition(".")[0] + ".ÿ", "Invalid token: Signature failed"),
        (lambda token: token[:40] + "!" + token[41:], "Invalid token: Signature failed"),
        (
            lambda token: ".".join([token.split(".")[0], encoded({**JANE, "userId": "joe"}), token.split(".")[2]]),
            "Invalid token: Signature failed",
        ),
        (lambda token: signed(HS256, JANE, ""), "Invalid token: Signature failed"),
        (lambda token: signed(HS256, JANE, "guessed"), "Invalid token: Signature failed"),
        (
            lambda token: f"{encoded({'alg': 'none'})}.{token.split('.')[1]}.",
            "Invalid token: Unsupported header algo",
        ),
    ],
)
async def test_a_token_that_was_changed_is_refused(place: Place, change: Callable[[str], str], reason: str) -> None:
    token = change(await place.make())
    answer = await place.api.get(SEEN, headers={b"X-Appwrite-JWT": token.encode("latin-1")})
    refused(answer, 401, "user_jwt_invalid", f"Failed to verify JWT. {reason}")


async def test_a_token_counts_in_its_project_only(place: Place) -> None:
    await create_project(place.server.store, "other")
    token = await place.make()
    answer = await place.ask(token, **{"X-Appwrite-Project": "other"})
    refused(answer, 401, "user_jwt_invalid", "Failed to verify JWT. Invalid token: Signature failed")


@pytest.mark.parametrize("project", ["nobody", "", "console"])
async def test_a_token_is_not_looked_at_where_there_is_no_project(place: Place, project: str) -> None:
    for token in (await place.make(), "nonsense"):
        refused(await place.ask(token, **{"X-Appwrite-Project": project}), 404, "project_not_found")


async def test_a_user_with_a_key_is_a_user(place: Place) -> None:
    headers = {"X-Appwrite-JWT": await place.make()}
    said = "User (role: member) missing scope (functions.read)"
    refused(await place.api.get("/functions", headers=headers), 401, "general_unauthorized_scope", said)
    headers["X-Appwrite-Key"] = "wrong"
    refused(await place.api.get("/functions", headers=headers), 401, "general_unauthorized_scope", said)
    assert await place.why_not("nonsense") == "Invalid token: Incomplete segments"
    given(await place.api.get("/functions", headers={"X-Appwrite-JWT": ""}))


async def test_a_token_makes_no_tokens(place: Place) -> None:
    answer = await place.api.post("/users/jane/jwts", json={}, headers={"X-Appwrite-JWT": await place.make()})
    said = "User (role: member) missing scope (users.write)"
    refused(answer, 401, "general_unauthorized_scope", said)


TEAM = (
    " is neither the id of a team nor id/role. Parameter must contain at most 36 chars. Valid chars are a-z, A-Z, "
    "0-9, period, hyphen, and underscore. Can't start with a special char"
)


@pytest.mark.parametrize(
    ("user", "body", "message"),
    [
        (
            "-jane",
            {},
            "Invalid userId: UID must contain at most 36 chars. Valid chars are a-z, A-Z, 0-9, and underscore. "
            "Can't start with a leading underscore",
        ),
        ("jane", {"duration": 0}, "Invalid duration: Value must be a valid range between 1 and 86,400"),
        ("jane", {"duration": 86_401}, "Invalid duration: Value must be a valid range between 1 and 86,400"),
        ("jane", {"duration": "long"}, "Invalid duration: Value must be a valid range between 1 and 86,400"),
        ("jane", {"teams": "t"}, "Invalid teams: Value must be a valid array of at most 100 teams."),
        ("jane", {"teams": ["t"] * 101}, "Invalid teams: Value must be a valid array of at most 100 teams."),
        ("jane", {"teams": ["t", ""]}, f'Invalid teams: ""{TEAM}'),
        ("jane", {"teams": ["t/"]}, f'Invalid teams: "t/"{TEAM}'),
        ("jane", {"teams": ["/t"]}, f'Invalid teams: "/t"{TEAM}'),
        ("jane", {"teams": ["t/a/b"]}, f'Invalid teams: "t/a/b"{TEAM}'),
        ("jane", {"teams": ["t u"]}, f'Invalid teams: "t u"{TEAM}'),
        ("jane", {"teams": [None]}, f"Invalid teams: null{TEAM}"),
    ],
)
async def test_what_can_be_no_token_is_not_made(place: Place, user: str, body: dict[str, Any], message: str) -> None:
    refused(await place.api.post(f"/users/{user}/jwts", json=body), 400, "general_argument_invalid", message)


# -- what users do --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server that lets users execute as often as they like."""
    with serving(tmp_path_factory.mktemp("users") / "data", "--rate-limit", "0") as found:
        yield found


def token_of(api: httpx.Client, user_id: str, *teams: str) -> str:
    return str(given(api.post(f"/users/{user_id}/jwts", json={"teams": teams}), 201)["jwt"])


@pytest.fixture
def jane(server: Serving, api: httpx.Client) -> Iterator[httpx.Client]:
    headers = {"X-Appwrite-Project": server.project, "X-Appwrite-JWT": token_of(api, "jane", "t", "t/owner")}
    with client(server, headers) as found:
        yield found


@pytest.fixture
def joe(server: Serving, api: httpx.Client) -> Iterator[httpx.Client]:
    headers = {"X-Appwrite-Project": server.project, "X-Appwrite-JWT": token_of(api, "joe")}
    with client(server, headers) as found:
        yield found


def test_roles_decide_who_executes(
    api: httpx.Client, guest: httpx.Client, jane: httpx.Client, joe: httpx.Client
) -> None:
    deploy(api, "sends")
    for allowed, may in [
        (["role:all"], (guest, jane, joe)),
        (["role:guest"], (guest,)),
        (["role:member"], (jane, joe)),
        (["user:jane"], (jane,)),
        (["user:nobody", "user:joe"], (joe,)),
        (["team:t"], (jane,)),
        (["team:t/owner"], (jane,)),
        (["team:t/guest", "member:jane"], ()),
        ([], ()),
    ]:
        given(api.put("/functions/f", json={"name": "f", "execute": allowed}))
        for who in (guest, jane, joe):
            answer = who.post(EXECUTIONS, json={"data": "200 yes", "async": False})
            if who in may:
                assert given(answer, 201)["response"] == "yes"
            else:
                refused(answer, 401, "user_unauthorized")


def test_who_may_not_execute_is_told_why(api: httpx.Client, jane: httpx.Client, joe: httpx.Client) -> None:
    deploy(api, "sends", execute=["role:guest", "user:jim"])
    said = (
        'Missing "execute" permission for role "user:jim". Only this scopes '
        '"["role:all","role:member","user:jane","team:t","team:t/owner"]" are given and only this are allowed '
        '"["role:guest","user:jim"]".'
    )
    refused(jane.post(EXECUTIONS, json={}), 401, "user_unauthorized", said)
    given(api.put("/functions/f", json={"name": "f"}))
    refused(joe.post(EXECUTIONS, json={}), 401, "user_unauthorized", "No permissions provided for action 'execute'")
    assert given(api.get(EXECUTIONS))["total"] == 0


def test_users_see_their_own_executions_only(
    api: httpx.Client, guest: httpx.Client, jane: httpx.Client, joe: httpx.Client
) -> None:
    deploy(api, "sends", execute=["role:all"])
    made = {
        name: [execute(who, f"200 {name}")["$id"] for _ in range(3)]
        for name, who in {"jane": jane, "guest": guest, "joe": joe, "key": api}.items()
    }
    for name, who in {"jane": jane, "joe": joe}.items():
        listed = given(who.get(EXECUTIONS))
        assert listed["total"] == 3
        assert [one["$id"] for one in listed["executions"]] == made[name][::-1]
        assert {(one["response"], *one["$read"]) for one in listed["executions"]} == {(name, f"user:{name}")}
        assert given(who.get(EXECUTIONS, params={"limit": 1, "offset": 1}))["total"] == 3
        for owner, ids in made.items():
            for one in ids:
                found = given(who.get(EXECUTIONS, params={"search": one}))
                answer = who.get(f"{EXECUTIONS}/{one}")
                if owner == name:
                    assert found["total"] == 1
                    assert given(answer)["$read"] == [f"user:{name}"]
                else:
                    assert found == {"total": 0, "executions": []}
                    refused(answer, 404, "execution_not_found", "Execution not found")
                    said = f"Execution '{one}' for the 'cursor' value not found."
                    refused(who.get(EXECUTIONS, params={"cursor": one}), 400, "general_cursor_not_found", said)
    everything = given(api.get(EXECUTIONS))
    assert everything["total"] == 12
    assert [one["$read"] for one in everything["executions"]] == [[]] * 3 + [["user:joe"]] * 3 + [[]] * 3 + [
        ["user:jane"]
    ] * 3


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_code_knows_the_user_and_gets_no_token(api: httpx.Client, jane: httpx.Client, asynchronous: bool) -> None:
    deploy(api, "environment", execute=["role:member"])
    made = given(jane.post(EXECUTIONS, json={"async": asynchronous}), 201)
    assert made["$read"] == ["user:jane"]
    done = wait_for_execution(jane, made)
    assert (done["status"], done["$read"]) == ("completed", ["user:jane"])
    found = json.loads(done["response"])["request"]
    assert (found["APPWRITE_FUNCTION_USER_ID"], found["APPWRITE_FUNCTION_JWT"]) == ("jane", "")
    # The instance that served a user says nothing of that one to the next caller.
    found = json.loads(execute(api)["response"])["request"]
    assert (found["APPWRITE_FUNCTION_USER_ID"], found["APPWRITE_FUNCTION_JWT"]) == ("", "")


def test_users_cancel_what_is_theirs_and_delete_nothing(
    api: httpx.Client, guest: httpx.Client, jane: httpx.Client, joe: httpx.Client
) -> None:
    deploy(api, "sleeps", execute=["role:all"])
    made = given(jane.post(EXECUTIONS, json={"data": "20"}), 201)
    path = f"{EXECUTIONS}/{made['$id']}"
    for stranger in (joe, guest):
        refused(stranger.post(f"{path}/cancel"), 404, "execution_not_found")
        refused(stranger.delete(path), 404, "execution_not_found")
    ended = given(jane.post(f"{path}/cancel"))
    assert (ended["status"], ended["layer"]) == ("failed", "cancelled")
    said = "Only API keys may delete executions; a user may cancel them"
    refused(jane.delete(path), 401, "user_unauthorized", said)
    given(api.delete(path), 204)


# -- the command line -----------------------------------------------------------------------------------------


def command(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "nbfunctions", "jwt", *arguments, "--data-dir", str(data_dir)]
    environment = clean_environment(data_dir.parent)
    return subprocess.run(line, env=environment, capture_output=True, text=True, check=False)


def test_the_command_line_makes_tokens(server: Serving, api: httpx.Client) -> None:
    deploy(api, "environment", execute=["team:t/owner"])
    line = ["--user", "jane", "--team", "u", "--team", "t/owner"]
    token = command(server.data_dir, *line).stdout.removesuffix("\n")
    with client(server, {"X-Appwrite-Project": server.project, "X-Appwrite-JWT": token}) as jane:
        assert execute(jane)["$read"] == ["user:jane"]
    shown = json.loads(command(server.data_dir, *line, "--expires", "60", "--json").stdout)
    assert list(shown) == ["jwt", "expires"]
    claims = jwt.decode(shown["jwt"], options={"verify_signature": False})
    assert (claims["userId"], claims["teams"]) == ("jane", ["u", "t/owner"])
    assert 0 < claims["exp"] - time.time() <= 60
    ends = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(claims["exp"]))
    assert shown["expires"] == ends


IDS = "up to 36 of a-z A-Z 0-9 . _ - not starting with one of . _ -"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--user", "jane doe"], f"user: expected {IDS}, found 'jane doe'"),
        (["--user", ""], f"user: expected {IDS}, found ''"),
        (["--user", "jane", "--team", "t//x"], f"team: expected an id or ID/ROLE, each {IDS}, found 't//x'"),
        (["--user", "jane", "--expires", "0"], "expires: expected 1 to 86400 seconds from now, found 0"),
        (["--user", "jane", "--expires", "86401"], "expires: expected 1 to 86400 seconds from now, found 86401"),
        (
            ["--user", "jane", "--project", "nobody"],
            "there is no project 'nobody'; `nbfunctions projects list` shows them",
        ),
    ],
)
def test_the_command_line_says_in_one_line_what_is_wrong(server: Serving, arguments: list[str], said: str) -> None:
    done = command(server.data_dir, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"nbfunctions: {said}\n")


# -- an issuer's tokens ---------------------------------------------------------------------------------------


RSA = rsa.generate_private_key(65537, 2048)
KEYS: dict[str, Any] = {
    "RS256": RSA,
    "PS256": RSA,
    "RS512": RSA,
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
"""By what they sign with."""


class Provider:
    """An identity provider: publishes keys on loopback and signs tokens."""

    def __init__(self) -> None:
        self.keys: dict[str, tuple[str, Any]] = {}
        """Algorithm and private key, by id."""
        self.asked = 0
        self.answer: Callable[[BaseHTTPRequestHandler], None] | None = None
        """What it does instead of answering as it should."""
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked += 1
                if provider.answer is not None:
                    provider.answer(self)
                else:
                    reply(self, json.dumps({"keys": provider.published()}).encode())

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/keys"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._http.shutdown()
            self._thread.join()
            self._http.server_close()

    def add(self, algorithm: str, kid: str | None = None, key: Any = None) -> None:
        self.keys[kid or algorithm] = (algorithm, key or KEYS[algorithm])

    def published(self) -> list[dict[str, Any]]:
        found = []
        for kid, (algorithm, key) in self.keys.items():
            described = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
            found.append({**described, "kid": kid, "use": "sig"})
        return found

    def sign(self, kid: str = "RS256", header: dict[str, Any] | None = None, **claims: Any) -> str:
        algorithm, key = self.keys[kid]
        usual = {"iss": "https://id.example.org", "aud": "here", "sub": "jane", "exp": START + 3600}
        said = {name: value for name, value in {**usual, **claims}.items() if value is not ...}
        return jwt.encode(said, key, algorithm, headers={"kid": kid, **(header or {})})


def reply(
    request: BaseHTTPRequestHandler, body: bytes, status: int = 200, *, length: int | None = None, location: str = ""
) -> None:
    request.send_response(status)
    request.send_header("Content-Length", str(len(body) if length is None else length))
    if location:
        request.send_header("Location", location)
    request.end_headers()
    with contextlib.suppress(OSError):  # whoever asked may have had enough
        request.wfile.write(body)


@pytest.fixture
def provider() -> Iterator[Provider]:
    found = Provider()
    found.add("RS256")
    yield found
    found.stop()


@pytest.fixture
async def trusting(tmp_path: Path, provider: Provider) -> AsyncIterator[Place]:
    """A server that takes the provider's tokens."""
    settings = {"jwt_issuer": "https://id.example.org", "jwt_audience": "here"}
    async with running(tmp_path / "data", jwt_jwks_url=provider.url, **settings) as found:
        yield found


@pytest.mark.parametrize("algorithm", KEYS)
async def test_an_issuers_user_is_a_user(trusting: Place, provider: Provider, algorithm: str) -> None:
    provider.add(algorithm)
    teams = ["t", "t/owner", "no team", "/x", 7, None, "u/y"]
    token = provider.sign(algorithm, email="jane@example.org", teams=teams, iat=START)
    caller = await identity.user(trusting.server, "default", token, START)
    assert (caller.user_id, caller.who, caller.expires_at) == ("jane", "jane@example.org", START + 3610)
    assert list(caller.roles[3:]) == ["team:t", "team:t/owner", "team:u", "team:u/y"]
    answer = await trusting.api.get("/functions", headers={"X-Appwrite-JWT": token})
    said = "jane@example.org (role: member) missing scope (functions.read)"
    refused(answer, 401, "general_unauthorized_scope", said)
    await create_project(trusting.server.store, "other")
    refused(await trusting.ask(token, **{"X-Appwrite-Project": "other"}), 404, "function_not_found")
    refused(await trusting.ask(token, **{"X-Appwrite-Project": "nobody"}), 404, "project_not_found")
    assert await trusting.is_user(await trusting.make()), "the project's own tokens go on"
    assert provider.asked == 1


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"iss": "https://id.example.org/"}, "Invalid token: Unknown issuer"),
        ({"iss": ...}, "Invalid token: Unknown issuer"),
        ({"aud": "elsewhere"}, "Invalid token: Not for this audience"),
        ({"aud": ["there", "elsewhere"]}, "Invalid token: Not for this audience"),
        ({"aud": ...}, "Invalid token: Not for this audience"),
        ({"aud": ["there", "here"]}, ""),
        ({"exp": START - 9}, ""),
        ({"exp": START - 10}, "Invalid token: Expired"),
        ({"exp": ...}, 'Invalid token: The claim "exp" is no time'),
        ({"nbf": START + 11}, "Invalid token: Not now"),
        ({"iat": START + 11}, "Invalid token: Not now"),
        ({"iat": START - 100_000}, ""),
        ({"sub": "auth0|1"}, f'Invalid token: The claim "sub" {USER}'),
        ({"sub": ...}, f'Invalid token: The claim "sub" {USER}'),
        ({"teams": "t"}, ""),
        ({"email": 7}, ""),
    ],
)
async def test_an_issuers_token_must_be_for_us(
    trusting: Place, provider: Provider, claims: dict[str, Any], reason: str
) -> None:
    token = provider.sign(**claims)
    assert (await trusting.is_user(token)) if not reason else (await trusting.why_not(token) == reason)


def test_an_issuers_user_executes_on_a_server_that_was_told_so(tmp_path: Path, provider: Provider) -> None:
    options = ["--jwt-jwks-url", provider.url, "--jwt-issuer", "https://id.example.org", "--jwt-audience", "here"]
    with serving(tmp_path / "data", *options) as told, client(told) as api:
        deploy(api, "environment", execute=["team:t"])
        token = provider.sign(teams=["t"], exp=int(time.time()) + 60)
        with client(told, {"X-Appwrite-Project": told.project, "X-Appwrite-JWT": token}) as jane:
            done = execute(jane)
            assert done["$read"] == ["user:jane"]
            assert json.loads(done["response"])["request"]["APPWRITE_FUNCTION_USER_ID"] == "jane"
            assert given(jane.get(EXECUTIONS))["total"] == 1


async def test_claims_may_have_other_names(tmp_path: Path, provider: Provider) -> None:
    settings = {"jwt_issuer": "https://id.example.org", "jwt_audience": "here", "jwt_user_claim": "uid"}
    async with running(tmp_path, jwt_jwks_url=provider.url, jwt_teams_claim="https://x/groups", **settings) as place:
        claims: dict[str, Any] = {"uid": "joe", "teams": ["t"], "https://x/groups": ["g/admin"]}
        token = provider.sign(**claims)
        caller = await identity.user(place.server, "default", token, START)
        assert caller.roles == ("role:all", "role:member", "user:joe", "team:g", "team:g/admin")


async def test_what_an_issuer_did_not_sign_is_refused(trusting: Place, provider: Provider) -> None:
    provider.add("ES256")
    claims = {"iss": "https://id.example.org", "aud": "here", "sub": "jane", "userId": "jane", "exp": START + 60}
    pem = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = RSA.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for public in (pem, pem.rstrip(), der, json.dumps(provider.published()[0]).encode()):
        assert await trusting.why_not(signed(HS256, claims, public)) == "Invalid token: Signature failed"
        said = await trusting.why_not(signed({**HS256, "kid": "RS256"}, claims, public))
        assert said == "Invalid token: Unknown key ID"
    good = provider.sign()
    header, payload, signature = good.split(".")
    changed = encoded({**claims, "sub": "joe"})
    stranger = jwt.encode(claims, rsa.generate_private_key(65537, 2048), "RS256", headers={"kid": "RS256"})
    for token, reason in [
        (f"{header}.{changed}.{signature}", "Signature failed"),
        (f"{header}.{payload}.", "Signature failed"),
        (stranger, "Signature failed"),
        (f"{encoded({'alg': 'none', 'kid': 'RS256'})}.{payload}.", "Unsupported header algo"),
        (f"{encoded({'alg': 'HS384', 'kid': 'RS256'})}.{payload}.{signature}", "Unsupported header algo"),
        (f"{encoded({'alg': 'PS256', 'kid': 'RS256'})}.{payload}.{signature}", "Signature failed"),
        (f"{encoded({'alg': 'ES256', 'kid': 'RS256'})}.{payload}.{signature}", "Unknown key ID"),
        (
            f"{encoded({'alg': 'ES384', 'kid': 'ES256'})}.{payload}.{signature}",
            "The key's curve 'secp256r1' does not match the expected curve 'secp384r1' for this algorithm",
        ),
        (f"{encoded({'alg': 'RS256', 'kid': ['RS256']})}.{payload}.{signature}", "Unknown key ID"),
        (provider.sign(header={"kid": "nobody's"}), "Unknown key ID"),
    ]:
        assert await trusting.why_not(token) == f"Invalid token: {reason}", token
    assert await trusting.is_user(good)
    assert provider.asked == 1


async def test_a_key_that_is_not_named_is_the_only_one(trusting: Place, provider: Provider) -> None:
    token = jwt.encode(jwt.decode(provider.sign(), options={"verify_signature": False}), RSA, "RS256")
    assert "kid" not in jwt.get_unverified_header(token)
    assert await trusting.is_user(token)
    provider.add("RS256", "second", rsa.generate_private_key(65537, 2048))
    trusting.clock.now += issuer.FRESH
    assert await trusting.is_user(token), "newer keys are not waited for"
    await fetched(trusting)
    assert await trusting.why_not(token) == "Invalid token: Unknown key ID"


async def fetched(place: Place) -> None:
    """Wait until keys that are fetched beside are there."""
    found = place.server.issuer
    assert found is not None
    async with asyncio.timeout(10):
        while found._fetching is not None:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.005)


async def test_keys_change(trusting: Place, provider: Provider) -> None:
    old = provider.sign()
    assert await trusting.is_user(old)
    provider.add("RS256", "new", rsa.generate_private_key(65537, 2048))
    new = provider.sign("new")
    trusting.clock.now += issuer.PAUSE - 1
    assert await trusting.why_not(new) == "Invalid token: Unknown key ID"
    assert provider.asked == 1
    trusting.clock.now += 1
    assert await trusting.is_user(new)
    assert await trusting.is_user(old)
    for number in range(20):
        token = provider.sign("new", {"kid": f"invented {number}"})
        assert await trusting.why_not(token) == "Invalid token: Unknown key ID"
    assert provider.asked == 2
    del provider.keys["RS256"]
    trusting.clock.now += issuer.FRESH
    assert await trusting.is_user(old)
    await fetched(trusting)
    assert await trusting.why_not(old) == "Invalid token: Unknown key ID"
    assert await trusting.is_user(new)
    assert provider.asked == 3


GONE = "The keys of its issuer can't be fetched at the moment"


def fails(request: BaseHTTPRequestHandler) -> None:
    reply(request, b"sorry", 503)


async def test_an_issuer_that_is_down_is_a_refusal_and_a_line_in_the_log(
    trusting: Place, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    provider.answer = fails
    for _ in range(3):
        assert await trusting.why_not(provider.sign()) == GONE
    assert [record.getMessage() for record in caplog.records] == [
        f"the keys of {provider.url} can't be fetched: HTTP Error 503: Service Unavailable"
    ]
    assert provider.asked == 1
    provider.answer = None
    assert await trusting.is_user(await trusting.make())
    trusting.clock.now += issuer.PAUSE
    assert await trusting.is_user(provider.sign())


async def test_keys_that_are_known_outlive_a_short_failure(
    trusting: Place, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    token = provider.sign(exp=START + 10_000)
    assert await trusting.is_user(token)
    provider.stop()
    trusting.clock.now += issuer.KEPT - 1
    assert await trusting.is_user(token)
    await fetched(trusting)
    assert "Connection refused" in caplog.text
    trusting.clock.now += 1
    assert await trusting.why_not(token) == GONE
    trusting.clock.now += issuer.PAUSE
    assert await trusting.why_not(token) == GONE


async def test_an_issuer_that_says_nothing_holds_nobody_up_for_long(
    trusting: Place, provider: Provider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(issuer, "TIMEOUT", 0.5)
    silence = threading.Event()
    provider.answer = lambda _: waits(silence)
    asked = asyncio.gather(*(trusting.why_not(provider.sign()) for _ in range(20)))
    assert await trusting.is_user(await trusting.make())
    assert not asked.done(), "others are not held up"
    async with asyncio.timeout(15):
        assert set(await asked) == {GONE}
    assert provider.asked == 1
    assert len(caplog.records) == 1
    silence.set()


def waits(event: threading.Event) -> None:
    event.wait(20)


def drips(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    with contextlib.suppress(OSError):
        for _ in range(100):
            request.wfile.write(b" ")
            request.wfile.flush()
            time.sleep(0.05)


def leads_elsewhere(request: BaseHTTPRequestHandler) -> None:
    if request.path == "/keys":
        reply(request, b"", 302, location="/other")
    else:
        reply(request, b'{"keys": []}')


def weak_key() -> bytes:
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505 - that is the point
    described = jwt.get_algorithm_by_name("RS256").to_jwk(weak.public_key(), as_dict=True)
    return json.dumps({"keys": [{**described, "kid": "RS256"}]}).encode()


@pytest.mark.parametrize(
    ("answer", "logged"),
    [
        (lambda request: reply(request, b"<html>"), "no set of keys: "),
        (lambda request: reply(request, b"[]"), "no set of keys: "),
        (lambda request: reply(request, b'{"keys": {}}'), "no set of keys: "),
        (lambda request: reply(request, b'{"keys": [1]}'), "no set of keys: "),
        (lambda request: reply(request, b"[" * 100_000), "no set of keys: "),
        (lambda request: reply(request, b'{"keys": []}'), "none of its 0 keys can be used"),
        (
            lambda request: reply(request, b'{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "RS256"}]}'),
            "none of its 1 keys can be used",
        ),
        (lambda request: reply(request, b'{"keys": [{"kty": "RSA", "kid": "RS256"}]}'), "can't be used: "),
        (lambda request: reply(request, b'{"keys": [{"kty": ["RSA"], "kid": 1}]}'), "none of its 1 keys can be used"),
        (
            lambda request: reply(request, b'{"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": 7}]}'),
            "can't be used: ",
        ),
        (lambda request: reply(request, b" " * 1_000_001), "more than 1000000 bytes"),
        (leads_elsewhere, "HTTP Error 302: Found"),
        (lambda request: request.wfile.write(b"what?\r\n"), "what?"),
        (lambda request: None, "closed connection"),
        (lambda request: reply(request, b"{", length=100), "no set of keys: "),
        (drips, "no end within 0.3 s"),
    ],
)
async def test_what_is_no_set_of_keys_is_a_refusal_and_a_line_in_the_log(
    trusting: Place,
    provider: Provider,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[[BaseHTTPRequestHandler], None],
    logged: str,
) -> None:
    monkeypatch.setattr(issuer, "TIMEOUT", 0.3)
    provider.answer = answer
    with caplog.at_level(logging.WARNING):
        assert await trusting.why_not(provider.sign()) == GONE
    assert logged in caplog.text
    assert provider.asked == 1


async def test_a_key_that_is_too_short_proves_nothing(trusting: Place, provider: Provider) -> None:
    body = weak_key()
    provider.answer = lambda request: reply(request, body)
    assert "RSA key is 1024 bits" in await trusting.why_not(provider.sign())


async def test_keys_of_other_kinds_stand_beside(trusting: Place, provider: Provider) -> None:
    others = [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "a"},
        {**provider.published()[0], "kid": "e", "use": "enc"},
        {**provider.published()[0], "alg": "RSA-OAEP"},
        {**provider.published()[0], "kid": "b", "alg": "RS512"},
        {"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA", "kid": "c"},
        {"kty": "quantum"},
    ]
    body = json.dumps({"keys": [*others, *provider.published()]}).encode()
    provider.answer = lambda request: reply(request, body)
    assert await trusting.is_user(provider.sign())
    for kid in ("b", "e"):
        assert await trusting.why_not(provider.sign(header={"kid": kid})) == "Invalid token: Unknown key ID"


ISSUER = {"jwt_issuer": "https://id.example.org", "jwt_audience": "here"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"jwt_jwks_url": "https://id.example.org/keys"},
            "jwt_issuer: with jwt_jwks_url it must say whose tokens count, found nothing",
        ),
        (
            {"jwt_jwks_url": "https://id.example.org/keys", "jwt_issuer": "https://id.example.org"},
            "jwt_audience: with jwt_jwks_url it must say for whom they must be, found nothing",
        ),
        ({"jwt_issuer": "x"}, "jwt_issuer: it means nothing without jwt_jwks_url, which is not set"),
        ({"jwt_audience": "x"}, "jwt_audience: it means nothing without jwt_jwks_url, which is not set"),
        *(
            (
                {**ISSUER, "jwt_jwks_url": url},
                "jwt_jwks_url: expected an address that begins with https://, or with http:// on this machine itself, "
                f"found {url!r}",
            )
            for url in (
                "http://id.example.org/keys",
                "http://127.0.0.1.example.org/keys",
                "http://localhost@example.org/keys",
                "file:///etc/passwd",
                "ftp://127.0.0.1/keys",
                "https://",
                "https://[::1",
                "id.example.org",
            )
        ),
    ],
)
def test_an_issuer_that_is_told_by_halves_is_refused(tmp_path: Path, settings: dict[str, str], said: str) -> None:
    with pytest.raises(SettingInvalid) as raised:
        Server(Settings(data_dir=tmp_path, **settings))  # type: ignore[arg-type]
    assert str(raised.value) == said


def test_a_server_that_is_told_by_halves_does_not_start(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "nbfunctions", "serve", "--port", "0", "--data-dir", str(tmp_path / "data")]
    done = subprocess.run(
        [*line, "--jwt-jwks-url", "https://id.example.org/keys"],
        env=clean_environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    said = "nbfunctions: jwt_issuer: with jwt_jwks_url it must say whose tokens count, found nothing\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("url", ["http://localhost:1/k", "http://[::1]:1/k", "http://127.9.9.9/k", "https://x.y/k"])
def test_keys_are_fetched_by_tls_or_from_this_machine(tmp_path: Path, url: str) -> None:
    assert Server(Settings(data_dir=tmp_path, jwt_jwks_url=url, **ISSUER)).issuer is not None  # type: ignore[arg-type]
