"""The page: texts are shown as they are, and nothing is needed from elsewhere."""

import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from posjax.report.figures import grid_of_maps
from posjax.report.page import Glossary, Heading, Page, Picture, Table, as_html, facts

ODD = "<b>\"x\" & 'y'</b>"
VOID = {"meta", "img"}


class Reader(HTMLParser):
    """All elements with their text, in order; fails on tags that do not match."""

    def __init__(self, path):
        super().__init__()
        self.open, self.elements = [], []
        self.feed(path.read_text("utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append([tag, dict(attributes), ""])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.elements:
            self.elements[-1][2] += data.strip()

    def texts(self, tag):
        return [text for name, _, text in self.elements if name == tag]

    def attributes(self, tag):
        return [attributes for name, attributes, _ in self.elements if name == tag]


def picture(name="maps"):
    return Picture(name, grid_of_maps({"row": {"column": np.eye(3)}}), f"caption {ODD}")


def test_all_texts_are_escaped(tmp_path):
    table = Table(f"table {ODD}", ["a", ODD], [["1", ODD], [ODD, "2"]])
    elements = [Heading(ODD), f"paragraph {ODD}", table, picture()]
    page = Page(ODD, {ODD: elements}, [f"introduction {ODD}"], [f"note {ODD}"])
    reader = Reader(page.write(tmp_path))
    for tag in ("title", "h1", "h2", "h3"):
        assert reader.texts(tag) == [ODD]
    assert ODD in reader.texts("a")
    assert reader.texts("p") == [f"introduction {ODD}", f"paragraph {ODD}"]
    assert reader.texts("li") == [f"note {ODD}"]
    assert reader.texts("caption") == [f"table {ODD}"]
    assert reader.texts("figcaption") == [f"caption {ODD}"]
    assert reader.texts("th") == ["a", ODD, "1", ODD]
    assert reader.texts("td") == [ODD, "2"]


def test_the_page_needs_no_network_and_is_whole_without_its_script(tmp_path):
    path = Page("title", {"one": ["text"], "two": [picture()]}, files=["a.csv"]).write(tmp_path)
    reader = Reader(path)
    (image,) = reader.attributes("img")
    assert image["src"].startswith("data:image/png;base64,")
    links = [attributes["href"] for attributes in reader.attributes("a")]
    sections = [f"#{attributes['id']}" for attributes in reader.attributes("details")]
    assert links == [*sections, "a.csv", "figures/maps.png", "figures/maps.svg"]
    text = path.read_text("utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert not re.search(r"<script [^>]|<link|https?://|url\(", text)
    assert text.index("</details>") < text.index("<script>")


@pytest.mark.parametrize(
    ("caption", "alternative"),
    [
        ("Losses at .5 of all, <means>.", "Losses at .5 of all, <means>."),
        ("Mean SPC; lines are 95 % intervals. undef.: none.", "Mean SPC"),
        ("H on photos. One row a mode.", "H on photos."),
    ],
)
def test_a_picture_says_what_it_shows_where_it_is_not_seen(tmp_path, caption, alternative):
    shown = dataclasses.replace(picture(), caption=caption)
    reader = Reader(Page("title", {"one": [shown]}).write(tmp_path))
    assert [attributes["alt"] for attributes in reader.attributes("img")] == [alternative]


def test_pictures_are_files_too_and_the_page_is_written_over_an_older_one(tmp_path):
    Page("title", {"section": [picture()]}).write(tmp_path)
    Page("title", {"section": [picture(), picture("more")]}).write(tmp_path)
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))
    kept = [f"figures/{name}.{kind}" for name in ("maps", "more") for kind in ("png", "svg")]
    assert names == [*kept, "report.html"]
    with Image.open(tmp_path / "figures" / "maps.png") as image:
        assert image.format == "PNG"


def test_empty_parts_leave_no_trace(tmp_path):
    reader = Reader(Page("title", {"Settings": [facts({"seeds": "0, 1"})]}).write(tmp_path))
    assert {"ul", "dl", "caption", "thead"}.isdisjoint(tag for tag, _, _ in reader.elements)
    assert (reader.texts("th"), reader.texts("td")) == (["seeds"], ["0, 1"])
    assert reader.attributes("table") == [{"class": "facts"}]


@pytest.mark.parametrize(
    ("glossary", "seed"),
    [
        (Glossary(closed_form=False, seeded=True), "Draws the readout's initial weights"),
        (Glossary(closed_form=True, seeded=True), "Draws the weights of the encoder"),
        (Glossary(closed_form=True, seeded=False), ""),
    ],
)
def test_the_glossary_speaks_of_seeds_and_closed_forms_where_there_are_any(glossary, seed):
    text = as_html([glossary])
    assert seed in text
    assert ("seed" in text) is glossary.seeded
    assert ("closed form" in text) is glossary.closed_form
