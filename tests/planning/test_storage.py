"""Storage is what a run leaves on the disk, and a little more while a checkpoint is written."""

from __future__ import annotations

from shuyuan.models import TransformerConfig
from shuyuan.planning.storage import LOG_BYTES, storage_bytes

from .parts import make_manifest, make_recipe

CONFIG = TransformerConfig(257, 4, 256, 4, 4, 64, 672, 256)


def test_checkpoints_kept_the_safe_one_and_the_one_in_flight_are_counted() -> None:
    train = make_recipe(train={"keep": 3, "optimizer": "adamw"}).train
    manifest = make_manifest(1_000_000)
    shards = 1_100_000 * 2 + 11_000 * 16
    arrays = 12 * CONFIG.parameters
    total = storage_bytes(CONFIG, manifest, train)
    assert 0 <= total - (shards + 5 * arrays + 4 * CONFIG.parameters + LOG_BYTES) < 50_000


def test_each_kept_checkpoint_adds_its_arrays() -> None:
    two, four = (
        storage_bytes(CONFIG, make_manifest(), make_recipe(train={"keep": keep, "optimizer": "sgd"}).train)
        for keep in (2, 4)
    )
    assert four - two == 2 * 8 * CONFIG.parameters


def test_large_vocabularies_take_four_bytes_a_token() -> None:
    train = make_recipe().train
    wide = TransformerConfig(70_000, 4, 256, 4, 4, 64, 672, 256)
    more = storage_bytes(wide, make_manifest(2_000_000), train) - storage_bytes(
        wide, make_manifest(1_000_000), train
    )
    assert more == 1_100_000 * 4 + 11_000 * 16
