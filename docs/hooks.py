"""MkDocs hooks: pages from the commands, the docstrings and the Markdown files outside of docs/."""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import re
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
OUTSIDE = {
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "RELEASING.md": "project/releasing.md",
    "SECURITY.md": "project/security.md",
    "benchmarks/README.md": "project/benchmarks.md",
    "benchmarks/truth/README.md": "project/truth.md",
}
"""Pages of the site by their file in the repository."""

MODULES = {
    "Backend interface": ["latbench.api"],
    "Stored values": "latbench.schema",
    "Analysis": "latbench.analysis",
}
"""Pages of the API reference: modules, or a package of which every module is shown."""

LINK_OR_CODE = re.compile(
    r"```.*?```|(?<!!)\[(?P<text>[^\]]*)\]\((?P<link>[^)\s#:]+)(?P<anchor>#[^)\s]*)?\)|`[^`\n]*`",
    re.DOTALL,
)
"""A relative link, or code, in which nothing is a link."""

log = logging.getLogger("mkdocs.hooks.latbench")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Import latbench from this checkout, so that its pages describe these sources."""
    sys.path[:0] = [str(ROOT / folder) for folder in ("src", "exporters", "runners")]
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the generated pages and replace folders in the navigation by their pages."""
    pages = {page: (ROOT / path).read_text(encoding="utf-8") for path, page in OUTSIDE.items()}
    pages["reference/cli.md"] = command_page()
    pages["reference/python/index.md"] = public_api_page()
    for title, modules in MODULES.items():
        name = title.lower().replace(" ", "-")
        pages[f"reference/python/{name}.md"] = module_page(title, modules)
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    known = sorted(file.src_uri for file in files.documentation_pages())
    config.nav = expanded(config.nav, known)
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at the pages of the site, wherever their files lie in the repository."""
    here = next((p for p, uri in OUTSIDE.items() if uri == page.file.src_uri), None)
    source = PurePosixPath(here or f"docs/{page.file.src_uri}")

    def replaced(match: re.Match[str]) -> str:
        text, link, anchor = match["text"], match["link"], match["anchor"] or ""
        if link is None:
            return match[0]
        target = os.path.normpath(source.parent / link)
        inside = target.removeprefix("docs/") if target.startswith("docs/") else None
        uri = "index.md" if target == "README.md" else OUTSIDE.get(target, inside)
        if uri is not None and files.get_file_from_path(uri):
            start = PurePosixPath(page.file.src_uri).parent
            return f"[{text}]({os.path.relpath(uri, start)}{anchor})"
        if not (ROOT / target).exists():
            log.warning("%s links to %s, which does not exist", source, target)
            return match[0]
        # A source file or folder: it has no page, so its name is enough.
        return text if text.startswith("`") else f"{text} (`{target}`)"

    return LINK_OR_CODE.sub(replaced, markdown)


def expanded(nav: Any, known: list[str]) -> Any:
    """The navigation with each ``folder/`` replaced by the pages below it, without missing pages.

    A misspelled page is still reported, as one that the navigation omits.
    """
    if isinstance(nav, list):
        return [item for item in (expanded(entry, known) for entry in nav) if item]
    if isinstance(nav, dict):
        items = {title: expanded(entry, known) for title, entry in nav.items()}
        return {title: entry for title, entry in items.items() if entry}
    if nav.endswith("/"):
        pages = [page for page in known if page.startswith(nav)]
        return sorted(pages, key=lambda page: (not page.endswith("/index.md"), page))
    return nav if nav in known else None


def command_page() -> str:
    """Every command with the text of its ``--help``."""
    from latbench.cli import main

    lines = ["# Commands", "", "The output of `--help` for every command."]

    def add(command: click.Command, name: str, parent: click.Context | None) -> None:
        context = click.Context(
            command, info_name=name.split()[-1], parent=parent, max_content_width=80
        )
        context.terminal_width = 80
        lines.extend(["", f"{'##' if parent is None or parent.parent is None else '###'} `{name}`"])
        lines.extend(["", "```text", command.get_help(context), "```"])
        if isinstance(command, click.Group):
            for child in command.list_commands(context):
                found = command.get_command(context, child)
                if found is not None and not found.hidden:
                    add(found, f"{name} {child}", context)

    add(group_of(main), "latbench", None)
    return "\n".join(lines) + "\n"


def group_of(main: Any) -> click.Command:
    """The click group behind the program's entry point."""
    if isinstance(main, click.Command):
        return main
    module = inspect.getmodule(main)
    return next(v for v in vars(module).values() if isinstance(v, click.Group))


def public_api_page() -> str:
    """The names of ``latbench.__all__``, each where it is defined."""
    import latbench

    lines = ["# Public names", "", str(inspect.getdoc(latbench)), ""]
    for name in latbench.__all__:
        value = getattr(latbench, name)
        if not name.startswith("__"):
            lines.append(f"::: {value.__module__}.{value.__qualname__}")
            lines.append("    options: {show_root_full_path: false}")
    return "\n".join(lines) + "\n"


def module_page(title: str, modules: list[str] | str) -> str:
    """The docstrings of some modules, or of all in a package."""
    if isinstance(modules, str):
        folder = Path(str(importlib.import_module(modules).__file__)).parent
        names = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
        modules = [f"{modules}.{name}" for name in names]
    return "\n".join([f"# {title}", "", *(f"::: {module}" for module in modules)]) + "\n"
