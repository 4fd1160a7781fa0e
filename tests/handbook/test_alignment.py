"""The checker of DPO accepts every right way and names many more mistakes than the shipped variants."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .checkers import HintFor, checker_of


@pytest.fixture(scope="module")
def hint_for() -> Iterator[HintFor]:
    with checker_of("alignment", "answer_log_probability", "dpo_loss") as found:
        yield found


SUM = "torch.where(answer[:, 1:], each, 0.0).sum(1)"
LOSS = "-F.logsigmoid(beta * (own - before)).mean()"

CROSS_ENTROPY = [("    told = logits[:, :-1].log_softmax(2)\n", ""), ("    next_tokens = tokens[:, 1:].unsqueeze(2)\n", ""),
                 ("told.gather(2, next_tokens).squeeze(2)", "-F.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction='none')")]  # fmt: skip
SOFTPLUS = [(LOSS, "F.softplus(beta * (before - own)).mean()")]
BY_SIDES = [("own = chosen - rejected", "own = (chosen - reference_chosen.detach()) - (rejected - reference_rejected.detach())"),
            ("(reference_chosen - reference_rejected).detach()", "0.0")]  # fmt: skip


@pytest.mark.parametrize(
    "changes", [[], CROSS_ENTROPY, SOFTPLUS, BY_SIDES], ids=["solution", "entropy", "softplus", "sides"]
)
def test_right_ways_pass(hint_for: HintFor, changes: list[tuple[str, str]]) -> None:
    assert hint_for(*changes) is None


MISTAKES = {
    "shape": [(SUM, SUM.replace(".sum(1)", ".sum()"))],
    "not-shifted": [("logits[:, :-1]", "logits"), ("tokens[:, 1:].unsq", "tokens.unsq"), ("answer[:, 1:], each", "answer, each")],
    "prompt-too": [(SUM, "each.sum(1)")],
    "mean-of-tokens": [(SUM, SUM + " / answer.sum(1)")],
    "no-logarithm": [(SUM, SUM + ".exp()")],
    "minus": [(SUM, "-" + SUM)],
    "raw-logits": [(".log_softmax(2)", "")],
    "probability": [(SUM, SUM + " + 0.5")],
    "loss-shape": [(LOSS, LOSS.replace(".mean()", ""))],
    "no-reference": [("(own - before)", "own")],
    "other-way": [("(own - before)", "(before - own)")],
    "mean-inside": [(LOSS, "-F.logsigmoid(beta * (own - before).mean())")],
    "no-beta": [("beta * ", "")],
    "sum": [(LOSS, LOSS.replace("mean", "sum"))],
    "rises": [(LOSS, LOSS[1:])],
    "loss": [(LOSS, LOSS + " + 0.5")],
    "no-gradient": [("own = chosen - rejected", "own = (chosen - rejected).detach()")],
    "reference-learns": [(".detach()", "")],
    "gradient": [("own = chosen - rejected", "own = chosen - rejected.detach()")],
    "overflow": [(LOSS, "-torch.sigmoid(beta * (own - before)).log().mean()")],
    "no-learning": [(SUM, SUM + "\n    return found if found.shape[0] == 3 else found.detach() + 0 * found"), ("return torch.where", "found = torch.where")],
}  # fmt: skip


@pytest.mark.parametrize("hint", MISTAKES)
def test_mistakes_are_named(hint_for: HintFor, hint: str) -> None:
    assert hint_for(*MISTAKES[hint]) == hint


def test_every_hint_is_tried() -> None:
    from shuyuan.handbook import load_bank

    coding = load_bank()["alignment"].facts.coding
    assert coding is not None and coding.hints.keys() == MISTAKES.keys()
