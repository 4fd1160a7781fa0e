"""What the handbook itself says, in English and Chinese. Questions bring their own words."""

from __future__ import annotations

import os

from .quantity import Language

LANGUAGES: tuple[Language, ...] = ("en", "zh")

# The headings of a page, in order. Every page has exactly these, so that a reader knows where to look.
HEADINGS: dict[Language, tuple[str, ...]] = {
    "en": ("In short", "Why", "Measured", "The code", "What people get wrong", "References"),
    "zh": ("先说结论", "为什么", "实测", "代码", "常见误区", "参考资料"),
}

WORDS: dict[str, tuple[str, str]] = {
    "exercise": ("Exercise", "练习"),
    "hand-in": ("Hand in:", "提交答案："),
    "part-line": ("- `{id}`: {asks} ({unit})", "- `{id}`：{asks}（{unit}）"),
    "unmeasured": ("not measured yet", "尚未测量"),
    "measured-on": ("Measured on {date}: {hardware}.", "测于 {date}：{hardware}。"),
    "figure": ("Figure", "指标"),
    "value": ("Value", "数值"),
    "no-sandbox": (
        "Your code runs in a process of its own, in an empty folder, with limits of {seconds:g} seconds and {memory} of "
        "memory. That stops accidents, not attacks: it is your own code, and this is no security sandbox. Do not grade "
        "code that you would not run.",
        "你的代码在单独的进程和空文件夹里运行，限时 {seconds:g} 秒，内存上限 {memory}。这只能防意外，防不了恶意代码："
        "跑的是你自己写的程序，这里不是安全沙箱。你自己都不敢直接运行的代码，也不要拿来评分。",
    ),
    "parts-intro": ("Compute:", "请算出："),
    "choices-intro": ("Choose:", "请选择："),
    "answered-by": ("Answered by `shuyuan {verb}`.", "由 `shuyuan {verb}` 回答。"),
    "generated": (
        "Made from src/shuyuan/handbook/questions/{id} by `make docs`; change it there.",
        "由 `make docs` 根据 src/shuyuan/handbook/questions/{id} 生成，请在那里修改。",
    ),
    "index-title": ("Handbook", "手册"),
    "index-intro": (
        "Questions that engineers are asked about large models, each answered with figures that you can measure again. "
        "Practise in the terminal: `shuyuan practice list`.",
        "工程师常被问到的大模型问题。每个答案里的数字都可以自己重新测量。在终端里练习：`shuyuan practice list --lang zh`。",
    ),
    # ---- numbers and choices ----
    "right": ("Right", "正确"),
    "wrong": ("Not right", "不对"),
    "missing-part": ("not answered yet", "还没有回答"),
    "too-large": ("About {times} times too large.", "大了约 {times} 倍。"),
    "too-small": ("About {times} times too small.", "小了约 {times} 倍。"),
    "off-by": (
        "Close, but {percent} off; up to {allowed} is accepted.", "接近了，但偏差 {percent}，允许的偏差是 {allowed}。"
    ),
    "other-kilo": (
        "Right but for the unit: kB, MB, GB and TB are powers of 1000; KiB, MiB, GiB and TiB are powers of 1024.",
        "数对了，单位不对：kB、MB、GB、TB 按 1000 进位，KiB、MiB、GiB、TiB 按 1024 进位。",
    ),
    "sign": ("The sign is wrong, or the number is zero.", "符号不对，或者填了零。"),
    "way": ("The way: {working}", "算法：{working}"),
    "not-a-number": (
        "“{text}” cannot be read as a number. Write for example 0.7e6, 700,000, 0.7 million or a working such as 3e23 / 1e14.",
        "看不懂“{text}”这个数。可以写成 0.7e6、700,000、70万，或者算式，例如 3e23 / 1e14。",
    ),
    "not-finite": ("“{text}” is not a finite number.", "“{text}”不是有限的数。"),
    "other-unit": ("“{text}” is in another kind of unit; {unit} is asked for.", "“{text}”的单位不对，这里问的是{unit}。"),
    "which-part": (
        "This question has several parts. Say which: {example}",
        "这道题有好几问，请说明答的是哪一问，例如：{example}",
    ),
    "unknown-part": ("There is no part “{part}”. The parts are: {parts}.", "没有“{part}”这一问。可选的有：{parts}。"),
    "unknown-choice": ("There is no choice “{part}”. The choices are: {parts}.", "没有“{part}”这个选项。可选的有：{parts}。"),
    "no-answer": ("The answer is empty.", "没有写答案。"),
    "incomplete-choice": ("Right so far, but not all: there is more to choose.", "选的都对，但没有选全。"),
    "hours": ("hours", "小时"),
    "days": ("days", "天"),
    "bytes": ("bytes", "字节"),
    "FLOP": ("FLOP", "FLOP"),
    # ---- code ----
    "passed": ("Everything is as asked.", "全部符合要求。"),
    "no-file": ("There is no file {file}. Begin with: shuyuan practice starter {id}", "找不到文件 {file}。先运行：shuyuan practice starter {id}"),
    "unreadable-file": ("{file} cannot be read as UTF-8 text.", "无法按 UTF-8 读取 {file}。"),
    "file-too-large": ("{file} is larger than 1 MB; an answer is a short program.", "{file} 超过 1 MB，答案应当是一个短程序。"),
    "syntax": ("Line {line} is not Python: {what}.", "第 {line} 行不是合法的 Python：{what}。"),
    "missing": ("There is no function “{name}” in your file.", "文件里没有函数“{name}”。"),
    "not-callable": ("“{name}” is not a function but {kind}.", "“{name}”不是函数，而是 {kind}。"),
    "not-written": ("“{name}” is not written yet: it raises NotImplementedError.", "“{name}”还没有写：它抛出了 NotImplementedError。"),
    "raised": ("Line {line} raised {kind}: {what}", "第 {line} 行抛出 {kind}：{what}"),
    "raised-outside": ("Your code raised {kind}: {what}", "你的代码抛出 {kind}：{what}"),
    "exit": (
        "Your code ended the program (sys.exit or alike) before it was checked. Take that out.",
        "还没检查完，你的代码就用 sys.exit 之类结束了程序。请去掉它。",
    ),
    "ended": (
        "The process ended before the check was done (exit status {status}), for example by os._exit or a crash.",
        "检查还没做完，进程就结束了（退出状态 {status}），可能调用了 os._exit，也可能崩溃了。",
    ),
    "time": (
        "Not finished after {seconds:g} seconds, so it was stopped. Look for an endless loop.",
        "{seconds:g} 秒后仍未结束，已被停止。检查一下有没有死循环。",
    ),
    "memory": ("More than {memory} of memory was used, so it was stopped.", "内存用量超过 {memory}，已被停止。"),
    "processes": ("More than {count} processes were started, so it was stopped.", "启动的进程超过 {count} 个，已被停止。"),
    "start": (
        "The checker did not come up within {seconds:g} seconds. Try again when the machine is less busy.",
        "检查程序 {seconds:g} 秒内没有启动成功。等机器空闲些再试。",
    ),
    "checker": (
        "The checker stumbled over what your code returned ({kind}: {what}). See whether it returns what is asked; if it does, report this.",
        "检查程序处理你的返回值时出错（{kind}：{what}）。请核对返回值是否符合要求；如果符合，请报告这个问题。",
    ),
    "replaced": (
        "Your code replaced {name}, with which your answer is checked. Take that out.",
        "你的代码替换了 {name}，而检查答案时要用到它。请去掉这处替换。",
    ),
    "output-cut": ("… cut here: your code printed more than {limit}.", "……以下省略：你的代码输出超过 {limit}。"),
    # ---- the command ----
    "column-question": ("Question", "题目"),
    "column-kind": ("Kind", "类型"),
    "column-state": ("You", "进度"),
    "numeric": ("numbers", "计算"),
    "choice": ("choice", "选择"),
    "coding": ("code", "编程"),
    "solved": ("solved", "已完成"),
    "partly": ("{done} of {all}", "{done}/{all}"),
    "tried": ("tried", "试过"),
    "unseen": ("-", "-"),
    "solved-count": ("{done} of {all} solved.", "共 {all} 题，完成 {done} 题。"),
    "next-is": ("Next: shuyuan practice show {id}", "下一题：shuyuan practice show {id}"),
    "all-solved": ("All questions are solved.", "所有题目都已完成。"),
    "written": ("Wrote {file}. Grade it with:\n  {command}", "已写入 {file}。评分命令：\n  {command}"),
    "question-solved": ("Solved: {title}", "完成：{title}"),
    "still-open": ("Still open: {parts}.", "还剩：{parts}。"),
    "your-output": ("What your code printed:", "你的代码输出："),
    "unsaved": (
        "Your progress cannot be saved in {file} ({why}). Grading works all the same.",
        "进度无法保存到 {file}（{why}），不影响评分。",
    ),
    "set-aside": (
        "Your progress file was damaged. It is kept as {file}, and a new one begins.",
        "进度文件已损坏，原文件保存为 {file}，进度从头开始。",
    ),
}  # fmt: skip


def say(language: Language, key: str, **facts: object) -> str:
    """One of the sentences above with its gaps filled.

    Args:
        language: "en" or "zh".
        key: of the sentence.
        facts: what fills its gaps, by name.

    Raises:
        KeyError: there is no such sentence, or a gap stays open.
    """
    return WORDS[key][LANGUAGES.index(language)].format(**facts)


def default_language() -> Language:
    """Chinese where the locale is Chinese (LC_ALL, LC_MESSAGES, LANG in this order), else English."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if os.environ.get(name):
            return "zh" if os.environ[name].lower().startswith("zh") else "en"
    return "en"
