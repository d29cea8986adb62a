#!/usr/bin/env python3
"""Training against PyTorch, for developers (needs torch, onnx, numpy): gradients of one step and the losses of 200 steps of lenet,
resnet8, an LSTM and a Transformer of two layers in fp32, one batch, plain SGD. Usage: scripts/compare_pytorch.py PATH_TO_SYSTOLE"""
import csv, os, subprocess, sys, tempfile, time

import numpy as np
import onnx, onnx.numpy_helper
import torch
import torch.nn.functional as F

systole = os.path.abspath(sys.argv[1])
STEPS = 200

def forward(graph, weights, x):
    """The ONNX operators that these networks have."""
    v = dict(weights)
    v[graph.input[0].name] = x
    for n in graph.node:
        a = {t.name: onnx.helper.get_attribute_value(t) for t in n.attribute}
        i = [v[k] for k in n.input]
        if n.op_type == "Conv":
            p = a.get("pads", [0] * 4)
            y = F.conv2d(F.pad(i[0], (p[1], p[3], p[0], p[2])), i[1], i[2], stride=a.get("strides", [1, 1]))
        elif n.op_type == "Gemm":
            y = i[0] @ i[1].T + i[2]
        elif n.op_type == "Relu":
            y = F.relu(i[0])
        elif n.op_type == "Add":
            y = i[0] + i[1]
        elif n.op_type == "MaxPool":
            y = F.max_pool2d(i[0], a["kernel_shape"], a["strides"])
        elif n.op_type == "GlobalAveragePool":
            y = i[0].mean((2, 3), keepdim=True)
        elif n.op_type == "Flatten":
            y = i[0].flatten(1)
        elif n.op_type == "MatMul":
            y = i[0] @ i[1]
        elif n.op_type == "Mul":
            y = i[0] * i[1]
        elif n.op_type == "Tanh":
            y = torch.tanh(i[0])
        elif n.op_type == "Softmax":
            y = F.softmax(i[0], a["axis"])
        elif n.op_type == "LayerNormalization":
            y = F.layer_norm(i[0], i[0].shape[-1:], i[1], i[2], a["epsilon"])
        elif n.op_type == "Transpose":
            y = i[0].permute(*a["perm"])
        elif n.op_type == "Reshape":
            y = i[0].reshape([i[0].shape[k] if d == 0 else d for k, d in enumerate(i[1].tolist())])
        elif n.op_type == "Gather":
            y = i[0][i[1]]
        elif n.op_type == "Slice":
            y = i[0][int(i[1]):int(i[2])]
        elif n.op_type == "LSTM":
            y = lstm(*i, a["hidden_size"])
        else:
            raise SystemExit(f"no {n.op_type} here")
        v[n.output[0]] = y
    return v[graph.output[0].name]

def lstm(x, w, r, b, n):
    h = c = torch.zeros(x.shape[1], n)
    steps = []
    for t in range(x.shape[0]):
        i, o, f, g = (x[t] @ w[0].T + h @ r[0].T + b[0, :4 * n] + b[0, 4 * n:]).split(n, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        steps.append(h)
    return torch.stack(steps)[:, None]

def loss_of(y, labels):
    return F.cross_entropy(y.reshape(-1, y.shape[-1]), labels.reshape(-1))

def learns(t):
    """What systole train takes for a weight: no scalars, no masks."""
    return t.is_floating_point() and t.numel() > 1 and bool(torch.isfinite(t).all())

def weights_of(path):
    m = onnx.load(path)
    return m.graph, {t.name: torch.tensor(onnx.numpy_helper.to_array(t)) for t in m.graph.initializer}

with tempfile.TemporaryDirectory() as d:
    os.chdir(d)
    for name, shape, classes, batch in (("lenet", (1, 28, 28), 10, 32), ("resnet8", (3, 32, 32), 10, 32), ("tones", (32, 16), 8, 32), ("letters", (48,), 64, 8)):
        rng, BATCH = np.random.default_rng(1), batch
        words = name == "letters"
        x = rng.integers(0, 64, (BATCH, *shape)) if words else rng.standard_normal((BATCH, *shape)).astype(np.float32)
        y = rng.integers(0, classes, (BATCH, 48) if words else BATCH)
        np.save("x.npy", x), np.save("y.npy", y.astype(np.int64))
        subprocess.run([systole, "model", name, "-o", "m.onnx"], check=True, capture_output=True)
        common = [systole, "train", "m.onnx", "--data", "x.npy", "--labels", "y.npy", "--image-scale", "1", "--batch", str(BATCH), "--validation-share", "0", "--precision", "fp32", "--npu", "server", "--optimizer", "sgd", "--momentum", "0"]
        graph, w = weights_of("m.onnx")
        for t in w.values():
            t.requires_grad_(learns(t))
        loss = loss_of(forward(graph, w, torch.tensor(x)), torch.tensor(y))
        loss.backward()
        subprocess.run([*common, "--steps", "1", "--rate", "1", "-o", "one.onnx"], check=True, capture_output=True)
        _, after = weights_of("one.onnx")
        worst = max(float(((w[k].detach() - after[k]) - w[k].grad).norm() / w[k].grad.norm()) for k in w if w[k].grad is not None and float(w[k].grad.norm()) > 1e-6)  # a bias under a softmax has none
        begin = time.time()
        subprocess.run([*common, "--steps", str(STEPS), "--rate", "0.005", "--log", "log.csv", "-o", "t.onnx"], check=True, capture_output=True)
        ours_s = time.time() - begin
        begin = time.time()
        subprocess.run(["bf16" if part == "fp32" else part for part in common] + ["--steps", str(STEPS), "--rate", "0.005", "-o", "t16.onnx"], check=True, capture_output=True)
        bf16_s = time.time() - begin
        ours = [float(r["loss"]) for r in csv.DictReader(open("log.csv"))]
        _, w = weights_of("m.onnx")
        learning = [t.requires_grad_() for t in w.values() if learns(t)]
        optimizer, theirs, begin = torch.optim.SGD(learning, lr=0.005), [], time.time()
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = loss_of(forward(graph, w, torch.tensor(x)), torch.tensor(y))
            loss.backward()
            optimizer.step()
            theirs.append(loss.item())
        apart = max(abs(a - b) / max(b, 1e-2) for a, b in zip(ours, theirs))
        print(f"{name}: worst relative difference of a weight's gradient {worst:.1e}; losses of {STEPS} steps at most {100 * apart:.2f} % apart ({theirs[0]:.3f} -> {theirs[-1]:.3f}); "
              f"{ours_s / STEPS * 1e3:.0f} ms a step on the functional model ({bf16_s / STEPS * 1e3:.0f} in bf16), {(time.time() - begin) / STEPS * 1e3:.0f} ms in PyTorch {torch.__version__}")
