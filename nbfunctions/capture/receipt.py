"""The receipt: what was packed, where it came from, and why."""

from __future__ import annotations

import dataclasses
import html
from typing import Literal

__all__ = ["Item", "Receipt", "human_size"]

Kind = Literal["source", "requirement", "provenance"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
    """One thing that was packed."""

    name: str
    kind: Kind
    origin: str
    """Where it came from, for a person: ``this cell``, ``cell line 3``, a file."""
    size: int
    """Bytes in the archive, before compression."""
    why: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Receipt:
    """What an archive holds and why; shows itself as text and as HTML."""

    function_id: str
    items: tuple[Item, ...]
    size: int
    """Bytes of the archive."""
    digest: str
    notes: tuple[str, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    """Name and text of each file, for a dry run."""

    def __str__(self) -> str:
        rows = [("name", "kind", "from", "size", "why"), *(_row(item) for item in self.items)]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [
            "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]).rstrip()
            for row in rows
        ]
        title = f"{self.function_id}: {len(self.files)} files, {human_size(self.size)} packed"
        return "\n".join([title, *lines, *(f"note: {note}" for note in self.notes)])

    __repr__ = __str__

    def table(self) -> str:
        """Return the items and notes as an HTML table."""
        head = "".join(
            f"<th scope='col' style='text-align:left'>{name}</th>" for name in ("name", "kind", "from", "size", "why")
        )
        body = "".join(
            "<tr>" + "".join(f"<td style='text-align:left'>{html.escape(cell)}</td>" for cell in _row(item)) + "</tr>"
            for item in self.items
        )
        notes = "".join(f"<div>note: {html.escape(note)}</div>" for note in self.notes)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{notes}"

    def _repr_html_(self) -> str:
        files = "".join(
            f"<details><summary><code>{html.escape(name)}</code></summary><pre>{html.escape(text)}</pre></details>"
            for name, text in self.files
        )
        title = (
            f"<strong>{html.escape(self.function_id)}</strong>: {len(self.files)} files, {human_size(self.size)} packed"
        )
        return f"<div>{title}{self.table()}{files}</div>"


def _row(item: Item) -> tuple[str, str, str, str, str]:
    return item.name, item.kind, item.origin, human_size(item.size) if item.size else "", item.why


def human_size(size: float) -> str:
    """Return a number of bytes as people say it: ``1.2 MB``."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
