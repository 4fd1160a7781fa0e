"""Four families of one size, new and untrained, as transformers' folders."""

from pathlib import Path

import torch
import transformers

# Bytes, as in the runs above.
TOKENIZER = Path("size-128-300/model/tokenizer.json").read_bytes()
GPT = {"n_layer": 2, "n_embd": 128, "n_head": 2, "n_positions": 64}
TODAY = {
    "num_hidden_layers": 2,
    "hidden_size": 128,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "intermediate_size": 341,  # three matrices instead of two
    "tie_word_embeddings": True,
    "pad_token_id": None,
}
SAME = {"vocab_size": 257, "eos_token_id": 256}

for name, config in {
    "gpt2": transformers.GPT2Config(**GPT, **SAME),
    "llama": transformers.LlamaConfig(**TODAY, **SAME),
    "qwen3": transformers.Qwen3Config(**TODAY, **SAME),
    "glm": transformers.GlmConfig(**TODAY, **SAME),
}.items():
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(name)
    (Path(name) / "tokenizer.json").write_bytes(TOKENIZER)
    print(name, model.num_parameters())
