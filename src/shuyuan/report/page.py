"""The run's page: one self-contained HTML file without scripts, made from facts, sections and pictures.

Whatever a record, a column name or a model could have put into it is escaped, and characters that act are made visible:
both happen to every value that the template prints, so no place can forget it.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ..recipe import Recipe
from ..runs import Run
from ..vault import Store
from ..visible import visible
from . import forecast, guarantee, plots, sections, wording
from .answers import answer_splits
from .facts import REPORT_FILE, Facts, gather, variants
from .labels import label_splits
from .plan_plots import memory_parts_plot, time_parts_plot
from .svg import Styles

INTERNAL_FILE = "report-internal.html"
_HERE = Path(__file__).parent


def write_report(run: Run, store: Store, recipe: Recipe) -> Path:
    """Writes report.html, in the clear, also in a sealed run; of a private run also the internal page.

    The public page is whole in an open run, and where the recipe says report.open; else it tells nothing of the records. In
    a private run losses, counts and samples are internal: they stand on a page of their own, sealed in a sealed run. Scores
    of its model stand on the public page where the recipe accepts that by name.

    Args:
        run: the run.
        store: its files, writable.
        recipe: as resolved.

    Returns:
        The path of the page.

    Raises:
        RunError, VaultError: a file of the run is there and cannot be read.
    """
    private = recipe.privacy is not None
    whole = not private and (not store.sealed or recipe.report.open)
    store.write_open(REPORT_FILE, render(run, store, whole=whole).encode())
    if private:
        store.write(INTERNAL_FILE, render(run, store, whole=True).encode())
    return run.path / REPORT_FILE


def render(run: Run, store: Store, *, whole: bool) -> str:
    """The page as text; the same files give the same text.

    Args:
        run: the run.
        store: its files.
        whole: with losses, counts and samples. If not, only recipe.toml, plan.json and ledgers are read, and scores
            where the recipe allows that by name.
    """
    facts = gather(run, store, whole=whole)
    styles = Styles()
    pictures = _pictures(facts, styles)
    pictures["label_splits"] = label_splits(facts, styles)
    pictures["answer_splits"] = answer_splits(facts)
    sheet = Markup((_HERE / "page.css").read_text(encoding="utf-8") + styles.css() + "\n")
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    values = _values(facts) | pictures | {"sheet": sheet, "sheet_digest": digest}
    return _template().render(values)


@cache
def _template() -> jinja2.Template:
    """Of the page; to compile it takes a tenth of the time of a small run."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        finalize=_harmless,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html")


def _harmless(value: Any) -> Any:
    """Passes what this library marked up (its own pictures and style sheet); of all else, makes what acts visible."""
    return value if isinstance(value, Markup) else visible(str(value))


def _values(facts: Facts) -> dict[str, Any]:
    word, meaning = sections.secrecy(facts)
    splits, scores = sections.score_table(facts)
    return {
        "facts": facts,
        "internal": facts.whole
        and (facts.recipe.privacy is not None or (facts.sealed and not facts.recipe.report.open)),
        "lead": sections.lead(facts),
        "headline": sections.headline(facts),
        "privacy": {"title": guarantee.title(facts.recipe)}
        | guarantee.sentences(facts.recipe, facts.data_set),
        "secrecy": {"word": word, "meaning": meaning},
        "splits": splits,
        "scores": scores,
        "variants": sections.variant_table(facts),
        "effort": sections.effort(facts),
        "plan": forecast.plan_rows(facts),
        "memory_parts": forecast.memory_parts(facts),
        "plan_remarks": forecast.remarks(facts),
        "noise": forecast.noise_rows(facts),
        "split_rows": sections.split_rows(facts),
        "data_rows": sections.data_rows(facts),
        "samples": sections.samples(facts),
        "notices": sections.notices(facts),
        "circumstances": sections.circumstances(facts),
        "toml": facts.recipe.as_toml().strip(),
    }


def _pictures(facts: Facts, styles: Styles) -> dict[str, Any]:
    steps = facts.events("train.step")
    train = plots.points(steps, "loss")
    validation = plots.points(facts.events("train.validation"), "loss")
    bigram = facts.score.get("validation.bigram_loss")
    target = sections.target(facts)
    loss = plots.loss_plot(train, validation, bigram if wording.is_number(bigram) else None, target, styles)
    predicted = facts.plan.get("peak_bytes")
    band = predicted if isinstance(predicted, dict) else {}
    small = [
        ("Learning rate", plots.rate_plot(plots.points(steps, "learning_rate"), styles)),
        (
            f"{target.capitalize()}s a second",
            plots.speed_plot(plots.points(steps, "tokens_per_second"), target, styles),
        ),
        ("Peak memory", plots.memory_plot(plots.points(steps, "peak_bytes"), band, styles)),
    ]
    found = variants(facts)
    smaller = plots.variant_plot(found, target, styles) if len(found) > 1 else None
    of_plan = (memory_parts_plot(facts.plan, styles), time_parts_plot(facts.plan, styles))
    return {
        "plan_pictures": [Markup(picture) for picture in of_plan if picture],
        "variant_picture": Markup(smaller) if smaller else None,
        "loss_pictures": [Markup(picture) for picture in loss],
        "first_loss": wording.nats(train[0][1]) if train else "",
        "small_pictures": [(label, Markup(picture)) for label, picture in small if picture],
        "has_band": bool(band),
    }
