"""Imports become exact pins of what this kernel has; what can't be pinned is refused with its line."""

from __future__ import annotations

import ast
import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbfunctions.capture.requirements import find_imports, pin_imports, read_requirements
from nbfunctions.errors import RequirementsInvalid

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install distributions as pip leaves them, in a folder of their own on ``sys.path``."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name: str, version: str, *files: str, direct_url: dict[str, Any] | None = None) -> None:
        info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        if direct_url is not None:
            (info / "direct_url.json").write_text(json.dumps(direct_url))
        for file in files:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_text("")
        (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))

    return make


def pins(source: str) -> list[str]:
    return [pin.requirement for pin in pin_imports(find_imports(ast.parse(source)))]


def test_imports_anywhere_are_pinned_to_what_is_installed_here() -> None:
    source = "import os, json\ndef f():\n    import pandas as pd\n    from packaging.version import Version\n"
    pandas, packaging = (importlib.metadata.version(name) for name in ("pandas", "packaging"))
    assert pins(source) == [f"packaging=={packaging}", f"pandas=={pandas}"]


def test_the_standard_library_and_imports_for_type_checkers_are_left_out() -> None:
    source = (
        "from __future__ import annotations\nimport typing, zoneinfo, _thread\n"
        "if typing.TYPE_CHECKING:\n    import nowhere\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import nowhere\nelse:\n    import packaging\n"
    )
    assert pins(source) == [f"packaging=={importlib.metadata.version('packaging')}"]


def test_a_distribution_named_otherwise_than_its_module_is_found(install: Install) -> None:
    install("Pillow-Like", "10.1", "PIXEL/__init__.py", "PIXEL/image.py")
    install("OneFile", "2.0", "single.py")
    install("Compiled", "3.0", "fast.cpython-311-x86_64-linux-gnu.so")
    assert pins("import PIXEL.image, single, fast") == ["Compiled==3.0", "OneFile==2.0", "Pillow-Like==10.1"]


def test_of_a_namespace_the_distribution_with_the_imported_part_is_taken(install: Install) -> None:
    install("space-storage", "1.0", "space/cloud/storage/__init__.py")
    install("space-queue", "2.0", "space/cloud/queue.py")
    assert pins("from space.cloud import queue") == ["space-queue==2.0"]
    assert pins("import space.cloud.storage") == ["space-storage==1.0"]


def test_of_two_distributions_with_the_same_module_one_is_taken_and_said(install: Install) -> None:
    install("vision-headless", "4.0", "vision/__init__.py")
    install("vision", "4.1", "vision/__init__.py")
    found = pin_imports(find_imports(ast.parse("import vision")))
    assert [pin.requirement for pin in found] == ["vision==4.1"]
    assert found[0].note == "vision is in vision-headless too; vision was taken"


def test_a_local_build_is_pinned_to_its_public_version(install: Install) -> None:
    install("torchlike", "2.1.0+cu118", "torchlike/__init__.py")
    found = pin_imports(find_imports(ast.parse("import torchlike")))
    assert (found[0].requirement, found[0].note) == (
        "torchlike==2.1.0",
        "torchlike 2.1.0+cu118 is a local build; 2.1.0 was pinned",
    )


def test_an_optional_import_that_is_missing_is_left_out(install: Install) -> None:
    install("present", "1.0", "present.py")
    source = "try:\n    import absent, present\nexcept ImportError:\n    absent = None\n"
    assert pins(source) == ["present==1.0"]
    assert pins("try:\n    import absent\nexcept (ValueError, ModuleNotFoundError):\n    pass\n") == []


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("\nimport absent.part", "cell line 2: 'import absent': no module of that name is installed in this kernel"),
        ("try:\n    import absent\nexcept ValueError:\n    pass", "cell line 2: 'import absent'"),
        ("try:\n    import absent\nexcept ImportError:\n    import other_absent", "cell line 4: 'import other_absent'"),
        ("from . import x", "cell line 1: 'from . import ...' is relative"),
    ],
)
def test_what_is_not_installed_is_refused_with_its_line(source: str, said: str) -> None:
    with pytest.raises(RequirementsInvalid) as raised:
        pins(source)
    assert said in str(raised.value)


def test_a_local_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_rules.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        RequirementsInvalid, match=r"cell line 1: 'import shop_rules': it is a local file .*shop_rules.py"
    ):
        pins("import shop_rules")


@pytest.mark.parametrize(
    ("direct_url", "said"),
    [
        ({"url": "file:///src/mine", "dir_info": {"editable": True}}, "in editable mode here"),
        ({"url": "file:///src/mine", "dir_info": {}}, "from a local file or folder here"),
        ({"url": "file:///wheels/mine.whl", "archive_info": {}}, "from a local file or folder here"),
        ({"url": "https://example.org/mine.git", "vcs_info": {"vcs": "git"}}, "from a repository here"),
    ],
)
def test_what_was_installed_from_elsewhere_than_an_index_is_refused(
    install: Install, direct_url: dict[str, Any], said: str
) -> None:
    install("mine", "1.0", "mine.py", direct_url=direct_url)
    with pytest.raises(RequirementsInvalid) as raised:
        pins("import mine")
    assert "cell line 1: mine is installed" in str(raised.value)
    assert said in str(raised.value)


def test_an_editable_installation_that_lists_no_files_is_named(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "my work" / "src"
    source.mkdir(parents=True)
    (source / "mine.py").write_text("")
    monkeypatch.syspath_prepend(str(source))
    address = {"url": (tmp_path / "my work").as_uri(), "dir_info": {"editable": True}}
    install("mine", "1.0", "__editable__.mine.pth", direct_url=address)
    with pytest.raises(RequirementsInvalid, match="'import mine': mine is installed in editable mode here"):
        pins("import mine")


def test_an_archive_on_the_web_is_pinned_by_its_address(install: Install) -> None:
    install("mine", "1.0", "mine.py", direct_url={"url": "https://example.org/mine.whl", "archive_info": {}})
    assert pins("import mine") == ["mine @ https://example.org/mine.whl"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pandas==\n", "line 1: 'pandas==' isn't a requirement"),
        ("pandas\n-r other.txt\n", "line 2: options of pip can't be used here, found '-r other.txt'"),
        ("# fine\n\n--index-url https://example.org\n", "line 3: options of pip"),
    ],
)
def test_a_requirements_file_is_checked_line_by_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text(text)
    with pytest.raises(RequirementsInvalid) as raised:
        read_requirements(file)
    assert said in str(raised.value)


def test_a_requirements_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequirementsInvalid, match="No such file"):
        read_requirements(tmp_path / "absent.txt")
