"""The privacy guarantee in two plain sentences, in English and Chinese; and the plain truth where there is none."""

from __future__ import annotations

import math

from ..privacy import Mechanism, mechanism_in
from ..privacy.data_sets import OTHER_ID, OTHER_UNIT, Together
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


_LEAKS_ZH = {
    "tokenizer": "词表或合并规则从记录中学得，其中可能留有某一单位常用或罕见的词。",
    "labels": "标签的名称取自记录，只有某一单位才有的标签也会留在模型里。",
    "plateau": "学习率随留出单位的验证损失而变。",
    "scores": "公开报告中载有模型在留出单位上的分数，没有噪声掩盖其中任何一个单位带来的变化。",
    "tuning": "设置是看过同一批记录上其他运行的损失或分数之后选定的，这一选择会透露记录的信息。",
}
_INSIDE = {
    "en": ("losses, scores, counts and samples", "losses, counts and samples"),
    "zh": ("损失、分数、计数和样例", "损失、计数和样例"),
}


def title(recipe: Recipe) -> str:
    """Two or three words, or the guarantee in symbols."""
    mechanism = mechanism_in(recipe)
    if mechanism is None:
        return "Not private" if recipe.privacy is None else "To be private"
    epsilon = mechanism.epsilon(mechanism.steps)
    return f"Private: ε = {wording.upper(epsilon)}, δ = {wording.upper(mechanism.delta)} for each {mechanism.unit}"


def sentences(recipe: Recipe, data_set: Together | None = None) -> dict[str, list[str]]:
    """What is promised of the released files once training has ended, by language: the guarantee, then its limits.

    A run without privacy gets one sentence that says so.

    Args:
        recipe: as resolved.
        data_set: what all runs on the same data set have spent, this one among them.
    """
    mechanism = mechanism_in(recipe)
    if recipe.privacy is None:
        return {language: [text] for language, text in NONE.items()}
    if mechanism is None:
        return {
            "en": ["Training has not begun; the recipe asks for privacy."],
            "zh": ["训练尚未开始；配方要求差分隐私。"],
        }
    others = data_set if data_set and (data_set.runs > 1 or OTHER_ID in data_set.uncovered) else None
    return {
        "en": _english(recipe, mechanism) + (_others_in_english(others) if others else []),
        "zh": _chinese(recipe, mechanism) + (_others_in_chinese(others) if others else []),
    }


def _inside(recipe: Recipe, language: str) -> str:
    """What stays inside: scores too, unless the recipe gives them away."""
    return _INSIDE[language][recipe.privacy is not None and "scores" in recipe.privacy.allow]


def _english(recipe: Recipe, mechanism: Mechanism) -> list[str]:
    epsilon = mechanism.epsilon(mechanism.steps)
    lines = [
        f"Whatever anyone concludes from the released files about {_UNITS[mechanism.unit]['en']}, they would have concluded "
        f"nearly as often had those records never been there: the chances differ by at most {_times(epsilon)} times "
        f"(ε = {wording.upper(epsilon)}), but for a probability of δ = {wording.upper(mechanism.delta)}.",
        "This covers model/, compressed/ and the public report, for neighbours that differ by one unit added or removed, "
        f"with the number of units public; {_inside(recipe, 'en')} computed from private records are not covered "
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
        f"由私有记录算出的{_inside(recipe, 'zh')}不在保证之内，只留在内部。",
    ]
    for name in recipe.privacy.allow if recipe.privacy else []:
        lines.append(f"不在保证之内、由配方明确接受的：{name}。{_LEAKS_ZH[name]}")
    if recipe.privacy and recipe.privacy.insecure_seed is not None:
        lines.append("噪声由配方里的一个数字决定：这只是测试，没有任何保护作用。")
    return lines


def _others_in_english(all_runs: Together) -> list[str]:
    """What whoever sees this run's release together with those of others on the same data set can learn."""
    lines = [
        f"This promise is about one run. When this was written, the ledger of its data set held {all_runs.runs} runs, and what "
        f"they tell adds up: the private ones had spent {_sum(all_runs, 'nothing')} together."
    ]
    if all_runs.unprotected:
        lines.append(
            f"Of these runs, {all_runs.unprotected} without privacy: what their models memorised of the same records is not "
            "bounded, and no ε covers it."
        )
    leaks = [name for name in all_runs.uncovered if name in ALLOWED]
    if leaks:
        lines.append(f"Not covered, over all of these runs: {', '.join(leaks)}.")
    if OTHER_UNIT in all_runs.uncovered:
        lines.append("Some of these runs protect another unit; the sum leaves them out.")
    if OTHER_ID in all_runs.uncovered:
        lines.append(
            "The same source was trained on under another data.id too; the sum leaves those runs out."
        )
    return lines


def _others_in_chinese(all_runs: Together) -> list[str]:
    lines = [
        f"以上承诺只针对这一次运行。写下本文时，这份数据的账本共记有 {all_runs.runs} 次运行，它们所透露的要相加："
        f"其中有差分隐私的各次合计已花费 {_sum(all_runs, '零')}。"
    ]
    if all_runs.unprotected:
        lines.append(
            f"其中 {all_runs.unprotected} 次运行没有差分隐私：其模型对同一批记录记住了多少，没有上限，任何 ε 都不涵盖。"
        )
    leaks = [name for name in all_runs.uncovered if name in ALLOWED]
    if leaks:
        lines.append(f"所有这些运行中不在保证之内的：{'、'.join(leaks)}。")
    if OTHER_UNIT in all_runs.uncovered:
        lines.append("其中有些运行保护的是另一种单位，没有计入这个总和。")
    if OTHER_ID in all_runs.uncovered:
        lines.append("同一来源还以另一个 data.id 训练过，那些运行没有计入这个总和。")
    return lines


def _sum(all_runs: Together, nothing: str) -> str:
    if all_runs.unit is None:
        return nothing
    return f"ε = {wording.upper(all_runs.epsilon)}, δ = {wording.upper(all_runs.delta)}"


def _times(epsilon: float) -> str:
    """e to the ε, as people read numbers, never too small."""
    if epsilon > 20:
        return f"10^{math.ceil(epsilon / math.log(10))}"
    return (
        f"{math.ceil(math.exp(epsilon) * 100) / 100:,.2f}"
        if epsilon < 2
        else f"{math.ceil(math.exp(epsilon)):,}"
    )
