"""A hook of mkdocs: the documents that stand outside of docs/ become pages of the site.

mkdocs.yml names it. A link from one document to another leads to its page.
"""

import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "benchmarks/README.md": "benchmarks.md",
    "results/README.md": "committed-results.md",
}
"""By document in the repository its page in the site."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that stand elsewhere."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The text with its links made those of the site."""
    places = {name: source for source, name in PAGES.items()}
    uri = page.file.src_uri
    return relinked(markdown, places.get(uri, f"docs/{uri}"))


def relinked(text: str, source: str) -> str:
    """A document's text as its page has it.

    Args:
        text: Markdown.
        source: the document's path in the repository.
    """

    def link(match: re.Match[str]) -> str:
        path, anchor = match.group(1), match.group(2) or ""
        target = os.path.normpath(PurePosixPath(source).parent / path)
        return f"]({os.path.relpath(_place(target), _folder(source))}{anchor})"

    return re.sub(r"\]\((?![a-z]+:)([^)#\s]+)(#[^)]*)?\)", link, text)


def _place(source: str) -> str:
    """Where a document of the repository is in the site's sources."""
    return PAGES.get(source, source.removeprefix("docs/"))


def _folder(source: str) -> PurePosixPath:
    return PurePosixPath(_place(source)).parent
