"""Preparation: from the recipe's source to tokenizer, shards and manifest in the run, or nothing at all.

Three passes over the records: survey (clean, split, find duplicates), learn (a tokenizer, from the training split alone),
write (mask, encode, shards). Images have nothing to learn. Records are never spooled to disk in between.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from functools import partial

from ..errors import DataError, PrivacyError
from ..progress import Progress
from ..recipe import Recipe
from ..vault import Store
from .enough import check_enough, check_written
from .idle import say_what_does_nothing
from .images import Images
from .manifest import MANIFEST_FILE, TOKENIZER_FILE, Manifest, TokenizerFacts, load_manifest
from .masking import Masker
from .reading import open_split
from .records import Records, open_records
from .rows import Rows
from .sources import ImageFacts
from .survey import Survey, changed_meanwhile
from .templates import keep_template, load_task
from .tokenizer import Tokenizer
from .vocabulary import choose_tokenizer
from .workers import Workers
from .writing import write_images, write_texts


def prepare(recipe: Recipe, store: Store, progress: Progress, *, workers: int | None = None) -> Manifest:
    """Prepares the recipe's data into the run; where that is done and the source is the same, nothing happens.

    Args:
        recipe: what to read, clean, mask, hold out, and how to make tokens of it.
        store: the run's files; data/tokenizer.json, data/*.shard and, last, data/manifest.json are written.
        progress: shows the stages and hears what was left out.
        workers: processes that share the work, which changes nothing of what is written; None: one for each core if there is enough
            to do.

    Returns:
        What is in the run now.

    Raises:
        DataError: the source cannot be read, holds too little, or is not the one that the run was made from.
    """
    done = load_manifest(store)
    with Workers(workers) as beside:
        if done is not None:
            return _still_right(done, recipe, store, progress, beside)
        return _prepared(recipe, store, progress, beside)


def _prepared(recipe: Recipe, store: Store, progress: Progress, workers: Workers) -> Manifest:
    begin = time.monotonic()
    write = _images if recipe.images else partial(_texts, _masker(recipe), workers)
    records = open_records(recipe)
    if recipe.privacy is not None and records.contiguous:
        raise PrivacyError(
            "privacy.undivided-text",
            "A single text has no records, so there is nothing that privacy could protect one of.",
            where="data.source",
            mend='Say what a record is, such as data.record = "paragraph", or give a table with a column of owners.',
        )
    _clear(store)  # what a killed preparation left
    say_what_does_nothing(recipe, records, progress)
    try:
        facts = records.facts()
        survey = Survey(records, recipe, store, progress, workers)
        check_enough(recipe, survey)
        made = write(recipe, survey, store, progress)
        if records.facts() != facts:
            raise changed_meanwhile()
        manifest = replace(
            made,
            skipped=dict(survey.skipped),
            duplicates=survey.duplicates,
            changed=survey.changed,
            source=facts,
            settings=_settings(recipe),
            fingerprint=survey.fingerprint(store.derive_key("fingerprint")),
            seconds=round(time.monotonic() - begin, 3),
            labels=survey.labels,
            label_sets=survey.label_sets,
            image=records.image,
        )
        store.write_json(MANIFEST_FILE, manifest.to_json())
    except BaseException:
        _clear(store)
        raise
    _say(manifest, progress)
    if manifest.labels:
        _say_of_labels(manifest, store, recipe.model.context, progress)
    if manifest.image is not None:
        _say_of_images(manifest, manifest.image, progress)
    return manifest


def _masker(recipe: Recipe) -> Masker:
    return Masker(recipe.data.mask, recipe.data.mask_patterns, names=recipe.data.mask_names)


def _texts(
    masker: Masker, workers: Workers, recipe: Recipe, survey: Survey, store: Store, progress: Progress
) -> Manifest:
    """Writes tokenizer and shards, and begins the manifest of them."""
    tokenizer = choose_tokenizer(recipe, survey, masker, progress, workers)
    store.write(TOKENIZER_FILE, tokenizer.to_json().encode())
    task = load_task(recipe)
    around = _pair(tokenizer) if task.output == "spans" else None
    splits, masked = write_texts(recipe, survey, tokenizer, masker, store, progress, workers, around)
    check_written(recipe, survey, splits)
    keep_template(task, recipe, store)
    facts = TokenizerFacts(
        tokenizer.kind,
        hashlib.sha256(tokenizer.to_json().encode()).hexdigest(),
        tokenizer.end_id,
        tokenizer.start_id,
        around,
    )
    return Manifest(splits, tokenizer.vocab_size, facts, masked=masked)


def _pair(tokenizer: Tokenizer) -> list[list[int]]:
    """What stands around a question and a text."""
    around = tokenizer.pair()
    if around is None:
        raise DataError(
            "data.no-pair",
            "The tokenizer has no template for two texts that begins with a token of its own, so nothing could stand for an answer "
            "that is not there.",
            where="tokenizer.from",
            mend="Use the tokenizer of the model to start from, with its `post_processor`.",
        )
    return around


def _images(recipe: Recipe, survey: Survey, store: Store, progress: Progress) -> Manifest:
    """Writes shards of images, and begins the manifest of them."""
    return Manifest(write_images(survey, store, progress), 0, None)


def load_tokenizer(store: Store, name: str = TOKENIZER_FILE) -> Tokenizer:
    """The tokenizer of a run, or of its model.

    Args:
        store: the run's files.
        name: "data/tokenizer.json", the default, or "model/tokenizer.json".
    """
    return Tokenizer.from_json(store.read(name).decode(), where=name)


def _clear(store: Store) -> None:
    for name in store.names("data/"):
        store.remove(name)


# ---- prepared before -----------------------------------------------------------------------------------------------


def _still_right(
    done: Manifest, recipe: Recipe, store: Store, progress: Progress, workers: Workers
) -> Manifest:
    if done.settings != _settings(recipe):
        raise DataError(
            "data.other-settings",
            "The run was prepared with other settings of data, tokenizer or seed.",
            where=str(store.path),
            mend="Choose another folder with --out, or undo the change.",
        )
    try:
        records = open_records(recipe)
    except DataError as error:
        if error.code != "data.missing":
            raise
        progress.say(
            "data.source-gone", "The source is no longer there; the records prepared from it are used."
        )
        return done
    facts = records.facts()
    if facts == done.source:
        return done
    # A new date alone (a copy, a checkout) changes no record: compare what is read.
    survey = Survey(records, recipe, store, progress, workers)
    if survey.fingerprint(store.derive_key("fingerprint")) != done.fingerprint:
        raise DataError(
            "data.changed",
            "The source has changed since the run was prepared, and a run belongs to its data.",
            where=_first_change(done, records),
            mend="Start a new run in another folder with --out, or put the old source back.",
        )
    done = replace(done, source=facts)
    store.write_json(MANIFEST_FILE, done.to_json())
    return done


def _first_change(done: Manifest, records: Records) -> str:
    before, now = set(done.source), set(records.facts())
    return min(fact.path for fact in before ^ now)


def _settings(recipe: Recipe) -> str:
    table = recipe.model_dump(mode="json", include={"task", "seed", "data", "tokenizer", "audit"})
    # Left out where they are, so that runs from before these keys are still what they were.
    for key in _LATER_KEYS:
        if table["data"][key] is None:
            del table["data"][key]
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()


_LATER_KEYS = (
    "id", "label", "labels", "image", "image_size", "channels", "summary", "source_text", "target", "languages", "question",
    "context", "answer", "messages", "title", "task", "multi_label", "label_separator",
)  # fmt: skip


# ---- what is said --------------------------------------------------------------------------------------------------


def _say(manifest: Manifest, progress: Progress) -> None:
    for code, verb, counts in (
        ("data.skipped", "Left out", manifest.skipped),
        ("data.duplicates", "Duplicates removed", manifest.duplicates),
        ("data.masked", "Masked", manifest.masked),
    ):
        found = [f"{count:,} {what}" for what, count in sorted(counts.items()) if count]
        if found:
            progress.say(code, f"{verb}: {', '.join(found)}.")


def _say_of_labels(manifest: Manifest, store: Store, context: int, progress: Progress) -> None:
    splits = {name: open_split(store, manifest, name, context) for name in manifest.splits}
    rows = {name: split for name, split in splits.items() if isinstance(split, Rows | Images)}
    if cut := sum(each.cut for each in rows.values()):
        progress.say(
            "data.cut",
            f"{cut:,} of {manifest.records:,} records are longer than model.context = {context:,} and are cut.",
        )
    if unseen := [
        name for name, count in zip(manifest.labels, rows["train"].counts, strict=True) if not count
    ]:
        progress.say("data.unseen-labels", f"No training record has the label {', '.join(unseen)}.")
    if (joined := _joined(manifest.labels)) and not manifest.multi_label:
        label, mark = joined
        progress.say(
            "data.joined-labels",
            f'The label "{label[:80]}" may be several: if so, write data.label_separator = "{mark}".',
        )


def _joined(labels: list[str]) -> tuple[str, str] | None:
    """A label that is made of others, and what stands between them."""
    for mark in ";|,":
        for label in labels:
            parts = label.split(mark)
            if len(parts) > 1 and {part.strip() for part in parts} <= set(labels):
                return label, mark
    return None


def _say_of_images(manifest: Manifest, image: ImageFacts, progress: Progress) -> None:
    if manifest.changed:
        progress.say(
            "data.resized",
            f"{manifest.changed:,} images had another size than {image.height}x{image.width}, and were resized to it.",
        )
