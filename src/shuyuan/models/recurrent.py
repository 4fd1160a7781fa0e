"""Keras' recurrent cells as functions of their pre-activations: the same numbers, with a backward pass written out.

Keras' own loop multiplies each position by the input kernel, and adds the gradient of each kernel up position by position.
Here the input kernel is one product before the loop and one after it, the gradient of the recurrent kernel is one product
after it, and the gradient of the pre-activations, which private training needs for every row, is there to be taken.

Legend: T positions, B rows, W units, G columns of a kernel (W times the cell's gates).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from .keras_library import keras_library

keras, tf = keras_library()

Tensor = Any
States = tuple[Tensor, ...]


class Cell(NamedTuple):
    """One cell.

    Attributes:
        gates: columns of a kernel over units.
        states: tensors that are carried on: the output, and an LSTM's memory.
        kept: tensors that the backward pass needs besides.
        forward: (from the input, from the state, states) to (what is kept, new states).
        backward: (gradients of the new states, kept, old states, new states) to the gradients of what came from the input, of
            what came from the state, and of the old states as far as they pass by the kernel.
    """

    gates: int
    states: int
    kept: int
    forward: Callable[[Tensor, Tensor, States], tuple[States, States]]
    backward: Callable[[States, States, States, States], tuple[Tensor, Tensor, States]]


def _simple(x_BG: Tensor, r_BG: Tensor, _: States) -> tuple[States, States]:
    return (), (tf.tanh(x_BG + r_BG),)


def _simple_back(grads: States, _: States, __: States, new: States) -> tuple[Tensor, Tensor, States]:
    dz_BG = grads[0] * (1 - new[0] * new[0])
    return dz_BG, dz_BG, (tf.zeros_like(new[0]),)


def _lstm(x_BG: Tensor, r_BG: Tensor, old: States) -> tuple[States, States]:
    i, f, g, o = tf.split(x_BG + r_BG, 4, 1)
    i, f, g, o = tf.sigmoid(i), tf.sigmoid(f), tf.tanh(g), tf.sigmoid(o)
    c = f * old[1] + i * g
    return (i, f, g, o), (o * tf.tanh(c), c)


def _lstm_back(grads: States, kept: States, old: States, new: States) -> tuple[Tensor, Tensor, States]:
    (dh, dc), (i, f, g, o) = grads, kept
    squashed = tf.tanh(new[1])
    dc = dc + dh * o * (1 - squashed * squashed)
    parts = (
        dc * g * i * (1 - i),
        dc * old[1] * f * (1 - f),
        dc * i * (1 - g * g),
        dh * squashed * o * (1 - o),
    )
    dz_BG = tf.concat(parts, 1)
    return dz_BG, dz_BG, (tf.zeros_like(dh), dc * f)


def _gru(x_BG: Tensor, r_BG: Tensor, old: States) -> tuple[States, States]:
    """The reset gate comes after the product, as in Keras' `reset_after=True`."""
    (xz, xr, xh), (rz, rr, rh) = tf.split(x_BG, 3, 1), tf.split(r_BG, 3, 1)
    z, r = tf.sigmoid(xz + rz), tf.sigmoid(xr + rr)
    n = tf.tanh(xh + r * rh)
    return (z, r, n, rh), (z * old[0] + (1 - z) * n,)


def _gru_back(grads: States, kept: States, old: States, _: States) -> tuple[Tensor, Tensor, States]:
    (dh,), (z, r, n, rh) = grads, kept
    dn = dh * (1 - z) * (1 - n * n)
    dz = dh * (old[0] - n) * z * (1 - z)
    dr = dn * rh * r * (1 - r)
    return tf.concat((dz, dr, dn), 1), tf.concat((dz, dr, dn * r), 1), (dh * z,)


CELLS = {
    "simple": Cell(1, 1, 0, _simple, _simple_back),
    "lstm": Cell(4, 2, 4, _lstm, _lstm_back),
    "gru": Cell(3, 1, 4, _gru, _gru_back),
}


def step(cell: Cell, x_BG: Tensor, bias_G: Tensor | None, kernel_WG: Tensor, states: States) -> States:
    """One position further: the new states, float32, of which the first is the output.

    Args:
        cell: one of `CELLS`.
        x_BG: the input's part of the pre-activations.
        bias_G: is added to the state's part; None: nothing is.
        kernel_WG: the recurrent kernel, in the format of the product.
        states: float32.
    """
    return _step(cell, x_BG, bias_G, kernel_WG, states)[1]


def _step(
    cell: Cell, x_BG: Tensor, bias: Tensor | None, kernel_WG: Tensor, states: States
) -> tuple[States, States]:
    r_BG = tf.cast(tf.matmul(tf.cast(states[0], kernel_WG.dtype), kernel_WG), tf.float32)
    if bias is not None:
        r_BG += tf.cast(bias, tf.float32)
    return cell.forward(tf.cast(x_BG, tf.float32), r_BG, states)


def run(
    cell: Cell,
    x_TBG: Tensor,
    kernel_WG: Tensor,
    bias_TBG: Tensor | None = None,
    mask_TB: Tensor | None = None,
) -> tuple[Tensor, States]:
    """The outputs at every position, from states of zeros.

    States and gates are float32 whatever the products are.

    Args:
        cell: one of `CELLS`.
        x_TBG: the input's part of the pre-activations; its gradient is that of the pre-activations.
        kernel_WG: the recurrent kernel, in the format of the product.
        bias_TBG: is added to the state's part, whose gradient it gets; for the GRU. None: nothing is.
        mask_TB: where False, a row's states stay as they are.

    Returns:
        The outputs (T, B, W) in the product's format, and the last states in float32, which carry no gradient.
    """
    length, rows, width, product = tf.shape(x_TBG)[0], tf.shape(x_TBG)[1], kernel_WG.shape[0], kernel_WG.dtype

    def arrays(count: int, columns: int = width, dtype: Any = tf.float32) -> tuple[Any, ...]:
        return tuple(tf.TensorArray(dtype, length, element_shape=(None, columns)) for _ in range(count))

    def zeros() -> States:
        return tuple(tf.zeros((rows, width)) for _ in range(cell.states))

    def stays(t: Tensor, new: States, old: States) -> States:
        if mask_TB is None:
            return new
        return tuple(
            tf.where(mask_TB[t][:, None], after, before) for after, before in zip(new, old, strict=True)
        )

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def outputs(x_TBG: Tensor, kernel_WG: Tensor, *bias: Tensor) -> tuple[Tensor, Callable[..., Any]]:
        def forward(t: Tensor, old: States, states: Any, kept: Any) -> tuple[Any, ...]:
            keep, new = _step(cell, x_TBG[t], bias[0][t] if bias else None, kernel_WG, old)
            new = stays(t, new, old)
            return t + 1, new, _written(states, t, new), _written(kept, t, keep)

        loop = (tf.constant(0), zeros(), arrays(cell.states), arrays(cell.kept))
        _, last, states, kept = tf.while_loop(
            lambda t, *_: t < length, forward, loop, maximum_iterations=length
        )
        new_TBW = tuple(array.stack() for array in states)
        kept_TBW = tuple(array.stack() for array in kept)
        old_TBW = tuple(tf.concat((tf.zeros((1, rows, width)), each[:-1]), 0) for each in new_TBW)

        def gradients(dh_TBW: Tensor, *_: Tensor) -> list[Tensor]:
            back_GW = tf.transpose(kernel_WG)

            def backward(t: Tensor, grads: States, dx: Any, dr: Any) -> tuple[Any, ...]:
                grads = (grads[0] + tf.cast(dh_TBW[t], tf.float32), *grads[1:])
                dx_BG, dr_BG, passed = cell.backward(
                    grads, _at(kept_TBW, t), _at(old_TBW, t), _at(new_TBW, t)
                )
                if mask_TB is not None:
                    dx_BG, dr_BG = (tf.where(mask_TB[t][:, None], each, 0.0) for each in (dx_BG, dr_BG))
                dx_BG, dr_BG = tf.cast(dx_BG, product), tf.cast(dr_BG, product)
                through = tf.cast(tf.matmul(dr_BG, back_GW), tf.float32)
                passed = stays(t, (passed[0] + through, *passed[1:]), grads)
                return t - 1, passed, _written(dx, t, (dx_BG,)), _written(dr, t, (dr_BG,) if bias else ())

            columns = cell.gates * width
            loop = (length - 1, zeros(), arrays(1, columns, product), arrays(len(bias), columns, product))
            *_, dx, dr = tf.while_loop(lambda t, *_: t >= 0, backward, loop, maximum_iterations=length)
            dx_TBG = dx[0].stack()
            dr_TBG = dr[0].stack() if bias else dx_TBG
            h_NW = tf.reshape(tf.cast(old_TBW[0], product), (-1, width))
            kernel = tf.matmul(h_NW, tf.reshape(dr_TBG, (-1, columns)), transpose_a=True)
            return [dx_TBG, kernel, *([dr_TBG] if bias else [])]

        return (tf.cast(new_TBW[0], product), *last), gradients

    h_TBW, *last = outputs(x_TBG, kernel_WG, *([] if bias_TBG is None else [bias_TBG]))
    return h_TBW, tuple(map(tf.stop_gradient, last))


def _written(arrays: Any, t: Tensor, values: States) -> tuple[Any, ...]:
    return tuple(array.write(t, value) for array, value in zip(arrays, values, strict=True))


def _at(arrays: States, t: Tensor) -> States:
    return tuple(array[t] for array in arrays)
