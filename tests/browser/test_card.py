"""What a notebook shows in the browser: the card of a function, its folded parts, an execution, an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.lab import LabPage
from tests.browser.test_insert_cell import TEMPLATE

CELLS = (
    "%load_ext nbfunctions",
    TEMPLATE,
    "ex = %execute hello Ada\nex",
    "%executions hello",
    "%execute nobody",
)


def test_a_function_cell_shows_its_card_and_the_function_answers(
    opened: Callable[..., LabPage], tmp_path: Path
) -> None:
    lab = opened(*CELLS)
    lab.execute_all()

    expect(lab.output(0)).to_have_count(0)
    card = lab.output(1)
    expect(card).to_have_count(1)  # the progress made way
    expect(card).to_contain_text("hello")
    expect(card).to_contain_text("● active")
    expect(card.locator("code").first).to_have_text("hello(...)")
    packed = card.locator("details").first
    expect(packed.locator("table")).to_be_hidden()
    packed.locator("summary").click()
    expect(packed.locator("table")).to_be_visible()

    expect(lab.output(2)).to_contain_text("Hello, Ada")
    expect(lab.output(3).locator("table")).to_contain_text("completed")
    error = lab.output(4)
    expect(error).to_contain_text("FunctionNotFound: ")
    expect(error).not_to_contain_text("Traceback")
    lab.page.screenshot(path=tmp_path / "light.png")


def test_the_card_is_readable_in_the_dark(opened: Callable[..., LabPage], tmp_path: Path) -> None:
    lab = opened(*CELLS[:2])
    lab.ask("() => { void jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'}); }")
    lab.page.wait_for_function("() => document.body.dataset.jpThemeName === 'JupyterLab Dark'")
    lab.execute_all()
    lab.page.screenshot(path=tmp_path / "dark.png")
