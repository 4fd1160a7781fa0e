"""Recurrent models: the textbook's network, their files, and what is refused in them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shuyuan.errors import MachineError, ShuyuanError
from shuyuan.models import (
    RnnConfig,
    config_for,
    keras_library,
    load_network,
    pack,
    rnn_folder,
    save_variant,
)
from shuyuan.models.keras_file import CONFIG, WEIGHTS, check_table, read_table, stack_of
from shuyuan.models.rnn import (
    RnnModel,
    build,
    from_bytes,
    from_layers,
    inner_matrices,
    named_weights,
    to_bytes,
)
from shuyuan.recipe import Model
from shuyuan.vault import OpenStore

from .recurrent_models import T, V, keras, model, rows, shape, tf
from .test_recurrent import SHAPES

L = keras.layers


def test_the_textbooks_network_is_the_textbooks() -> None:
    plain = build(shape("simple", layers=1, width=64, predict="last", vocab_size=66))
    kinds = [type(layer) for layer in plain.layers]
    assert type(plain) is keras.Sequential and kinds == [L.Embedding, L.SimpleRNN, L.Dense]
    assert plain.layers[1].units == 64 and plain.layers[2].activation is keras.activations.softmax
    assert plain.output_shape == (None, 66)
    textbook = keras.Sequential([L.Input((None,)), L.Embedding(66, 64), L.SimpleRNN(64), L.Dense(66)])
    assert plain.count_params() == textbook.count_params()


@pytest.mark.parametrize("changes", SHAPES, ids=lambda changes: f"{changes['cell']}-{len(changes)}")
def test_the_shape_knows_its_parameters_and_its_file_tells_the_shape(changes: dict[str, Any]) -> None:
    ours = model(**changes)
    assert ours.config.parameters == ours.plain.count_params()
    assert stack_of(read_table(to_bytes(ours.plain), "here"), "here") == ours.config.stack


def test_the_seed_decides_and_the_file_is_the_same_each_time() -> None:
    first, again, other = (to_bytes(build(shape(dropout=0.1), seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert to_bytes(from_bytes(first, "here")) == first


def test_plain_keras_opens_the_folder(tmp_path: Path) -> None:
    """In a process that knows nothing of Shuyuan."""
    ours = model("lstm")
    with OpenStore(tmp_path).folder("model") as folder:
        rnn_folder.save(folder, ours, "{}", "# Card")
    inputs, _ = rows(ours.config)
    code = (
        "import keras, numpy as np, sys\n"
        f"model = keras.saving.load_model({str(tmp_path / 'model/model.keras')!r}, safe_mode=True)\n"
        f"np.save({str(tmp_path / 'out.npy')!r}, model.predict(np.array({inputs.tolist()}), verbose=0))\n"
        "assert not any(name.startswith('shuyuan') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=120)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), ours.plain(ours.inputs(inputs)), rtol=1e-4)


def test_a_folder_brings_back_what_was_saved(tmp_path: Path) -> None:
    ours = model("gru", labels=("good", "bad"))
    store = OpenStore(tmp_path)
    with store.folder("model") as folder:
        rnn_folder.save(folder, ours, "{}", "# Card")
    again = load_network(store)
    assert again.config.labels == ("good", "bad") and again.config.stack == ours.config.stack
    inputs, targets = rows(ours.config)
    assert again.loss(inputs, targets) == ours.loss(inputs, targets)
    np.testing.assert_array_equal(again.probabilities(inputs), ours.probabilities(inputs))


# ---- a model of one's own ------------------------------------------------------------------------------------------------


def saved(path: Path, *layers: Any) -> Path:
    keras.Sequential([L.Input((None,), dtype="int32"), *layers]).save(path)
    return path


def start(path: Path, vocab_size: int = V, labels: tuple[str, ...] = ()) -> Any:
    table = Model.model_validate({"family": "rnn", "from": str(path), "context": T})
    return config_for(table, vocab_size, 0, labels), rnn_folder.starting_model(
        table, vocab_size, 0, labels, 1
    )


def test_a_run_starts_from_a_keras_file(tmp_path: Path) -> None:
    path = saved(tmp_path / "mine.keras", L.Embedding(V, 8), L.LSTM(6), L.Dense(V, activation="softmax"))
    config, ours = start(path)
    assert config.predict == "last" and config.parameters == ours.plain.count_params()
    assert ours.config == config and ours.targets(np.zeros((3, 1), np.int64)).shape == (3,)


@pytest.mark.parametrize(
    ("layers", "vocab_size", "labels", "said"),
    [
        (lambda: [L.Embedding(V, 8), L.LSTM(6), L.Dense(V)], V + 1, (), "an Embedding of 20 rows, and 21"),
        (lambda: [L.Embedding(V, 8), L.LSTM(6), L.Dense(V - 1)], V, (), "19 outputs, and 20"),
        (lambda: [L.Embedding(V + 1, 8), L.LSTM(6), L.Dense(3)], V, ("a", "b"), "3 outputs, and 2"),
        (lambda: [L.Embedding(V, 8), L.LSTM(6), L.Dense(2)], V, ("a", "b"), "20 rows, and 21 are needed (20 tokens, and 0"),
        (lambda: [L.Embedding(V + 1, 8), L.LSTM(6, return_sequences=True), L.Dense(2)], V, ("a", "b"), "of every token"),
        (lambda: [L.Reshape((-1, 1)), L.LSTM(6), L.Dense(V)], V, (), "begins with no Embedding"),
    ],
)  # fmt: skip
def test_a_model_that_does_not_fit_is_refused_with_what_is_needed(
    tmp_path: Path, layers: Any, vocab_size: int, labels: tuple[str, ...], said: str
) -> None:
    path = saved(tmp_path / "mine.keras", *layers())
    with pytest.raises(ShuyuanError, match=r"models\.other-shape") as caught:
        start(path, vocab_size, labels)
    assert said in str(caught.value) and str(path) in str(caught.value)


# ---- files that are not to be trusted --------------------------------------------------------------------------------------


def tampered(change: Any, extra: dict[str, bytes] | None = None) -> bytes:
    """A `.keras` file whose config.json was changed."""
    whole = zipfile.ZipFile(io.BytesIO(to_bytes(build(shape(layers=1)))))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in whole.namelist():
            content = whole.read(name)
            if name == CONFIG:
                table = json.loads(content)
                change(table)
                content = json.dumps(table).encode()
            archive.writestr(name, content)
        for name, content in (extra or {}).items():
            archive.writestr(name, content)
    return out.getvalue()


def layer(table: dict[str, Any], number: int) -> dict[str, Any]:
    found: dict[str, Any] = table["config"]["layers"][number]
    return found


def _lambda(table: dict[str, Any]) -> None:
    layer(table, 3).update(
        class_name="Lambda", config={"function": {"class_name": "__lambda__", "config": {"value": "x"}}}
    )


ATTACKS: dict[str, Any] = {
    "lambda": _lambda,
    "os.system": lambda table: layer(table, 3).update(module="os", class_name="system"),
    "a function": lambda table: layer(table, 3)["config"].update(
        activation={"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}
    ),
    "a builtin": lambda table: layer(table, 3)["config"].update(
        activation={"module": "builtins", "class_name": "function", "config": "exec", "registered_name": "exec"}
    ),
    "get_file": lambda table: layer(table, 3)["config"].update(
        activation={"module": "keras.utils", "class_name": "function", "config": "get_file", "registered_name": "get_file"}
    ),
    "a vocabulary file": lambda table: layer(table, 3).update(
        module="keras.layers", class_name="StringLookup", config={"vocabulary": "/etc/passwd"}
    ),
    "a registered name": lambda table: layer(table, 3).update(registered_name="evil>Dense"),
    "a saved model": lambda table: layer(table, 3).update(class_name="TFSMLayer", config={"filepath": "/tmp"}),
    "inside an initializer": lambda table: layer(table, 1)["config"].update(
        embeddings_initializer={"module": "torch", "class_name": "load", "config": {"f": "x"}, "registered_name": None}
    ),
    "no model": lambda table: table.update(class_name="Dense", module="keras.layers"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_a_file_that_names_anything_but_layers_is_refused_before_keras_sees_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = tampered(ATTACKS[name])
    monkeypatch.setattr(
        "keras.src.saving.saving_lib.load_model", lambda *_, **__: pytest.fail("Keras saw it")
    )
    with pytest.raises(ShuyuanError, match=r"models\.(unknown-layer|bad-keras-file)"):
        from_bytes(content, "mine.keras")


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04", b"\x80\x04\x95", to_bytes(build(shape(layers=1)))[:-300],
     tampered(lambda table: None, {"assets/x": b"1"}),
     tampered(lambda table: table["config"].update(layers=[])),
     tampered(lambda table: layer(table, 2)["config"].update(units=-4)),
     tampered(lambda table: layer(table, 1)["config"].update(input_dim=10**30))],
)  # fmt: skip
def test_damaged_files_are_refused_with_words(content: bytes) -> None:
    with pytest.raises(ShuyuanError, match=r"mine\.keras"):
        stack_of(read_table(content, "mine.keras"), "mine.keras")
        from_bytes(content, "mine.keras")


@pytest.mark.parametrize("lie", ["layers that hold terabytes", "weights that unpack to gigabytes"])
def test_files_that_would_explode_in_memory_are_refused_before_keras_sees_them(
    lie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "keras.src.saving.saving_lib.load_model", lambda *_, **__: pytest.fail("Keras saw it")
    )
    content = tampered(lambda table: layer(table, 2)["config"].update(units=2**18))
    if "unpack" in lie:
        sound = zipfile.ZipFile(io.BytesIO(to_bytes(build(shape(layers=1)))))
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(CONFIG, sound.read(CONFIG))
            archive.writestr(WEIGHTS, b"\0" * 2**26)
        content = out.getvalue()
    begun = time.process_time()
    with pytest.raises(ShuyuanError, match=r"models\.bad-keras-file"):
        from_bytes(content, "mine.keras")
    assert time.process_time() - begun < 2


def test_weights_that_do_not_fit_are_refused() -> None:
    small, large = (
        zipfile.ZipFile(io.BytesIO(to_bytes(build(shape(layers=1, width=width))))) for width in (8, 16)
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(CONFIG, small.read(CONFIG))
        archive.writestr(WEIGHTS, large.read(WEIGHTS))
    with pytest.raises(ShuyuanError, match=r"models\.bad-keras-file"):
        from_bytes(out.getvalue(), "mine.keras")


def test_a_function_that_was_registered_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """Safe mode does not guard against names that the process has registered; the list of layers does."""
    seen: list[int] = []

    class Evil(L.Dense):  # type: ignore[misc, name-defined]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            seen.append(1)
            super().__init__(*args, **kwargs)

    monkeypatch.setitem(keras.saving.get_custom_objects(), "evil>Dense", Evil)
    with pytest.raises(ShuyuanError, match=r"models\.unknown-layer"):
        from_bytes(tampered(ATTACKS["a registered name"]), "mine.keras")
    assert not seen


# ---- the library ---------------------------------------------------------------------------------------------------------


def test_without_the_extra_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras_library, "find_spec", lambda name: None)
    with pytest.raises(MachineError, match=r"pip install 'shuyuan\[tensorflow\]'.*machine\.missing-extra"):
        keras_library.keras_library.__wrapped__()


@pytest.mark.parametrize("code", ["import os; os.environ['KERAS_BACKEND'] = 'jax'", "import keras"])
def test_keras_on_another_framework_is_refused(code: str, tmp_path: Path) -> None:
    (tmp_path / "keras.py").write_text("class config:\n    backend = staticmethod(lambda: 'jax')\n")
    before = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n" if code == "import keras" else ""
    done = subprocess.run(
        [sys.executable, "-c", f"{before}{code}\nfrom shuyuan.models import rnn"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "machine.other-keras-backend" in done.stderr and done.returncode


def test_tensorflow_is_loaded_quietly() -> None:
    code = "from shuyuan.models.keras_library import keras_library as k; k()[1].matmul([[1.0]], [[1.0]])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    assert tf.config.list_logical_devices()[0].device_type == "CPU"


# ---- compressed ----------------------------------------------------------------------------------------------------


def test_compressed_layers_and_weights_come_back(tmp_path: Path) -> None:
    """Every kind of layer with weights, as float32 in the compressed format: the very same outputs."""
    plain = keras.Sequential(
        [
            L.Input((None,), dtype="int32"),
            L.Embedding(9, 6),
            L.Bidirectional(L.LSTM(5, return_sequences=True)),
            L.Conv1D(4, 3, padding="causal"),
            L.GRU(7, return_sequences=True),
            L.LayerNormalization(),
            L.SimpleRNN(3, return_sequences=True),
            L.TimeDistributed(L.Dense(8)),
            L.Dense(9),
        ]
    )
    random = np.random.default_rng(1)
    for weight in plain.weights:
        weight.assign(random.normal(size=weight.shape))
    stack = stack_of(read_table(to_bytes(plain), "x"), "x")
    model = RnnModel(RnnConfig(9, stack, 16, given=True), plain)
    inner = inner_matrices(plain)
    assert len(inner) == 10 and not any("embeddings" in name for name in inner)
    tokens = random.integers(0, 9, (2, 11))
    for bits in (32, 8):
        with OpenStore(tmp_path) as store:
            with store.folder("model") as folder:
                save_variant(folder, model, "{}", "# Card", lambda _, weight, bits=bits: pack(weight, bits))
            back = load_network(store)
        assert back.config.stack == stack
        said, right = back.plain(tokens).numpy(), plain(tokens).numpy()
        assert np.linalg.norm(said - right) <= (0 if bits == 32 else 0.2) * np.linalg.norm(right)


def test_rows_are_outputs_and_tokens(tmp_path: Path) -> None:
    """One loud output and one loud token: the scales of the others do not follow them."""
    plain = keras.Sequential([L.Input((None,)), L.Embedding(9, 6), L.Dense(5), L.Dense(9)])
    named = named_weights(plain)
    assert named["0.embeddings"].shape == (9, 6) and named["1.kernel"].shape == (5, 6)
    np.testing.assert_array_equal(named["1.kernel"], plain.weights[1].numpy().T)


@pytest.mark.parametrize("change", ["layer", "missing", "shape"])
def test_compressed_weights_of_another_model_are_refused(change: str) -> None:
    plain = keras.Sequential([L.Input((None,)), L.Embedding(9, 6), L.Dense(9)])
    table, weights = read_table(to_bytes(plain), "x"), named_weights(plain)
    if change == "layer":
        table["config"]["layers"][-1]["class_name"] = "Lambda"
        with pytest.raises(ShuyuanError, match="unknown-layer"):
            check_table(table, "x")
        return
    name = "1.kernel"
    weights |= {name: weights[name][:-1]} if change == "shape" else {}
    if change == "missing":
        del weights[name]
    with pytest.raises(ShuyuanError, match="another"):
        from_layers(table, weights, "x")
