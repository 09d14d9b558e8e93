"""A notebook as one HTML page that needs no network: no script of a server, pictures inside, widgets as still pictures."""

from pathlib import Path

from nbconvert.exporters.html import HTMLExporter
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


def write_report(notebook: Path, source_folder: Path, *, hide_code: bool = False) -> Path:
    """Write NOTEBOOK.html beside an executed notebook, also one that failed; returns its path. Formulas stay TeX.

    Args:
        source_folder: where the pictures of its text are looked for.
        hide_code: only text and results.
    """
    target = notebook.with_suffix(".html")
    resources = {"metadata": {"name": notebook.stem, "path": str(source_folder)}}
    exporter = HTMLExporter(  # type: ignore[no-untyped-call]  # not annotated there
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
