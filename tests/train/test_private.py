"""Private runs, from recipe to ledger: what is promised, that it is kept after a kill, and that nothing leaks beside it."""

from __future__ import annotations

import errno
import json
import threading
import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from shuyuan import recipe as recipes
from shuyuan.data import UnitRows, load_manifest, load_tokenizer
from shuyuan.errors import Interrupted, PrivacyError, RecipeError, TrainError
from shuyuan.models import Transformer, TransformerConfig
from shuyuan.privacy import Mechanism, Noise, PoissonSampler, Total, accountant
from shuyuan.privacy.data_sets import DataSetLedger
from shuyuan.privacy.ledger import spent
from shuyuan.privacy.stream import BLOCK_WORDS, Stream
from shuyuan.progress import Progress
from shuyuan.train import mechanism_of, train
from shuyuan.train.backend import Batch
from shuyuan.train.private import PrivateBackend
from shuyuan.train.secret import SECRET_FILE, erase_secret, run_secret
from shuyuan.train.unit_batches import physical, private_batches
from shuyuan.vault import OpenStore

from ..runs import shuyuan, text_of, write_recipe
from .parts import CPU, StopAt, settings
from .test_training import cores, kill_at_random, last_checkpoint, prepared, trained, weights

__all__ = ["cores"]  # a fixture

PRIVATE: dict[str, Any] = {
    "privacy__noise_multiplier": 1.0, "privacy__unit": "record", "privacy__insecure_seed": 7, "data__duplicates": "keep",
    "train__optimizer": "adamw",
}  # fmt: skip


def ledger_of(path: Path) -> list[dict[str, Any]]:
    return list(OpenStore(path, writable=False).journal("ledger.jsonl").entries())


# ---- the whole command -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private run of a table with owners, all the way through."""
    folder = tmp_path_factory.mktemp("private")
    lines = text_of(400).splitlines()
    rows = [json.dumps({"text": line, "who": number % 90}) for number, line in enumerate(lines)]
    (folder / "notes.jsonl").write_text("\n".join(rows))
    recipe = write_recipe(folder, privacy="epsilon = 3.0\nrecords_per_unit = 2")
    text = recipe.read_text().replace(
        'source = "notes.txt"\nrecord = "line"', 'source = "notes.jsonl"\nowner = "who"'
    )
    recipe.write_text(text)
    outcome = shuyuan("run", recipe, "--out", folder / "run", "--json")
    assert outcome.status == 0, outcome.stderr
    (folder / "summary.json").write_text(json.dumps(outcome.json))
    return folder / "run"


def test_the_end_state_is_told(whole: Path) -> None:
    privacy = json.loads((whole.parent / "summary.json").read_text())["privacy"]
    assert privacy.keys() >= {
        "epsilon", "delta", "noise_multiplier", "clip", "unit", "units", "sampling_rate", "steps", "accountant",
    }  # fmt: skip
    assert 2.9 < privacy["epsilon"] <= 3.0
    assert (privacy["unit"], privacy["steps"], privacy["delta"]) == ("owner", 12, 1e-5)
    assert privacy["sampling_rate"] == 4 / privacy["units"]
    assert shuyuan("info", whole, "--json").json["privacy"] == privacy


def test_the_plan_tells_it_before(whole: Path) -> None:
    planned = shuyuan("plan", whole.parent / "recipe.toml", "--json").json["privacy"]
    assert planned.keys() >= {"epsilon", "delta", "noise_multiplier", "sampling_rate", "steps", "unit"}
    prepared_plan = shuyuan("plan", whole, "--json").json["privacy"]
    assert prepared_plan == json.loads((whole.parent / "summary.json").read_text())["privacy"]
    assert "ε = " in shuyuan("plan", whole).stdout


def test_verify_recomputes_epsilon_from_the_ledger_alone(whole: Path) -> None:
    stated = json.loads((whole.parent / "summary.json").read_text())["privacy"]["epsilon"]
    verified = shuyuan("verify", whole, "--json").json
    assert verified["ok"] is True
    assert verified["epsilon_recomputed"] == pytest.approx(stated)
    events = [entry["event"] for entry in ledger_of(whole)]
    assert events[-1] == "release" and events.count("release") == 1


def test_the_secret_is_erased(whole: Path) -> None:
    assert not (whole / SECRET_FILE).exists()
    assert not OpenStore(whole, writable=False).exists(SECRET_FILE)


def test_the_public_page_has_the_guarantee_and_no_figure_of_the_records(whole: Path) -> None:
    public, internal = (
        (whole / name).read_text(encoding="utf-8") for name in ("report.html", "report-internal.html")
    )
    loss = json.loads((whole.parent / "summary.json").read_text())["loss"]["validation"]
    assert f"{loss:.3f}" in internal and f"{loss:.3f}" not in public
    assert "do not publish" in internal and "do not publish" not in public
    for page in (public, internal, (whole / "model/README.md").read_text(encoding="utf-8")):
        assert "Private: ε = " in page and "Not private" not in page
        assert "one owner with all of their records" in page and "某一位当事人的全部记录" in page


def test_the_table_of_the_run_tells_it(whole: Path) -> None:
    assert "ε = " in shuyuan("info", whole).stdout


# ---- the same, however often it is killed -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text", "images"])
def test_killed_at_random_moments_it_ends_bit_for_bit_and_spends_once(
    tmp_path: Path, cores: int, kind: str
) -> None:
    changes = PRIVATE | {"train__checkpoint_every": "3 steps", "kind": kind}
    trained(tmp_path / "a", **changes)
    prepared(tmp_path / "b", **changes)
    seed = time.time_ns()
    kill_at_random(tmp_path / "b", cores, 2, 24, seed)
    assert weights(tmp_path / "a") == weights(tmp_path / "b"), f"seed {seed}"
    assert last_checkpoint(tmp_path / "a") == last_checkpoint(tmp_path / "b")
    assert spent(ledger_of(tmp_path / "a")) == spent(ledger_of(tmp_path / "b"))


def test_a_resumed_run_draws_the_same_and_a_new_one_does_not(tmp_path: Path) -> None:
    secure = PRIVATE | {"privacy__insecure_seed": None}
    recipe, store = prepared(tmp_path / "a", **secure)
    stop = threading.Event()
    with pytest.raises(Interrupted):
        train(recipe, store, StopAt(stop, 9), stop)
    assert store.exists(SECRET_FILE)
    train(recipe, store, Progress(), threading.Event())
    assert not store.exists(SECRET_FILE)
    store.write_json(
        SECRET_FILE, {"secret": "00" * 32, "weights": ""}
    )  # a kill came between the model and this
    train(recipe, store, Progress(), threading.Event())
    assert not store.exists(SECRET_FILE)
    trained(tmp_path / "b", **secure)
    draws = [{entry["draws"] for entry in ledger_of(tmp_path / run) if "draws" in entry} for run in "ab"]
    assert len(draws[0]) == len(draws[1]) == 1 and draws[0] != draws[1]
    assert weights(tmp_path / "a") != weights(tmp_path / "b")


def test_a_private_run_goes_on_under_its_own_settings_alone(tmp_path: Path) -> None:
    """Another clip, noise or seed on the way would be a mechanism that no ε was computed for."""
    recipe, store = prepared(tmp_path / "a", **PRIVATE)
    stop = threading.Event()
    with pytest.raises(Interrupted):
        train(recipe, store, StopAt(stop, 5), stop)
    others = {
        "seed": 2, "model.context": 16, "train.batch_size": 8, "privacy.clip": 0.5, "privacy.clipping": "per-layer",
        "privacy.noise_multiplier": 0.5, "privacy.insecure_seed": 8,
    }  # fmt: skip
    for key, value in others.items():
        with pytest.raises(TrainError) as caught:
            train(recipe.replace(**{key: value}), store, Progress(), threading.Event())
        assert caught.value.code == "train.other-checkpoint" and f"\n  {key}: " in caught.value.what
    train(recipe.replace(**{"train.keep": 1}), store, Progress(), threading.Event())


def test_a_model_that_was_taken_away_is_written_again_and_costs_nothing(tmp_path: Path) -> None:
    recipe, store = prepared(tmp_path / "a", **PRIVATE | {"privacy__insecure_seed": None})
    train(recipe, store, Progress(), threading.Event())
    before, cost = weights(tmp_path / "a"), spent(ledger_of(tmp_path / "a"))
    store.remove("model")
    train(recipe, store, Progress(), threading.Event())
    assert weights(tmp_path / "a") == before
    assert spent(ledger_of(tmp_path / "a")) == cost


def test_events_for_tensorboard_tell_nothing_of_the_records(tmp_path: Path) -> None:
    trained(tmp_path / "a", **PRIVATE | {"report": {"tensorboard": True}})
    (file,) = (tmp_path / "a/tensorboard").iterdir()
    content = file.read_bytes()
    assert b"privacy/epsilon" in content and b"training/learning_rate" in content
    assert b"loss" not in content and b"gradient_norm" not in content


def test_the_mechanism_that_a_run_began_with_is_kept(tmp_path: Path) -> None:
    recipe, store = prepared(tmp_path / "a", **PRIVATE)
    manifest = load_manifest(store)
    assert manifest is not None
    begun = replace(mechanism_of(recipe, manifest), noise_multiplier=1.25)
    assert mechanism_of(recipe.replace(resolved={"privacy": asdict(begun)}), manifest) == begun


def test_a_run_whose_secret_is_gone_does_not_spend_more_than_was_promised(tmp_path: Path) -> None:
    recipe, store = prepared(tmp_path / "a", **PRIVATE | {"privacy__insecure_seed": None})
    stop = threading.Event()
    with pytest.raises(Interrupted):
        train(recipe, store, StopAt(stop, 9), stop)
    store.remove(SECRET_FILE)
    with pytest.raises(PrivacyError, match="secret that is gone"):
        train(recipe, store, Progress(), threading.Event())


def test_other_weights_to_start_from_never_meet_the_same_noise(tmp_path: Path) -> None:
    """Two copies of an unfinished folder: the path that model.from names is the same, and what lies there is not."""
    trained(tmp_path / "base", train__steps=1)
    base = tmp_path / "base/model/model.safetensors"
    private = PRIVATE | {"privacy__insecure_seed": None, "model__from": str(base.parent)}
    recipe, store = prepared(tmp_path / "a", **private)

    def secret_of(which: str, begun: bool = False) -> bytes:
        return run_secret(store, recipe, {"weights": which}, begun=begun)

    one = secret_of("one")
    assert secret_of("one") == one
    assert run_secret(store, recipe, {"weights": "one", "data": "other"}, begun=False) != one
    kept_secret = bytes.fromhex(store.read_json(SECRET_FILE)["secret"])
    assert len({kept_secret[at : at + 4] for at in range(0, 32, 4)}) == 8  # 256 bits, and none of them twice
    # Before the first state is written the weights may still change: with them the secret, which then stays.
    other = secret_of("other")
    assert other != one and secret_of("other", begun=True) == other
    # Steps of a version that drew other noise from the same secret are not gone on with; before the first, all is drawn anew.
    store.write_json(SECRET_FILE, {"secret": "00" * 32, "weights": "one"})
    with pytest.raises(PrivacyError) as caught:
        secret_of("one", begun=True)
    assert caught.value.code == "privacy.other-stream"
    assert secret_of("one") == secret_of("one", begun=True)
    assert store.read_json(SECRET_FILE)["secret"] != "00" * 32
    erase_secret(store)
    stop = threading.Event()
    with pytest.raises(Interrupted):
        train(recipe, store, StopAt(stop, 9), stop)
    kept = base.read_bytes()
    weights_there = safetensors.numpy.load(kept)
    weights_there["model.norm.weight"] = weights_there["model.norm.weight"] * 2
    base.write_bytes(safetensors.numpy.save(weights_there, {"format": "pt"}))
    with pytest.raises(PrivacyError) as caught:
        train(recipe, store, Progress(), threading.Event())
    assert caught.value.code == "privacy.other-start"
    base.write_bytes(kept)
    train(recipe, store, Progress(), threading.Event())
    assert len({entry["draws"] for entry in ledger_of(tmp_path / "a") if "draws" in entry}) == 1


def test_no_step_is_made_known_that_the_ledger_of_the_data_set_does_not_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, store = prepared(tmp_path / "a", **PRIVATE)
    append = DataSetLedger.append

    def full(self: DataSetLedger, entry: dict[str, Any]) -> None:
        if entry["event"] == "steps":
            raise PrivacyError("privacy.no-ledger", "The disk is full.", mend="Free some space.")
        append(self, entry)

    monkeypatch.setattr(DataSetLedger, "append", full)
    with pytest.raises(PrivacyError):
        train(recipe, store, Progress(), threading.Event())
    assert not [entry for entry in ledger_of(tmp_path / "a") if entry["event"] == "steps"]
    assert not [name for name in store.names("checkpoints/") if "step-00000000" not in name]
    assert not store.exists("model")


def test_where_the_ledger_of_the_data_set_cannot_be_written_no_step_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, store = prepared(tmp_path / "a", **PRIVATE)
    made: list[int] = []
    step = PrivateBackend.step
    monkeypatch.setattr(PrivateBackend, "step", lambda *given: made.append(1) or step(*given))

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shuyuan.privacy.data_sets.disk.make_folder", full)
    with pytest.raises(PrivacyError, match="No space left"):
        train(recipe, store, Progress(), threading.Event())
    assert not made


def test_steps_under_different_secrets_add_up_and_the_same_ones_count_once() -> None:
    def line(first: int, last: int, draws: str) -> dict[str, Any]:
        mechanism = {"noise_multiplier": 1.0, "sampling_rate": 0.05, "delta": 1e-5}
        return {"event": "steps", "from": first, "to": last, "draws": draws, **mechanism}

    once = spent([line(1, 30, "a")])
    assert spent([line(1, 20, "a"), line(11, 30, "a"), line(1, 5, "a")]) == once
    both = spent([line(1, 30, "a"), line(1, 30, "b")])
    assert both.steps == 60 and both.epsilon > once.epsilon
    assert both.epsilon == pytest.approx(spent([line(1, 60, "c")]).epsilon, rel=1e-3)


def test_how_long_records_are_never_shapes_the_steps(tmp_path: Path) -> None:
    """Epochs are counted in units, and every row is as long as the context: both would tell of one unit's length."""
    recipe, store = prepared(tmp_path / "a", **PRIVATE | {"train__budget": "3 epochs"})
    manifest = load_manifest(store)
    assert manifest is not None
    assert recipe.train.steps == -(-3 * manifest.splits["train"].records // 4)
    batch = batch_of([0, 1], 64)
    batch.targets_BT[:, 5:] = -100
    (part,) = physical(batch, 4)
    assert part.inputs_BT.shape == part.targets_BT.shape == (2, 64)


# ---- a step ----------------------------------------------------------------------------------------------------------


def backend(noise: float = 1e-9, micro_batch: int = 3, **changes: Any) -> PrivateBackend:
    config = TransformerConfig(50, 1, 16, 2, 1, 8, 24, 8)
    mechanism = Mechanism(100, 4.0, 10, noise, 0.5, "joint", 1e-5)
    train = settings(batch_size=6, micro_batch=micro_batch, optimizer="sgd", weight_decay=0.0, **changes)
    return PrivateBackend(Transformer(config, seed=1), train, CPU, mechanism, bytes(32))


def batch_of(units: list[int], context: int = 8, seed: int = 0) -> Batch:
    tokens = np.random.default_rng(seed).integers(0, 50, (len(units), context + 1))
    return Batch(1, tokens[:, :-1].copy(), tokens[:, 1:].copy(), np.array(units, np.int64))


def test_physical_batches_cut_no_unit_in_two() -> None:
    parts = list(physical(batch_of([0, 0, 1, 2, 2, 2, 3]), 3))
    assert [part.unit_B.tolist() for part in parts] == [[0, 0, 1], [0, 0, 0], [0]]  # type: ignore[union-attr]
    assert [len(part.inputs_BT) for part in physical(batch_of([0, 0, 0, 1]), 2)] == [3, 1]
    assert list(physical(batch_of([]), 3)) == []


def test_parts_come_in_few_shapes_and_the_rows_that_fill_them_learn_nothing() -> None:
    random = np.random.default_rng(0)
    shapes = set()
    for _ in range(200):
        batch = batch_of(sorted(random.integers(0, 30, random.integers(1, 40)).tolist()), 64)
        batch.targets_BT[:, random.integers(1, 64) :] = -100
        parts = list(physical(batch, 16))
        shapes |= {part.inputs_BT.shape for part in parts}
        learned = [row for part in parts for row in part.targets_BT[(part.targets_BT >= 0).any(1)]]
        assert len(learned) == len(batch.inputs_BT)
    assert len(shapes) <= 4


@pytest.mark.parametrize("micro_batch", [1, 2, 6])
def test_physical_batches_change_nothing(micro_batch: int) -> None:
    one, other = backend(micro_batch=6), backend(micro_batch=micro_batch)
    for each in (one, other):
        each.step(batch_of([0, 1, 2, 3, 4, 5]), 0.1)
    for name, array in one.state().items():
        assert np.allclose(array, other.state()[name], rtol=1e-4, atol=1e-6), name


def test_a_unit_is_normed_by_its_own_targets_and_no_denominator_ties_it_to_others() -> None:
    """Long and short units: what both move the weights by together is what each moves them by alone."""

    def moved(units: list[int]) -> dict[str, Any]:
        batch = batch_of([0, 1, 2])
        batch.targets_BT[0, 2:] = batch.targets_BT[1, 5:] = -100
        rows = np.array(units)
        part = Batch(1, batch.inputs_BT[rows], batch.targets_BT[rows], np.arange(len(units)))
        working = backend(micro_batch=6)
        before = {name: array.copy() for name, array in working.state().items()}
        working.step(part, 1.0)
        return {name: array.astype(np.float64) - before[name] for name, array in working.state().items()}

    together, alone = moved([0, 1, 2]), [moved([unit]) for unit in (0, 1, 2)]
    weights = [name for name, array in together.items() if np.abs(array).max() > 1e-3]
    assert len(weights) > 5
    for name in weights:
        assert np.allclose(together[name], sum(each[name] for each in alone), rtol=1e-3, atol=1e-6), name


def test_a_unit_of_several_rows_learns_the_mean_over_all_its_targets() -> None:
    import torch

    batch, working = batch_of([0, 0]), backend()
    batch.targets_BT[0, 2:] = -100
    model = Transformer(TransformerConfig(50, 1, 16, 2, 1, 8, 24, 8), seed=1)
    inputs, targets = torch.from_numpy(batch.inputs_BT), torch.from_numpy(batch.targets_BT)
    (model.losses(inputs, targets).sum() / 10).backward()  # not the mean of two rows' means
    wanted = torch.cat([weight.grad.flatten() for weight in model.parameters()])
    found = gradients_of(working, batch)
    alike = torch.nn.functional.cosine_similarity(
        torch.cat([each.flatten() for each in found]), wanted, dim=0
    )
    assert alike > 0.9999


def test_noise_is_scaled_to_the_clip_and_of_its_own_for_each_parameter_and_step() -> None:
    import torch

    working, noise = backend(noise=2.0), Noise(bytes(32))
    for step in (1, 3):
        empty = batch_of([])
        found = gradients_of(working, Batch(step, empty.inputs_BT, empty.targets_BT, empty.unit_B))
        for number, gradient in enumerate(found):
            alone = noise.add([Total(number, torch.zeros_like(gradient))], 2.0 * 0.5, step=step)[0]
            assert torch.equal(gradient, alone / 4)  # the expected batch


def gradients_of(working: PrivateBackend, batch: Batch) -> list[Any]:
    """What the optimizer is given in a step."""
    seen: list[Any] = []
    parameters = working._clipper.parameters.values()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            working._optimizers, "step", lambda rate: seen.extend(each.grad.clone() for each in parameters)
        )
        working.step(batch, 0.1)
    return seen


def test_an_empty_batch_is_noise_alone_and_a_step() -> None:
    quiet, loud = backend(1e-9), backend(1.0)
    before = {name: array.copy() for name, array in quiet.state().items()}
    quiet.step(batch_of([]), 0.1)
    assert all(np.allclose(array, before[name], atol=1e-7) for name, array in quiet.state().items())
    figures = loud.step(batch_of([]), 0.1)
    assert (figures.tokens, figures.skipped) == (0, None)
    assert any(not np.allclose(array, before[name], atol=1e-3) for name, array in loud.state().items())


def test_a_step_with_a_broken_unit_is_made_and_counted() -> None:
    import torch

    working = backend()
    with torch.no_grad():
        working.model.get_parameter("model.embed_tokens.weight")[7] = torch.inf  # units with token 7 break
    batch = batch_of([0, 1, 2])
    batch.inputs_BT[batch.inputs_BT == 7] = 8
    batch.targets_BT[batch.targets_BT == 7] = 8
    batch.inputs_BT[1, 0] = 7
    figures = working.step(batch, 0.0)
    assert figures.skipped is None
    assert figures.not_finite >= 1


# ---- units -----------------------------------------------------------------------------------------------------------


def test_rows_hold_one_unit_each_and_at_most_so_many_records(tmp_path: Path) -> None:
    _, store = prepared(tmp_path / "run", data__duplicates="keep")
    manifest = load_manifest(store)
    assert manifest is not None
    rows = UnitRows(store, manifest, 32, "record", 1)
    assert rows.count == manifest.splits["train"].records
    drawn = rows.rows(np.array([0, 5, 9]), np.random.default_rng(0))
    assert drawn.unit_N.tolist() == [0, 1, 2]
    tokenizer = __import__("shuyuan.data", fromlist=["x"]).load_tokenizer(store)
    for inputs, targets in zip(drawn.inputs_NT, drawn.targets_NT, strict=True):
        learned = targets[targets >= 0]
        assert tokenizer.decode(learned.tolist()).count("line") <= 1  # one record, or a piece of it
        assert inputs[0] == manifest.tokenizer.end_id
        assert (inputs[1:][targets[:-1] >= 0] == targets[:-1][targets[:-1] >= 0]).all()
    assert rows.rows(np.array([], np.int64), np.random.default_rng(0)).inputs_NT.shape == (0, 32)


def owners_of(folder: Path) -> dict[str, Any]:
    """A private run of 30 owners with 6 short records each, of which a step sees one."""
    rows = [{"text": f"{number % 30} wrote {number // 30}", "who": number % 30} for number in range(180)]
    (folder / "notes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = {"source": str(folder / "notes.jsonl"), "owner": "who", "record": None, "validation": 0.2}
    return PRIVATE | {"data": data, "privacy__unit": "owner", "privacy__records_per_unit": 1}


def test_each_step_sees_the_units_of_its_own_coins_and_draws_their_records_anew(tmp_path: Path) -> None:
    recipe, store = prepared(tmp_path / "run", **owners_of(tmp_path))
    manifest, tokenizer = load_manifest(store), load_tokenizer(store)
    assert manifest is not None
    done, secret = mechanism_of(recipe, manifest), bytes(range(32))
    draw = PoissonSampler(secret, done.units, done.sampling_rate).draw
    sample, again = (private_batches(store, manifest, recipe, done, secret) for _ in range(2))
    seen: dict[int, str] = {}  # which owner a unit's number stands for
    wrote = []
    for step in range(1, 200):
        batch, drawn = sample(step), draw(step)
        assert np.array_equal(batch.inputs_BT, again(step).inputs_BT)
        assert batch.unit_B is not None and batch.unit_B.tolist() == list(range(len(drawn)))
        for unit, targets in zip(drawn.tolist(), batch.targets_BT, strict=True):
            owner, _, record = tokenizer.decode(targets[targets >= 0].tolist()).partition(" wrote ")
            assert seen.setdefault(unit, owner) == owner
            wrote.append((unit, record[:1]))
    assert len(seen) == len(set(seen.values())) == done.units
    assert len({sum(1 for each, _ in wrote if each == unit) for unit in seen}) > 5  # coins, and no turns
    assert len(set(wrote)) > 5.5 * done.units  # of 6 records each
    everybody = private_batches(store, manifest, recipe, replace(done, expected_batch=done.units), secret)
    assert len({everybody(step).targets_BT.tobytes() for step in range(1, 9)}) == 8


def test_no_random_bit_is_used_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Coins, choices of records and noise all come from one secret: what two of them shared, one would tell of the other."""
    recipe, store = prepared(tmp_path / "run", **owners_of(tmp_path))
    used: Counter[tuple[Any, ...]] = Counter()
    words = Stream.words

    def noted(self: Stream, step: int, number: int, count: int, first: int = 0) -> Any:
        blocks = range(first // BLOCK_WORDS, -(-(first + count) // BLOCK_WORDS))
        used.update((self.key, step, number, block) for block in blocks)
        return words(self, step, number, count, first)

    monkeypatch.setattr(Stream, "words", noted)
    train(recipe, store, Progress(), threading.Event())
    assert len({key for key, *_ in used}) == 2  # of sampling and of noise
    assert {step for _, step, *_ in used} == set(range(1, 25))
    assert max(used.values()) == 1


def test_other_units_than_the_noise_was_computed_for_are_refused(tmp_path: Path) -> None:
    recipe, store = prepared(tmp_path / "run", **PRIVATE)
    manifest = load_manifest(store)
    assert manifest is not None
    done = mechanism_of(recipe, manifest)
    private_batches(store, manifest, recipe, done, bytes(32))
    with pytest.raises(PrivacyError, match=r"privacy\.other-units"):
        private_batches(store, manifest, recipe, replace(done, units=done.units + 1), bytes(32))


# ---- what is refused -------------------------------------------------------------------------------------------------


def refused(**tables: Any) -> RecipeError:
    table = {"data": {"source": "notes.csv", "owner": "who"}, "privacy": {"epsilon": 3.0}}
    for name, values in tables.items():
        table[name] = table.get(name, {}) | values
    with pytest.raises(RecipeError) as caught:
        recipes.from_table(table)
    return caught.value


def test_what_would_leak_beside_the_mechanism() -> None:
    assert "allow" in str(refused(tokenizer={"kind": "bpe"}))
    assert "allow" in str(refused(tokenizer={"kind": "char"}))
    assert "allow" in str(refused(train={"schedule": "plateau"}))
    assert "fp16" in str(refused(train={"precision": "fp16"}))
    assert "data.owner" in str(refused(data={"owner": None}))
    assert "report.open" in str(refused(report={"open": True}))
    assert "epsilon" in str(refused(privacy={"noise_multiplier": 1.0}))


def test_leaks_accepted_by_name_stand_in_the_ledger(tmp_path: Path) -> None:
    changes = PRIVATE | {"tokenizer__kind": "char", "privacy__allow": ["tokenizer"]}
    trained(tmp_path / "run", **changes)
    entries = ledger_of(tmp_path / "run")
    assert [entry["what"] for entry in entries if entry["event"] == "allowed"] == ["tokenizer"]
    assert entries[0]["cost"] == "not covered" and "Vocabulary" in entries[0]["meaning"]
    line = next(entry for entry in entries if entry["event"] == "steps")
    events = list(OpenStore(tmp_path / "run", writable=False).journal("metrics.jsonl").entries())
    told = {event["step"]: event["epsilon"] for event in events if event["event"] == "train.checkpoint"}
    assert len(told) > 3
    for step, epsilon in told.items():  # what is told on the way is rounded, and never down
        spent = accountant.epsilon(line["noise_multiplier"], line["sampling_rate"], step, line["delta"])
        assert spent <= epsilon


def test_one_undivided_text_is_refused(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, privacy='epsilon = 3.0\nunit = "record"')
    recipe.write_text(recipe.read_text().replace('record = "line"\n', ""))
    outcome = shuyuan("run", recipe, "--out", tmp_path / "run")
    assert outcome.status == 1 and "privacy.undivided-text" in outcome.stderr
    assert not (tmp_path / "run").exists()


def test_duplicates_go_only_within_one_owner(tmp_path: Path) -> None:
    lines = text_of(300).splitlines()
    rows = [{"text": line, "who": owner} for line in lines for owner in ("a" + line[5:8], "b" + line[5:8])]
    rows += [{"text": line, "who": "a" + line[5:8]} for line in lines]
    (tmp_path / "notes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for private, removed in ((True, 300), (False, 600)):
        recipe = write_recipe(tmp_path, **({"privacy": "epsilon = 3.0"} if private else {}))
        text = recipe.read_text().replace(
            'source = "notes.txt"\nrecord = "line"', 'source = "notes.jsonl"\nowner = "who"'
        )
        recipe.write_text(text.replace("validation = 0.2", 'validation = 0.2\nduplicates = "exact"'))
        out = tmp_path / f"run-{private}"
        assert shuyuan("prepare", recipe, "--out", out).status == 0
        manifest = load_manifest(OpenStore(out, writable=False))
        assert manifest is not None and manifest.duplicates["exact"] == removed


def test_more_units_a_step_than_there_are_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PrivacyError, match=r"train\.batch_size"):
        recipe, store = prepared(tmp_path / "run", **PRIVATE | {"train__batch_size": 4096})
        mechanism_of(recipe, load_manifest(store))  # type: ignore[arg-type]
