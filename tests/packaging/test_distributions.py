"""What the sdists and wheels hold and say of themselves."""

import importlib
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.packaging.conftest import DISTRIBUTIONS, REPOSITORY

# What is built and installed is so once.
pytestmark = pytest.mark.xdist_group("packaging")

CORE = REPOSITORY / "packages" / "durably-core" / "src" / "durably"
WEB = REPOSITORY / "packages" / "durably-web" / "src" / "durably_web"


def metadata(wheel: Path) -> Message:
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(name))


def requirements(wheel: Path) -> set[str]:
    """The names of what the wheel always needs; extras are left out."""
    lines: list[str] = metadata(wheel).get_all("Requires-Dist", [])
    return {line.split(">")[0].split("<")[0].strip() for line in lines if "extra ==" not in line}


def source_files(root: Path) -> Iterator[str]:
    for path in sorted(root.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
            yield path.relative_to(root.parent).as_posix()


def test_the_three_packages_share_one_version(wheels: dict[str, Path]) -> None:
    from durably._version import __version__

    assert {metadata(wheels[name])["Version"] for name in DISTRIBUTIONS} == {__version__}


def test_core_needs_little_more_than_pydantic(wheels: dict[str, Path]) -> None:
    assert requirements(wheels["durably-core"]) == {"pydantic", "typing-extensions"}


@pytest.mark.parametrize("name", ["durably-web", "durably-testing"])
def test_a_companion_needs_the_same_minor_release_of_core(name: str, wheels: dict[str, Path]) -> None:
    major, minor, _ = metadata(wheels["durably-core"])["Version"].split(".")
    pin = f"durably-core<{major}.{int(minor) + 1},>={major}.{minor}.0"
    assert pin in metadata(wheels[name]).get_all("Requires-Dist", [])


@pytest.mark.parametrize(("name", "source"), [("durably-core", CORE), ("durably-web", WEB)])
def test_a_wheel_holds_every_source_file_sql_templates_and_scripts_included(
    name: str, source: Path, wheels: dict[str, Path]
) -> None:
    with ZipFile(wheels[name]) as archive:
        held = {file for file in archive.namelist() if file.startswith(f"{source.name}/")}
    assert held == set(source_files(source))


def test_the_wheel_of_web_carries_the_licence_of_what_it_brings(wheels: dict[str, Path]) -> None:
    with ZipFile(wheels["durably-web"]) as archive:
        held = archive.namelist()
    assert "durably_web/static/vendor/htmx-LICENSE.txt" in held
    assert "durably_web/templates/durably/components/run_progress.html" in held


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_wheel_is_typed_and_carries_its_licence(name: str, wheels: dict[str, Path]) -> None:
    package = "durably" if name == "durably-core" else name.replace("-", "_")
    with ZipFile(wheels[name]) as archive:
        held = archive.namelist()
    assert f"{package}/py.typed" in held
    assert any(file.endswith(".dist-info/licenses/LICENSE") for file in held)


@pytest.mark.parametrize("name", ["durably-web", "durably-testing"])
def test_a_companion_ships_its_own_package_and_nothing_else(name: str, wheels: dict[str, Path]) -> None:
    package = name.replace("-", "_")
    with ZipFile(wheels[name]) as archive:
        tops = {file.split("/")[0] for file in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {package}


@pytest.mark.parametrize("name", ["durably_web", "durably_testing"])
def test_a_companion_can_be_imported(name: str) -> None:
    package = importlib.import_module(name)
    assert all(hasattr(package, exported) for exported in package.__all__)
