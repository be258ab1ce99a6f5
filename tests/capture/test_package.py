"""A package is an ordinary archive, the same bytes for the same cell."""

from __future__ import annotations

import hashlib
import html
import io
import json
import sys
import tarfile
from pathlib import Path

import pytest

from nbfunctions.capture.callables import package_callable
from nbfunctions.capture.package import Origin, Package, package_cell
from nbfunctions.errors import PackageError, UndefinedNames
from nbfunctions.options import options_from

CELL = "import json\n\ndef forecast(store: str):\n    return json.dumps(store)\n"


def unpacked(package: Package) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(package.archive), mode="r:gz") as archive:
        return {entry.name: archive.extractfile(entry).read().decode() for entry in archive}  # type: ignore[union-attr]


def test_the_archive_holds_the_source_as_written_on_the_cells_own_lines() -> None:
    files = unpacked(package_cell(CELL, options_from("forecast", {})))
    assert files["main.py"] == "# nbfunctions: forecast\n" + CELL
    assert sorted(files) == ["main.py", "nbfunctions.json", "requirements.txt"]


def test_empty_lines_above_the_magic_are_counted() -> None:
    files = unpacked(package_cell(CELL, options_from("forecast", {}), origin=Origin(first_line=3)))
    assert files["main.py"] == "\n\n# nbfunctions: forecast\n" + CELL


def test_the_same_cell_gives_the_same_bytes() -> None:
    origin = Origin(notebook="a.ipynb", cell="c1")
    one, other = (package_cell(CELL, options_from("forecast", {}), origin=origin) for _ in range(2))
    assert one.archive == other.archive
    assert one.digest == hashlib.sha256(one.archive).hexdigest()
    assert package_cell(CELL + "# more\n", options_from("forecast", {}), origin=origin).digest != one.digest


def test_provenance_says_which_cell_and_which_python() -> None:
    files = unpacked(package_cell(CELL, options_from("forecast", {}), origin=Origin(notebook="a.ipynb", cell="c1")))
    provenance = json.loads(files["nbfunctions.json"])
    assert provenance == {
        "cell": "c1",
        "format": 1,
        "function": "forecast",
        "notebook": "a.ipynb",
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "requirements_sha256": hashlib.sha256(b"").hexdigest(),
        "source_sha256": hashlib.sha256(files["main.py"].encode()).hexdigest(),
    }


@pytest.mark.parametrize(
    ("body", "entrypoint", "expected"),
    [
        ("def main(req, res): ...", None, "main.py"),
        ("def forecast(): ...", None, "main.py:forecast"),
        ("def main(): ...\ndef b(): ...", "b", "main.py:b"),
    ],
)
def test_the_entry_point_names_the_function_where_it_is_not_main(
    body: str, entrypoint: str | None, expected: str
) -> None:
    assert package_cell(body, options_from("hello", {"entrypoint": entrypoint})).entrypoint == expected


def test_requirements_come_from_imports_a_file_or_nowhere(tmp_path: Path) -> None:
    cell = "import packaging\ndef main(): ..."
    file = tmp_path / "mine.txt"
    file.write_text("packaging>=20 # any\n")
    assert unpacked(package_cell(cell, options_from("f", {})))["requirements.txt"].startswith("packaging==")
    given = package_cell(cell, options_from("f", {"requirements": str(file)}))
    assert unpacked(given)["requirements.txt"] == "packaging>=20 # any\n"
    assert unpacked(package_cell(cell, options_from("f", {"requirements": "none"})))["requirements.txt"] == ""


def test_the_receipt_says_what_was_packed_and_escapes_it() -> None:
    package = package_cell("import packaging\ndef main():\n    return '<b>'", options_from("f", {}))
    rows = {item.name: item.why for item in package.receipt.items}
    pinned = next(name for name in rows if name.startswith("packaging=="))
    assert rows[pinned] == "import packaging (cell line 2)"
    assert pinned in str(package.receipt)
    shown = package.receipt._repr_html_()
    assert html.escape("return '<b>'") in shown
    assert "<b>" not in shown


# -- functions that exist already ---------------------------------------------------------------------------


def from_source(tmp_path: Path, text: str, name: str = "f") -> Package:
    file = tmp_path / "cell.py"
    file.write_text(text)
    namespace: dict[str, object] = {"function": lambda *_, **__: lambda target: target, "RATE": 2}
    exec(compile(text, str(file), "exec"), namespace)  # noqa: S102
    return package_callable(namespace[name], options_from("f", {}))  # type: ignore[arg-type]


def test_of_a_callable_its_source_and_the_imports_it_uses_are_packed_on_their_lines(tmp_path: Path) -> None:
    text = "import json, sys\nimport pandas\n\n\n@function('f', timeout=3)\n"
    text += "def f(x: int):\n    return json.dumps(x)\n\nf\n"
    package = from_source(tmp_path, text)
    lines = unpacked(package)["main.py"].splitlines()
    assert lines[0] == "import json, sys"
    assert lines[1] == ""
    assert lines[4:] == ["# nbfunctions: f", "def f(x: int):", "    return json.dumps(x)"]
    assert package.entrypoint == "main.py:f"


def test_a_future_import_is_kept(tmp_path: Path) -> None:
    text = "from __future__ import annotations\ndef f(x: int): ...\n"
    assert unpacked(from_source(tmp_path, text))["main.py"] == text


def test_a_callable_that_needs_other_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UndefinedNames, match=r"'RATE' \(cell line 2\); 'RATE' exists in this notebook"):
        from_source(tmp_path, "def f(x):\n    return x * RATE\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("f = lambda: 1\n", "only a function made by def"),
        ("def g():\n    def f(): ...\n    return f\nf = g()\n", "only a function made by def, at the top"),
        ("class f: ...\n", "only a function made by def"),
    ],
)
def test_only_functions_made_by_def_can_be_deployed(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(PackageError, match=said):
        from_source(tmp_path, text)
