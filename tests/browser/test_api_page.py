"""The page of the API in a real browser: complete in itself, readable in light and dark, on wide and narrow screens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, Literal

import pytest
from playwright.sync_api import expect

from tests.routing import all_routes
from tests.serving import Serving, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WIDE: Final = 1280
NARROW: Final = 360

CONTRASTS: Final = """() => {
    const channel = value => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    const luminance = color => {
        const [r, g, b] = color.match(/[\\d.]+/g).map(Number).map(value => channel(value / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = element => {
        for (; element; element = element.parentElement) {
            const color = getComputedStyle(element).backgroundColor;
            if (!color.startsWith("rgba(")) return color;
        }
        return null;
    };
    const found = [];
    for (const element of document.querySelectorAll("body *")) {
        if (![...element.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.data.trim())) continue;
        const [one, other] = [getComputedStyle(element).color, ground(element)].map(luminance);
        const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        found.push([ratio, element.textContent.slice(0, 40)]);
    }
    return found;
}"""
"""Texts, and how much each stands out from what is behind it."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("pages") / "data") as found:
        yield found


@pytest.fixture
def shown(server: Serving, browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens the page. It may ask for nothing but itself, and have nothing to complain about."""
    complaints: list[str] = []
    asked: list[str] = []
    contexts = []

    def show(width: int = WIDE, scheme: Literal["light", "dark"] = "light") -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(request.url))
        page.on("request", lambda request: asked.append(request.url))
        answer = page.goto(f"{server.endpoint}/docs")
        assert answer is not None
        assert answer.ok
        return page

    yield show
    for context in contexts:
        context.close()
    assert complaints == []
    assert set(asked) == {f"{server.endpoint}/docs"}
    assert len(asked) == len(contexts)


def test_every_route_is_one_click_away(shown: Callable[..., Page]) -> None:
    page = shown()
    links = page.locator("nav li a")
    assert links.count() > len(all_routes())
    expect(page.locator("section.route")).to_have_count(len(all_routes()))
    for one in all_routes():
        path = page.locator("section.route h3 code").get_by_text(one.path, exact=True)
        assert path.count() == len([other for other in all_routes() if other.path == one.path])
    page.locator("nav").get_by_text("createExecution", exact=True).click()
    section = page.locator("#functionsCreateExecution")
    expect(section).to_be_in_viewport()
    assert section.evaluate("element => element.matches(':target')")
    expect(section.locator("details table")).to_be_hidden()
    section.locator("summary").click()
    expect(section.locator("details table")).to_contain_text("general_rate_limit_exceeded")
    section.get_by_role("link", name="statusCode", exact=True).click()
    expect(page.locator("[id='Execution.statusCode']")).to_be_in_viewport()


def test_the_browsers_search_finds_headers_fields_and_parameters(shown: Callable[..., Page]) -> None:
    page = shown()
    for text in ("Idempotency-Key", "scheduleNext", "cursorDirection"):
        assert page.evaluate("text => window.find(text, false, false, true)", text), text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_readable(shown: Callable[..., Page], scheme: str) -> None:
    page = shown(scheme=scheme)
    ground = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) > 382) is (scheme == "light")
    page.evaluate("() => document.querySelectorAll('details').forEach(one => { one.open = true; })")
    contrasts: list[Any] = page.evaluate(CONTRASTS)
    assert len(contrasts) > 1000
    # 4.5 is what WCAG asks of text (level AA).
    assert [(round(ratio, 2), text) for ratio, text in contrasts if ratio < 4.5] == []


@pytest.mark.parametrize("width", [WIDE, 768, NARROW])
def test_nothing_sticks_out(shown: Callable[..., Page], width: int) -> None:
    page = shown(width)
    page.evaluate("() => document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    wider = "element => element.scrollWidth > element.clientWidth + 1"
    tables = page.locator(".scroll")
    assert tables.count() > 30
    assert [table.inner_text()[:60] for table in tables.all() if table.evaluate(wider)] == []
