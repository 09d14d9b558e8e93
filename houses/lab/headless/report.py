"""A notebook as one HTML page that needs no network: no script of a server, pictures inside, widgets as still pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import pass_context
from nbconvert.exporters.html import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from traitlets.config import Config

# nbconvert's own page loads RequireJS, MathJax, Mermaid and the widgets from servers. The policy makes it certain that a
# browser asks for nothing, whatever the outputs hold. Its templates do not escape by themselves: hence each `| e`.
_TEMPLATE = """
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; media-src data:; font-src data:; \
style-src 'unsafe-inline'; script-src 'unsafe-inline'">
{%- endblock html_head_js -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block html_head_css -%}
<style>
.run { font: 14px/1.5 var(--jp-ui-font-family); color: var(--jp-ui-font-color1); margin: 8px 0 20px 8px; padding: 10px 16px;
  border: 1px solid var(--jp-border-color2); border-radius: 8px; overflow-wrap: break-word; }
.run p { margin: 0; }
.run table { border-collapse: collapse; margin-top: 6px; }
.run th, .run td { text-align: left; vertical-align: top; padding: 1px 20px 1px 0; font-weight: normal; }
.run thead th, .run td.note { color: var(--jp-ui-font-color2); }
.run tr.changed :is(th, td.value) { font-weight: bold; }
</style>
{%- endblock html_head_css -%}
{%- block body_header -%}
{{ super() }}
{%- set run = resources.run -%}
<header class="run">
<p><strong>{{ run.title | e }}</strong> ({{ run.notebook | e }})</p>
<p>Run on {{ run.began.isoformat(" ", "seconds") | e }} for {{ "%.1f" | format(run.seconds) }} s: {{ run.outcome | e }}</p>
{%- if run.parameters %}
<table>
<thead><tr><th>Parameter</th><th>Value</th><th>Meaning</th></tr></thead>
<tbody>
{%- for each in run.parameters %}
<tr{% if each.changed %} class="changed"{% endif %}><th>{{ each.name | e }}</th><td class="value">{{ each.value | string | e }}</td>
<td class="note">{{ each.meaning | e }}{% if each.changed %} (changed from {{ each.default | string | e }}){% endif %}</td></tr>
{%- endfor %}
</tbody>
</table>
{%- endif %}
</header>
{%- endblock body_header -%}
{%- block footer -%}</html>{%- endblock -%}
"""
_PREFERRED = ["text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg", "text/plain"]
"""A widget's view is not among them: without a server it is blank; its text/html or text/plain is shown."""


class _Renderer(IPythonRenderer):
    """Text of cells. What nbconvert does to embed pictures closes each tag whose end stands in another block: <details>."""

    def _html_embed_images(self, html: str) -> str:
        return super()._html_embed_images(html) if "<img" in html else html


class _Exporter(HTMLExporter):
    """nbconvert's page, with our renderer of text."""

    @pass_context
    def markdown2html(self, context: Any, source: str) -> str:
        """As nbconvert's own."""
        renderer = _Renderer(
            escape=False,
            attachments=context.get("cell", {}).get("attachments", {}),
            embed_images=self.embed_images,
            path=context.get("resources", {}).get("metadata", {}).get("path", ""),
            anchor_link_text=self.anchor_link_text,
            exclude_anchor_links=self.exclude_anchor_links,
            **self.lexer_options,
        )
        return MarkdownWithMath(renderer=renderer).render(source)


@dataclass(frozen=True, slots=True)
class Used:
    """A parameter, and the value that it had."""

    name: str
    value: Any
    default: Any
    meaning: str

    @property
    def changed(self) -> bool:
        """Whether it was set to something else than the notebook says."""
        return bool(self.value != self.default)


@dataclass(frozen=True, slots=True)
class About:
    """What the head of a report says of its run; nothing of the machine or of the settings, which may be secret."""

    title: str
    notebook: str
    """Its name, without folder and suffix."""
    began: datetime
    """With its time zone."""
    seconds: float
    outcome: str
    parameters: Sequence[Used]


def write_report(notebook: Path, source_folder: Path, about: About, *, hide_code: bool = False) -> Path:
    """Write NOTEBOOK.html beside an executed notebook, also one that failed; returns its path. Formulas stay TeX.

    Args:
        source_folder: where the pictures of its text are looked for.
        about: for the head of the page.
        hide_code: only text and results.
    """
    target = notebook.with_suffix(".html")
    title = f"{about.title} ({about.notebook})"
    resources = {"metadata": {"name": title, "path": str(source_folder)}, "run": about}
    exporter = _Exporter(  # type: ignore[no-untyped-call]  # not annotated there
        config=Config({"NbConvertBase": {"display_data_priority": _PREFERRED}}),
        raw_template=_TEMPLATE,
        embed_images=True,
        exclude_input=hide_code,
        exclude_input_prompt=hide_code,
        exclude_output_prompt=hide_code,
    )
    with notebook.open(encoding="utf-8") as file:
        html, _ = exporter.from_file(file, resources=resources)
    target.write_text(html, encoding="utf-8")
    return target
