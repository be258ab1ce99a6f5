"""How often users and guests may execute (spec, section 12.2): the clock is the test's, the server is real."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from nbfunctions.errors import GeneralRateLimitExceeded
from nbfunctions.server.administration import first_access
from nbfunctions.server.app import App
from nbfunctions.server.limits import ADDRESSES, Counted, RateLimit, client_address
from nbfunctions.server.server import Server
from nbfunctions.settings import Settings
from tests.server.asking import client, deploy, given, refused
from tests.server.inside import START, Clock
from tests.serving import Serving, serving

NOW = int(START)
"""In the middle of a minute: windows begin with minutes, not with the first call."""
END = NOW + 30
PATH = "/functions/f/executions"
NAMES = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "retry-after")
PEER = "127.0.0.1"
OTHER = "203.0.113.5"


class Place:
    """A server in this process, with a clock of its own."""

    def __init__(self, server: Server, clock: Clock, key: str) -> None:
        self.app, self.clock, self.key = App(server), clock, key

    @contextlib.asynccontextmanager
    async def caller(self, headers: dict[str, str] | None = None, *, peer: str = PEER) -> AsyncIterator[Any]:
        """Yield a client that calls from an address."""
        transport = httpx.ASGITransport(self.app, client=(peer, 1))
        sent = {"X-Appwrite-Project": "default", **(headers or {})}
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost/v1", headers=sent) as found:
            yield found

    async def ask(
        self, times: int = 1, *, headers: dict[str, str] | None = None, peer: str = PEER, **request: Any
    ) -> httpx.Response:
        """Ask for an execution of a function that isn't there, so many times; return the last answer."""
        async with self.caller(headers, peer=peer) as found:
            for _ in range(times):
                answer = await found.post(PATH, **request)
        return answer  # type: ignore[no-any-return]


@contextlib.asynccontextmanager
async def running(data_dir: Path, **settings: Any) -> AsyncIterator[Place]:
    clock = Clock()
    async with Server(Settings(data_dir=data_dir, **settings), clock=clock) as server:
        _, key = await first_access(server.store, data_dir)
        yield Place(server, clock, key)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with running(tmp_path / "data") as found:
        yield found


def told(answer: httpx.Response) -> tuple[str | None, ...]:
    """Return what an answer says of the limit: limit, remaining, reset, when to come again."""
    return tuple(answer.headers.get(name) for name in NAMES)


def allowed(answer: httpx.Response, remaining: int, *, limit: int = 60, reset: int = END) -> None:
    refused(answer, 404, "function_not_found")
    assert told(answer) == (str(limit), str(remaining), str(reset), None)


def exceeded(answer: httpx.Response, seconds: int, *, limit: int = 60, reset: int = END) -> None:
    refused(answer, 429, "general_rate_limit_exceeded", "Too many requests")
    assert told(answer) == (str(limit), "0", str(reset), str(seconds))


async def token(place: Place, user_id: str) -> str:
    async with place.caller({"X-Appwrite-Key": place.key}) as api:
        return str(given(await api.post(f"/users/{user_id}/jwts"), 201)["jwt"])


# -- through the application --------------------------------------------------------------------------------


async def test_a_guest_has_sixty_calls_a_minute(place: Place) -> None:
    for number in range(60):
        allowed(await place.ask(), 59 - number)
    exceeded(await place.ask(), 30)
    place.clock.now = END - 0.4
    exceeded(await place.ask(5), 1)
    place.clock.now = END
    allowed(await place.ask(), 59, reset=END + 60)
    place.clock.now = END + 59.9
    allowed(await place.ask(), 58, reset=END + 60)


async def test_a_user_has_sixty_calls_a_minute_from_an_address(place: Place) -> None:
    jane = {"X-Appwrite-JWT": await token(place, "jane")}
    joe = {"X-Appwrite-JWT": await token(place, "joe")}
    allowed(await place.ask(headers=jane), 59)
    allowed(await place.ask(29, headers=jane), 30)
    allowed(await place.ask(30, headers=joe), 0)
    for headers in (jane, joe, None):
        exceeded(await place.ask(headers=headers), 30)
    allowed(await place.ask(headers=jane, peer=OTHER), 59)


async def test_all_functions_of_an_address_count_together(place: Place) -> None:
    async with place.caller() as guest:
        for number in range(60):
            refused(await guest.post(f"/functions/f{number}/executions"), 404, "function_not_found")
    exceeded(await place.ask(), 30)


async def test_a_key_is_told_and_never_refused_or_counted(place: Place) -> None:
    headers = {"X-Appwrite-Key": place.key}
    allowed(await place.ask(70, headers=headers), 59)
    allowed(await place.ask(60), 0)
    exceeded(await place.ask(), 30)
    allowed(await place.ask(3, headers=headers), 0)
    exceeded(await place.ask(headers={"X-Appwrite-Key": "wrong"}), 30)


async def test_a_key_beside_a_users_token_does_not_count(place: Place) -> None:
    headers = {"X-Appwrite-Key": place.key, "X-Appwrite-JWT": await token(place, "jane")}
    allowed(await place.ask(60, headers=headers), 0)
    exceeded(await place.ask(headers=headers), 30)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"json": {"async": "no"}}, "Invalid async: Value must be a valid boolean"),
        ({"json": {"data": 1}}, "Invalid data: Value must be a valid string and no longer than 8192 chars"),
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, None),
    ],
)
async def test_a_call_with_bad_parameters_counts(place: Place, request_: Any, message: str | None) -> None:
    for remaining in (59, 58):
        answer = await place.ask(**request_)
        refused(answer, 400, "general_argument_invalid", message)
        assert told(answer) == ("60", str(remaining), str(END), None)
    await place.ask(58)
    exceeded(await place.ask(**request_), 30)  # before its parameters are looked at


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"X-Appwrite-Project": "nobody"}, 404),
        ({"X-Appwrite-JWT": "x"}, 401),
        ({"Origin": "https://evil.example"}, 403),
        ({"Host": "evil.example"}, 403),
    ],
)
async def test_a_call_that_is_refused_before_does_not_count(place: Place, headers: dict[str, str], code: int) -> None:
    answer = await place.ask(70, headers=headers)
    assert answer.status_code == code
    assert told(answer) == (None,) * 4
    allowed(await place.ask(), 59)


async def test_other_routes_are_neither_told_nor_counted(place: Place) -> None:
    headers = {"X-Appwrite-JWT": await token(place, "jane")}
    async with place.caller(headers) as user:
        for method, path in [
            ("GET", PATH),
            ("GET", f"{PATH}/e"),
            ("POST", f"{PATH}/e/cancel"),
            ("DELETE", f"{PATH}/e"),
            ("OPTIONS", PATH),
            ("GET", "/functions"),
            ("GET", "/health/version"),
            ("POST", "/nothing"),
        ]:
            assert told(await user.request(method, path)) == (None,) * 4, (method, path)
    allowed(await place.ask(), 59)
    await place.ask(60)
    async with place.caller(headers) as user:
        refused(await user.get(PATH), 404, "function_not_found")


# -- behind a proxy -----------------------------------------------------------------------------------------


async def test_a_proxy_on_this_machine_says_who_calls(place: Place) -> None:
    exceeded(await place.ask(61), 30)
    for number in range(3):
        allowed(await place.ask(headers={"X-Forwarded-For": f"203.0.113.{number}"}), 59)
    allowed(await place.ask(59, headers={"X-Forwarded-For": OTHER}), 1)
    allowed(await place.ask(peer=OTHER), 0)  # the same, coming itself
    exceeded(await place.ask(headers={"X-Forwarded-For": OTHER}), 30)


async def test_what_the_caller_invents_before_the_proxys_word_does_not_help(place: Place) -> None:
    for number in range(60):
        allowed(await place.ask(headers={"X-Forwarded-For": f"198.51.100.{number}, {OTHER}"}), 59 - number)
    for invented in (f"198.51.100.99, {OTHER}", f"x, {OTHER}, 127.0.0.1", f"{OTHER}:81"):
        exceeded(await place.ask(headers={"X-Forwarded-For": invented}), 30)


async def test_what_is_said_from_another_machine_does_not_count(place: Place) -> None:
    for number in range(60):
        await place.ask(peer=OTHER, headers={"X-Forwarded-For": f"198.51.100.{number}"})
    exceeded(await place.ask(peer=OTHER, headers={"X-Forwarded-For": "198.51.100.99"}), 30)
    exceeded(await place.ask(peer=OTHER, headers={"X-Forwarded-For": PEER}), 30)
    allowed(await place.ask(headers={"X-Forwarded-For": "198.51.100.99"}), 59)


@pytest.mark.parametrize(
    ("forwarded", "found"),
    [
        (None, PEER),
        ("", PEER),
        (OTHER, OTHER),
        (f" {OTHER} ", OTHER),
        (f"198.51.100.1, {OTHER}", OTHER),
        (f"198.51.100.1,{OTHER}, 127.0.0.1, ::1", OTHER),
        (f"{OTHER}:4711", OTHER),
        ("2001:DB8:0::1", "2001:db8::/64"),
        ("[2001:db8::1]", "2001:db8::/64"),
        ("[2001:db8::1]:4711", "2001:db8::/64"),
        (f"::ffff:{OTHER}", OTHER),
        ("127.0.0.1", PEER),
        ("::1, ::ffff:127.0.0.1, 127.0.0.9:80", PEER),
        ("unknown", PEER),
        (f"{OTHER}, unknown", PEER),
        (f"{OTHER}, ", PEER),
        ("x" * 100_000, PEER),
        ("," * 100_000, PEER),
        ("127.0.0.1," * 20_000, PEER),
        ("fe80::1%" + "x" * 5000, PEER),
        ("٢.1.1.1", PEER),
        ("\xff", PEER),
        ("10.0.0.1\0", PEER),
    ],
)
def test_the_last_address_that_is_not_this_machine_is_the_callers(forwarded: str | None, found: str) -> None:
    headers = {} if forwarded is None else {"x-forwarded-for": forwarded}
    for peer in (PEER, "::1", "127.0.0.53", "::ffff:127.0.0.1"):
        assert client_address(peer, headers) == (peer if found == PEER else found)
    for peer in ("198.51.100.7", ""):
        assert client_address(peer, headers) == peer
    assert client_address("::ffff:198.51.100.7", headers) == "198.51.100.7"
    assert client_address("2001:db8::7:0:0:1", headers) == client_address("2001:db8::7", headers) == "2001:db8::/64"


# -- settings -----------------------------------------------------------------------------------------------


async def test_limit_and_window_are_settings(tmp_path: Path) -> None:
    async with running(tmp_path, rate_limit=2, rate_limit_window=7) as place:
        reset = NOW // 7 * 7 + 7
        allowed(await place.ask(), 1, limit=2, reset=reset)
        allowed(await place.ask(), 0, limit=2, reset=reset)
        exceeded(await place.ask(), reset - NOW, limit=2, reset=reset)
        place.clock.now = reset
        allowed(await place.ask(), 1, limit=2, reset=reset + 7)


async def test_there_may_be_no_limit(tmp_path: Path) -> None:
    async with running(tmp_path, rate_limit=0) as place:
        answer = await place.ask(70)
        refused(answer, 404, "function_not_found")
        assert told(answer) == (None,) * 4


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server with three calls an hour."""
    options = ("--rate-limit", "3", "--rate-limit-window", "3600")
    with serving(tmp_path_factory.mktemp("strict") / "data", *options) as found:
        yield found


def test_a_server_process_counts_what_is_executed(strict: Serving) -> None:
    project = {"X-Appwrite-Project": strict.project}
    with client(strict) as api, client(strict, project) as guest:
        deploy(api, "sends", execute=["role:all"])
        for remaining in (2, 1, 0):
            answer = guest.post(PATH, json={"data": "200 x", "async": False})
            assert given(answer, 201)["response"] == "x"
            assert answer.headers.get_list("x-ratelimit-remaining") == [str(remaining)]
            assert int(answer.headers["x-ratelimit-reset"]) % 3600 == 0
        answer = guest.post(PATH, json={"data": "200 x"})
        refused(answer, 429, "general_rate_limit_exceeded", "Too many requests")
        assert 1 <= int(answer.headers["retry-after"]) <= 3600
        assert answer.headers["access-control-allow-origin"] == "http://localhost"
        assert given(api.get(PATH))["total"] == 3
        elsewhere = guest.post(PATH, json={"data": "200 x"}, headers={"X-Forwarded-For": OTHER})
        assert given(elsewhere, 201)["status"] == "waiting"
        given(api.post(PATH, json={"data": "200 x"}), 201)


# -- counting itself ----------------------------------------------------------------------------------------


def test_a_window_begins_with_a_multiple_of_its_length() -> None:
    limit = RateLimit(2, 60)
    assert limit.count("a", 59.9, exempt=False) == Counted(2, 1, 60, False)
    assert limit.count("a", 59.9, exempt=False) == Counted(2, 0, 60, False)
    assert limit.count("a", 59.9, exempt=False) == Counted(2, 0, 60, True)
    assert limit.count("a", 60.0, exempt=False) == Counted(2, 1, 120, False)
    assert limit.count("a", 180.0, exempt=False) == Counted(2, 1, 240, False)
    assert limit.count("a", 100.0, exempt=False) == Counted(2, 1, 120, False)  # a clock that was set back


def test_one_call_too_many_is_refused() -> None:
    Counted(2, 0, 60, False).demand()
    with pytest.raises(GeneralRateLimitExceeded):
        Counted(2, 0, 60, True).demand()


def test_counters_fill_no_memory_without_end() -> None:
    limit = RateLimit(2, 60)
    for number in range(ADDRESSES):
        assert not limit.count(f"address {number}", 1.0, exempt=False).exceeded
    further = [limit.count(f"further {number}", 1.0, exempt=False).exceeded for number in range(20_000)]
    assert len(limit._used) == ADDRESSES + 1
    assert further == [False, False] + [True] * 19_998  # they share one
    assert limit.count("address 7", 1.0, exempt=False) == Counted(2, 0, 60, False)  # which the others don't
    assert limit.count("further 1", 61.0, exempt=False) == Counted(2, 1, 120, False)
