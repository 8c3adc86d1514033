"""Reports of a run: pictures, tables, and a self-contained HTML page.

`figures` and `comparisons` draw PNG files, which a README can use as well. `page` writes a page of `Section`s. Besides
text, tables and pictures it holds SVG that `fronts`, `drawing`, `distributions` and `scatter` make from plain records.
The SVG works without JavaScript and in print; a script (`fronts.js`) reacts to hover, tap and key.
"""

from tfqnas.report.distributions import distributions
from tfqnas.report.drawing import architecture_drawing
from tfqnas.report.figures import dots_figure, pareto_figure, training_figure
from tfqnas.report.fronts import fronts_plot
from tfqnas.report.page import Code, Html, Picture, Section, Table, table, write_html
from tfqnas.report.scatter import scatter
from tfqnas.report.stability import stability_figure

__all__ = [
    "Code",
    "Html",
    "Picture",
    "Section",
    "Table",
    "architecture_drawing",
    "distributions",
    "dots_figure",
    "fronts_plot",
    "pareto_figure",
    "scatter",
    "stability_figure",
    "table",
    "training_figure",
    "write_html",
]
