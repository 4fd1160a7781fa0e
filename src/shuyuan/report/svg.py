"""Makes a matplotlib figure part of the page: colours from the page's own palette, no inline styles, no clashing ids.

The page's content policy allows one style sheet and nothing inline, so every style attribute becomes a class of that sheet.
"""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"

# Drawn in these stand-ins; in the page they are CSS variables, which differ between light and dark.
PALETTE = {
    "ink": "#010101",
    "muted": "#020202",
    "rule": "#030303",
    "train": "#040404",
    "validation": "#050505",
    "baseline": "#060606",
    "band": "#070707",
}


class Styles:
    """Collects the style attributes of all figures of a page as classes."""

    def __init__(self) -> None:
        self._classes: dict[str, str] = {}

    def name(self, style: str) -> str:
        """The class that stands for a style attribute."""
        return self._classes.setdefault(style, f"g{len(self._classes)}")

    def css(self) -> str:
        """The rules, one a line, in order of first use."""
        return "\n".join(f".{name} {{ {style} }}" for style, name in self._classes.items())


def to_svg(figure: Figure, name: str, title: str, description: str, styles: Styles) -> str:
    """One figure as an inline `<svg>` element; the same figure always gives the same text.

    Args:
        figure: drawn in the colours of `PALETTE`.
        name: unique in the page; prefix of the ids.
        title: what it shows, for people who do not see it.
        description: what one would read off it.
        styles: receives its style attributes.
    """
    out = io.StringIO()
    with warnings.catch_warnings():  # text stays text: it is the browser that needs the glyphs
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure.savefig(out, format="svg", transparent=True)
    root = ElementTree.fromstring(out.getvalue())
    _drop(root, ("metadata", "style"))  # the date, and rules that would reach the whole page
    for element in root.iter():
        _tidy(element, name, styles)
    for number, (tag, text) in enumerate((("title", title), ("desc", description))):
        child = ElementTree.Element(_SVG + tag, {"id": f"{name}-{tag}"})
        child.text = text
        root.insert(number, child)
    root.attrib.update(role="img", **{"aria-labelledby": f"{name}-title {name}-desc", "class": "plot"})
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    ElementTree.register_namespace("", _SVG[1:-1])
    text = ElementTree.tostring(root, encoding="unicode")
    return re.sub(r">\s+<", "><", re.sub(r"\n\s*", " ", text))


def _drop(root: ElementTree.Element, tags: tuple[str, ...]) -> None:
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in tags:
                parent.remove(child)


def _tidy(element: ElementTree.Element, prefix: str, styles: Styles) -> None:
    kept = element.tag in (_SVG + "clipPath", _SVG + "path") and not element.attrib.get("id", "").startswith(
        "patch"
    )
    attributes: dict[str, str] = {}
    for key, value in element.attrib.items():
        if key == "style":
            attributes["class"] = styles.name(_themed(value))
        elif key == "id":
            if kept:
                attributes["id"] = f"{prefix}-{value}"
        elif key in (_LINK, "clip-path"):
            attributes[key.replace(_LINK, "href")] = value.replace("#", f"#{prefix}-", 1)
        elif key in ("d", "points", "transform", "x", "y", "width", "height"):
            attributes[key] = re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.1f}", value)
        else:
            attributes[key] = value
    element.attrib.clear()
    element.attrib.update(attributes)


def _themed(style: str) -> str:
    for name, stand_in in PALETTE.items():
        style = style.replace(stand_in, f"var(--{name})")
    style = re.sub(r"font-family:[^;]*;?\s*", "", style)
    return re.sub(r"font:\s*(?:[\w-]+ )*?([\d.]+px)[^;]*", r"font-size: \1", style).strip().rstrip(";")
