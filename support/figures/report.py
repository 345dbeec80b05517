"""report.html, a page of figures and tables that needs no other file; and figures written to files of their own."""

import base64
import html
import io
import re
from dataclasses import dataclass
from pathlib import Path

from support.cli import clean
from support.files import write_whole

# ---- Figures as files -----------------------------------------------------------------------------------------------

# Without the date and the library's version: the same figure gives the same file.
METADATA = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
}


@dataclass(frozen=True)
class Drawn:
    """A figure as it stands in the page: PNG bytes, and what is to be seen in it."""

    png: bytes
    caption: str


def rendered(figure, kind: str, dpi: int) -> bytes:
    """A matplotlib figure as the content of a file of that kind: png, pdf or svg."""
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=dpi, metadata=METADATA[kind])
    return file.getvalue()


def write_figure(figure, caption: str, path: Path, dpi: int) -> Drawn:
    """Write a figure to `path`, whose ending says how, and its caption beside it, into NAME.txt."""
    kind = path.suffix[1:]
    figure.draw_without_rendering()
    figure.set_layout_engine(
        "none"
    )  # the axes stand; to arrange them again would take most of a drawing's time
    content = rendered(figure, kind, dpi)
    for target, bytes_ in ((path, content), (path.with_suffix(".txt"), f"{caption}\n".encode())):
        with write_whole(target) as file:
            file.write(bytes_)
    return Drawn(content if kind == "png" else rendered(figure, "png", dpi), caption)


# ---- The page -------------------------------------------------------------------------------------------------------

PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 0 auto; padding: 0 8px 3em;
  max-width: {width} }}
h1 {{ font-size: 1.5em; overflow-wrap: anywhere }}
h2 {{ font-size: 1.1em; margin: 0 0 .4em }}
nav ul {{ columns: 11em; padding: 0; list-style: none; margin: 0 0 2em }}
nav a {{ display: block; padding: .15em 0 }}
main {{ columns: {columns} 340px; column-gap: 32px }}
section, figure {{ margin: 0; padding: 0 0 2em }}
figure, .whole {{ break-inside: avoid }}
img {{ display: block; width: 100%; height: auto }}
figcaption {{ font-size: .94em }}
p, figcaption {{ overflow-wrap: break-word; margin: .3em 0 }}
code {{ overflow-wrap: anywhere; font-size: .9em }}
.scroll {{ overflow-x: auto }}
table {{ border-collapse: collapse; font-size: .9em; font-variant-numeric: tabular-nums; width: 100% }}
td, th {{ padding: .2em .5em .2em 0; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top }}
td + td {{ overflow-wrap: anywhere }} td span {{ white-space: nowrap }}
.numbers td {{ white-space: nowrap }} .numbers td + td, .numbers th + th {{ text-align: right }}
i {{ display: inline-block; width: .8em; height: .8em; margin-right: .5em }}
</style>
<h1>{title}</h1>
<nav aria-label="contents"><ul>
{contents}
</ul></nav>
<main>
{body}
</main>
</html>
"""


def anchor(title: str) -> str:
    """What a link to a part of the page is called."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "part"


def cell(value: object) -> str:
    """A value as the content of a table's cell: one line, escaped, with its middle left out where it is long."""
    return html.escape(clean(value, 200))


def table(rows: list[list], numbers: bool = False, colours: list[str] | None = None) -> str:
    """An HTML table, its first row the head; colours: a square before the first cell of each other row."""
    lines = []
    for i, row in enumerate(rows):
        tag = "th" if i == 0 else "td"
        flag = r"(?<!\S)--[a-z0-9-]+"  # in which no line is to end
        cells = [re.sub(flag, r"<span>\g<0></span>", cell(each)) for each in row]
        cells = [each.replace("_", "_<wbr>") for each in cells] if i == 0 else cells
        if colours and i:
            cells[0] = f'<i style="background:{colours[i - 1]}"></i>{cells[0]}'
        lines.append("<tr>" + "".join(f"<{tag}>{each}</{tag}>" for each in cells) + "</tr>")
    return (
        f'<div class="scroll"><table{" class=numbers" * numbers}>\n'
        + "\n".join(lines)
        + "\n</table></div>"
    )


def paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def section(title: str, content: str, whole: bool = True) -> str:
    """A part of the page; whole: it doesn't go on in the next column."""
    kind = ' class="whole"' if whole else ""
    return f'<section id="{anchor(title)}"{kind}><h2>{cell(title)}</h2>\n{content}</section>'


def figure_part(name: str, drawn: Drawn) -> str:
    data = base64.b64encode(drawn.png).decode()
    return (
        f'<figure id="{anchor(name)}"><h2>{cell(name)}</h2>'
        f'<img alt="figure {cell(name)}, described below" src="data:image/png;base64,{data}">'
        f"<figcaption>{html.escape(drawn.caption)}</figcaption></figure>"
    )


def report(
    title: str, figures: dict[str, Drawn], first: dict[str, str], last: dict[str, str]
) -> bytes:
    """The page: parts by title, as HTML, before and after the figures, all named in the contents."""
    parts = [section(name, content) for name, content in first.items()]
    parts += [figure_part(name, drawn) for name, drawn in figures.items()]
    parts += [section(name, content, whole=False) for name, content in last.items()]
    links = [
        f'<li><a href="#{anchor(name)}">{cell(name)}</a></li>' for name in (*first, *figures, *last)
    ]
    columns = 2 if len(parts) < 4 else 3  # at most: a phone has room for one
    layout = {"columns": columns, "width": f"{columns * 420 - 20}px"}
    return PAGE.format(
        title=cell(title), contents="\n".join(links), body="\n".join(parts), **layout
    ).encode()
