#!/usr/bin/env python3
"""Measures a GPU on the models of docs/comparison.md and prints `measured:` points for processors/*.yaml.

Needs an NVIDIA GPU, PyTorch with CUDA, torchvision, Triton and nvidia-ml-py; no part of the build. Inputs and weights are random: time
and, nearly, power do not depend on them. Each point: one captured CUDA graph, replayed back to back; latency is the time per replay,
energy the difference of the board's own energy counter (NVML) over at least --seconds of replays.

bf16 and fp16: cuDNN and cuBLAS, channels last, batch normalisation folded, ReLU and residual fused where cuDNN can. int8: implicit
GEMM in Triton with scale, bias, residual and activation fused (the first convolution in bf16); fp8 is not measured.

  measure_gpu.py --seconds 1.2 --out points.yaml
"""
import argparse
import statistics
import time

import pynvml
import torch
import torch.nn.functional as F
import triton
import triton.language as tl

DEVICE = "cuda"
TILES = [(128, 128, 64, 8), (128, 64, 64, 4), (64, 128, 64, 4), (64, 64, 64, 4), (64, 32, 64, 4), (32, 64, 128, 4), (16, 64, 128, 4), (16, 32, 128, 2)]


@triton.autotune([triton.Config({"BM": m, "BN": n, "BK": k}, num_warps=w, num_stages=3) for m, n, k, w in TILES], key=["M", "N", "C", "KH", "H"], warmup=3, rep=8)
@triton.jit
def contract_int8(x, w, scale, bias, residual, y, M, N, C, H, W, OH, OW, stride, pad, KH: tl.constexpr, KW: tl.constexpr, ACT: tl.constexpr, RES: tl.constexpr, OUT8: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """y[M, N] = act(scale * conv(x[n, H, W, C], w[N, KH, KW, C]) + bias + residual)."""
    rm, rn = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1) * BN + tl.arange(0, BN)
    n, r = rm // (OH * OW), rm % (OH * OW)
    oh, ow = r // OW, r % OW
    acc = tl.zeros((BM, BN), tl.int32)
    for tap in range(KH * KW):
        ih, iw = oh * stride - pad + tap // KW, ow * stride - pad + tap % KW
        ok = (rm < M) & (ih >= 0) & (ih < H) & (iw >= 0) & (iw < W)
        base = ((n * H + ih) * W + iw) * C
        for k in range(0, C, BK):
            rk = k + tl.arange(0, BK)
            a = tl.load(x + base[:, None] + rk[None, :], mask=ok[:, None] & (rk < C)[None, :], other=0)
            b = tl.load(w + rn[None, :] * (KH * KW * C) + (tap * C + rk)[:, None], mask=(rn < N)[None, :] & (rk < C)[:, None], other=0)
            acc = tl.dot(a, b, acc, out_dtype=tl.int32)
    inside = (rm < M)[:, None] & (rn < N)[None, :]
    at = rm[:, None] * N + rn[None, :]
    v = acc.to(tl.float32) * tl.load(scale + rn, mask=rn < N, other=0)[None, :] + tl.load(bias + rn, mask=rn < N, other=0)[None, :]
    if RES:
        v += tl.load(residual + at, mask=inside, other=0).to(tl.float32)
    if ACT == 1:
        v = tl.maximum(v, 0)
    if ACT == 2:
        v = 0.5 * v * (1 + tl.erf(v * 0.70710678))
    if OUT8:
        tl.store(y + at, tl.minimum(tl.maximum(tl.floor(v + 0.5), -127), 127).to(tl.int8), mask=inside)
    else:
        tl.store(y + at, v.to(tl.bfloat16), mask=inside)


@triton.jit
def depthwise_int8(x, w, scale, bias, y, M, C, H, W, OH, OW, stride, BM: tl.constexpr, BC: tl.constexpr):
    """3 x 3, padding 1, ReLU: y[M, C] from x[n, H, W, C] and w[3, 3, C]."""
    rm, rc = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1) * BC + tl.arange(0, BC)
    n, r = rm // (OH * OW), rm % (OH * OW)
    oh, ow = r // OW, r % OW
    acc = tl.zeros((BM, BC), tl.int32)
    for tap in tl.static_range(9):
        ih, iw = oh * stride - 1 + tap // 3, ow * stride - 1 + tap % 3
        ok = (rm < M) & (ih >= 0) & (ih < H) & (iw >= 0) & (iw < W)
        a = tl.load(x + (((n * H + ih) * W + iw) * C)[:, None] + rc[None, :], mask=ok[:, None] & (rc < C)[None, :], other=0)
        acc += a.to(tl.int32) * tl.load(w + tap * C + rc, mask=rc < C, other=0).to(tl.int32)[None, :]
    v = tl.maximum(acc.to(tl.float32) * tl.load(scale + rc, mask=rc < C, other=0)[None, :] + tl.load(bias + rc, mask=rc < C, other=0)[None, :], 0)
    tl.store(y + rm[:, None] * C + rc[None, :], tl.minimum(tl.floor(v + 0.5), 127).to(tl.int8), mask=(rm < M)[:, None] & (rc < C)[None, :])


@triton.jit
def quantise_kernel(x, y, count, inverse, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    v = tl.load(x + i, mask=i < count, other=0).to(tl.float32) * inverse
    tl.store(y + i, tl.minimum(tl.maximum(tl.floor(v + 0.5), -127), 127).to(tl.int8), mask=i < count)


def quantise(x, inverse=32.0):
    x = x.contiguous()
    y = torch.empty(x.shape, dtype=torch.int8, device=DEVICE)
    quantise_kernel[(triton.cdiv(x.numel(), 1024),)](x, y, x.numel(), inverse, B=1024)
    return y


class Int8Conv:
    """A convolution or linear layer in int8 on [n, H, W, C] tensors; scales keep outputs within int8."""

    def __init__(self, cin, cout, k=1, stride=1, act=1, out8=True):
        self.k, self.stride, self.act, self.out8, self.n = k, stride, act, out8, cout
        self.w = torch.randint(-127, 128, (cout, k, k, cin), dtype=torch.int8, device=DEVICE)
        self.scale = torch.full((cout,), (1.4 if act else 1.0) / (73 * (k * k * cin) ** 0.5) * (1 if out8 else 1 / 32), device=DEVICE)
        self.bias = torch.zeros(cout, device=DEVICE)

    def __call__(self, x, residual=None):
        n, h, w, c = x.shape
        pad = self.k // 2
        oh, ow = (h + 2 * pad - self.k) // self.stride + 1, (w + 2 * pad - self.k) // self.stride + 1
        y = torch.empty((n, oh, ow, self.n), dtype=torch.int8 if self.out8 else torch.bfloat16, device=DEVICE)
        m = n * oh * ow
        grid = lambda t: (triton.cdiv(m, t["BM"]), triton.cdiv(self.n, t["BN"]))
        contract_int8[grid](x, self.w, self.scale, self.bias, x if residual is None else residual, y, m, self.n, c, h, w, oh, ow, self.stride, pad, KH=self.k, KW=self.k, ACT=self.act, RES=residual is not None, OUT8=self.out8)
        return y


class Int8Depthwise:
    def __init__(self, c, stride):
        self.stride = stride
        self.w = torch.randint(-127, 128, (3, 3, c), dtype=torch.int8, device=DEVICE)
        self.scale, self.bias = torch.full((c,), 1.4 / (73 * 3), device=DEVICE), torch.zeros(c, device=DEVICE)

    def __call__(self, x):
        n, h, w, c = x.shape
        oh, ow = (h - 1) // self.stride + 1, (w - 1) // self.stride + 1
        y = torch.empty((n, oh, ow, c), dtype=torch.int8, device=DEVICE)
        depthwise_int8[(triton.cdiv(n * oh * ow, 32), triton.cdiv(c, 64))](x, self.w, self.scale, self.bias, y, n * oh * ow, c, h, w, oh, ow, self.stride, BM=32, BC=64)
        return y


class FloatConv:
    """Convolution + bias (+ residual) (+ ReLU), by one cuDNN call where it has one."""

    def __init__(self, cin, cout, k=1, stride=1, act=1, groups=1, dtype=torch.bfloat16):
        self.w = (torch.randn(cout, cin // groups, k, k, device=DEVICE) * (2 / (cin // groups * k * k)) ** 0.5).to(dtype).to(memory_format=torch.channels_last)
        self.b, self.stride, self.pad, self.act, self.groups = torch.zeros(cout, device=DEVICE, dtype=dtype), (stride, stride), (k // 2, k // 2), act, groups

    def fused(self, x, residual):
        if self.act and residual is None:
            return torch.ops.aten.cudnn_convolution_relu(x, self.w, self.b, self.stride, self.pad, (1, 1), self.groups)
        if self.act:
            return torch.ops.aten.cudnn_convolution_add_relu(x, self.w, residual, 1.0, self.b, self.stride, self.pad, (1, 1), self.groups)
        return self.plain(x, residual)

    def plain(self, x, residual):
        y = F.conv2d(x, self.w, self.b, self.stride, self.pad, 1, self.groups)
        if residual is not None:
            y = y.add_(residual)
        return F.relu_(y) if self.act else y

    def __call__(self, x, residual=None):
        return self.fused(x, residual) if FloatConv.fuse and self.groups == 1 else self.plain(x, residual)


FloatConv.fuse = False


def resnet50(precision):
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    conv = (lambda *a, **k: Int8Conv(*a, **k)) if precision == "int8" else (lambda *a, out8=True, **k: FloatConv(*a, dtype=dtype, **k))
    stem, blocks, width = FloatConv(3, 64, 7, 2, dtype=dtype), [], 64
    for stage, (planes, count) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for i in range(count):
            stride = 2 if stage and not i else 1
            down = conv(width, 4 * planes, 1, stride, act=0) if not i else None
            last = stage == 3 and i == count - 1
            blocks.append((conv(width, planes), conv(planes, planes, 3, stride), conv(planes, 4 * planes, act=1, out8=not last), down))
            width = 4 * planes
    head = torch.randn(1000, width, device=DEVICE, dtype=dtype) * width**-0.5

    def forward(x):
        x = F.max_pool2d(stem(x), 3, 2, 1)
        if precision == "int8":
            x = quantise(x.permute(0, 2, 3, 1))
        for a, b, c, down in blocks:
            x = c(b(a(x)), x if down is None else down(x))
        x = x.mean((1, 2)) if precision == "int8" else x.mean((2, 3))
        return F.linear(x.to(dtype), head)

    return lambda n: torch.randn(n, 3, 224, 224, device=DEVICE).to(dtype).to(memory_format=torch.channels_last), forward


def mobilenetv2(precision):
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    int8 = precision == "int8"
    conv = (lambda *a, **k: Int8Conv(*a, **k)) if int8 else (lambda *a, out8=True, **k: FloatConv(*a, dtype=dtype, **k))
    deep = (lambda c, s: Int8Depthwise(c, s)) if int8 else (lambda c, s: FloatConv(c, c, 3, s, groups=c, dtype=dtype))
    stem, blocks, width = FloatConv(3, 32, 3, 2, dtype=dtype), [], 32
    for t, c, count, s in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)):
        for i in range(count):
            blocks.append((conv(width, width * t) if t > 1 else None, deep(width * t, s if not i else 1), conv(width * t, c, act=0), i > 0))
            width = c
    last, head = conv(width, 1280, out8=False), torch.randn(1000, 1280, device=DEVICE, dtype=dtype) * 0.03

    def forward(x):
        x = stem(x)
        if int8:
            x = quantise(x.permute(0, 2, 3, 1))
        for expand, depthwise, project, residual in blocks:
            y = depthwise(x if expand is None else expand(x))
            x = project(y, x if residual else None)
        x = last(x)
        return F.linear((x.mean((1, 2)) if int8 else x.mean((2, 3))).to(dtype), head)

    return lambda n: torch.randn(n, 3, 224, 224, device=DEVICE).to(dtype).to(memory_format=torch.channels_last), forward


def transformer(precision, causal, decode):
    """BERT-base, or GPT-2 small with its head; `decode`: one token against a cache of 127 more."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    d, layers, heads, vocabulary = 768, 12, 12, 50257 if causal else 30522

    def linear(i, o, act=0):
        if precision == "int8":
            layer = Int8Conv(i, o, act=2 if act else 0, out8=False)
            return lambda x: layer(quantise(x).view(1, 1, -1, i)).view(*x.shape[:-1], o)
        w, b = (torch.randn(o, i, device=DEVICE) * i**-0.5).to(dtype), torch.zeros(o, device=DEVICE, dtype=dtype)
        return (lambda x: F.gelu(F.linear(x, w, b))) if act else (lambda x: F.linear(x, w, b))

    parts = [(linear(d, 3 * d), linear(d, d), linear(d, 4 * d, 1), linear(4 * d, d)) for _ in range(layers)]
    words, head = torch.randn(vocabulary, d, device=DEVICE, dtype=dtype), linear(d, vocabulary) if causal else None
    ones, zeros = torch.ones(d, device=DEVICE, dtype=dtype), torch.zeros(d, device=DEVICE, dtype=dtype)
    norm = lambda x: F.layer_norm(x, (d,), ones, zeros)
    caches = {}

    def attend(layer, qkv):
        n, s, _ = qkv.shape
        q, k, v = qkv.view(n, s, 3, heads, d // heads).permute(2, 0, 3, 1, 4).unbind(0)
        if decode:
            kc, vc = caches[n][layer]
            k, v = kc.copy_(torch.cat((kc[:, :, 1:], k), 2)), vc.copy_(torch.cat((vc[:, :, 1:], v), 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal and not decode)
        return y.transpose(1, 2).reshape(n, s, d)

    def forward(ids):
        if decode and ids.shape[0] not in caches:
            caches[ids.shape[0]] = [tuple(torch.randn(ids.shape[0], heads, 128, d // heads, device=DEVICE, dtype=dtype) for _ in "kv") for _ in range(layers)]
        x = F.embedding(ids, words)
        for i, (qkv, out, up, down) in enumerate(parts):
            if causal:
                x = x + out(attend(i, qkv(norm(x))))
                x = x + down(up(norm(x)))
            else:
                x = norm(x + out(attend(i, qkv(x))))
                x = norm(x + down(up(x)))
        return head(norm(x)) if causal else x

    return lambda n: torch.randint(0, vocabulary, (n, 1 if decode else 128), device=DEVICE), forward


def lstm(precision):
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    net = torch.nn.LSTM(512, 512, 2, batch_first=False).to(DEVICE, dtype).eval()
    net.flatten_parameters()
    return lambda n: torch.randn(100, n, 512, device=DEVICE).to(dtype), lambda x: net(x)[0]


class Meter:
    def __init__(self):
        pynvml.nvmlInit()
        self.card = pynvml.nvmlDeviceGetHandleByIndex(0)

    def joules(self):
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(self.card) / 1e3

    def idle_watts(self, seconds=2.0):
        torch.cuda.synchronize()
        time.sleep(1.0)
        e, t = self.joules(), time.time()
        time.sleep(seconds)
        return (self.joules() - e) / (time.time() - t)

    def measure(self, forward, x, seconds):
        """(seconds per replay, joules per replay) of a captured graph."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                forward(x)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            forward(x)
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)

        def replays(count):
            begin.record()
            for _ in range(count):
                graph.replay()
            end.record()
            end.synchronize()
            return begin.elapsed_time(end) / 1e3 / count

        chunk = max(1, int(0.03 / replays(3)))
        until = time.time() + 0.3  # the clock and the power settle
        while time.time() < until:
            replays(chunk)
        times, count, e, t = [], 0, self.joules(), time.time()
        while time.time() - t < seconds:
            times.append(replays(chunk))
            count += chunk
        return statistics.median(times), (self.joules() - e) / count


GMAC = {"resnet50": 4.089, "mobilenetv2": 0.301, "bert-base": 11.174, "gpt2": 16.114, "gpt2-cached": 0.126, "lstm": 0.419}
MODELS = {
    "resnet50": resnet50,
    "mobilenetv2": mobilenetv2,
    "bert-base": lambda p: transformer(p, False, False),
    "gpt2": lambda p: transformer(p, True, False),
    "gpt2-cached": lambda p: transformer(p, True, True),
    "lstm": lstm,
}


def check_int8():
    """The Triton kernel against the same integers in floating point."""
    layer, x = Int8Conv(64, 96, 3, 2, act=0), torch.randint(-127, 128, (2, 14, 14, 64), dtype=torch.int8, device=DEVICE)
    want = F.conv2d(x.permute(0, 3, 1, 2).double(), layer.w.permute(0, 3, 1, 2).double(), stride=2, padding=1) * layer.scale.double()[None, :, None, None]
    worst = (layer(x).permute(0, 3, 1, 2).double() - want.clamp(-127, 127)).abs().max().item()
    assert worst <= 0.51, worst
    print(f"# int8 convolution: largest difference from the exact sum {worst:.3f} steps (rounding alone: 0.5)")


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.2)
    parser.add_argument("--batches", default="1,8,32,128")
    parser.add_argument("--precisions", default="bf16,fp16,int8")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--out", default="")
    o = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    meter, lines = Meter(), []

    def say(line):
        print(line, flush=True)
        lines.append(line)
        if o.out:
            with open(o.out, "w") as f:
                f.write("\n".join(lines) + "\n")

    say(f"# {torch.cuda.get_device_name(0)}, driver {pynvml.nvmlSystemGetDriverVersion()}, PyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}, Triton {triton.__version__}")
    a, b = (torch.randn(8192, 8192, device=DEVICE, dtype=torch.bfloat16) for _ in "ab")
    s, e = meter.measure(lambda x: a @ x, b, o.seconds)
    say(f"# 8192^3 bf16 product: {2 * 8192**3 / s / 1e12:.0f} TFLOP/s at {e / s:.0f} W")
    big = torch.empty(1 << 30, device=DEVICE)
    s, e = meter.measure(lambda x: big[: 1 << 29].copy_(big[1 << 29 :]), b, o.seconds)
    say(f"# copy of 2 GiB: {2 * 4 * 2**29 / s / 1e12:.2f} TB/s at {e / s:.0f} W")
    del a, b, big
    say(f"# idle {meter.idle_watts():.0f} W with its clocks up")
    try:
        check_int8()
    except Exception as error:  # the float points stand without it
        say(f"# int8 check failed: {type(error).__name__}: {error}")
    for name in o.models.split(","):
        for precision in o.precisions.split(","):
            if name == "lstm" and precision == "int8":
                continue  # cuDNN has no int8 LSTM
            try:
                inputs, forward = MODELS[name](precision)
                for batch in map(int, o.batches.split(",")):
                    x, best = inputs(batch), None
                    for fuse in (False, True) if precision != "int8" and name in ("resnet50", "mobilenetv2") else (False,):
                        FloatConv.fuse = fuse
                        try:
                            got = meter.measure(forward, x, o.seconds)
                        except RuntimeError as error:
                            say(f"# {name} {precision} batch {batch}, fused {fuse}: {str(error).splitlines()[0][:150]}")
                            continue
                        best = got if best is None or got[0] < best[0] else best
                    FloatConv.fuse = False
                    if best:
                        say(f"  - {{model: {name}, gmac: {GMAC[name]}, precision: {precision}, batch: {batch}, latency_ms: {best[0] * 1e3:.4g}, energy_mj: {best[1] / batch * 1e3:.4g}}}")
            except Exception as error:
                say(f"# {name} {precision}: {type(error).__name__}: {str(error).splitlines()[0][:200]}")
            torch.cuda.empty_cache()
    say(f"# idle {meter.idle_watts():.0f} W")


if __name__ == "__main__":
    main()
