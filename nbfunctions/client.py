"""The Functions API over HTTP: one typed method per endpoint (spec, section 1). The only file that imports httpx."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from nbfunctions import __version__
from nbfunctions.errors import ApiError, ConnectionFailed, GeneralRouteNotFound
from nbfunctions.models import (
    Deployment,
    DeploymentList,
    Emitted,
    ErrorAnswer,
    Execution,
    ExecutionList,
    Function,
    FunctionList,
    RuntimeList,
    UsageFunctions,
    UsageRange,
)

__all__ = ["CHUNK", "Address", "Client", "Deployments", "Events", "Executions", "Functions", "Users"]

CHUNK: Final = 5 * 1024 * 1024
"""Bytes of one part of a chunked upload (spec, section 5.2)."""

TIMEOUT: Final = 30.0
"""Seconds an answer may take, executions apart."""

EXECUTION_TIMEOUT: Final = 960.0
"""Seconds a synchronous execution may take where the function's own limit isn't known: the longest and a cold start."""

T = TypeVar("T")

Address = tuple[str, str, str]
"""Endpoint, project and key."""


class Client:
    """A connection to one project of one server. Threads may share it.

    ``relocate``, if given, is asked for the server's new address when nothing answers at the old one: the embedded
    server is started anew with another port. A request that reached no server is sent again, once.
    """

    def __init__(self, endpoint: str, project: str, key: str, *, relocate: Callable[[], Address] | None = None) -> None:
        self.endpoint = endpoint.rstrip("/")
        self.project = project
        self._key = key
        self._relocate = relocate
        self._http = httpx.Client(
            timeout=httpx.Timeout(TIMEOUT, connect=10.0),
            # A proxy of the environment can't reach this machine's own loopback.
            trust_env=not _is_loopback(self.endpoint),
            limits=httpx.Limits(max_connections=100, max_keepalive_connections=20),
            headers={
                "X-SDK-Version": f"nbfunctions:python:{__version__}",
                # Within this machine, compressing takes longer than sending.
                **({"Accept-Encoding": "identity"} if _is_loopback(self.endpoint) else {}),
            },
        )
        self.functions = Functions(self)
        self.deployments = Deployments(self)
        self.executions = Executions(self)
        self.events = Events(self)
        self.users = Users(self)

    def __repr__(self) -> str:
        return f"Client(endpoint={self.endpoint!r}, project={self.project!r})"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the client can't be used afterwards."""
        self._http.close()

    def health_version(self) -> str:
        """Return the server's version; needs no key (spec, section 12.3)."""
        return self.request("GET", "/health/version", dict[str, str]).get("version", "")

    def check_key(self) -> None:
        """Raise :class:`~nbfunctions.errors.ApiError` unless the project knows the key (spec, section 12.3)."""
        self.request("GET", "/health", dict[str, Any])

    def request(
        self,
        method: str,
        path: str,
        answer: type[T],
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        form: Mapping[str, str] | None = None,
        file: tuple[str, bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> T:
        """Send one request and return its answer as ``answer``; an empty answer is for ``answer=type(None)``.

        Raises the :class:`~nbfunctions.errors.ApiError` that the server answered, or
        :class:`~nbfunctions.errors.ConnectionFailed` when there was no answer of this API.
        """
        options: dict[str, Any] = {}
        if query is not None:
            options["params"] = {name: value for name, value in query.items() if value not in (None, "")}
        if body is not None:
            options["content"] = msgspec.json.encode(body)
        if form is not None:
            options["data"] = dict(form)
        if file is not None:
            options["files"] = {"code": (file[0], file[1], "application/gzip")}
        if timeout is not None:
            options["timeout"] = httpx.Timeout(timeout, connect=10.0)
        sent = {"Content-Type": "application/json"} if body is not None else {}
        response = self._send(method, path, {**sent, **(headers or {})}, options)
        return _read(response, answer, self.endpoint)

    def _send(self, method: str, path: str, headers: dict[str, str], options: dict[str, Any]) -> httpx.Response:
        again = self._relocate is not None
        stale = method == "GET"
        while True:
            identity = {"X-Appwrite-Project": self.project, "X-Appwrite-Key": self._key}
            try:
                return self._http.request(method, self.endpoint + path, headers={**identity, **headers}, **options)
            except httpx.ConnectError as error:
                if not again or self._relocate is None:
                    raise self._unreachable(error) from None
                again = False
                self.endpoint, self.project, self._key = self._relocate()
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
                # Perhaps only an idle connection ended while the request was on its way; reading again is harmless.
                if not stale:
                    raise self._broken_off(method, error) from None
                stale = False
            except httpx.TimeoutException as error:
                limit = options.get("timeout", self._http.timeout)
                seconds = limit.connect if isinstance(error, httpx.ConnectTimeout) else limit.read
                raise ConnectionFailed(
                    f"no answer from {self.endpoint} within {seconds:g} s; the request may still be at work there"
                ) from None
            except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
                raise self._unreachable(error) from None

    def _broken_off(self, method: str, error: Exception) -> ConnectionFailed:
        if method == "GET":
            return self._unreachable(error)
        reason = (str(error) or type(error).__name__).rstrip(".")
        return ConnectionFailed(
            f"the server at {self.endpoint} broke off before it answered ({reason}); what was asked may have been done "
            "all the same: look before you ask again"
        )

    def _unreachable(self, error: Exception) -> ConnectionFailed:
        reason = (str(error) or type(error).__name__).rstrip(".")
        return ConnectionFailed(
            f"no server answers at {self.endpoint}: {reason}; %functions_connect (or `nbfunctions status`) says which "
            "server is meant"
        )


def _read(response: httpx.Response, answer: type[T], endpoint: str) -> T:
    if response.is_success and answer is type(None):
        return None
    if response.is_success and answer is bytes:
        return response.content  # type: ignore[return-value]
    is_json = response.headers.get("content-type", "").startswith("application/json")
    try:
        if response.is_success and is_json:
            return msgspec.json.decode(response.content, type=answer)
        if is_json:
            refusal = msgspec.json.decode(response.content, type=ErrorAnswer)
            if refusal.type == GeneralRouteNotFound.type and not endpoint.endswith("/v1"):
                raise ConnectionFailed(
                    f"{endpoint} has no such route ({refusal.message}); the API's address usually ends in /v1"
                )
            raise ApiError.from_answer(refusal.code, refusal.type, refusal.message)
    except msgspec.DecodeError as error:
        raise ConnectionFailed(f"{endpoint} answered something else than the Functions API: {error}") from None
    kind = response.headers.get("content-type", "no content type")
    raise ConnectionFailed(
        f"{endpoint} answered {response.status_code} with {kind} instead of JSON; is it the address of a Functions API "
        "(it usually ends in /v1)?"
    )


def _is_loopback(endpoint: str) -> bool:
    try:
        host = urlsplit(endpoint).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _path(*parts: str) -> str:
    return "".join("/" + quote(part, safe="") for part in parts)


def _page(search: str, limit: int | None, offset: int | None, cursor: str, direction: str) -> dict[str, Any]:
    return {
        "search": search,
        "limit": limit,
        "offset": offset,
        "cursor": cursor,
        "cursorDirection": direction,
    }


class _Part:
    def __init__(self, client: Client) -> None:
        self._client = client


class Functions(_Part):
    """``client.functions``: settings, activation and runtimes (spec, section 1, routes 1-8)."""

    def create(
        self,
        function_id: str,
        name: str,
        execute: Sequence[str] = (),
        runtime: str = "",
        *,
        vars: Mapping[str, Any] | None = None,
        events: Sequence[str] = (),
        schedule: str = "",
        timeout: int = 15,
        memory: int = 0,
        concurrency: int = 0,
    ) -> Function:
        """Make a function; ``unique()`` as ``function_id`` asks for a generated one."""
        body = _settings(name, execute, vars, events, schedule, timeout, memory, concurrency)
        return self._client.request(
            "POST", "/functions", Function, body={"functionId": function_id, "runtime": runtime, **body}
        )

    def list(
        self,
        search: str = "",
        limit: int | None = None,
        offset: int | None = None,
        cursor: str = "",
        cursor_direction: str = "after",
        order_type: str = "ASC",
    ) -> FunctionList:
        """Return one page of functions, at most 100 (spec, section 1.2)."""
        query = {**_page(search, limit, offset, cursor, cursor_direction), "orderType": order_type}
        return self._client.request("GET", "/functions", FunctionList, query=query)

    def list_runtimes(self) -> RuntimeList:
        """Return every runtime of the server."""
        return self._client.request("GET", "/functions/runtimes", RuntimeList)

    def get(self, function_id: str) -> Function:
        """Return one function."""
        return self._client.request("GET", _path("functions", function_id), Function)

    def usage(self, function_id: str, range: UsageRange = "30d") -> UsageFunctions:
        """Return what a function did over a time: half hours of a day, days of a longer one (spec, section 2.7)."""
        return self._client.request(
            "GET", _path("functions", function_id, "usage"), UsageFunctions, query={"range": range}
        )

    def update(
        self,
        function_id: str,
        name: str,
        execute: Sequence[str] = (),
        *,
        vars: Mapping[str, Any] | None = None,
        events: Sequence[str] = (),
        schedule: str = "",
        timeout: int = 15,
        memory: int = 0,
        concurrency: int = 0,
    ) -> Function:
        """Replace all settings: what is left out goes back to its default."""
        body = _settings(name, execute, vars, events, schedule, timeout, memory, concurrency)
        return self._client.request("PUT", _path("functions", function_id), Function, body=body)

    def update_deployment(self, function_id: str, deployment_id: str) -> Function:
        """Make a ready deployment the active one."""
        path = _path("functions", function_id, "deployments", deployment_id)
        return self._client.request("PATCH", path, Function, body={})

    def delete(self, function_id: str) -> None:
        """Delete a function with its deployments and executions."""
        self._client.request("DELETE", _path("functions", function_id), type(None))


class Deployments(_Part):
    """``client.deployments``: code and builds (spec, section 1, routes 9-12 and 16)."""

    def create(
        self,
        function_id: str,
        entrypoint: str,
        code: bytes,
        activate: bool = False,
        *,
        file_name: str = "code.tar.gz",
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Deployment:
        """Upload a ``.tar.gz``: in one request up to 5 MiB, else in chunks (spec, section 5.2).

        ``on_progress`` is told how many bytes of how many have arrived.
        """
        path = _path("functions", function_id, "deployments")
        form = {"entrypoint": entrypoint, "activate": "true" if activate else "false"}
        deployment = Deployment(id="")
        for start, end, headers in _chunks(len(code)):
            if deployment.id:
                headers["X-Appwrite-ID"] = deployment.id
            deployment = self._client.request(
                "POST", path, Deployment, form=form, file=(file_name, code[start:end]), headers=headers, timeout=120.0
            )
            if on_progress is not None:
                on_progress(end, len(code))
        return deployment

    def list(
        self,
        function_id: str,
        search: str = "",
        limit: int | None = None,
        offset: int | None = None,
        cursor: str = "",
        cursor_direction: str = "after",
        order_type: str = "ASC",
    ) -> DeploymentList:
        """Return one page of a function's deployments, at most 100."""
        query = {**_page(search, limit, offset, cursor, cursor_direction), "orderType": order_type}
        return self._client.request("GET", _path("functions", function_id, "deployments"), DeploymentList, query=query)

    def get(self, function_id: str, deployment_id: str) -> Deployment:
        """Return one deployment."""
        return self._client.request("GET", _path("functions", function_id, "deployments", deployment_id), Deployment)

    def download(self, function_id: str, deployment_id: str) -> bytes:
        """Return the archive of a deployment as it was uploaded (an addition)."""
        path = _path("functions", function_id, "deployments", deployment_id, "download")
        return self._client.request("GET", path, bytes, timeout=120.0)

    def delete(self, function_id: str, deployment_id: str) -> None:
        """Delete a deployment and its build."""
        self._client.request("DELETE", _path("functions", function_id, "deployments", deployment_id), type(None))

    def retry_build(self, function_id: str, deployment_id: str, build_id: str) -> None:
        """Build a deployment again whose build failed."""
        path = _path("functions", function_id, "deployments", deployment_id, "builds", build_id)
        self._client.request("POST", path, type(None), body={})


class Executions(_Part):
    """``client.executions`` (spec, section 1, routes 13-15)."""

    def create(
        self,
        function_id: str,
        data: str = "",
        asynchronous: bool = True,
        *,
        timeout: float | None = None,
        idempotency_key: str = "",
    ) -> Execution:
        """Execute a function; the default only asks for it and returns at once.

        ``timeout`` is how many seconds the answer of a synchronous one is waited for, the time to start an instance
        included. When they are over, :class:`~nbfunctions.errors.ConnectionFailed` is raised; the execution goes on.
        The same request with the same ``idempotency_key`` is executed once within a day (an addition).
        """
        wait = None if asynchronous else EXECUTION_TIMEOUT if timeout is None else timeout
        return self._client.request(
            "POST",
            _path("functions", function_id, "executions"),
            Execution,
            body={"data": data, "async": asynchronous},
            headers={"Idempotency-Key": idempotency_key} if idempotency_key else None,
            timeout=wait,
        )

    def list(
        self,
        function_id: str,
        search: str = "",
        limit: int | None = None,
        offset: int | None = None,
        cursor: str = "",
        cursor_direction: str = "after",
    ) -> ExecutionList:
        """Return one page of a function's executions, newest first, at most 100."""
        query = _page(search, limit, offset, cursor, cursor_direction)
        return self._client.request("GET", _path("functions", function_id, "executions"), ExecutionList, query=query)

    def get(self, function_id: str, execution_id: str) -> Execution:
        """Return one execution."""
        return self._client.request("GET", _path("functions", function_id, "executions", execution_id), Execution)

    def cancel(self, function_id: str, execution_id: str) -> Execution:
        """End an execution that waits or runs (an addition)."""
        path = _path("functions", function_id, "executions", execution_id, "cancel")
        return self._client.request("POST", path, Execution, body={})

    def delete(self, function_id: str, execution_id: str) -> None:
        """Delete the record of an execution that has ended (an addition)."""
        self._client.request("DELETE", _path("functions", function_id, "executions", execution_id), type(None))


class Events(_Part):
    """``client.events``: an addition of this service."""

    def create(self, event: str, payload: Mapping[str, Any] | None = None, *, user_id: str = "") -> Emitted:
        """Say that something happened, as ``users.jane.create``, and trigger the functions that listen to it.

        The key needs the scope ``events.write``.
        """
        body = {"event": event, "payload": dict(payload or {}), "userId": user_id}
        return self._client.request("POST", "/events", Emitted, body=body)


class Users(_Part):
    """``client.users``: an addition of this service."""

    def create_jwt(self, user_id: str, *, duration: int = 900, teams: Sequence[str] = ()) -> str:
        """Return a token with which one can do what a user may; ``teams`` are ids, or ``id/role``.

        ``duration`` is in seconds, a day at most. The key needs the scope ``users.write``.
        """
        body = {"duration": duration, "teams": list(teams)}
        return self._client.request("POST", _path("users", user_id, "jwts"), dict[str, str], body=body)["jwt"]


def _settings(
    name: str,
    execute: Sequence[str],
    vars: Mapping[str, Any] | None,
    events: Sequence[str],
    schedule: str,
    timeout: int,
    memory: int,
    concurrency: int,
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "name": name,
        "execute": list(execute),
        "vars": dict(vars or {}),
        "events": list(events),
        "schedule": schedule,
        "timeout": timeout,
    }
    # Additions: a server that doesn't know them is not asked about them.
    if memory:
        body["memory"] = memory
    if concurrency:
        body["concurrency"] = concurrency
    return body


def _chunks(size: int) -> Iterator[tuple[int, int, dict[str, str]]]:
    """Yield start, end and headers of each request; the last range ends at ``size`` itself (spec, section 5.2)."""
    if size <= CHUNK:
        yield 0, size, {}
        return
    for start in range(0, size, CHUNK):
        last = min(start + CHUNK - 1, size)
        yield start, min(start + CHUNK, size), {"Content-Range": f"bytes {start}-{last}/{size}"}
