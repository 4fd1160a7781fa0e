"""Bugs put in on purpose: for each, the fast suite of this room must fail. Each runs on a changed copy of the source."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import shuyuan

SOURCE = Path(shuyuan.__file__).parent
ROOT = Path(__file__).parents[2]
# name: (file, what stands there, what the bug makes of it, the tests that should notice)
BUGS = {
    "clipping off": (
        "privacy/clipping/clipper.py", "return bound / norms_U.clamp(min=bound)", "return torch.ones_like(norms_U)",
        "test_gradients.py",
    ),
    "clip twice as large": (
        "privacy/clipping/clipper.py", "bound = most * (1 - ROUNDING)", "bound = most * 2", "test_gradients.py",
    ),
    "noise halved": (
        "privacy/noise.py", "spacing = deviation * LATTICE", "spacing = deviation * LATTICE / 2", "test_loop.py",
    ),
    "the same noise for every parameter": (
        "privacy/noise.py", "self._stream.words(step, total.number,", "self._stream.words(step, 0,", "test_noise.py",
    ),
    "the same noise at every step": (
        "privacy/noise.py", "self._stream.words(step, total.number,", "self._stream.words(0, total.number,", "test_noise.py",
    ),
    "the same noise for every parameter on a GPU": (
        "privacy/noise.py", "[total.number for total in totals]", "[0 for total in totals]", "test_noise.py",
    ),
    "the same noise at every step on a GPU": (
        "privacy/words_on_device.py", "+ step.to_bytes(8, ", "+ (0).to_bytes(8, ", "test_noise.py",
    ),
    "factors kept that a compiled graph overwrites": (
        "privacy/clipping/contributions.py", "(A_UTI.clone(), G_UTO.clone())", "(A_UTI, G_UTO)", "../train/test_compiling.py",
    ),
    "half of a gradient is seen in compiled blocks": (
        "privacy/clipping/traced.py", "    _TOLD[int(number)](x, grad)", "    _TOLD[int(number)](x, grad * 0.5)", "../train/test_compiling.py",
    ),
    "batches of one size instead of coins": (
        "privacy/sampling.py", "return np.flatnonzero(words < np.uint64(int(self.rate * 2**64)))",
        "return np.sort(np.argsort(words)[: round(self.rate * self.units)])", "test_noise.py",
    ),
    "divided by the batch that was drawn": (
        "privacy/loop.py", "noisy.div_(self.mechanism.expected_batch)",
        "noisy.div_(max(1, len(self._sampler.draw(self.steps + 1))))", "test_loop.py",
    ),
    "one use of a tied parameter dropped": (
        "privacy/clipping/contributions.py", "self._rows.append((ids_US, G_USI))",
        "self._rows.append((ids_US, G_USI * (not self._outers and self._dense_UE is None)))", "test_gradients.py",
    ),
    "cross terms of a tied parameter dropped": (
        "privacy/clipping/contributions.py", "total = total + 2 * _cross(*self._outers[0], *self._rows[0])",
        "pass", "test_gradients.py",
    ),
    "units not clipped jointly": (
        "privacy/loop.py", "unit_N = np.repeat(np.arange(len(rows)), [len(records) for records in rows])",
        "unit_N = np.arange(sum(map(len, rows)))", "test_loop.py",
    ),
    "broken units kept": (
        "privacy/clipping/clipper.py", "bad_U = ~norms_U.isfinite()", "bad_U = norms_U.isnan() & False",
        "test_gradients.py",
    ),
    "an empty batch makes no step": (
        "privacy/loop.py", "        self.steps += 1\n", "        self.steps += 1\n        if not self._sampler.draw(self.steps).size: self.steps -= 1; raise SystemExit\n",
        "test_loop.py",
    ),
    "every rank adds the noise before the sum": (
        "privacy/ranks.py", "dist.reduce(total.sum, self._owner(total.number))",
        "dist.reduce(total.sum.copy_(finish([total])[0]), self._owner(total.number))", "test_ranks.py",
    ),
    "every rank adds the noise after the sum, and shares of it are summed": (
        "privacy/ranks.py", "dist.broadcast(combined, self._owner(number))",
        "dist.all_reduce(combined if self._owner(number) == self.number else combined.copy_(finish([Total(number, combined * 0)])[0]))",
        "test_ranks.py",
    ),
    "noise divided over the ranks": (
        "privacy/loop.py", "deviation = self.mechanism.noise_multiplier * self._clipper.norm",
        "deviation = self.mechanism.noise_multiplier * self._clipper.norm / self._ranks.count**0.5", "test_ranks.py",
    ),
    "ranks do not agree on the noise": (
        "privacy/loop.py", "secret = self._ranks.first_of(secret)", "self._ranks.first_of(secret)", "test_ranks.py",
    ),
    "one rank keeps its own sum": (
        "privacy/ranks.py", "            dist.broadcast(combined, self._owner(number))",
        "            dist.broadcast(combined if self.number < 1 else combined.clone(), self._owner(number))", "test_ranks.py",
    ),
    "every rank takes all units": (
        "privacy/loop.py", "if place % self._ranks.count == self._ranks.number:", "if place >= 0:", "test_ranks.py",
    ),
    "a rank without units makes no step": (
        "privacy/loop.py", "            self._batch = Batch(self._clipper, list(self._physical(self.steps + 1, micro_batch)))\n",
        "            self._batch = Batch(self._clipper, list(self._physical(self.steps + 1, micro_batch)))\n"
        "            if self._ranks.count > 1 and not len(self._batch): self.steps += 1; continue\n", "test_ranks.py",
    ),
    "a copy computes with the original's weights": (
        "privacy/clipping/watched.py", "    def __deepcopy__(self, memo: dict[int, Any]) -> Any:",
        "    def ordinary(self, memo: dict[int, Any]) -> Any:", "test_watched.py",
    ),
    "another forward pass taken for the class's own": (
        "privacy/clipping/capture.py", "rule_for(module) if own_forward(module) else None", "rule_for(module)",
        "test_watched.py",
    ),
    "clipped in TF32 on the way": (
        "privacy/clipping/clipper.py", "    @true_float32()\n", "", "test_float32.py",
    ),
    "noise in the parameter's half precision": (
        "privacy/clipping/clipper.py", "dtype=torch.promote_types(weight.dtype, torch.float32), device=weight.device",
        "dtype=weight.dtype, device=weight.device", "test_float32.py",
    ),
    "a zero gradient divided by zero": (
        "privacy/mechanism.py", "AUTO_NORM, AUTO_STABILITY = 1.0, 0.01", "AUTO_NORM, AUTO_STABILITY = 1.0, 0.0",
        "test_automatic.py",
    ),
    "an expected batch in whole units": (
        "privacy/loop.py", "noisy.div_(self.mechanism.expected_batch)",
        "noisy.div_(max(1, int(self.mechanism.expected_batch)))", "test_loop.py",
    ),
    "removed and added told apart wrongly": (
        "privacy/accountant.py", "dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE",
        "dp_accounting.NeighboringRelation.REPLACE_ONE", "test_accountant.py",
    ),
    "half of the steps counted": (
        "privacy/accountant.py", "dp_accounting.PoissonSampledDpEvent(sampling_rate, gaussian), steps",
        "dp_accounting.PoissonSampledDpEvent(sampling_rate, gaussian), max(1, steps // 2)", "test_accountant.py",
    ),
    "Keras: clipping off": (
        "privacy/keras/clipper.py", "return tf.cast(bound / tf.maximum(norms_U, bound), tf.float32)",
        "return tf.ones_like(norms_U, tf.float32)", "test_keras_gradients.py",
    ),
    "Keras: each row is clipped by itself": (
        "privacy/keras/clipper.py", "single = count == len(unit_N)",
        "unit_N = np.arange(len(unit_N)); count, single = len(unit_N), True", "test_keras_gradients.py",
    ),
    "Keras: the GRU's state gets the gradient of its input": (
        "privacy/keras/taps.py", "cell, (of_input, *_), of_state = layer.cell, seen, seen[-1]",
        "cell, of_input, of_state = layer.cell, seen[0], seen[0]", "test_keras_gradients.py",
    ),
    "Keras: a token that a unit has twice counts as two": (
        "privacy/keras/contributions.py", "same_UTT = tf.cast(self._ids_UT[:, :, None] == self._ids_UT[:, None], tf.float64)",
        "same_UTT = tf.eye(self._ids_UT.shape[1], batch_shape=(1,), dtype=tf.float64)", "test_keras_gradients.py",
    ),
    "Keras: broken units kept": (
        "privacy/keras/clipper.py", "keep_U = tf.reduce_all(tf.stack([tf.math.is_finite(square_U) for square_U in squares]), 0)",
        "keep_U = tf.ones_like(squares[0], tf.bool)", "test_keras_gradients.py",
    ),
    "Keras: noise of half the clip": (
        "train/keras_private.py", "deviation = mechanism.noise_multiplier * self._clipper.norm",
        "deviation = mechanism.noise_multiplier * self._clipper.norm / 2", "../train/test_keras_private.py",
    ),
    "Keras: divided by the batch that was drawn": (
        "train/keras_private.py", "gradients = self._noisy(batch.step)",
        "gradients = [each * (self._mechanism.expected_batch / max(1, len(set(batch.unit_B.tolist())))) for each in self._noisy(batch.step)]",
        "../train/test_keras_private.py",
    ),
    "Keras: the same noise at every step": (
        "train/keras_private.py", "deviation, step=step, number=number", "deviation, step=0, number=number",
        "../train/test_keras_private.py",
    ),
    "arrays: noise halved": (
        "privacy/array_noise.py", "spacing = deviation * LATTICE", "spacing = deviation * LATTICE / 2", "test_array_noise.py",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS)
def test_the_suite_notices(tmp_path: Path, bug: str) -> None:
    file, there, instead, tests = BUGS[bug]
    shutil.copytree(SOURCE, tmp_path / "shuyuan", ignore=shutil.ignore_patterns("__pycache__"))
    text = (tmp_path / "shuyuan" / file).read_text(encoding="utf-8")
    assert text.count(there) == 1, "the line that the bug changes is gone: change this test too"
    (tmp_path / "shuyuan" / file).write_text(text.replace(there, instead), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        str(ROOT / "tests/privacy" / tests),
    ]
    env = dict(os.environ, PYTHONPATH=str(tmp_path))
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout[-2000:]
    assert "failed" in done.stdout
