"""The command that inserts a function cell, by keyboard and mouse, as a user meets it."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import expect

from tests.browser.lab import LabPage

FIRST = "1 + 1"
TEMPLATE = """%%function hello --timeout 10 --var GREETING=Hello
import os

def main(req, res):
    return res.json({"message": f"{os.environ['GREETING']}, {req.payload or 'world'}"})"""


def test_the_palette_inserts_the_template_below_and_the_name_is_typed_first(opened: Callable[..., LabPage]) -> None:
    lab = opened(FIRST, "2 + 2")
    lab.page.locator(".jp-Cell").first.click()
    offered = lab.in_palette("insert a function")
    expect(offered).to_have_count(1)
    expect(offered).to_contain_text("Insert a Function Cell")
    expect(lab.page.locator(".lm-CommandPalette-header")).to_have_text("Functions")
    offered.click()
    expect(lab.page.locator(".jp-Cell")).to_have_count(3)
    assert lab.sources == [FIRST, TEMPLATE, "2 + 2"]
    expect(lab.page.locator(".jp-Notebook.jp-mod-editMode")).to_have_count(1)

    lab.page.keyboard.type("greet")
    assert lab.sources[1] == TEMPLATE.replace("hello", "greet")


def test_the_shortcut_inserts_it_too_and_one_undo_takes_it_back(opened: Callable[..., LabPage]) -> None:
    lab = opened(FIRST)
    lab.page.locator(".jp-Cell .cm-content").first.click()
    lab.page.keyboard.press("Control+Alt+F")
    expect(lab.page.locator(".jp-Cell")).to_have_count(2)
    assert lab.sources == [FIRST, TEMPLATE]

    lab.page.keyboard.press("Escape")
    lab.page.keyboard.press("z")
    expect(lab.page.locator(".jp-Cell")).to_have_count(1)
    assert lab.sources == [FIRST]


def test_without_a_notebook_it_is_there_and_disabled(opened: Callable[..., LabPage]) -> None:
    lab = opened()
    assert lab.ask("() => jupyterapp.commands.hasCommand('nbfunctions:insert-cell')")
    assert not lab.ask("() => jupyterapp.commands.isEnabled('nbfunctions:insert-cell')")
    keys = """() => jupyterapp.commands.keyBindings
        .filter(binding => binding.command === 'nbfunctions:insert-cell').map(binding => binding.keys.join(' '))"""
    assert lab.ask(keys) == ["Ctrl Alt F"]
    expect(lab.in_palette("insert a function")).to_have_class(re.compile(r"\blm-mod-disabled\b"))
