"""A notebook as one HTML page that needs no network: no script of a server, pictures inside, widgets as still pictures."""

from pathlib import Path
from typing import Any

from jinja2 import pass_context
from nbconvert.exporters.html import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from traitlets.config import Config

# nbconvert's own page loads RequireJS, MathJax, Mermaid and the widgets from servers. The policy makes it certain that a
# browser asks for nothing, whatever the outputs hold.
_TEMPLATE = """
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; media-src data:; font-src data:; \
style-src 'unsafe-inline'; script-src 'unsafe-inline'">
{%- endblock html_head_js -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
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


def write_report(notebook: Path, source_folder: Path, *, hide_code: bool = False) -> Path:
    """Write NOTEBOOK.html beside an executed notebook, also one that failed; returns its path. Formulas stay TeX.

    Args:
        source_folder: where the pictures of its text are looked for.
        hide_code: only text and results.
    """
    target = notebook.with_suffix(".html")
    resources = {"metadata": {"name": notebook.stem, "path": str(source_folder)}}
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
