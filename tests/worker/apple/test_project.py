"""The sources of the worker for Apple devices: what shows without a Mac and without Swift."""

from __future__ import annotations

import plistlib
import re
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from latbench.worker import apple
from latbench.worker.messages import VERSION
from support.environment import ROOT

PROJECT = apple.APPLE_SOURCES / apple.PROJECT
TOKEN = re.compile(r'\s+|/\*.*?\*/|//[^\n]*|"((?:\\.|[^"\\])*)"|([\w.$/]+)|([{}()=;,<>])', re.S)


def parsed(text: str) -> Any:
    """An OpenStep property list, in which Xcode keeps projects."""
    tokens: list[tuple[str, str]] = []
    at = 0
    while at < len(text):
        found = TOKEN.match(text, at)
        assert found is not None, text[at : at + 40]
        at = found.end()
        if found[1] is not None:
            tokens.append(("text", found[1]))
        elif found[2] is not None:
            tokens.append(("text", found[2]))
        elif found[3] is not None:
            tokens.append((found[3], ""))
    position = 0

    def take(kind: str) -> str:
        nonlocal position
        assert tokens[position][0] == kind, (tokens[position - 3 : position + 3], kind)
        position += 1
        return tokens[position - 1][1]

    def value() -> Any:
        if tokens[position][0] == "{":
            take("{")
            members: dict[str, Any] = {}
            while tokens[position][0] != "}":
                name = take("text")
                take("=")
                assert name not in members, name
                members[name] = value()
                take(";")
            take("}")
            return members
        if tokens[position][0] == "(":
            take("(")
            items = []
            while tokens[position][0] != ")":
                items.append(value())
                take(",")
            take(")")
            return items
        return take("text")

    whole = value()
    assert position == len(tokens)
    return whole


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    found: dict[str, Any] = parsed((PROJECT / "project.pbxproj").read_text())
    return found


def test_the_project_is_complete(project: dict[str, Any]) -> None:
    objects = project["objects"]
    ids = re.compile(r"[0-9A-F]{24}\Z")

    def named(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [found for each in value.values() for found in named(each)]
        if isinstance(value, list):
            return [found for each in value for found in named(each)]
        return [value] if ids.match(value) else []

    assert objects[project["rootObject"]]["isa"] == "PBXProject"
    assert set(named(project)) == set(objects)  # nothing is missing, nothing left over
    targets = [each for each in objects.values() if each["isa"] == "PBXNativeTarget"]
    assert [each["name"] for each in targets] == [apple.SCHEME]
    scheme = PROJECT / f"xcshareddata/xcschemes/{apple.SCHEME}.xcscheme"
    references = list(ElementTree.parse(scheme).iter("BuildableReference"))
    assert {objects[each.attrib["BlueprintIdentifier"]]["name"] for each in references} == {
        apple.SCHEME
    }
    assert {each.attrib["BuildableName"] for each in references} == {apple.APP}


def test_the_files_of_the_project_exist(project: dict[str, Any]) -> None:
    objects, folder = project["objects"], PROJECT.parent
    (group,) = (each for each in objects.values() if each.get("path") == "LatbenchWorker")
    files = {objects[each]["path"] for each in group["children"]}
    assert files == {path.name for path in (folder / group["path"]).iterdir()}
    (package,) = (e for e in objects.values() if e["isa"] == "XCLocalSwiftPackageReference")
    assert (folder / package["relativePath"] / "Package.swift").resolve().exists()
    (target,) = (e for e in objects.values() if "INFOPLIST_FILE" in e.get("buildSettings", {}))
    information = plistlib.loads((folder / target["buildSettings"]["INFOPLIST_FILE"]).read_bytes())
    assert information["LatbenchSources"] == "$(LATBENCH_SOURCES)"
    assert "UILaunchScreen" in information  # without it the app gets the screen of an old phone


def test_versions_and_modules_are_those_of_latbench(project: dict[str, Any]) -> None:
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    source = (apple.APPLE_SOURCES / "Sources/LatbenchWorker/Version.swift").read_text()
    assert f'workerVersion = "{stated}"' in source
    assert f"protocolVersion: Int64 = {VERSION}" in source
    settings = [each.get("buildSettings", {}) for each in project["objects"].values()]
    assert [each["MARKETING_VERSION"] for each in settings if "MARKETING_VERSION" in each] == [
        stated
    ]
    package = (apple.APPLE_SOURCES / "Package.swift").read_text()
    for name in ("LatbenchWorker", apple.PROGRAM):
        assert f'name: "{name}"' in package
        assert (apple.APPLE_SOURCES / "Sources" / name).is_dir()


def test_the_command_that_builds_the_app() -> None:
    command = apple.build_command("ABCDE12345", "00008110-0001", "/tmp/place")
    assert command[:3] == (
        *("xcodebuild", "-project", "/tmp/place/sources/App/LatbenchWorker.xcodeproj"),
    )
    assert "DEVELOPMENT_TEAM=ABCDE12345" in command
    assert "PRODUCT_BUNDLE_IDENTIFIER=dev.latbench.worker.abcde12345" in command
    assert f"LATBENCH_SOURCES={apple.sources_sha256()}" in command
    assert apple.built_app("/tmp/place").endswith("Release-iphoneos/LatbenchWorker.app")


def test_what_xcode_leaves_behind_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("Package.swift", ".build/debug/x", "App/A.xcodeproj/xcuserdata/me"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    monkeypatch.setattr(apple, "APPLE_SOURCES", tmp_path)
    assert apple.app_sources() == (tmp_path / "Package.swift",)
