"""A notebook as one HTML page that needs no network: no script of a server, pictures inside, widgets as still pictures."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import pass_context
from nbconvert.exporters.html import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from traitlets.config import Config

from houses.lab.headless.notebooks import headings
from houses.lab.headless.parameters import Parameter

if TYPE_CHECKING:
    from houses.lab.headless.runner import NotebookRun

# nbconvert's own page loads RequireJS, MathJax, Mermaid and the widgets from servers. The policy makes it certain that a
# browser asks for nothing, whatever the outputs hold. Its templates do not escape by themselves: hence each `| e`.
_TEMPLATE = """
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; media-src data:; font-src data:; \
style-src 'unsafe-inline'; script-src 'unsafe-inline'">
{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block body_header -%}
{{ super() }}
{%- set run = resources.run -%}
<header class="run jp-RenderedHTMLCommon">
<p><strong>{{ resources.metadata.name | e }}</strong></p>
<p>Run on {{ run.began.isoformat(" ", "seconds") | e }} for {{ "%.1f" | format(run.seconds) }} s: {{ run.outcome | e }}</p>
{%- if resources.parameters %}
<table>
<thead><tr><th>Parameter</th><th>Value</th><th>Meaning</th></tr></thead>
{%- for each in resources.parameters %}
{%- set value = run.parameters[each.name] %}
<tr><th>{{ each.name | e }}</th><td>{{ value | string | e }}</td>
<td>{{ each.help | e }}{% if value != each.default %} (changed from {{ each.default | string | e }}){% endif %}</td></tr>
{%- endfor %}
</table>
{%- endif %}
</header>
{%- endblock -%}
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


def write_report(run: "NotebookRun", parameters: Mapping[str, Parameter], *, hide_code: bool = False) -> Path:
    """Write NOTEBOOK.html beside the notebook of a run, also of one that failed; returns its path. Formulas stay TeX.

    It begins with title, time and parameters; nothing of the machine or of the settings, which may be secret.

    Args:
        parameters: those of the notebook, for their defaults and meanings.
        hide_code: only text and results.
    """
    # The pictures of its text are beside the source.
    metadata = {"name": f"{_title(run.notebook)} ({run.source.stem})", "path": str(run.source.parent)}
    exporter = _Exporter(  # type: ignore[no-untyped-call]  # not annotated there
        config=Config({"NbConvertBase": {"display_data_priority": _PREFERRED}}),
        raw_template=_TEMPLATE,
        embed_images=True,
        exclude_input=hide_code,
        exclude_input_prompt=hide_code,
        exclude_output_prompt=hide_code,
    )
    resources = {"metadata": metadata, "run": run, "parameters": [*parameters.values()]}
    with run.notebook.open(encoding="utf-8") as file:
        html, _ = exporter.from_file(file, resources=resources)
    target = run.notebook.with_suffix(".html")
    target.write_text(html, encoding="utf-8")
    return target


def _title(notebook: Path) -> str:
    """The first heading; without one the name of the file."""
    cells = json.loads(notebook.read_bytes())["cells"]
    texts = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return next((heading for text in texts for heading in headings(text)), notebook.stem)
