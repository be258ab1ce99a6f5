"""What a test does in JupyterLab: open a notebook, wait for its kernel, press keys, look at cells."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Locator, Page, Request

__all__ = ["Lab", "LabPage"]

KERNEL_READY: Final = """async () => {
    await jupyterapp.restored;
    await jupyterapp.shell.currentWidget.sessionContext.ready;
}"""
IDLE: Final = "() => jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'"
EXECUTED: Final = """() => {
    const panel = jupyterapp.shell.currentWidget;
    const code = Array.from(panel.content.model.cells).filter(cell => cell.type === 'code');
    return code.every(cell => cell.executionCount !== null)
        && panel.sessionContext.session?.kernel?.status === 'idle';
}"""
SOURCES: Final = """() => Array.from(jupyterapp.shell.currentWidget.content.model.cells).map(
    cell => cell.sharedModel.getSource())"""


@dataclasses.dataclass(frozen=True)
class Lab:
    """A JupyterLab that answers."""

    url: str
    token: str
    root: Path


class LabPage:
    """JupyterLab in a browser's page; keeps what the console complained about and what was asked of other hosts."""

    def __init__(self, lab: Lab, page: Page, notebook: str | None) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.outside: list[str] = []
        self._url = lab.url
        page.set_default_timeout(30_000)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._on_request)
        place = f"tree/{notebook}" if notebook else ""
        page.goto(f"{lab.url}/lab/{place}?reset&token={lab.token}")
        page.wait_for_function("() => window.jupyterapp !== undefined")
        if notebook:
            page.wait_for_selector(".jp-NotebookPanel .jp-CodeCell")
            page.evaluate(KERNEL_READY)
            page.wait_for_function(IDLE)
        else:
            page.wait_for_selector(".jp-Launcher")
            page.evaluate("async () => { await jupyterapp.restored; }")

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith((self._url, "data:", "blob:")):
            self.outside.append(request.url)

    @property
    def sources(self) -> list[str]:
        """What stands in each cell."""
        found: list[str] = self.page.evaluate(SOURCES)
        return found

    def execute_all(self) -> None:
        """Execute every cell and wait until all are done. The command's promise is not waited for: it has no limit."""
        self.page.evaluate("() => { void jupyterapp.commands.execute('notebook:run-all-cells'); }")
        self.page.wait_for_function(EXECUTED, timeout=90_000)

    def output(self, cell: int) -> Locator:
        """What a cell gave back."""
        return self.page.locator(".jp-NotebookPanel .jp-Cell").nth(cell).locator(".jp-OutputArea-output")

    def in_palette(self, words: str) -> Locator:
        """Open the command palette by its keys, type, and return the commands that are offered."""
        self.page.keyboard.press("Control+Shift+C")
        box = self.page.locator(".lm-CommandPalette-input")
        box.wait_for()
        box.fill(words)
        return self.page.locator(".lm-CommandPalette-item")

    def ask(self, script: str) -> Any:
        """Return what a script answers in the page."""
        return self.page.evaluate(script)

    def close(self) -> None:
        """Close the page; the kernel ends with JupyterLab."""
        self.page.close()
