"""A transformer and its tokenizer as one GGUF file, which llama.cpp opens; by the library `gguf`.

The layout is that of Qwen3 under llama.cpp's names. Of tokenizers GGUF has families, not descriptions: bytes and byte-level
merges are its "gpt2", characters with bytes as a last resort its "llama". What splits words in another way than llama.cpp
can is refused, since it would read other tokens than the model learned.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..data import Tokenizer
from ..errors import ShuyuanError, missing_extra
from .config import TransformerConfig
from .transformer import Transformer

WEIGHTS = {"f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}  # ours and the library's names
ROW = 32  # numbers that share a scale in q8_0
# How llama.cpp calls the regular expressions by which others split words before they merge.
_SPLITS = {
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+": "qwen2",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+": "llama-bpe",
}
_SPACE = "\u2581"  # what the family "llama" writes for a space
# The family "gpt2" wants merges; these two pieces never stand next to each other, since nothing makes them.
_NEVER = "<never> <never>"


def write_gguf(path: Path, model: Any, tokenizer: Tokenizer | None, name: str, weights: str) -> None:
    """Writes a model of the family transformer that continues text.

    Args:
        path: the file to make.
        model: the network.
        tokenizer: of its run; None of one that reads images, which is refused.
        name: told in the file.
        weights: of its matrices: one of `WEIGHTS`; vectors stay in float32.

    Raises:
        MachineError: the library is not installed.
        ShuyuanError: GGUF cannot hold the model or the tokenizer.
    """
    try:
        import gguf
    except ImportError:
        raise missing_extra("Writing GGUF", "export") from None
    if not isinstance(model, Transformer) or tokenizer is None:
        raise _refused("the model is none that continues text in the layout of Qwen3")
    writer = gguf.GGUFWriter(path, "qwen3")
    try:
        _add_shape(writer, model.config, name)
        _add_tokenizer(writer, gguf.TokenType, tokenizer)
        _add_weights(writer, gguf, model, weights)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _add_shape(writer: Any, config: TransformerConfig, name: str) -> None:
    writer.add_name(name)
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.hidden)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_vocab_size(config.vocab_size)


def _add_weights(writer: Any, gguf: Any, model: Transformer, weights: str) -> None:
    kinds = gguf.GGMLQuantizationType
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, model.config.layers)
    writer.add_file_type(
        {"f32": 0, "f16": 1, "q8_0": 7, "bf16": 32}[weights]
    )  # as of llama.cpp's llama_ftype
    for name, weight in model.to_hub()[1].items():
        array = weight.detach().float().cpu().numpy()
        kind = kinds[WEIGHTS[weights]] if array.ndim > 1 else kinds.F32
        if kind == kinds.Q8_0 and array.shape[1] % ROW:
            kind = kinds.F16
        theirs = names.get_name(name, try_suffixes=(".weight",))
        writer.add_tensor(theirs, gguf.quants.quantize(array, kind), raw_dtype=kind)


# ---- the tokenizer -------------------------------------------------------------------------------------------------


def _add_tokenizer(writer: Any, kinds: Any, tokenizer: Tokenizer) -> None:
    spec = json.loads(tokenizer.to_json())
    words: dict[str, int] = dict(spec["model"].get("vocab") or {})
    special = {each["content"]: each["id"] for each in spec.get("added_tokens") or []}
    texts = {number: word for word, number in (words | special).items()}
    if sorted(texts) != list(range(len(texts))):
        raise _refused("the tokenizer leaves out numbers of tokens")
    types = [kinds.CONTROL if texts[number] in special else kinds.NORMAL for number in sorted(texts)]
    if tokenizer.kind == "char":
        texts, types = _characters(texts, types, kinds)
        writer.add_tokenizer_model("llama")
        writer.add_token_scores([0.0] * len(texts))
        writer.add_add_space_prefix(False)
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(_split(spec))
        writer.add_token_merges(_merges(spec) or [_NEVER])
    writer.add_token_list([texts[number].encode() for number in sorted(texts)])
    writer.add_token_types(types)
    for add in (writer.add_bos_token_id, writer.add_eos_token_id, writer.add_pad_token_id):
        add(tokenizer.end_id)
    writer.add_add_bos_token(True)  # a text begins behind an end token, as records did in training
    writer.add_add_eos_token(False)


def _characters(texts: dict[int, str], types: list[Any], kinds: Any) -> tuple[dict[int, str], list[Any]]:
    if _SPACE in texts.values():
        raise _refused(f"the characters have {_SPACE}, which its family of tokenizers takes for a space")
    types = [kinds.BYTE if number < 256 else kind for number, kind in enumerate(types)]
    return {number: _SPACE if text == " " else text for number, text in texts.items()}, types


def _merges(spec: dict[str, Any]) -> list[str]:
    merges = spec["model"].get("merges") or []
    return [each if isinstance(each, str) else " ".join(each) for each in merges]


def _split(spec: dict[str, Any]) -> str:
    """How llama.cpp calls the way in which words are split.

    Raises:
        ShuyuanError: it has no name for it.
    """
    pre = spec.get("pre_tokenizer") or {}
    steps = pre.get("pretokenizers", [pre]) if pre.get("type") == "Sequence" else [pre]
    levels = [step for step in steps if step.get("type") == "ByteLevel" and not step.get("add_prefix_space")]
    others = [step for step in steps if step.get("type") != "ByteLevel"]
    merges = spec["model"].get("type") == "BPE" and not spec["model"].get("byte_fallback")
    normal = (spec.get("normalizer") or {}).get("type") in (None, "NFC")
    if merges and normal and len(levels) == 1:
        if not others and (levels[0].get("use_regex", True) or not _merges(spec)):
            return "gpt-2"
        found = (others[0].get("pattern") or {}).get("Regex") if len(others) == 1 else None
        if found in _SPLITS and not levels[0].get("use_regex", True):
            return _SPLITS[found]
    raise _refused("the tokenizer splits text in a way that llama.cpp has no name for")


def _refused(why: str) -> ShuyuanError:
    return ShuyuanError(
        "models.no-gguf",
        f"It cannot be written as GGUF: {why}.",
        where="--as gguf",
        mend="Export it as huggingface; llama.cpp's own converter knows more architectures and tokenizers.",
    )
