"""Every key of a recipe with its type, default and description: what docs, help and refusals say of it."""

from __future__ import annotations

from typing import Any, Literal, get_args

import tomli_w
from pydantic import BaseModel

from .section import Section


def rows_of(section: type[BaseModel], prefix: str = "") -> list[tuple[str, str, str, str]]:
    """(key, type, default, description) of every key of a table, then of those inside it."""
    rows, inner_rows = [], []
    for name, field in section.model_fields.items():
        key = prefix + (field.alias or name)
        kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
        inner = next((kind for kind in kinds if issubclass(kind, Section)), None)
        if inner is not None:
            inner_rows += [(key, "table", "", field.description or ""), *rows_of(inner, key + ".")]
        else:
            default = "required" if field.is_required() else _toml_value(field.default)
            rows.append((key, _type_name(field.annotation), default, field.description or ""))
    return rows + inner_rows


def section_at(section: type[BaseModel], path: list[str]) -> type[BaseModel] | None:
    """The table at a path from another; None where there is none."""
    for part in path:
        field = section.model_fields.get(part)
        kinds = (field.annotation, *get_args(field.annotation)) if field else ()
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)
        if inner is None:
            return None
        section = inner
    return section


def describe(section: type[BaseModel], path: list[str]) -> str:
    """The description of the key at a path; empty where there is none."""
    described = {key: text for key, _, _, text in rows_of(section)}
    parts = [part for part in path if not part.isdigit()]
    return described.get(".".join(parts), "")


def _type_name(annotation: Any) -> str:
    if annotation is Any:
        return "anything"
    if annotation is type(None):
        return "left out"
    options = get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        return _type_name(options[0])
    if getattr(annotation, "__origin__", None) is Literal:
        return " | ".join(f'"{option}"' for option in options)
    if isinstance(annotation, type) and not options:
        return {"str": "text", "float": "number", "int": "whole number", "bool": "true | false"}.get(
            annotation.__name__, annotation.__name__
        )
    if getattr(annotation, "__origin__", None) is list:
        return f"list of {_type_name(options[0])}"
    if getattr(annotation, "__origin__", None) is dict:
        return f"table of {_type_name(options[1])}"
    return " | ".join(_type_name(option) for option in options if option is not type(None))


def _toml_value(value: Any) -> str:
    if value is None:
        return "left out"
    return tomli_w.dumps({"x": value}).partition("= ")[2].strip() if not isinstance(value, dict) else "{}"
