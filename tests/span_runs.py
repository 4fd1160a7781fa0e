"""A tiny encoder with a tokenizer of whole words, and questions whose answers stand in their texts, made offline."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from shuyuan.data import Tokenizer
from tests.models.hub_folders import NO_DROPOUT

COLOURS = ("red", "green", "blue", "black", "white", "grey")
THINGS = ("box", "hat", "cup", "pen", "bag", "car")
FILLERS = ("so", "it", "was", "said", "then", "and", "there", "they", "went")
WORDS = (*COLOURS, *THINGS, *FILLERS, "the", "is", "what", "colour", "?", ".")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def words_tokenizer() -> Tokenizer:
    """One token a word, case folded, and BERT's template."""
    from tokenizers import Tokenizer as HubTokenizer
    from tokenizers import models, normalizers, pre_tokenizers, processors

    hub = HubTokenizer(
        models.WordLevel({word: n for n, word in enumerate((*SPECIAL, *WORDS))}, unk_token="[UNK]")
    )
    hub.normalizer = normalizers.Lowercase()
    hub.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    hub.add_special_tokens(list(SPECIAL))
    hub.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return Tokenizer(hub)


def encoder(folder: Path, context: int = 64) -> Path:
    """Writes the folder of a BERT of two layers with weights drawn from a seed."""
    import torch
    import transformers

    tokenizer = words_tokenizer()
    config = transformers.BertConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=context, pad_token_id=0, **NO_DROPOUT,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer.to_json())
    return folder


def text_with(thing: str, colour: str, draw: random.Random, fillers: int) -> tuple[str, int]:
    """A text in which one sentence says a thing's colour, and where the colour stands."""
    before = "".join(f"{draw.choice(FILLERS)} " for _ in range(draw.randrange(fillers + 1)))
    after = "".join(f" {draw.choice(FILLERS)}" for _ in range(draw.randrange(fillers + 1)))
    begins = f"{before}the {thing} is "
    return f"{begins}{colour}.{after}", len(begins)


def questions(count: int, fillers: int = 8, nowhere: float = 0.2, seed: int = 0) -> list[dict[str, Any]]:
    """Records in SQuAD's format of the hub: some ask for a colour that the text does not name."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        thing, colour = draw.choice(THINGS), draw.choice(COLOURS)
        text, start = text_with(thing, colour, draw, fillers)
        answers: dict[str, Any] = {"text": [colour], "answer_start": [start]}
        if draw.random() < nowhere:
            text, answers = (
                f"they said {text[: start - len(f'the {thing} is ')]}",
                {"text": [], "answer_start": []},
            )
        rows.append(
            {
                "question": f"What colour is the {thing} ?",
                "context": text,
                "answers": answers,
                "who": number // 3,
            }
        )
    return rows


def recipe(folder: Path, rows: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A recipe over these records, from the encoder."""
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    table: dict[str, Any] = {
        "name": "spans",
        "task": "question-answering",
        "data": {"source": str(folder / "questions.jsonl"), "validation": 0.2, "duplicates": "keep"},
        "model": {"from": str(encoder(folder / "base")), "context": 64},
        "train": {
            "budget": "60 steps",
            "batch_size": 16,
            "precision": "fp32",
            "evaluations": 2,
            "learning_rate": 3e-3,
        },
    }
    for key, value in more.items():
        table[key] = table.get(key, {}) | value
    return table
