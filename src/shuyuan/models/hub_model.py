"""Models of other architectures than our own: transformers computes them, behind the same few methods.

Shapes: B sequences, T tokens of each, V vocabulary, K classes. Of a question and a text, 2 stands for the tokens and the side of
each, and for begin and end of the answer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..data.bodies import is_encoder
from ..errors import ShuyuanError, missing_extra
from .config import in_block, problem_type
from .functions import cross_entropy, label_losses
from .hub_config import DROPOUT, HubConfig


class HubModel(nn.Module):
    """A language model, classifier or reader of transformers.

    Args:
        body: the model of transformers, with a head for tokens, for classes, or for places in a text.
        config: what is known of it.
        new: as of `Transformer`.
        companions: files that lie beside its weights and go with it, such as tokenizer_config.json.
    """

    def __init__(
        self,
        body: nn.Module,
        config: HubConfig,
        new: frozenset[str] | None = None,
        companions: Mapping[str, bytes] | None = None,
    ) -> None:
        super().__init__()
        self.body = body
        self.config = config
        self.new = new
        self.companions = dict(companions or {})

    @property
    def context(self) -> int:
        """Tokens that the model sees at once."""
        return self.config.context

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits of the token after each token (B, T, V), of the classes (B, K), or of each place as the first and the last of an
        answer (B, 2, T).

        Args:
            tokens_BT: token ids, int64; rows of a classifier are filled up with -1 behind their last token. Of a question and a
                text (B, 2, T), with the side of each token: 0 up to the text, 1 from there on.
        """
        if self.config.spans:
            return self._places(*tokens_BT.unbind(1))
        if not self.config.labels:
            logits_BTV: Tensor = self.body(input_ids=tokens_BT, use_cache=False).logits
            return logits_BTV
        is_token_BT = tokens_BT >= 0
        filled_BT = tokens_BT.where(is_token_BT, _fill(self.body))
        logits_BK: Tensor = self.body(input_ids=filled_BT, attention_mask=is_token_BT.long()).logits
        return logits_BK

    def _places(self, tokens_BT: Tensor, side_BT: Tensor) -> Tensor:
        is_token_BT = tokens_BT >= 0
        sides = {"token_type_ids": side_BT} if getattr(self.body.config, "type_vocab_size", 0) > 1 else {}
        filled_BT = tokens_BT.where(is_token_BT, _fill(self.body))
        found = self.body(input_ids=filled_BT, attention_mask=is_token_BT.long(), **sides)
        logits_B2T = torch.stack([found.start_logits, found.end_logits], 1)
        return logits_B2T.masked_fill(~is_token_BT[:, None], -torch.inf)

    def loss(self, tokens_BT: Tensor, targets: Tensor) -> Tensor:
        """The sum of the cross entropies, in nats, of all targets that are not -100: a float32 scalar."""
        return self.losses(tokens_BT, targets).sum()

    def losses(self, tokens_BT: Tensor, targets: Tensor) -> Tensor:
        """The cross entropy, in nats, of each target, (B, T) or (B, 2): float32, zero where the target is -100. Of labels as
        `label_losses`."""
        if self.config.labels:
            return label_losses(self(tokens_BT), targets)
        return cross_entropy(self(tokens_BT).flatten(0, -2), targets.flatten()).view(targets.shape)

    def to_hub(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The content of config.json, and the weights under the names that transformers gives them."""
        body: Any = self.body
        table = {
            **body.config.to_dict(),
            "architectures": [type(self.body).__name__],
            "dtype": "float32",
            **problem_type(self.config.multi_label),
        }
        table.pop("_name_or_path", None)
        return table, dict(self.body.named_parameters())


def _fill(body: Any) -> int:
    """The token that fills rows up; attention never sees it."""
    return int(body.config.pad_token_id or 0)


def build(
    config: HubConfig,
    weights: dict[str, Tensor] | None,
    labels: Sequence[str] | None,
    seed: int,
    where: str,
    spans: bool = False,
) -> HubModel:
    """Makes the model that a configuration describes, in float32 on the CPU; no code from the folder is run.

    Args:
        config: as read.
        weights: stored tensors by name; None draws all of them from the seed.
        labels: names of the classes; () for a model that predicts tokens; None for the head that the folder has.
        seed: start of what is drawn.
        where: the folder, for errors.
        spans: with no classes: a model that tells places in a text, where `labels` is not None.

    Raises:
        MachineError: transformers is not installed.
        ShuyuanError: transformers knows no such architecture, the model cannot have the head, or weights do not fit.
    """
    wanted = config if labels is None else replace(config, labels=tuple(labels), spans=spans)
    labels = wanted.labels
    with _quiet() as transformers:
        table = {key: value for key, value in config.table.items() if key != "auto_map"}
        kind = _config_class(transformers, config, where)
        own = kind.from_dict(table)
        for name in DROPOUT if config.dropout is not None else ():
            if getattr(own, name, None) is not None:
                setattr(own, name, config.dropout)
        model_class = _model_class(transformers, own, wanted, where)
        if labels:
            own.id2label = dict(enumerate(labels))
            own.label2id = {name: number for number, name in own.id2label.items()}
        if wanted.output != "tokens" and own.pad_token_id is None:
            own.pad_token_id = config.end_id or 0
        own.dtype = torch.float32
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if weights is None:
                return HubModel(model_class(own).train(), wanted)
            body, new = _loaded(model_class, own, weights, wanted != config, where)
    return HubModel(body.train(), wanted, frozenset(f"body.{name}" for name in new))


def _loaded(
    model_class: Any, own: Any, weights: dict[str, Tensor], new_head: bool, where: str
) -> tuple[nn.Module, frozenset[str]]:
    """The model with its stored weights, and the names of those that had to be drawn: a new head alone."""
    body, found = model_class.from_pretrained(
        None, config=own, state_dict=weights, output_loading_info=True, ignore_mismatched_sizes=True
    )
    other = {name for name, *_ in found["mismatched_keys"]}
    drawn = set(found["missing_keys"]) | other
    unknown = set(found["unexpected_keys"])
    wrong = [name for name in sorted(drawn | unknown) if not new_head or in_block(name) or "embed" in name]
    if wrong:
        shown = ", ".join(name[:80] for name in wrong[:3]) + (" …" if len(wrong) > 3 else "")
        raise ShuyuanError(
            "models.other-tensors",
            f"The weights do not fit the configuration: {shown} missing, unknown, or of another shape.",
            where=where,
            mend="Use config.json and weights of the same model.",
        )
    return body, frozenset(drawn)


def _config_class(transformers: Any, config: HubConfig, where: str) -> Any:
    try:
        return transformers.CONFIG_MAPPING[config.model_type]
    except KeyError:
        raise ShuyuanError(
            "models.other-architecture",
            f"The model is of the architecture {config.model_type[:80]}, which the installed transformers does not know.",
            where=where,
            mend="Update transformers; a folder that brings code of its own is never run.",
        ) from None


# The classes of transformers with each head, and what a model is said to lack that is not among them.
HEADS = {
    "tokens": ("MODEL_FOR_CAUSAL_LM_MAPPING", "does not continue text"),
    "labels": ("MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING", "has no form that tells classes apart"),
    "spans": ("MODEL_FOR_QUESTION_ANSWERING_MAPPING", "has no form that points to answers"),
}


def _model_class(transformers: Any, own: Any, config: HubConfig, where: str) -> Any:
    """The class of transformers with the head that is wanted."""
    name, what = HEADS[config.output]
    mapping = getattr(transformers, name)
    if type(own) not in mapping or (config.output == "tokens" and is_encoder(config.table)):
        raise ShuyuanError(
            "models.other-head",
            f"A model of the architecture {config.model_type[:80]} {what}.",
            where=where,
            mend='Take task = "sentiment", "classification" or "question-answering" for an encoder, and a causal model to continue text.',
        )
    return mapping[type(own)]


@contextmanager
def _quiet() -> Iterator[Any]:
    """transformers, with its progress bars and reports off: what people must know is said by us."""
    try:
        import transformers
        from transformers.utils import logging as hub_logging
    except ImportError:
        raise missing_extra("A model of another architecture than Qwen3", "huggingface") from None
    before = hub_logging.get_verbosity()
    had_bars = hub_logging.is_progress_bar_enabled()
    hub_logging.set_verbosity(logging.CRITICAL)
    hub_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield transformers
    finally:
        hub_logging.set_verbosity(before)
        if had_bars:
            hub_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
