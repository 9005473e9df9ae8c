"""HTML: the few elements of a report, in one file that needs nothing from elsewhere.

Texts are escaped here and nowhere else; what these functions return is HTML.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; color: #1a1a1a;
  background: #fff; margin: 0 auto; padding: 1.5rem; max-width: 76rem; }
p, li, dd, figcaption, caption { max-width: 48rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; border-bottom: 1px solid #bbb; }
h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; overflow-wrap: anywhere; }
nav a { margin-right: 1.2em; white-space: nowrap; }
a { color: #0b57a4; }
dt { font-weight: 600; float: left; clear: left; width: 6.5rem; }
dd { margin: 0 0 .35rem 6.5rem; }
.notes { border-left: .3rem solid #d55e00; background: #fdf3ec; padding: .5rem 1rem .5rem 2rem;
  overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: .75rem 0 1.25rem; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .25rem; font-weight: 600; }
th, td { padding: .2rem .9rem .2rem 0; text-align: left; white-space: nowrap; }
thead th { border-bottom: 1px solid #555; vertical-align: bottom; }
tbody tr + tr > * { border-top: 1px solid #e4e4e4; }
tbody th { font-weight: 500; white-space: normal; }
.facts td { white-space: normal; overflow-wrap: anywhere; }
figure { margin: .75rem 0 1.5rem; }
img { max-width: 100%; height: auto; }
figcaption { font-size: .875rem; color: #444; }
@media print { body { padding: 0; font-size: 11px; max-width: none; } nav { display: none; }
  figure, tr { break-inside: avoid; } h2, h3 { break-after: avoid; }
  .scroll { overflow: visible; } th, td { padding-right: .5rem; } }
"""


def document(title: str, opening: str, sections: Mapping[str, str]) -> str:
    """A page: title, opening, a list of contents, and the sections by their headings."""
    links = "\n".join(
        f'<a href="#section-{i}">{escape(heading)}</a>' for i, heading in enumerate(sections, 1)
    )
    body = "\n".join(
        f'<section id="section-{i}">\n<h2>{escape(heading)}</h2>\n{content}\n</section>'
        for i, (heading, content) in enumerate(sections.items(), 1)
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
{opening}
<nav>
{links}
</nav>
{body}
</body>
</html>
"""


def heading(text: str) -> str:
    """A heading within a section."""
    return f"<h3>{escape(text)}</h3>"


def paragraph(text: str) -> str:
    """A paragraph."""
    return f"<p>{escape(text)}</p>"


def notes(texts: Iterable[str]) -> str:
    """A list that catches the eye; nothing where there are no texts."""
    items = "\n".join(f"<li>{escape(text)}</li>" for text in texts)
    return f'<ul class="notes">\n{items}\n</ul>' if items else ""


def definitions(terms: Mapping[str, str]) -> str:
    """Terms and what they mean."""
    items = "\n".join(f"<dt>{escape(k)}</dt>\n<dd>{escape(v)}</dd>" for k, v in terms.items())
    return f"<dl>\n{items}\n</dl>"


def facts(values: Mapping[str, str]) -> str:
    """A table of names and values."""
    rows = "\n".join(_row([k, v], 1) for k, v in values.items())
    return f'<div class="scroll"><table class="facts">\n<tbody>\n{rows}\n</tbody>\n</table></div>'


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], labels: int = 1) -> str:
    """A table that scrolls where it is too wide; the first `labels` cells of a row are headers."""
    columns = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "\n".join(_row(row, labels) for row in rows)
    return (
        f'<div class="scroll"><table>\n<caption>{escape(caption)}</caption>\n'
        f"<thead>\n<tr>{columns}</tr>\n</thead>\n<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def picture(png: bytes, caption: str) -> str:
    """A PNG picture, within the page itself, over its caption."""
    data = base64.b64encode(png).decode()
    # A screen reader is told by the caption and the tables; the picture itself says no more.
    return (
        f'<figure>\n<img src="data:image/png;base64,{data}" alt="">\n'
        f"<figcaption>{escape(caption)}</figcaption>\n</figure>"
    )


def _row(cells: Sequence[str], labels: int) -> str:
    headers = "".join(f'<th scope="row">{escape(cell)}</th>' for cell in cells[:labels])
    return f"<tr>{headers}{''.join(f'<td>{escape(cell)}</td>' for cell in cells[labels:])}</tr>"
