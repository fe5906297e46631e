"""Bars of what a part measured, as SVG without any script."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

import pygal
from pygal.style import Style

from tests.benchmarks.charts import Chart

# It puts a finder of its plugins before every later import, which warns.
sys.meta_path[:] = [f for f in sys.meta_path if not type(f).__module__.startswith("pygal")]

_STYLE: Final = Style(
    background="white",
    plot_background="white",
    font_family="sans-serif",
    title_font_size=16,
    label_font_size=12,
    legend_font_size=12,
    value_font_size=10,
    colors=("#1f6f8b", "#e0a458", "#7a9e7e", "#b5525c", "#6b5b95", "#9a9a9a"),
)
# What answers the mouse, and who drew it.
_WITHOUT: Final = re.compile(r"<script.*?</script>|<!--.*?-->", re.DOTALL)


def draw(chart: Chart) -> str:
    """The SVG; the same bars make the same text."""
    bars = pygal.Bar(
        style=_STYLE,
        width=760,
        height=380,
        explicit_size=True,
        legend_at_bottom=True,
        print_values=True,
        js=[],
        no_prefix=True,
        disable_xml_declaration=True,
        logarithmic=chart.logarithmic,
        value_formatter=_shown,
    )
    bars.title = chart.title
    if chart.logarithmic:
        # A bar that begins at the shortest one's end would hide it.
        known = [value for found in chart.values.values() for value in found.values() if value]
        bars.zero = min(known) / 3
        bars.range = (bars.zero, max(known) * 1.5)
    bars.x_labels = chart.labels
    for series, found in chart.values.items():
        bars.add(series, [found.get(label) for label in chart.labels])
    return _WITHOUT.sub("", bars.render(is_unicode=True)) + "\n"


def write(chart: Chart, path: Path) -> None:
    """Draw into a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(draw(chart))


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
