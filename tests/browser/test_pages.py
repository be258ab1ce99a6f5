"""Web pages of other hosts: what a real browser lets them do with a server, and what the server lets them."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest

from nbfunctions.archive import pack
from tests.acceptance.test_javascript_sdks import installed
from tests.server.asking import activate, client, create, given
from tests.serving import Serving, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

REGISTERED, FOREIGN = "http://app.example", "http://evil.example"
"""Both are this machine for the browser; the server knows the first."""
CODE: Final = b"def main(req, res):\n    return res.send('for ' + req.payload)\n"

SDK: Final = """
async ([endpoint, project, jwt]) => {
    const client = new Appwrite.Client().setEndpoint(endpoint).setProject(project).setJWT(jwt)
    localStorage.setItem('cookieFallback', JSON.stringify({['a_session_' + project]: jwt}))
    const heard = new Promise(resolve => client.subscribe('functions.members', resolve))
    await new Promise(resolve => setTimeout(resolve, 500))
    const execution = await new Appwrite.Functions(client).createExecution('members', 'Ada', false)
    return {execution, event: await heard}
}
"""
FETCH: Final = """
async ([url, options]) => {
    try {
        const answer = await fetch(url, options)
        return answer.type === 'opaque' ? ['opaque', null] : [answer.status, await answer.json()]
    } catch (error) {
        return ['unreadable', String(error)]
    }
}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server that knows one host; everybody may execute ``everybody``, and users ``members``."""
    with serving(tmp_path_factory.mktemp("pages") / "data", "--origins", "app.example") as found:
        with client(found) as api:
            for name, execute in (("everybody", ["role:all"]), ("members", ["role:member"])):
                create(api, name, execute=execute)
                activate(api, pack({"main.py": CODE}), name)
        yield found


@pytest.fixture(scope="module")
def site() -> Iterator[int]:
    """A web server with the official web SDK; its port."""
    folder = installed("appwrite", "9.0.2") / "node_modules" / "appwrite" / "dist" / "iife"
    handler = partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving_site:
        thread = threading.Thread(target=serving_site.serve_forever)
        thread.start()
        yield serving_site.server_address[1]
        serving_site.shutdown()
        thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def page_of(browser: Browser, address: str) -> Iterator[Page]:
    context = browser.new_context()
    page = context.new_page()
    page.goto(address)
    try:
        yield page
    finally:
        context.close()


def executed(server: Serving, function_id: str) -> int:
    """Return how often a function has been executed."""
    with client(server) as api:
        return int(given(api.get(f"/functions/{function_id}/executions"))["total"])


def test_a_page_of_a_registered_host_executes_and_listens_by_the_official_sdk(
    browser: Browser, server: Serving, site: int
) -> None:
    with client(server) as api:
        token = given(api.post("/users/jane/jwts", json={}), 201)["jwt"]
    with page_of(browser, f"{REGISTERED}:{site}/") as page:
        page.add_script_tag(path=installed("appwrite", "9.0.2") / "node_modules/appwrite/dist/iife/sdk.js")
        found = page.evaluate(SDK, [server.endpoint, server.project, token])
    assert (found["execution"]["status"], found["execution"]["$read"]) == ("completed", ["user:jane"])
    assert found["execution"]["response"] == "for Ada"
    assert found["event"]["payload"]["$id"] == found["execution"]["$id"]
    assert f"functions.members.executions.{found['execution']['$id']}.create" in found["event"]["events"]


def test_a_page_of_another_host_neither_executes_nor_reads(browser: Browser, server: Serving, site: int) -> None:
    before = executed(server, "everybody")
    url = f"{server.endpoint}/functions/everybody/executions"
    named = {"X-Appwrite-Project": server.project}
    with page_of(browser, f"{FOREIGN}:{site}/") as page:
        # A form as every page may send it, without being asked for anything.
        simple = {"method": "POST", "mode": "no-cors", "body": "data=x", "headers": {"Content-Type": "text/plain"}}
        assert page.evaluate(FETCH, [f"{url}?project={server.project}", simple])[0] == "opaque"
        for headers in (named, {**named, "X-Appwrite-Key": "wrong"}):
            posted = {"method": "POST", "headers": {**headers, "Content-Type": "application/json"}, "body": "{}"}
            assert page.evaluate(FETCH, [url, posted])[0] == "unreadable"
        assert page.evaluate(FETCH, [f"{server.endpoint}/health/version", {}])[0] == "unreadable"
        closed = page.evaluate(
            "url => new Promise(done => { new WebSocket(url).onclose = event => done(event.code) })",
            f"{server.endpoint.replace('http', 'ws')}/realtime?project={server.project}&channels[]=executions",
        )
    assert closed == 1008
    assert executed(server, "everybody") == before


def test_a_page_that_reaches_the_server_by_its_own_name_is_refused(browser: Browser, server: Serving) -> None:
    """To the browser, such a page and the server are one place: nothing but the name tells them apart."""
    before = executed(server, "everybody")
    with page_of(browser, f"{FOREIGN}:{server.port}/v1/health/version") as page:
        assert "general_unknown_origin" in page.content()
        headers = {"X-Appwrite-Project": server.project, "Content-Type": "application/json"}
        url = f"{FOREIGN}:{server.port}/v1/functions/everybody/executions"
        status, refusal = page.evaluate(FETCH, [url, {"method": "POST", "headers": headers, "body": "{}"}])
    assert (status, refusal["type"]) == (403, "general_unknown_origin")
    assert executed(server, "everybody") == before
