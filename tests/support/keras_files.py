"""Files that Keras's exporters make of layers with our weights.

    pip install tensorflow-cpu tf2onnx
    python tests/support/keras_files.py

writes tests/interop/files/keras_*.onnx with inputs and outputs beside them, which
tests/interop/test_onnx.py reads, and prints how far LiteRT is from `unroll`.
"""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"

from pathlib import Path

import jax
import keras
import numpy as np
import tensorflow as tf

import jaxrnn
from jaxrnn.interop import to_keras

FILES = Path(__file__).parents[1] / "interop" / "files"
CELLS = {"LSTM": jaxrnn.LSTMCell(5), "GRU": jaxrnn.GRUCell(5), "SimpleRNN": jaxrnn.RNNCell(5)}
SHAPE = (2, 20, 3)  # batch, time, features


def made(cell: jaxrnn.Cell, seed: int) -> jaxrnn.cell.Params:
    """Random parameters, none of which is zero."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: cell.init(jax.random.key(0), input_size=SHAPE[-1]))
    return jax.tree.map(lambda s: rng.normal(0, 0.4, s.shape).astype(np.float32), shapes)


def layer(kind: str, seed: int) -> keras.Layer:
    built = getattr(keras.layers, kind)(5, return_sequences=True)
    built.build(SHAPE)
    built.set_weights(list(to_keras(CELLS[kind], made(CELLS[kind], seed)).values()))
    return built


def both_ways(kind: str) -> keras.Layer:
    built = keras.layers.Bidirectional(layer(kind, 0))
    built.build(SHAPE)
    forward, reverse = layer(kind, 1), layer(kind, 2)
    built.set_weights([*forward.get_weights(), *reverse.get_weights()])
    return built


def write(name: str, layers: list[keras.Layer], xs: np.ndarray) -> None:
    model = keras.Sequential([keras.Input((None, SHAPE[-1])), *layers])
    ys = np.asarray(model(xs))
    model.export(FILES / f"keras_{name}.onnx", format="onnx", verbose=False)
    np.savez(FILES / f"keras_{name}.npz", xs=xs, ys=ys)


def through_lite(kind: str, xs: np.ndarray) -> tuple[int, float]:
    """Bytes of the file of LiteRT, and how far what it computes is from `unroll`."""
    model = keras.Sequential([keras.Input(xs.shape[1:], batch_size=len(xs)), layer(kind, 0)])
    data = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    runtime = tf.lite.Interpreter(model_content=data)
    runtime.allocate_tensors()
    runtime.set_tensor(runtime.get_input_details()[0]["index"], xs)
    runtime.invoke()
    ys = runtime.get_tensor(runtime.get_output_details()[0]["index"])
    _, want = jaxrnn.unroll(CELLS[kind], made(CELLS[kind], 0), xs.swapaxes(0, 1))
    return len(data), float(np.abs(ys.swapaxes(0, 1) - want).max())


if __name__ == "__main__":
    FILES.mkdir(exist_ok=True)
    keras.utils.set_random_seed(0)
    xs = np.random.default_rng(3).normal(size=SHAPE).astype(np.float32)
    write("lstm", [layer("LSTM", 0), keras.layers.LSTM(4, return_sequences=True)], xs)
    write("bidirectional", [both_ways("LSTM")], xs)
    write("gru", [layer("GRU", 0)], xs)
    for kind in CELLS:
        size, far = through_lite(kind, xs)
        print(f"{kind} through LiteRT: {size:,} bytes, {far:.1g} from unroll")
