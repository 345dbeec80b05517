"""Write report.html, a page that needs no other file, and figures as files of their own."""

import base64
import html
import io
import re
from dataclasses import dataclass
from pathlib import Path

from support.cli import clean
from support.files import write_whole

# ---- Figures as files ----------------------------------------------------------------------------

# Without the date and the library's version: the same figure gives the same file.
METADATA = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
}


@dataclass(frozen=True)
class Drawn:
    """A figure as the page has it: its title, PNG bytes, and its caption."""

    title: str
    png: bytes
    caption: str


def rendered(figure, kind: str, dpi: int) -> bytes:
    """Return a matplotlib figure as the content of a file of that kind: png, pdf or svg."""
    # Once the axes have their places: to arrange them again would take most of a drawing's time.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=dpi, metadata=METADATA[kind])
    return file.getvalue()


def write_figure(figure, caption: str, path: Path, dpi: int) -> bytes:
    """Write a figure to `path`, whose suffix is the format, and its caption to NAME.txt.

    Returns the content of the figure's file.
    """
    content = rendered(figure, path.suffix[1:], dpi)
    for target, data in ((path, content), (path.with_suffix(".txt"), f"{caption}\n".encode())):
        with write_whole(target) as file:
            file.write(data)
    return content


# ---- The page ------------------------------------------------------------------------------------

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{ --text: #1b1b1b; --page: #fff; --line: #ddd; --link: #0b57a4 }}
@media (prefers-color-scheme: dark) {{
  :root {{ --text: #e4e4e4; --page: #16181b; --line: #3c4046; --link: #8ab8f0 }}
  img {{ filter: brightness(.88) }}
}}
* {{ box-sizing: border-box }}
body {{ font: 16px/1.55 system-ui, sans-serif; color: var(--text); background: var(--page);
  max-width: 46rem; margin: 2rem auto; padding: 0 1rem }}
a {{ color: var(--link) }}
h1, h2 {{ line-height: 1.2; overflow-wrap: anywhere }}
h1 {{ font-size: 1.7rem }}
h2 {{ font-size: 1.25rem; margin: 0 0 .6rem }}
nav ul {{ columns: 15em; padding: 0; list-style: none; margin: 1rem 0 2.5rem }}
nav a {{ display: block; padding: .15em 0 }}
section, figure {{ margin: 0 0 3rem }}
figure label {{ display: block; cursor: zoom-in }}
img {{ display: block; width: 100%; max-width: 30rem; height: auto; background: #fff }}
figcaption, p {{ overflow-wrap: break-word; margin: .6rem 0 }}
.note {{ font-style: italic }}
/* A click, or the space bar, enlarges a figure; another one closes it. */
.zoom {{ position: absolute; opacity: 0; width: 1px; height: 1px }}
.zoom:focus-visible + img {{ outline: 3px solid var(--link) }}
.zoom:checked + img {{ position: fixed; inset: 0; z-index: 1; width: 100vw; height: 100vh;
  max-width: none; object-fit: contain; cursor: zoom-out; background: var(--page) }}
.scroll {{ overflow-x: auto }}
table {{ border-collapse: collapse; font-size: .94em; font-variant-numeric: tabular-nums;
  width: 100% }}
td, th {{ padding: .25em 1em .25em 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top }}
td {{ overflow-wrap: break-word; hyphens: none }}
td span {{ white-space: nowrap }}
.numbers td {{ white-space: nowrap }}
.numbers td + td, .numbers th + th {{ text-align: right }}
.long td + td {{ overflow-wrap: anywhere }}
@media (max-width: 30rem) {{
  table {{ font-size: .85em }}
  td, th {{ padding-right: .5em }}
}}
i {{ display: inline-block; width: .8em; height: .8em; margin-right: .5em;
  print-color-adjust: exact }}
@page {{ margin: 14mm }}
@media print {{
  body {{ max-width: none; margin: 0; padding: 0; font-size: 9.5pt; line-height: 1.4 }}
  nav {{ display: none }}
  figure {{ break-inside: avoid; display: grid; column-gap: 6mm;
    grid-template-columns: 8.6cm 1fr; margin-bottom: 7mm }}
  figure h2 {{ grid-column: 1 / 3 }}
  section {{ break-inside: avoid; margin-bottom: 7mm }}
  section.long {{ break-inside: auto }}
  h2 {{ break-after: avoid }}
  img {{ max-width: 100%; max-height: 11cm; width: auto; filter: none }}
}}
</style>
<h1>{title}</h1>
{lead}
<nav aria-label="contents"><ul>
{contents}
</ul></nav>
<main>
{body}
</main>
</html>
"""


def anchor(title: str) -> str:
    """Return what a link to a part of the page is called."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "part"


def cell(value: object) -> str:
    """Return a value as a table cell's content: one line, escaped, cut if it is long."""
    return html.escape(clean(value, 200))


def table(rows: list[list], kind: str = "", colours: list[str] | None = None) -> str:
    """Return an HTML table, whose first row is the head.

    kind: "numbers" for columns of numbers, "long" for values that may be broken anywhere. colours:
    a square before the first cell of each other row.
    """
    lines = []
    for i, row in enumerate(rows):
        tag = "td" if i else "th"
        cells = [_unbroken(cell(value)) for value in row]
        if colours and i:
            cells[0] = f'<i style="background:{colours[i - 1]}"></i>{cells[0]}'
        lines.append("<tr>" + "".join(f"<{tag}>{each}</{tag}>" for each in cells) + "</tr>")
    css = f' class="{kind}"' if kind else ""
    content = "\n".join(lines)
    return f'<div class="scroll"><table{css}>\n{content}\n</table></div>'


def _unbroken(text: str) -> str:
    """Return a cell's content with unbroken flags (--shift); names may break after a '_'."""
    flags_whole = re.sub(r"(?<!\S)--[a-z0-9-]+", r"<span>\g<0></span>", text)
    return flags_whole.replace("_", "_<wbr>")


def paragraph(text: str, kind: str = "") -> str:
    """Return an HTML paragraph."""
    css = f' class="{kind}"' if kind else ""
    return f"<p{css}>{html.escape(text)}</p>"


def demo_link(name: str) -> str:
    """Return a paragraph with a link to the page in which the network runs."""
    text = "on pictures of your own, in the browser"
    return f'<p><a href="{html.escape(name)}">Try the network</a> {text}.</p>'


def section(title: str, content: str) -> str:
    """Return a part of the page."""
    kind = ' class="long"' if content.count("<tr>") > 30 else ""
    return f'<section id="{anchor(title)}"{kind}><h2>{cell(title)}</h2>\n{content}</section>'


def figure_part(name: str, drawn: Drawn) -> str:
    """Return a figure with its title and caption."""
    data = base64.b64encode(drawn.png).decode()
    alt = html.escape(clean(drawn.caption, 250))
    return (
        f'<figure id="{anchor(name)}"><h2>{cell(drawn.title)}</h2>\n'
        f'<label><input type="checkbox" class="zoom" aria-label="enlarge the figure">'
        f'<img alt="{alt}" src="data:image/png;base64,{data}"></label>\n'
        f"<figcaption>{html.escape(drawn.caption)}</figcaption></figure>"
    )


def report(
    title: str,
    figures: dict[str, Drawn],
    first: dict[str, str],
    last: dict[str, str],
    lead: str = "",
) -> bytes:
    """Return the page: parts by title, as HTML, before and after the figures.

    lead: HTML under the title.
    """
    parts = [section(name, content) for name, content in first.items()]
    parts += [figure_part(name, drawn) for name, drawn in figures.items()]
    parts += [section(name, content) for name, content in last.items()]
    links = [(name, name) for name in first]
    links += [(name, drawn.title) for name, drawn in figures.items()]
    links += [(name, name) for name in last]
    contents = [f'<li><a href="#{anchor(name)}">{cell(text)}</a></li>' for name, text in links]
    return PAGE.format(
        title=cell(title), lead=lead, contents="\n".join(contents), body="\n".join(parts)
    ).encode()
