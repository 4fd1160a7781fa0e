"""Judges the four functions by what they compute: windows, shapes, numbers by hand, whether a tiny text is learned.

B windows, T tokens, V ids, W width.
"""

import math
import os

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # so that the output shown is the reader's alone
try:
    import keras
except ImportError:  # then the reader's own import is told to be the trouble
    keras = None

V, W, T = 7, 12, 5
RATE = 0.02
CLOSE = 1e-3


def check(answer, wrong):
    keras.utils.set_random_seed(1)
    for count, length in ((23, 5), (21, 5), (20, 5), (9, 4)):
        check_windows(answer.make_windows, count, length, wrong)
    model = answer.build_network(V, W)
    check_network(model, wrong)
    check_compiled(model, wrong)
    check_perplexity(answer.perplexity, wrong)
    check_training(answer.train, wrong)
    check_learning(answer, wrong)


# ---- prepare -------------------------------------------------------------------------------------------------------


def check_windows(make_windows, count, length, wrong):
    """Ids that are all different, so that each place can be told."""
    ids = np.arange(100, 100 + count, dtype=np.int32)
    made = make_windows(ids, length)
    if not isinstance(made, tuple | list) or len(made) != 2:
        wrong("windows-type", what=type(made).__name__)
    inputs, targets = (np.asarray(each) for each in made)
    full = (count - 1) // length
    if targets.ndim == 1 and targets.shape == (len(inputs),) and len(inputs):
        wrong("last-only")
    if inputs.shape[:1] == (count - length,) and full != count - length:
        wrong("overlap", windows=len(inputs), wanted=full)
    if inputs.shape != (full, length) or targets.shape != (full, length):
        wrong("windows-shape", inputs=inputs.shape, targets=targets.shape, wanted=(full, length))
    if (inputs == targets).all():
        wrong("not-shifted")
    if (targets == inputs - 1).any():
        wrong("shifted-back")
    if (targets[:, :-1] == inputs[:, 1:]).all() and (targets[:, -1] == inputs[:, 0]).any():
        wrong("rolled")
    if not ((inputs == ids[: full * length].reshape(full, length)).all() and (targets == inputs + 1).all()):
        wrong("other-windows")


# ---- build and compile ---------------------------------------------------------------------------------------------


def some_ids(windows, length=T, seed=3):
    return np.random.default_rng(seed).integers(0, V, (windows, length)).astype("int32")


def check_network(model, wrong):
    if not isinstance(model, keras.Model):
        wrong("no-model", what=type(model).__name__)
    ids = some_ids(3)
    logits = outputs(model, ids)
    if logits.shape == (3, V):
        wrong("no-sequences", shape=logits.shape)
    if logits.shape != (3, T, V):
        wrong("logits-shape", shape=logits.shape, wanted=(3, T, V))
    if (logits >= 0).all() and np.allclose(logits.sum(-1), 1, atol=1e-4):
        wrong("softmax-twice")
    shapes = sorted(tuple(weight.shape) for weight in model.trainable_weights)
    wanted = sorted([(V, W), (W, W), (W, W), (W,), (W, V), (V,)])
    if shapes != wanted:
        name_shapes(shapes, wrong)
    if not np.allclose(logits, by_hand(model, ids), atol=CLOSE):
        wrong("other-network")
    if not reads(model, some_ids(2, T + 3)):
        wrong("one-length")


def outputs(model, ids):
    return np.asarray(model(ids, training=False))


def reads(model, ids):
    try:
        return outputs(model, ids).shape == (*ids.shape, V)
    except (ValueError, RuntimeError):  # as Keras and TensorFlow say it
        return False


def name_shapes(shapes, wrong):
    """It runs, but its layers have other sizes: the gates of an LSTM or GRU are known by theirs."""
    for gates, cell in ((4, "LSTM"), (3, "GRU")):
        if (W, gates * W) in shapes:
            wrong("other-cell", cell=cell)
    wrong("other-shapes", shapes=shapes)


def by_hand(model, ids):
    """The logits from the network's own weights, in the order of its layers."""
    embedding, kernel, recurrent, bias, head, head_bias = (np.asarray(w) for w in model.trainable_weights)
    state, logits = np.zeros((len(ids), W)), []
    for t in range(ids.shape[1]):
        state = np.tanh(embedding[ids[:, t]] @ kernel + state @ recurrent + bias)
        logits.append(state @ head + head_bias)
    return np.stack(logits, 1)


def check_compiled(model, wrong):
    """On logits that are large, so that a loss which takes them for probabilities is far off."""
    if getattr(model, "optimizer", None) is None:
        wrong("not-compiled")
    model.set_weights([weight * 4 for weight in model.get_weights()])
    ids, targets = some_ids(6), some_ids(6, seed=4)
    try:
        loss = model.evaluate(ids, targets, verbose=0)
    except (ValueError, TypeError) as error:
        wrong("one-hot-loss", error=" ".join(str(error).split())[:160])
    loss = float(np.atleast_1d(loss)[0])
    true = cross_entropy(outputs(model, ids), targets)
    if not near(loss, true):
        wrong("loss-of-logits", loss=f"{loss:.4g}", true=f"{true:.4g}")


def cross_entropy(logits, targets):
    """The mean over all tokens, in nats."""
    logits = logits - logits.max(-1, keepdims=True)
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return float(-np.take_along_axis(logs, targets[..., None].astype(int), -1).mean())


# ---- evaluate and train --------------------------------------------------------------------------------------------


def made_model(dropout=0.0):
    """Tells the next id from the last one alone, by fixed logits."""
    layers = [keras.layers.Input((None,), dtype="int32"), keras.layers.Embedding(V, V)]
    layers += [keras.layers.Dropout(dropout)] * bool(dropout)
    model = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.SGD(RATE), loss=loss)
    model.set_weights([3 * np.random.default_rng(5).standard_normal((V, V)).astype("float32")])
    return model


def check_perplexity(perplexity, wrong):
    """33 windows, of which the last is far harder: means of batches, or of perplexities, are far from the mean."""
    model = made_model(dropout=0.6)
    (logits,) = model.get_weights()
    ids = some_ids(33)
    targets = logits.argmax(1)[ids]
    targets[-1] = logits.argmin(1)[ids[-1]]
    told = logits[ids]
    returned = perplexity(model, ids, targets)
    if not np.allclose(model.get_weights()[0], logits):
        wrong("trains")
    if isinstance(returned, bool) or not isinstance(returned, float | int):
        wrong("perplexity-type", what=type(returned).__name__)
    loss = cross_entropy(told, targets)
    if near(returned, math.exp(loss)):
        return
    if near(returned, loss):
        wrong("loss-returned")
    if near(returned, 2**loss):
        wrong("power-of-two")
    for size in (8, 16, 32):
        pieces = [cross_entropy(told[i : i + size], targets[i : i + size]) for i in range(0, 33, size)]
        if near(returned, math.exp(sum(pieces) / len(pieces))):
            wrong("mean-of-means")
    single = [math.exp(cross_entropy(a[None], b[None])) for a, b in zip(told, targets, strict=True)]
    if near(returned, sum(single) / len(single)):
        wrong("mean-of-exponentials")
    if returned > 1.02 * math.exp(loss) and not near(perplexity(model, ids, targets), returned):
        wrong("with-dropout")
    wrong("perplexity-value", perplexity=f"{float(returned):.4g}", true=f"{math.exp(loss):.4g}")


def check_training(train, wrong):
    model = made_model()
    before = model.get_weights()[0]
    ids, targets = some_ids(20), some_ids(20, seed=9)
    losses = train(model, ids, targets, 3)
    if np.allclose(model.get_weights()[0], before):
        wrong("no-step")
    if not isinstance(losses, list) or not all(isinstance(loss, float) for loss in losses):
        wrong("losses-type", what=type(losses).__name__)
    if len(losses) != 3:
        wrong("losses-count", count=len(losses))
    if not near(losses[0], cross_entropy(before[ids], targets), within=0.1) or not losses[2] < losses[0]:
        wrong("other-losses", losses=", ".join(f"{loss:.3g}" for loss in losses))


# ---- learning ------------------------------------------------------------------------------------------------------


def check_learning(answer, wrong):
    """A text in which the next id follows from the last two: by the last one alone it stays at 1.68."""
    ids = np.tile(np.array([0, 1, 2, 0, 3, 2, 1, 4], "int32"), 600)
    inputs, targets = answer.make_windows(ids, 12)
    model = answer.build_network(V, 32)
    losses = answer.train(model, inputs, targets, 20)
    found = answer.perplexity(model, inputs, targets)
    if not (losses[-1] < 0.5 * losses[0] and found < 1.5):
        wrong("no-learning", first=f"{losses[0]:.3g}", last=f"{losses[-1]:.3g}", perplexity=f"{found:.3g}")


def near(a, b, within=CLOSE):
    return math.isfinite(a) and abs(a - b) <= within * max(1.0, abs(b))
