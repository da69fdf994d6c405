"""HTML pages for people: one file without scripts or network access, for screens of any width."""

import base64
import html
import string
from collections.abc import Sequence

_PAGE = string.Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { --good: #0072B2; --bad: #B04A00; --mixed: #555; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; color: #1a1a1a; background: #fff;
  max-width: 75rem; margin: 0 auto; padding: 1rem; overflow-wrap: break-word; }
p, .verdict { max-width: 60rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0 1rem; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid #ccc; }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
h4 { font-size: 1rem; margin: 1rem 0 .2rem; }
.verdict { border-left: .4rem solid var(--mixed); padding: .3rem .9rem; margin: .7rem 0;
  background: #f6f6f6; }
.verdict.good { border-color: var(--good); }
.verdict.bad { border-color: var(--bad); }
.verdict p { margin: .3rem 0; }
.answer { font-size: 1.1rem; }
.note { border: 1px solid var(--bad); padding: .5rem .9rem; }
td.good { color: var(--good); } td.bad { color: var(--bad); } td.mixed { color: var(--mixed); }
td.good, td.bad { font-weight: 600; }
.scroll { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { border: 1px solid #ccc; padding: .25rem .5rem; text-align: left; vertical-align: top; }
th { background: #eee; } td.wide { min-width: 15rem; }
td.n { text-align: right; white-space: nowrap; }
td.any { overflow-wrap: anywhere; }
img { max-width: 100%; height: auto; display: block; margin: .5rem 0; }
/* On a narrow screen a figure scrolls in its own box, because its labels would be too small. */
@media (max-width: 45rem) { .scroll img { max-width: none; width: 45rem; } }
code { font-size: .85em; }
.small { color: #555; font-size: .9rem; margin: .9rem 0 -.3rem; }
@media print { .scroll { overflow: visible; } }
</style>
</head>
<body>
<h1>$title</h1>
$body
</body>
</html>
""")


def make_page(title: str, body: str) -> str:
    """Makes a page.

    Args:
      title: plain text, also the heading.
      body: HTML. The style has boxes `<div class="verdict">` (also `good` or `bad`), the class
        `answer` for the main result, `note` for a line in a frame, and `small` for captions.
    """
    return _PAGE.substitute(title=escape(title), body=body)


def escape(value) -> str:
    """Returns a value as text that HTML does not interpret."""
    return html.escape(str(value))


def make_table(header: Sequence[str], rows: Sequence[Sequence], caption: str = "") -> str:
    """Makes a table that scrolls on narrow screens.

    Args:
      header: HTML of each column's name.
      rows: cells, each HTML or (class, HTML). Classes: `n` for numbers, `good`, `bad` and `mixed`
        for verdicts, `wide`, and `any` for text without spaces, which may be broken anywhere.
      caption: HTML above the table.
    """
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    body = []
    for row in rows:
        cells = [x if isinstance(x, tuple) else ("", x) for x in row]
        tags = [f'<td class="{kind}">{x}</td>' if kind else f"<td>{x}</td>" for kind, x in cells]
        body.append(f"<tr>{''.join(tags)}</tr>")
    above = f'<p class="small">{caption}</p>' if caption else ""
    return (
        f'{above}<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>\n"
    )


def embed_png(png: bytes, alt: str) -> str:
    """Makes a figure from the bytes of a PNG file; it scrolls on narrow screens."""
    data = base64.b64encode(png).decode()
    return (
        '<div class="scroll" tabindex="0">'
        f'<img alt="{escape(alt)}" src="data:image/png;base64,{data}"></div>\n'
    )
