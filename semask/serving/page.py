"""The page that describes the addresses of a server: plain HTML, no script, nothing from elsewhere."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from semask.serving.formats import FORMS

STYLE = """
:root { color-scheme: light dark; background: Canvas; color: CanvasText; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
code, pre { font-family: ui-monospace, monospace; font-size: .9em }
pre { overflow-x: auto; padding: .75rem; border: 1px solid #8886; border-radius: .4rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid #8884 }
td { overflow-wrap: anywhere; min-width: 6em }
.table { overflow-x: auto }
h2 { margin-top: 2.5rem }
a { color: light-dark(#0645ad, #8ab4f8) }
"""
EXAMPLE = """curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg'{token} \\
     -H 'Accept: image/png' http://localhost:8000/v1/models/NAME/predict --output mask.png"""


def page_of(described: dict[str, Any], *, protected: bool) -> str:
    """Make the page.

    Args:
        described: The OpenAPI description.
        protected: Whether requests need a token.
    """
    info = described["info"]
    token = ' -H "Authorization: Bearer $SEMASK_TOKEN"' if protected else ""
    parts = [
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        f"<p>{escape(info['description'])}</p>",
        f'<pre tabindex="0">{escape(EXAMPLE.format(token=token))}</pre>',
        '<p>The same for programs: <a href="openapi.json">openapi.json</a></p>',
        "<h2>Forms of answers</h2>",
        table(("format", "Accept", "content"), [(name, form.media, form.says) for name, form in FORMS.items()]),
        *addresses(described),
    ]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
    body = f"<main>{''.join(parts)}</main>"
    return f'<!doctype html><html lang="en"><head><title>semask</title>{head}</head><body>{body}</body></html>'


def addresses(described: dict[str, Any]) -> Iterator[str]:
    """Describe each address."""
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield f"<h2><code>{method.upper()} {escape(path)}</code></h2>"
            yield f"<p>{escape(operation.get('description', ''))}</p>"
            rows = [(x["name"], x["in"], x.get("description", "")) for x in operation.get("parameters", [])]
            if rows:
                yield table(("parameter", "in", "meaning"), rows)
            media = operation.get("requestBody", {}).get("content", {})
            if media:
                yield f"<p>Body: {escape(', '.join(media))}</p>"
            yield table(
                ("status", "answer"),
                [(status, x.get("description", "")) for status, x in operation["responses"].items()],
            )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Make a table."""
    first = "".join(f'<th scope="col">{escape(x)}</th>' for x in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(x))}</td>" for x in row) + "</tr>" for row in rows)
    whole = f"<table><thead><tr>{first}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="table" tabindex="0">{whole}</div>'
