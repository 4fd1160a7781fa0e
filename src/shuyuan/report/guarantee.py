"""The privacy guarantee in two plain sentences, in English and Chinese; and the plain truth where there is none."""

from __future__ import annotations

import math

from ..privacy import Mechanism, mechanism_in
from ..privacy.ledger import ALLOWED
from ..recipe import Recipe
from . import wording

NONE = {
    "en": "No differential privacy was used. The model may have memorised passages of its training records, and whoever can "
    "query it may get them out. How much it memorised is not bounded.",
    "zh": "训练没有使用差分隐私。模型可能记住了训练记录中的片段，任何能够查询它的人都可能把它们套取出来；它记住了多少，没有上限。",
}
_UNITS = {
    "owner": {"en": "one owner with all of their records", "zh": "某一位当事人的全部记录"},
    "record": {"en": "one record", "zh": "某一条记录"},
}


def title(recipe: Recipe) -> str:
    """Two or three words, or the guarantee in symbols."""
    mechanism = mechanism_in(recipe)
    if mechanism is None:
        return "Not private" if recipe.privacy is None else "To be private"
    epsilon = mechanism.epsilon(mechanism.steps)
    return f"Private: ε = {wording.upper(epsilon)}, δ = {wording.upper(mechanism.delta)} for each {mechanism.unit}"


def sentences(recipe: Recipe) -> dict[str, list[str]]:
    """What is promised of the released files once training has ended, by language: the guarantee, then its limits.

    A run without privacy gets one sentence that says so.
    """
    mechanism = mechanism_in(recipe)
    if recipe.privacy is None:
        return {language: [text] for language, text in NONE.items()}
    if mechanism is None:
        return {
            "en": ["Training has not begun; the recipe asks for privacy."],
            "zh": ["训练尚未开始；配方要求差分隐私。"],
        }
    return {"en": _english(recipe, mechanism), "zh": _chinese(recipe, mechanism)}


def _english(recipe: Recipe, mechanism: Mechanism) -> list[str]:
    epsilon = mechanism.epsilon(mechanism.steps)
    lines = [
        f"Whatever anyone concludes from the released files about {_UNITS[mechanism.unit]['en']}, they would have concluded "
        f"nearly as often had those records never been there: the chances differ by at most {_times(epsilon)} times "
        f"(ε = {wording.upper(epsilon)}), but for a probability of δ = {wording.upper(mechanism.delta)}.",
        "This covers model/, compressed/ and the public report, for neighbours that differ by one unit added or removed, "
        "with the number of units public; losses, scores, counts and samples computed from private records are not covered "
        "and stay inside.",
    ]
    for name in recipe.privacy.allow if recipe.privacy else []:
        lines.append(f"Not covered, and accepted by the recipe: {name}. {ALLOWED[name]}")
    if recipe.privacy and recipe.privacy.insecure_seed is not None:
        lines.append("The noise follows from a number in the recipe: a test, and no protection at all.")
    return lines


def _chinese(recipe: Recipe, mechanism: Mechanism) -> list[str]:
    epsilon = mechanism.epsilon(mechanism.steps)
    lines = [
        f"无论谁从公布的文件中得出关于{_UNITS[mechanism.unit]['zh']}的什么结论，假如这些记录从未参与训练，他得出同样结论的"
        f"可能性也几乎一样：两者最多相差 {_times(epsilon)} 倍（ε = {wording.upper(epsilon)}），例外的概率不超过 δ = {wording.upper(mechanism.delta)}。",
        "这一保证涵盖 model/、compressed/ 和公开报告；相邻数据集相差增加或删除一个单位，单位总数视为公开；"
        "由私有记录算出的损失、分数、计数和样例不在保证之内，只留在内部。",
    ]
    for name in recipe.privacy.allow if recipe.privacy else []:
        lines.append(f"不在保证之内、由配方明确接受的：{name}。")
    if recipe.privacy and recipe.privacy.insecure_seed is not None:
        lines.append("噪声由配方里的一个数字决定：这只是测试，没有任何保护作用。")
    return lines


def _times(epsilon: float) -> str:
    """e to the ε, as people read numbers, never too small."""
    if epsilon > 20:
        return f"10^{math.ceil(epsilon / math.log(10))}"
    return (
        f"{math.ceil(math.exp(epsilon) * 100) / 100:,.2f}"
        if epsilon < 2
        else f"{math.ceil(math.exp(epsilon)):,}"
    )
