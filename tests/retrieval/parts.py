"""Small documents and pairs in English and Chinese for the tests of retrieval."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from shuyuan.retrieval import Columns, Index, Wish, build_index

LEAVE = """# Leave

Every employee has 25 days of leave a year. Requests are sent to the head of
the department at least two weeks before. Dr. Chen decides on exceptions.

Unused leave expires on the 31st of March of the next year.
"""
EXPENSES = """差旅费报销

员工出差后应在三十日内提交报销单。住宿费上限为每晚五百元，由部门经理审批。

发票丢失的，须由开票单位出具证明。
"""
MACHINES = """The large press is serviced every 400 hours. Its oil filter is part number KX-7。
大型压力机 (large press) 每四百小时保养一次。
"""

# For each answer, several ways to ask for it: made from parts, so that no pair left out is alone.
_WAYS = (
    "How do I {}?",
    "I want to {}, what now?",
    "Please help me {}",
    "Where can I {}?",
    "can you {} for me",
)
_WISHES = {
    "reset the password": "Use the link on the login page.",
    "cancel an order": "Orders can be cancelled until they are packed.",
    "change the address": "Addresses are changed under My account.",
    "return a parcel": "Print the label and bring it to the post office.",
    "book a meeting room": "Rooms are booked in the calendar.",
    "print a payslip": "Payslips lie in the staff portal.",
    "report a stolen laptop": "Call security at once.",
    "order a keyboard": "Ask the help desk for hardware.",
    "join the choir": "The choir meets on Mondays.",
    "rent a bicycle": "Bicycles stand in the yard; ask the porter.",
    "extend a contract": "Write to your head of department.",
    "borrow a projector": "Projectors are at the reception.",
}
PAIRS = [(way.format(wish), answer) for wish, answer in _WISHES.items() for way in _WAYS]
FAQ_ZH = [
    ("怎么重置密码？", "请点击登录页面上的链接。"),
    ("快递多久能到？", "一般三个工作日。"),
    ("可以开发票吗？", "可以，请在订单页面申请。"),
    ("如何取消订单？", "发货之前可以取消。"),
]


def write_documents(folder: Path) -> Path:
    """A folder with an English, a Chinese and a mixed document."""
    (folder / "deep").mkdir(parents=True)
    (folder / "leave.md").write_text(LEAVE, encoding="utf-8")
    (folder / "报销.txt").write_text(EXPENSES, encoding="utf-8")
    (folder / "deep/machines.txt").write_text(MACHINES, encoding="utf-8")
    return folder


def write_pairs(file: Path, pairs: Sequence[tuple[str, str]] = PAIRS) -> Path:
    """A CSV file of pairs."""
    with file.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([("question", "answer"), *pairs])
    return file


def write_squad(file: Path, contexts: Sequence[str]) -> Path:
    """A file in the SQuAD format, an article a context."""
    data = [{"title": "t", "paragraphs": [{"context": text, "qas": []}]} for text in contexts]
    file.write_text(json.dumps({"version": "1.1", "data": data}))
    return file


def documents_index(folder: Path, *texts: str) -> Index:
    """An index of texts, a file each, or of the three documents."""
    source = folder / "docs"
    if texts:
        source.mkdir()
        for number, text in enumerate(texts):
            (source / f"{number}.txt").write_text(text, encoding="utf-8")
    else:
        write_documents(source)
    build_index([str(source)], folder / "index")
    return Index(folder / "index")


def pairs_index(folder: Path, pairs: Sequence[tuple[str, str]] = PAIRS, wish: Wish | None = None) -> Index:
    """An index of pairs."""
    file = write_pairs(folder / "faq.csv", pairs)
    build_index([str(file)], folder / "index", columns=Columns("question", "answer"), wish=wish)
    return Index(folder / "index")
