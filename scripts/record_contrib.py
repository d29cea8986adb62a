#!/usr/bin/env python3
"""Writes tests/contrib: one small model per operator of com.microsoft, its inputs, and what ONNX Runtime makes of them, in the
layout of ONNX's node tests. For developers; needs python3-onnx, node, and scripts/install_onnxruntime.sh."""
import base64
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import onnx
from onnx import helper, mapping, numpy_helper

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OUT = os.path.join(ROOT, "tests", "contrib")
rng = np.random.default_rng(1)
MS = "com.microsoft"


def f32(*shape, scale=1.0):
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def integers(lo, hi, *shape, dtype=np.uint8):
    return rng.integers(lo, hi, shape, endpoint=True).astype(dtype)


def one(v, dtype=np.float32):
    return np.array(v, dtype)


def tensor_type(dtype):
    return mapping.NP_TYPE_TO_TENSOR_TYPE[np.dtype(dtype)]


CASES = []


def case(name, op, inputs, outputs=1, domain=MS, **attributes):
    """`inputs`: arrays fed at run time, ('const', array) for initialisers, None for absent ones. `outputs`: their number, or a
    list whose None entries are left out."""
    CASES.append((name, op, inputs, [True] * outputs if isinstance(outputs, int) else outputs, domain, attributes))


def const(v):
    return ("const", v)


def products():
    a, b = f32(2, 3, 5), f32(2, 5, 4)
    case("fused_matmul", "FusedMatMul", [a, b], alpha=0.5)
    case("fused_matmul_turned", "FusedMatMul", [f32(2, 5, 3), f32(2, 4, 5)], transA=1, transB=1)
    for activation, parameters in [("Relu", None), ("Tanh", None), ("Sigmoid", None), ("LeakyRelu", [0.2]), ("Clip", [-0.5, 0.7]), ("HardSigmoid", [0.3, 0.4])]:
        more = {"activation_params": parameters} if parameters else {}
        case("fused_conv_" + activation.lower(), "FusedConv", [f32(1, 3, 6, 6), const(f32(4, 3, 3, 3, scale=0.3)), const(f32(4))], activation=activation, kernel_shape=[3, 3], pads=[1, 1, 1, 1], **more)
    case("fused_conv_sum", "FusedConv", [f32(1, 3, 6, 6), const(f32(4, 3, 3, 3, scale=0.3)), const(f32(4)), f32(1, 4, 3, 3)], activation="Relu", strides=[2, 2], pads=[1, 1, 1, 1], kernel_shape=[3, 3])
    case("fused_gemm", "FusedGemm", [f32(3, 5), const(f32(4, 5)), const(f32(4))], transB=1, alpha=1.0, beta=1.0, activation="LeakyRelu", activation_alpha=0.1)


def activations():
    case("gelu", "Gelu", [f32(3, 7, scale=2)])
    case("bias_gelu", "BiasGelu", [f32(3, 7, scale=2), const(f32(7))])
    case("fast_gelu", "FastGelu", [f32(3, 7, scale=2)])
    case("fast_gelu_bias", "FastGelu", [f32(3, 7, scale=2), const(f32(7))])
    case("quick_gelu", "QuickGelu", [f32(3, 7, scale=2)], alpha=1.702)


def normalisations():
    g, b = const(f32(8) + 1), const(f32(8))
    case("skip_layer_norm", "SkipLayerNormalization", [f32(2, 3, 8), f32(2, 3, 8), g, b, const(f32(8))], [True, None, None, True], epsilon=1e-5)
    case("skip_layer_norm_plain", "SkipLayerNormalization", [f32(2, 3, 8), f32(2, 3, 8), g], epsilon=1e-5)
    case("skip_simplified_layer_norm", "SkipSimplifiedLayerNormalization", [f32(2, 3, 8), f32(2, 3, 8), g, const(f32(8))], [True, None, None, True], epsilon=1e-6)
    case("simplified_layer_norm", "SimplifiedLayerNormalization", [f32(2, 3, 8), g], domain="", axis=-1, epsilon=1e-6)
    ids, segments = integers(0, 9, 2, 5, dtype=np.int32), integers(0, 1, 2, 5, dtype=np.int32)
    mask = np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]], np.int32)
    tables = [const(f32(10, 8)), const(f32(6, 8)), const(f32(2, 8)), g, b]
    case("embed_layer_norm", "EmbedLayerNormalization", [ids, segments] + tables + [mask], 2, epsilon=1e-5)
    case("embed_layer_norm_sum", "EmbedLayerNormalization", [ids, segments] + tables, 3, epsilon=1e-5)
    case("embed_layer_norm_positions", "EmbedLayerNormalization", [ids, None, tables[0], tables[1], None, g, b, None, integers(0, 5, 2, 5, dtype=np.int32)], 2, epsilon=1e-5)


def packed_attention():
    x, w, b = f32(2, 4, 8), const(f32(8, 24, scale=0.4)), const(f32(24, scale=0.2))
    case("attention", "Attention", [x, w, b], num_heads=2)
    case("attention_causal", "Attention", [x, w, b], num_heads=2, unidirectional=1)
    case("attention_sizes", "Attention", [x, const(f32(8, 28, scale=0.4)), const(f32(28))], num_heads=2, qkv_hidden_sizes=[8, 8, 12])
    case("attention_lengths", "Attention", [x, w, b, np.array([3, 2], np.int32)], num_heads=2)
    case("attention_ends_starts", "Attention", [x, w, b, np.array([4, 3, 1, 0], np.int32)], num_heads=2)
    case("attention_mask", "Attention", [x, w, b, np.array([[1, 1, 1, 0], [1, 1, 0, 0]], np.int32)], num_heads=2, scale=0.3)
    case("attention_mask_3d", "Attention", [x, w, b, integers(0, 1, 2, 4, 4, dtype=np.int32) | np.eye(4, dtype=np.int32)], num_heads=2)
    case("attention_past", "Attention", [x, w, b, None, f32(2, 2, 2, 3, 4)], 2, num_heads=2, unidirectional=1)
    case("attention_bias", "Attention", [x, w, b, None, None, f32(1, 2, 4, 4)], num_heads=2)
    case("qattention", "QAttention", [integers(0, 255, 2, 4, 8), const(integers(-60, 60, 8, 24, dtype=np.int8)), const(f32(24)), const(one(0.02)), const(one(0.01)), None, const(one(120, np.uint8)), const(one(0, np.int8))], num_heads=2)


def split_attention():
    q, k, v, bias = f32(2, 3, 8), f32(2, 5, 8), f32(2, 5, 8), const(f32(24))
    case("multi_head_attention", "MultiHeadAttention", [q, k, v], num_heads=2)
    case("multi_head_attention_bias", "MultiHeadAttention", [q, k, v, bias], num_heads=2)
    case("multi_head_attention_mask", "MultiHeadAttention", [q, k, v, None, np.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]], np.int32)], num_heads=2)
    case("multi_head_attention_add", "MultiHeadAttention", [q, k, v, None, None, f32(2, 2, 3, 5)], num_heads=2)
    case("multi_head_attention_past", "MultiHeadAttention", [f32(2, 3, 8), f32(2, 3, 8), f32(2, 3, 8), None, None, None, f32(2, 2, 4, 4), f32(2, 2, 4, 4)], 3, num_heads=2, unidirectional=1)
    case("multi_head_attention_cross", "MultiHeadAttention", [q, f32(2, 2, 5, 4), f32(2, 2, 5, 4)], num_heads=2)
    angles = np.outer(np.arange(16), 1 / 10.0 ** np.arange(2)).astype(np.float32)
    tables = [const(np.cos(angles)), const(np.sin(angles))]
    case("rotary_embedding", "RotaryEmbedding", [f32(2, 3, 8), np.array([[0, 1, 2], [3, 4, 5]], np.int64)] + tables)
    case("rotary_embedding_offset", "RotaryEmbedding", [f32(2, 2, 3, 4), np.array([2], np.int64)] + tables, interleaved=1)
    angles = np.outer(np.arange(16), 1 / 3.0 ** np.arange(8)).astype(np.float32)
    wide = [const(np.cos(angles)), const(np.sin(angles))]
    prompt = [f32(2, 4, 64), f32(2, 4, 32), f32(2, 4, 32)]
    case("group_query_attention", "GroupQueryAttention", prompt + [None, None, np.array([3, 3], np.int32), const(one(4, np.int32))], 3, num_heads=4, kv_num_heads=2)
    case("group_query_attention_rotary", "GroupQueryAttention", prompt + [None, None, np.array([3, 3], np.int32), const(one(4, np.int32))] + wide, 3, num_heads=4, kv_num_heads=2, do_rotary=1)
    past = [f32(2, 2, 5, 16), f32(2, 2, 5, 16)]
    token = [f32(2, 1, 64), f32(2, 1, 32), f32(2, 1, 32)]
    case("group_query_attention_past", "GroupQueryAttention", token + past + [np.array([5, 5], np.int32), const(one(6, np.int32))] + wide, 3, num_heads=4, kv_num_heads=2, do_rotary=1)
    case("group_query_attention_window", "GroupQueryAttention", token + past + [np.array([5, 5], np.int32), const(one(6, np.int32))] + wide, 3, num_heads=4, kv_num_heads=2, do_rotary=1, local_window_size=3, softcap=5.0)
    case("group_query_attention_packed", "GroupQueryAttention", [f32(1, 3, 128), None, None, None, None, np.array([2], np.int32), const(one(3, np.int32))] + wide, 3, num_heads=4, kv_num_heads=2, do_rotary=1, rotary_interleaved=1)


def qlinear():
    x = integers(0, 255, 2, 3, 6, 6)
    s, z, t, y = const(one(0.05)), const(one(120, np.uint8)), const(one(0.04)), const(one(100, np.uint8))
    case("qlinear_sigmoid", "QLinearSigmoid", [x, s, z, const(one(1 / 256)), const(one(0, np.uint8))])
    case("qlinear_leaky_relu", "QLinearLeakyRelu", [x, s, z, t, y], alpha=0.1)
    case("qlinear_average_pool", "QLinearAveragePool", [x, s, z, t, y], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    case("qlinear_average_pool_counted", "QLinearAveragePool", [x, s, z, t, y], kernel_shape=[2, 2], pads=[1, 0, 0, 1], count_include_pad=1)
    case("qlinear_global_average_pool", "QLinearGlobalAveragePool", [x, s, z, t, y])
    case("qlinear_add", "QLinearAdd", [x, s, z, integers(0, 255, 3, 6, 6), t, y, const(one(0.08)), const(one(110, np.uint8))])
    case("qlinear_mul", "QLinearMul", [x, s, z, integers(0, 255, 2, 3, 6, 6), t, y, const(one(0.3)), const(one(110, np.uint8))])
    case("qlinear_concat", "QLinearConcat", [t, y, integers(0, 255, 2, 3), s, z, integers(0, 255, 2, 4), t, y], axis=1)
    case("qlinear_softmax", "QLinearSoftmax", [integers(0, 255, 3, 10), const(one(0.03)), z, const(one(1 / 256)), const(one(0, np.uint8))], axis=1, opset=13)
    case("qlinear_where", "QLinearWhere", [rng.integers(0, 2, (2, 5)).astype(bool), integers(0, 255, 2, 5), s, z, integers(0, 255, 2, 5), t, y, const(one(0.06)), const(one(90, np.uint8))])
    case("qgemm", "QGemm", [integers(0, 255, 3, 8), s, z, const(integers(-80, 80, 8, 5, dtype=np.int8)), const(one(0.02)), const(one(0, np.int8)), const(integers(-500, 500, 5, dtype=np.int32)), const(one(0.2)), const(one(110, np.uint8))])


def integer_products():
    w = const(integers(-80, 80, 8, 5, dtype=np.int8))
    case("matmul_integer_to_float", "MatMulIntegerToFloat", [integers(0, 255, 3, 8), w, const(one(0.05)), const(one(0.02)), const(one(120, np.uint8)), const(one(0, np.int8)), const(f32(5))])
    case("matmul_integer_to_float_columns", "MatMulIntegerToFloat", [integers(0, 255, 3, 8), w, const(one(0.05)), const(f32(5)), const(one(120, np.uint8))])
    case("dynamic_quantize_matmul", "DynamicQuantizeMatMul", [f32(3, 8), w, const(one(0.02)), None, const(f32(5))])
    for bits, block, zeros in [(4, 16, False), (4, 32, True), (4, 16, "float"), (8, 16, True)]:
        k, n = 64, 6
        blocks = k // block
        inputs = [f32(3, k), const(integers(0, 255, n, blocks, block * bits // 8)), const(f32(n, blocks, scale=0.1))]
        if zeros == "float":
            inputs.append(const((8 + f32(n, blocks)).astype(np.float32)))
        elif zeros:
            inputs.append(const(integers(0, 255, n, (blocks * bits + 7) // 8)))
        case(f"matmul_{bits}bits_{block}" + {False: "", True: "_zeros", "float": "_float_zeros"}[zeros], "MatMulNBits", inputs, K=k, N=n, bits=bits, block_size=block)
    case("matmul_4bits_rest", "MatMulNBits", [f32(3, 40), const(integers(0, 255, 6, 3, 8)), const(f32(6, 3, scale=0.1))], K=40, N=6, bits=4, block_size=16)


def model_of(op, inputs, outputs, domain, attributes):
    names, feeds, initialisers, boundary = [], {}, [], []
    for i, v in enumerate(inputs):
        name = f"x{i}" if v is not None else ""
        names.append(name)
        if v is None:
            continue
        if isinstance(v, tuple):
            initialisers.append(numpy_helper.from_array(v[1], name))
        else:
            feeds[name] = v
            boundary.append(helper.make_tensor_value_info(name, tensor_type(v.dtype), v.shape))
    results = [f"y{i}" if wanted else "" for i, wanted in enumerate(outputs)]
    node = helper.make_node(op, names, results, name="node", domain=domain, **attributes)
    graph = helper.make_graph([node], "contrib", boundary, [helper.make_empty_tensor_value_info(r) for r in results if r], initialisers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MS, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8), feeds


RUNNER = """
const ort = require(process.argv[1]);
const fs = require('fs');
const arrays = {float32: Float32Array, uint8: Uint8Array, int8: Int8Array, int32: Int32Array, int64: BigInt64Array, bool: Uint8Array};
(async () => {
  const jobs = JSON.parse(fs.readFileSync(0, 'utf8')), answers = [];
  for (const job of jobs) {
    try {
      const session = await ort.InferenceSession.create(Buffer.from(job.model, 'base64'), {graphOptimizationLevel: 'disabled'});
      const feeds = {};
      for (const [name, v] of Object.entries(job.feeds)) {
        const bytes = Uint8Array.from(Buffer.from(v.data, 'base64'));
        feeds[name] = new ort.Tensor(v.type, new arrays[v.type](bytes.buffer), v.shape);
      }
      const results = await session.run(feeds), list = [];
      for (const name of session.outputNames) {
        const t = results[name];
        list.push({type: t.type, shape: t.dims, data: Buffer.from(t.data.buffer, t.data.byteOffset, t.data.byteLength).toString('base64')});
      }
      answers.push(list);
    } catch (e) { answers.push(String(e)); }
  }
  console.log(JSON.stringify(answers));
})();
"""


def run_all(models):
    jobs = []
    for model, feeds in models:
        typed = {name: {"type": str(v.dtype), "shape": list(v.shape), "data": base64.b64encode(np.ascontiguousarray(v).tobytes()).decode()} for name, v in feeds.items()}
        jobs.append({"model": base64.b64encode(model.SerializeToString()).decode(), "feeds": typed})
    module = os.path.join(ROOT, "build", "onnxruntime", "node_modules", "onnxruntime-node")
    done = subprocess.run(["node", "-e", RUNNER, module], input=json.dumps(jobs), capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def main():
    for group in (products, activations, normalisations, packed_attention, split_attention, qlinear, integer_products):
        group()
    models = [model_of(*c[1:]) for c in CASES]
    shutil.rmtree(OUT, ignore_errors=True)
    failures = 0
    for (name, *_), (model, feeds), answer in zip(CASES, models, run_all(models)):
        if isinstance(answer, str):
            print(f"{name}: {answer}")
            failures += 1
            continue
        # ONNX Runtime knows the outputs' types; the model says them.
        for value, got in zip(model.graph.output, answer):
            value.CopyFrom(helper.make_tensor_value_info(value.name, tensor_type(np.dtype(got["type"])), [int(d) for d in got["shape"]]))
        folder = os.path.join(OUT, name, "test_data_set_0")
        os.makedirs(folder)
        onnx.save(model, os.path.join(OUT, name, "model.onnx"))
        for i, (key, v) in enumerate(feeds.items()):
            open(os.path.join(folder, f"input_{i}.pb"), "wb").write(numpy_helper.from_array(v, key).SerializeToString())
        for i, got in enumerate(answer):
            v = np.frombuffer(base64.b64decode(got["data"]), np.dtype(got["type"])).reshape(got["shape"])
            open(os.path.join(folder, f"output_{i}.pb"), "wb").write(numpy_helper.from_array(v, model.graph.output[i].name).SerializeToString())
    print(f"{len(CASES) - failures} cases in {OUT}")


if __name__ == "__main__":
    main()
