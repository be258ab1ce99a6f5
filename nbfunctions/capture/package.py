"""Packs a cell: ``main.py``, ``requirements.txt`` and ``nbfunctions.json`` in an ordinary Appwrite archive.

The same cell gives the same bytes, so an unchanged one is known by its digest.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbfunctions import archive
from nbfunctions.capture.cell import NOTHING, Cell, Shape, read_cell
from nbfunctions.capture.receipt import Item, Receipt
from nbfunctions.capture.requirements import Pin, find_imports, pin_imports, read_requirements
from nbfunctions.options import Options

__all__ = ["FORMAT", "Origin", "Package", "package_cell", "package_source"]

FORMAT = 1
"""Version of ``nbfunctions.json``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a cell stands, as far as it is known."""

    notebook: str = ""
    """File name of the notebook, without its folder."""
    cell: str = ""
    """Id of the cell."""
    first_line: int = 1
    """Line of the cell on which the ``%%function`` line stands."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Package:
    """A function ready to be uploaded."""

    function_id: str
    archive: bytes
    digest: str
    """SHA-256 of the archive, in hex."""
    entrypoint: str
    """As the service reads it: ``main.py``, or ``main.py:name``."""
    source: str
    function: str
    signature: inspect.Signature | None
    shape: Shape
    runtime: str
    """The runtime that fits this kernel."""
    receipt: Receipt


def package_cell(
    body: str, options: Options, *, origin: Origin | None = None, namespace: Mapping[str, Any] = NOTHING
) -> Package:
    """Return the package of a cell whose text below the ``%%function`` line is ``body``.

    Line numbers of ``main.py`` equal the cell's: a comment stands in for the ``%%function`` line. Raises an error of
    the :class:`~nbfunctions.errors.PackageError` family; nothing is uploaded here.
    """
    origin = origin or Origin()
    source = "\n" * (origin.first_line - 1) + f"# nbfunctions: {options.id}\n" + body.rstrip() + "\n"
    return package_source(source, options, origin=origin, namespace=namespace)


def package_source(source: str, options: Options, *, origin: Origin, namespace: Mapping[str, Any] = NOTHING) -> Package:
    """Return the package of a whole ``main.py``."""
    cell = read_cell(source, options.id, options.entrypoint, namespace)
    text, pins, why = _requirements(cell, options.requirements)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    provenance = {
        "cell": origin.cell,
        "format": FORMAT,
        "function": options.id,
        "notebook": origin.notebook,
        "python": python,
        "requirements_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "source_sha256": hashlib.sha256(source.encode()).hexdigest(),
    }
    files = {
        "main.py": source.encode(),
        "requirements.txt": text.encode(),
        "nbfunctions.json": (json.dumps(provenance, indent=1, sort_keys=True) + "\n").encode(),
    }
    packed = archive.pack(files)
    digest = hashlib.sha256(packed).hexdigest()
    return Package(
        function_id=options.id,
        archive=packed,
        digest=digest,
        entrypoint="main.py" if cell.function == "main" else f"main.py:{cell.function}",
        source=source,
        function=cell.function,
        signature=cell.signature,
        shape=cell.shape,
        runtime=f"python-{python}",
        receipt=Receipt(
            function_id=options.id,
            items=tuple(_items(files, pins, why)),
            size=len(packed),
            digest=digest,
            notes=(*cell.notes, *dict.fromkeys(pin.note for pin in pins if pin.note)),
            files=tuple((name, content.decode()) for name, content in files.items()),
        ),
    )


def _requirements(cell: Cell, choice: str) -> tuple[str, list[Pin], str]:
    if choice == "none":
        return "", [], "no packages, as --requirements none says"
    if choice != "auto":
        return read_requirements(Path(choice)), [], f"packages, from {Path(choice).name}"
    pins = pin_imports(find_imports(cell.tree))
    text = "".join(f"{pin.requirement}\n" for pin in pins)
    return text, pins, "packages that the cell imports" if pins else "the cell imports the standard library only"


def _items(files: dict[str, bytes], pins: list[Pin], why: str) -> list[Item]:
    items = [
        Item(name="main.py", kind="source", origin="this cell", size=len(files["main.py"]), why="the code as written"),
        Item(
            name="requirements.txt",
            kind="requirement",
            origin="this kernel" if pins else "",
            size=len(files["requirements.txt"]),
            why=why,
        ),
    ]
    items += [
        Item(
            name=pin.requirement,
            kind="requirement",
            origin="this kernel",
            size=0,
            why=f"import {pin.module} (cell line {pin.line})",
        )
        for pin in pins
    ]
    items.append(
        Item(
            name="nbfunctions.json",
            kind="provenance",
            origin="",
            size=len(files["nbfunctions.json"]),
            why="which cell, which Python, which digests",
        )
    )
    return items
