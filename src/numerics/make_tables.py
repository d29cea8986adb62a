#!/usr/bin/python3
"""Writes tables.inc: quadratic segments of the VX function unit. Debian python3-mpmath. Usage: make_tables.py > tables.inc
Each segment holds c0, c1, c2 with 28 fraction bits, scaled so that u runs over [0, 1) inside the segment."""
from mpmath import mp, mpf, cos, pi, log, sqrt, erf, matrix, lu_solve
mp.prec = 120

def segment(f, lo, hi):
    """Quadratic through the three Chebyshev nodes of [lo, hi], as polynomial in u = (x - lo) / (hi - lo)."""
    us = [(1 + cos(pi * (2 * i + 1) / 6)) / 2 for i in range(3)]
    a = matrix([[1, u, u * u] for u in us]); b = matrix([f(lo + u * (hi - lo)) for u in us])
    c = lu_solve(a, b)
    return [int(mp.nint(x * 2**28)) for x in c]

def table(name, f, lo, hi, n):
    print(f"inline constexpr FunctionSegment {name}[{n}] = {{")
    for i in range(n):
        s = segment(f, lo + (hi - lo) * mpf(i) / n, lo + (hi - lo) * mpf(i + 1) / n)
        print("    {%d, %d, %d}," % tuple(s))
    print("};")

def log_ratio(m):
    return 1 / log(2) if m == 1 else log(m) / log(2) / (m - 1)

print("// Written by make_tables.py; do not edit.")
table("kExp2Table", lambda x: mpf(2) ** x, mpf(0), mpf(1), 64)
table("kReciprocalTable", lambda m: 1 / m, mpf(1), mpf(2), 128)
table("kRsqrtEvenTable", lambda m: 1 / sqrt(m), mpf(1), mpf(2), 64)
table("kRsqrtOddTable", lambda m: 1 / sqrt(2 * m), mpf(1), mpf(2), 64)
# log2(m) = (m - 1) g(m): low half for m in [1, 1.5), high half for m / 2 in [0.75, 1)
table("kLog2LowTable", log_ratio, mpf(1), mpf("1.5"), 64)
table("kLog2HighTable", log_ratio, mpf("0.75"), mpf(1), 64)
# erf(a) = a g(a)
table("kErfTable", lambda a: 2 / sqrt(pi) if a == 0 else erf(a) / a, mpf(0), mpf(4), 256)
