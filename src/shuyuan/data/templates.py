"""The task of a run, as its recipe, and the model that it starts from, have it."""

from __future__ import annotations

import json
from typing import Any

from ..errors import DataError
from ..recipe import Recipe
from ..tasks import Setting, Task, Template, task_named
from ..tasks.base import Output
from ..tasks.template import BUILT_IN, END_MARK
from ..vault import Store, open_model_folder
from .bodies import output_of
from .manifest import load_manifest
from .snapshot import local_folder

TEMPLATE_FILE = "chat_template.jinja"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
RUN_TEMPLATE = "data/template.json"  # of a run that was prepared
_NAMED = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")


def load_task(recipe: Recipe, store: Store | None = None) -> Task:
    """The task as the run fixes it.

    Args:
        recipe: names it.
        store: of a run that was prepared: the template is the one that was used then.

    Raises:
        DataError: the template of the model to start from cannot be used.
        MachineError: transformers is missing, and the model to start from is of an architecture that it computes.
    """
    task = task_named(recipe.task)
    languages = recipe.data.languages
    pair = (languages[0], languages[1]) if languages else None
    template = None
    if task.templated:
        kept = store is not None and store.exists(RUN_TEMPLATE)
        template = _kept(store.read_json(RUN_TEMPLATE)) if store and kept else _of_start(recipe)
    several = recipe.multi_label, recipe.data.label_separator
    return task.configured(Setting(pair, template, _output(task, recipe, store), *several))


def _output(task: Task, recipe: Recipe, store: Store | None) -> Output:
    """What the run was prepared for; before that, what the model to start from can do."""
    manifest = load_manifest(store) if store is not None and len(task.outputs) > 1 else None
    return output_of(task, recipe) if manifest is None else manifest.output


def keep_template(task: Task, recipe: Recipe, store: Store) -> None:
    """Writes the template beside the prepared data, so that predictions are asked for as the model was trained."""
    if task.templated:
        template = _of_start(recipe) or Template()
        table = {"text": template.text, "tokens": dict(template.tokens), "special": sorted(template.special)}
        store.write_json(RUN_TEMPLATE, table)


def template_file(store: Store) -> bytes | None:
    """The content of the model folder's chat_template.jinja; None for a run without chats.

    Args:
        store: the run's files.
    """
    return store.read_json(RUN_TEMPLATE)["text"].encode() if store.exists(RUN_TEMPLATE) else None


def _kept(table: dict[str, Any]) -> Template:
    return Template(table["text"], tuple(table["tokens"].items()), frozenset(table["special"]))


def _of_start(recipe: Recipe) -> Template | None:
    """The template of the model that the recipe starts from; None where there is none."""
    if recipe.model.from_ is None or recipe.model.from_.endswith(".keras"):
        return None
    path = local_folder(recipe.model.from_, weights=False)
    if not path.is_dir():
        return None  # the model says so when it is opened
    with open_model_folder(path) as (store, name):

        def read(file: str) -> str | None:
            full = f"{name}/{file}".removeprefix("/")
            return store.read(full).decode("utf-8", "replace") if store.exists(full) else None

        jinja = read(TEMPLATE_FILE)
        tokenizer, config = (_table(read(file), file) for file in TOKENIZER_FILES)
    text = jinja or config.get("chat_template")
    if isinstance(text, list):  # several by name, as older folders have them
        named = {each.get("name"): each.get("template") for each in text if isinstance(each, dict)}
        text = named.get("default")
    if not isinstance(text, str) or text == BUILT_IN:
        return None
    added = [each for each in tokenizer.get("added_tokens", []) if isinstance(each, dict)]
    special = {str(each.get("content")) for each in added if each.get("special")}
    tokens = {name: _spelt(config.get(name)) for name in _NAMED if name in config}
    return Template(text, tuple(tokens.items()), frozenset(special | set(tokens.values())) - {"", END_MARK})


def _spelt(token: Any) -> str:
    """A special token of tokenizer_config.json: its text, or a table that has it as content."""
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else ""


def _table(text: str | None, file: str) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        table = json.loads(text)
    except (ValueError, RecursionError):
        table = None
    if not isinstance(table, dict):
        raise DataError(
            "data.bad-tokenizer",
            "The file is not a JSON table.",
            where=file,
            mend="Get the model's folder again from where it came from.",
        )
    return table
