"""Every cell of docs/support.md: a feature that works, or one that is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from shuyuan.errors import ShuyuanError

from .families import FAMILIES, Family
from .features import FEATURES, Feature, RefusedError

SLOW = {("distributed", family) for family in ("hub", "cnn", "ngrams")}  # processes of their own
CELLS = [
    pytest.param(feature, family, marks=[pytest.mark.slow] if (feature, family) in SLOW else [])
    for feature in FEATURES
    for family in FAMILIES
]
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),  # peft asks so
]


@pytest.mark.parametrize(("feature", "family"), CELLS, ids=lambda name: name)
def test_the_table_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, feature: str, family: str
) -> None:
    monkeypatch.setenv("SHUYUAN_TEST_KEY", "correct horse battery staple")
    row, column = FEATURES[feature], FAMILIES[family]
    if family in row.without:
        refused(row, column, tmp_path)
    else:
        row.check(column, tmp_path)


def refused(feature: Feature, family: Family, folder: Path) -> None:
    with pytest.raises((ShuyuanError, RefusedError)) as error:
        feature.check(family, folder)
    assert str(error.value).strip()


def test_no_reason_is_given_for_a_family_that_is_not_there() -> None:
    assert {name for feature in FEATURES.values() for name in feature.without} <= FAMILIES.keys() | {
        "cnn",
        "rnn",
    }
