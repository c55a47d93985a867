"""The site of these pages, which `nox -s docs` builds with Sphinx. README.md is its first page."""

import os
import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.search.en import SearchEnglish
from sphinx.util import logging

DOCS = Path(__file__).parent
CHECKOUT = DOCS.parent
# Address of the files that are not part of the site, such as https://HOST/OWNER/catlip-bench/blob/main. Without it, a
# link to such a file is text.
SOURCES = os.environ.get("CATLIP_BENCH_SOURCES", "")

project = "catlip-bench"
extensions = ["myst_nb"]
exclude_patterns = ["extensions", "slurm", "example/records"]
suppress_warnings = ["myst.strikethrough"]
highlight_language = "text"
smartquotes = False
myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]

nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 900  # seconds per cell: a busy machine needs longer

html_theme = "furo"
html_title = "catlip-bench"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False

# A link or image: "!" or "", text, path, "#anchor" or "".
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#:\s]+)(#[^)\s]*)?\)")
# The search asks for all words of a query, so that words of questions are ignored.
QUESTION_WORDS = {
    "do",
    "does",
    "how",
    "i",
    "me",
    "my",
    "need",
    "own",
    "really",
    "use",
    "what",
    "when",
    "which",
    "why",
}


class QuestionSearch(SearchEnglish):
    """English search that reads questions."""

    stopwords = SearchEnglish.stopwords | QUESTION_WORDS


def resolve_links(_app: Sphinx, page: str, source: list[str]) -> None:
    """Point the links of a page at the site, and put README.md before the navigation of the first page.

    Pages link to files as a forge shows them. A link to a file that does not exist is a warning.
    """
    if page == "index":
        readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
        source[0] = f"{with_site_links(readme, CHECKOUT, page)}\n{source[0]}"
    elif not page.startswith("notebooks/"):
        source[0] = with_site_links(source[0], (DOCS / page).parent, page)


def with_site_links(text: str, folder: Path, page: str) -> str:
    """Return a text whose links are relative to `folder` with the links of a page of the site."""

    def replace(match: re.Match[str]) -> str:
        mark, label, path, anchor = match.groups(default="")
        target = (folder / path).resolve()
        if not target.exists():
            logger = logging.getLogger(__name__)
            logger.warning("link to a file that does not exist: %s", path, location=page)
        if mark or target.is_relative_to(DOCS):
            site_path = os.path.relpath(target, (DOCS / page).parent)
            return f"{mark}[{label}]({site_path}{anchor})"
        return f"[{label}]({SOURCES}/{target.relative_to(CHECKOUT)})" if SOURCES else label

    return LINK.sub(replace, text)


def setup(app: Sphinx) -> None:
    """Register the search and the links."""
    app.add_search_language(QuestionSearch)
    app.connect("source-read", resolve_links)
