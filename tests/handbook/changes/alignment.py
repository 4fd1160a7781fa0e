"""The checker of DPO accepts every right way and names many more mistakes than the shipped variants."""

from __future__ import annotations

from . import Changes

SUM = "torch.where(answer[:, 1:], each, 0.0).sum(1)"
LOSS = "-F.logsigmoid(beta * (own - before)).mean()"

CROSS_ENTROPY = [("    told = logits[:, :-1].log_softmax(2)\n", ""), ("    next_tokens = tokens[:, 1:].unsqueeze(2)\n", ""),
                 ("told.gather(2, next_tokens).squeeze(2)", "-F.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction='none')")]  # fmt: skip
SOFTPLUS = [(LOSS, "F.softplus(beta * (before - own)).mean()")]
BY_SIDES = [("own = chosen - rejected", "own = (chosen - reference_chosen.detach()) - (rejected - reference_rejected.detach())"),
            ("(reference_chosen - reference_rejected).detach()", "0.0")]  # fmt: skip


RIGHT: dict[str, Changes] = {
    "entropy": CROSS_ENTROPY,
    "softplus": SOFTPLUS,
    "sides": BY_SIDES,
}


MISTAKES: dict[str, Changes] = {
    "shape": [(SUM, SUM.replace(".sum(1)", ".sum()"))],
    "mean-of-tokens": [(SUM, SUM + " / answer.sum(1)")],
    "no-logarithm": [(SUM, SUM + ".exp()")],
    "minus": [(SUM, "-" + SUM)],
    "raw-logits": [(".log_softmax(2)", "")],
    "probability": [(SUM, SUM + " + 0.5")],
    "loss-shape": [(LOSS, LOSS.replace(".mean()", ""))],
    "no-beta": [("beta * ", "")],
    "sum": [(LOSS, LOSS.replace("mean", "sum"))],
    "rises": [(LOSS, LOSS[1:])],
    "loss": [(LOSS, LOSS + " + 0.5")],
    "no-gradient": [("own = chosen - rejected", "own = (chosen - rejected).detach()")],
    "gradient": [("own = chosen - rejected", "own = chosen - rejected.detach()")],
    "no-learning": [(SUM, SUM + "\n    return found if found.shape[0] == 3 else found.detach() + 0 * found"), ("return torch.where", "found = torch.where")],
}  # fmt: skip
