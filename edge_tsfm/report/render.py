"""Renders a page as one self-contained HTML file, without scripts and without external fonts or pictures."""

from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from edge_tsfm.report.document import Page


def render(page: Page) -> str:
    """Return a page as HTML. All text in it is escaped."""
    template, style = _design()
    return template.render(page=page, style=style)


@cache
def _design() -> tuple[Template, Markup]:
    """Load the template and its style sheet, once."""
    environment = Environment(
        loader=PackageLoader("edge_tsfm.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    style = files("edge_tsfm.report").joinpath("templates/style.css").read_text(encoding="utf-8")
    return environment.get_template("page.html"), Markup(style)  # noqa: S704  # our own file, not anybody's text
