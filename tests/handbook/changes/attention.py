"""The checker of attention accepts every right way and names many more mistakes than the shipped variants."""

from __future__ import annotations

from . import Changes

SCORES = "    scores = q @ k.transpose(2, 3) / math.sqrt(size)\n"
WHOLE = "scores.masked_fill(future, -math.inf).softmax(3) @ v"
FUTURE = "    future = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)\n"
SHARED = "    k = k.repeat_interleave(heads // k.shape[1], 1)\n    v = v.repeat_interleave(heads // v.shape[1], 1)\n"
RISE = "        weights, shrink = (scores - higher).exp(), (top - higher).exp()\n"
DIVIDED = "return mixed / total"

LIBRARY = [(SHARED + SCORES + FUTURE, SHARED + FUTURE),
           (WHOLE, "torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=~future)")]  # fmt: skip
QUERY_SCALED = [
    (
        "scores = q @ keys.transpose(2, 3) / math.sqrt(size)",
        "scores = (q * size**-0.5) @ keys.transpose(2, 3)",
    )
]
LEAST = [("-math.inf)\n        higher", "torch.finfo(scores.dtype).min)\n        higher")]


RIGHT: dict[str, Changes] = {
    "library": LIBRARY,
    "scaled": QUERY_SCALED,
    "least": LEAST,
}


MISTAKES: dict[str, Changes] = {
    "changes-arguments": [(SCORES + FUTURE, SCORES + FUTURE + "    q.mul_(2)\n")],
    "shape": [(WHOLE, "scores.masked_fill(future, -math.inf).softmax(3)")],
    "sees-the-future": [(FUTURE, FUTURE.replace("triu(1)", "triu(tokens)"))],
    "not-itself": [(FUTURE, FUTURE.replace("triu(1)", "triu(0)"))],
    "no-scale": [(SCORES + FUTURE, SCORES.replace(" / math.sqrt(size)", "") + FUTURE)],
    "scale-without-root": [(SCORES + FUTURE, SCORES.replace("math.sqrt(size)", "size") + FUTURE)],
    "groups": [(SHARED + SCORES, SHARED.replace("repeat_interleave(heads // k.shape[1], 1)", "repeat(1, heads // k.shape[1], 1, 1)").replace("repeat_interleave(heads // v.shape[1], 1)", "repeat(1, heads // v.shape[1], 1, 1)") + SCORES)],
    "softmax-axis": [(WHOLE, WHOLE.replace("softmax(3)", "softmax(2)"))],
    "mask-after-softmax": [(WHOLE, "scores.softmax(3).masked_fill(future, 0.0) @ v")],
    "values": [(WHOLE, WHOLE + " * 1.01")],
    "no-gradient": [("    heads, tokens, size = q.shape[1:]\n" + SHARED + SCORES, "    q, k, v = q.detach(), k.detach(), v.detach()\n    heads, tokens, size = q.shape[1:]\n" + SHARED + SCORES)],
    "gradient": [(SCORES + FUTURE, SCORES.replace("q @ k", "q @ k.detach()") + FUTURE)],
    "blocks-shape": [(DIVIDED, "return (mixed / total).flatten(2)")],
    "blocks-not-finite": [(RISE, RISE + "        shrink = shrink * (top - top).exp()\n")],
    "softmax-of-blocks": [("        higher = torch.maximum(top, scores.amax(3, keepdim=True))\n", "        higher = top\n"), (RISE, "        weights, shrink = scores.softmax(3).nan_to_num(0.0), 1.0\n"), ("weights.sum(3, keepdim=True)", "(place >= start).view(-1, 1)")],
    "rest-left-out": [("range(0, tokens, block)", "range(0, max(block, tokens // block * block), block)")],
    "blocks-differ": [(DIVIDED, DIVIDED + " * 1.01")],
    "keeps-a-square": [("    place = torch.arange(tokens)\n", "    place = torch.arange(tokens)\n    torch.zeros(tokens, tokens)\n")],
}  # fmt: skip
