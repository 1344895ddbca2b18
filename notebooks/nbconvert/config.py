"""nbconvert's own HTML, with the figures' alternative texts, which its template leaves out.

jupyter nbconvert --to html --config notebooks/nbconvert/config.py notebooks/report.ipynb
"""

from pathlib import Path

c = get_config()  # noqa: F821 (Jupyter provides it)
c.HTMLExporter.extra_template_basedirs = [str(Path(__file__).parent)]
c.HTMLExporter.template_name = "report"
