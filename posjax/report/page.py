"""The page of a report: one HTML file that needs nothing from elsewhere, and its figures."""

import base64
import dataclasses
import functools
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from posjax.report.panels import png, svg
from posjax.runtime import write_atomically, write_text


@dataclasses.dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    heading: str


@dataclasses.dataclass(frozen=True)
class Table:
    """Texts in rows and columns; the first `labels` cells of each row are its headers."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    labels: int = 1


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure over its caption; the page's folder keeps it as figures/NAME.png and NAME.svg."""

    name: str
    figure: Figure
    caption: str

    @functools.cached_property
    def png(self) -> bytes:
        """The figure as a PNG file."""
        return png(self.figure)

    @property
    def base64(self) -> str:
        """The picture as it stands within the page."""
        return base64.b64encode(self.png).decode()

    @property
    def alternative(self) -> str:
        """What stands for the picture where it is not seen: the first sentence of its caption."""
        return re.split(r"(?<=[.;]) ", self.caption)[0].rstrip(";")


@dataclasses.dataclass(frozen=True)
class Glossary:
    """What readouts do and what the terms mean: texts of the template, by what the run has."""

    closed_form: bool
    seeded: bool


Element = str | Heading | Table | Picture | Glossary
"""A text is a paragraph. All texts are plain: the template escapes them."""


@dataclasses.dataclass(frozen=True)
class Page:
    """What a page shows: notes and its `lead` at its head, then sections by heading, which open.

    `files` are the names of tables that lie beside it.
    """

    title: str
    sections: Mapping[str, Sequence[Element]]
    lead: Sequence[Element] = ()
    notes: Sequence[str] = ()
    files: Sequence[str] = ()

    def write(self, folder: Path) -> Path:
        """Writes `folder`/report.html and its pictures, each whole or not at all; returns the path.

        Raises:
            OSError: a file cannot be written.
        """
        for element in itertools.chain(self.lead, *self.sections.values()):
            if isinstance(element, Picture):
                (folder / "figures").mkdir(exist_ok=True)
                write_atomically(folder / "figures" / f"{element.name}.png", element.png)
                write_atomically(folder / "figures" / f"{element.name}.svg", svg(element.figure))
        html = _template("page").render(page=self)
        write_text(folder / "report.html", html)
        return folder / "report.html"


def facts(values: Mapping[str, str]) -> Table:
    """A table of names and values, without caption and head."""
    return Table("", (), [*values.items()])


def as_html(elements: Sequence[Element]) -> str:
    """The elements as HTML, for a notebook."""
    return "\n".join(str(_template("elements").module.show(element)) for element in elements)


def _template(name: str) -> Any:
    # Its import takes a while. A program's help need not wait for that.
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("posjax", "report"),
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(f"{name}.html.jinja")
