#!/usr/bin/env python3
"""Training against PyTorch, for developers (needs torch, onnx, numpy): gradients of one step and the losses of 200 steps of lenet
and resnet8 in fp32, one batch, plain SGD. Usage: scripts/compare_pytorch.py PATH_TO_SYSTOLE"""
import csv, os, subprocess, sys, tempfile, time

import numpy as np
import onnx, onnx.numpy_helper
import torch
import torch.nn.functional as F

systole = os.path.abspath(sys.argv[1])
BATCH, STEPS = 32, 200

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
        else:
            raise SystemExit(f"no {n.op_type} here")
        v[n.output[0]] = y
    return v[graph.output[0].name]

def weights_of(path):
    m = onnx.load(path)
    return m.graph, {t.name: torch.tensor(onnx.numpy_helper.to_array(t)) for t in m.graph.initializer}

with tempfile.TemporaryDirectory() as d:
    os.chdir(d)
    for name, shape in (("lenet", (1, 28, 28)), ("resnet8", (3, 32, 32))):
        rng = np.random.default_rng(1)
        x, y = rng.standard_normal((BATCH, *shape)).astype(np.float32), rng.integers(0, 10, BATCH)
        np.save("x.npy", x), np.save("y.npy", y.astype(np.int64))
        subprocess.run([systole, "model", name, "-o", "m.onnx"], check=True, capture_output=True)
        common = [systole, "train", "m.onnx", "--data", "x.npy", "--labels", "y.npy", "--image-scale", "1", "--batch", str(BATCH), "--validation-share", "0", "--precision", "fp32", "--npu", "server", "--optimizer", "sgd", "--momentum", "0"]
        graph, w = weights_of("m.onnx")
        for t in w.values():
            t.requires_grad_(t.is_floating_point())
        loss = F.cross_entropy(forward(graph, w, torch.tensor(x)), torch.tensor(y))
        loss.backward()
        subprocess.run([*common, "--steps", "1", "--rate", "1", "-o", "one.onnx"], check=True, capture_output=True)
        _, after = weights_of("one.onnx")
        worst = max(float(((w[k].detach() - after[k]) - w[k].grad).norm() / w[k].grad.norm()) for k in w if w[k].grad is not None)
        begin = time.time()
        subprocess.run([*common, "--steps", str(STEPS), "--rate", "0.005", "--log", "log.csv", "-o", "t.onnx"], check=True, capture_output=True)
        ours_s = time.time() - begin
        ours = [float(r["loss"]) for r in csv.DictReader(open("log.csv"))]
        _, w = weights_of("m.onnx")
        learning = [t.requires_grad_() for t in w.values() if t.is_floating_point()]
        optimizer, theirs, begin = torch.optim.SGD(learning, lr=0.005), [], time.time()
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = F.cross_entropy(forward(graph, w, torch.tensor(x)), torch.tensor(y))
            loss.backward()
            optimizer.step()
            theirs.append(loss.item())
        apart = max(abs(a - b) / max(b, 1e-2) for a, b in zip(ours, theirs))
        print(f"{name}: worst relative difference of a weight's gradient {worst:.1e}; losses of {STEPS} steps at most {100 * apart:.2f} % apart ({theirs[0]:.3f} -> {theirs[-1]:.3f}); "
              f"{ours_s / STEPS * 1e3:.0f} ms a step on the functional model, {(time.time() - begin) / STEPS * 1e3:.0f} ms in PyTorch {torch.__version__}")
