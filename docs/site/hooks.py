"""Hooks for mkdocs: the site has the repository's layout, so that relative links work in both.

MkDocs expects all pages in one folder. Ours are beside the code they describe (``device_runtime/FORMAT.md``,
``firmware_examples/README.md``), and link to one another, to folders and to sources by relative paths. So every page,
and every file that a page links to, is placed in the site at its path in the repository.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

import click
import jupytext
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from device_runtime import cli as device
from edge_tsfm import cli as workstation

TREE = Path(__file__).resolve().parents[2]
PAGES = (
    "*.md",
    "docs/**/*.md",
    "device_runtime/*.md",
    "firmware_examples/**/README.md",
    "distribution/README.md",
    "tests/vectors/README.md",
)
PICTURES = ("docs/pictures/*", "docs/site/site.css")
NOTEBOOKS = {
    "docs/guides/dataframe.md": "docs/guides/dataframe.py",
    "docs/guides/folder.md": "docs/guides/folder.py",
    "docs/guides/device.md": "docs/guides/device.py",
}
HELP = "docs/reference/options.md"
WIDTH = 78  # characters in a line of help: as many as fit beside the navigation
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
BUILT = {"build", ".venv", "node_modules"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Replace a folder in the navigation with its pages, in order."""
    for section in config.nav or []:
        for title, pages in section.items():
            if isinstance(pages, str) and pages.endswith("/"):
                found = sorted(str(path.relative_to(TREE)) for path in (TREE / pages).glob("*.md"))
                section[title] = [f"{pages}index.md", *found]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Place every page, and every file that pages link to, at its path in the repository."""
    found = Files([file for file in files if file.src_dir != config.docs_dir])  # the theme's
    paths = {path for pattern in (*PAGES, *PICTURES) for path in TREE.glob(pattern) if not BUILT & set(path.parts)}
    pages = {str(path.relative_to(TREE)): path for path in sorted(paths) if path.is_file()}
    texts = {name: path.read_text(encoding="utf-8") for name, path in pages.items() if name.endswith(".md")}
    texts |= {page: jupytext.writes(jupytext.read(TREE / source), "md") for page, source in NOTEBOOKS.items()}
    linked = {target for name, text in texts.items() for target in targets(name, text)}
    for folder in sorted(target for target in linked if (TREE / target).is_dir()):
        index = f"{folder}/index.md"
        if f"{folder}/README.md" not in texts and index not in texts:
            texts[index] = contents(folder, texts)
    for name, text in texts.items():
        found.append(File.generated(config, name, content=local(name, text)))
    for name in sorted((linked | set(pages)) - set(texts)):
        if (TREE / name).is_file():
            found.append(File.generated(config, name, abs_src_path=str(TREE / name)))
    return found


def targets(page: str, text: str) -> set[str]:
    """Return the paths in the repository that a page links to."""
    links = (match[2] for match in LINK.finditer(FENCED.sub("", text)) if "://" not in match[2])
    return {posixpath.normpath(posixpath.join(posixpath.dirname(page), link)) for link in links}


def local(page: str, text: str) -> str:
    """Point links to a folder at the folder's page, and links to a notebook's source at the notebook's page."""
    pages = {source: name for name, source in NOTEBOOKS.items()}

    def index(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), match[2]))
        if path in pages and pages[path] != page:
            return f"{match[1]}{match[2].removesuffix('.py')}.md{match[3]}"
        if "://" in match[2] or not (TREE / path).is_dir():
            return match[0]
        name = "README.md" if (TREE / path / "README.md").exists() else "index.md"
        return f"{match[1]}{posixpath.join(match[2], name)}{match[3]}"

    return LINK.sub(index, text)


def contents(folder: str, texts: dict[str, str]) -> str:
    """Write the page of a folder without one: its pages by their titles, its other files by their names."""
    lines = [f"# {folder}", ""]
    for path in sorted((TREE / folder).iterdir()):
        name = f"{folder}/{path.name}"
        if name in texts:
            lines.append(f"- [{texts[name].split(chr(10), 1)[0].removeprefix('# ')}]({path.name})")
        elif path.suffix != ".pyc" and path.name != "__pycache__":
            lines.append(f"- `{path.name}`")
    return "\n".join([*lines, ""])


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Remove the comments that tell the tests how to run a block; add every command's help to the page of options."""
    markdown = re.sub(r"^<!-- .*? -->\n", "", markdown, flags=re.MULTILINE)
    if page.file.src_uri == HELP:
        groups = {"edge-tsfm": workstation.cli, "edge-tsfm-device": device.cli}
        markdown += "".join(
            helps(command, click.Context(command, info_name=name, terminal_width=WIDTH))
            for name, command in groups.items()
        )
    return markdown


def helps(command: click.Command, context: click.Context) -> str:
    """Return the ``--help`` of a command and of all its subcommands, each under its name."""
    level = "##" if context.parent is None else "###"
    text = f"\n{level} {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            if (found := command.get_command(context, name)) is not None:
                text += helps(found, click.Context(found, info_name=name, parent=context, terminal_width=WIDTH))
    return text
