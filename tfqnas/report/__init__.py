"""What a run shows to people: pictures, tables, and one HTML page that needs no other file.

`figures` and `comparisons` draw PNG files, for a README as well. `page` writes the page of `Section`s. What stands in
it besides text, tables and pictures is SVG that `fronts`, `drawing`, `distributions` and `scatter` make of plain
records: it is there without JavaScript and in print; a script (`fronts.js`) adds what happens on hover, tap and key.
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
