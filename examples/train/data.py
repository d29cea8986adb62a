#!/usr/bin/env python3
"""Data of the examples, drawn by rules from a seed; nothing but Python's own library.

usage: data.py digits|tones|roads|letters FOLDER [--count N] [--seed S] [--text FILE] [--part A:B]
       data.py encode TEXT | data.py decode NUMBERS      (characters of the letters model)

Writes FOLDER/NAME.x.npy and FOLDER/NAME.y.npy, samples in random order:
  digits   uint8 [N, 1, 28, 28], class, uint8 [N]: strokes of a pen under rotation, shear, scale, shift, thickness and noise
  tones    float [N, 32, 16] (frames, bands of a spectrogram), class, uint8 [N], of 8: rising, falling, up and down, down and up, two
           pulses, trill, steady, bursts, in noise
  roads    uint8 [N, 3, 32, 48], class of each pixel, uint8 [N, 32, 48]: 0 sky and land, 1 road, 2 marking, 3 car
  letters  int64 [N, 48] character numbers and [N, 48] the ones that follow, cut from text; 64 characters, lower case
"""
import argparse, array, math, os, random, re, struct, sys

CHARACTERS = "\n !\"#%&'()*+,-./0123456789:;<=>?[]_`abcdefghijklmnopqrstuvwxyz|~"


def save(path, values, shape):
    """values: array.array; a .npy file of version 1."""
    kind = {"B": "|u1", "f": "<f4", "q": "<i8"}[values.typecode]
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': ({', '.join(map(str, shape))},), }}"
    head += " " * (-(len(head) + 11) % 64) + "\n"
    assert len(values) == math.prod(shape)
    with open(path, "wb") as f:
        f.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + values.tobytes())


def arc(cx, cy, rx, ry, start, end, n=10):
    angles = [math.radians(start + (end - start) * i / n) for i in range(n + 1)]
    return [(cx + rx * math.cos(a), cy + ry * math.sin(a)) for a in angles]


# Strokes in a unit square, y downwards.
STROKES = [
    [arc(0.5, 0.5, 0.28, 0.42, 0, 360, 16)],
    [[(0.35, 0.25), (0.55, 0.08), (0.55, 0.92)]],
    [arc(0.5, 0.3, 0.26, 0.22, 180, 380) + [(0.24, 0.92), (0.78, 0.92)]],
    [arc(0.47, 0.29, 0.25, 0.21, 200, 450) + arc(0.47, 0.71, 0.28, 0.21, 270, 520)],
    [[(0.62, 0.92), (0.62, 0.08), (0.22, 0.62), (0.8, 0.62)]],
    [[(0.74, 0.08), (0.3, 0.08), (0.28, 0.45)] + arc(0.48, 0.67, 0.26, 0.25, 240, 500)],
    [[(0.65, 0.08), (0.36, 0.45)] + arc(0.5, 0.68, 0.25, 0.24, 200, 560, 14)],
    [[(0.24, 0.08), (0.76, 0.08), (0.42, 0.92)]],
    [arc(0.5, 0.28, 0.21, 0.2, 90, 450, 14), arc(0.5, 0.7, 0.26, 0.22, 270, 630, 14)],
    [arc(0.5, 0.32, 0.24, 0.24, 0, 360, 14), [(0.74, 0.32), (0.6, 0.92)]],
]


def digit(r, label):
    turn, shear, sx, sy = r.gauss(0, 0.13), r.gauss(0, 0.15), r.uniform(14, 20), r.uniform(17, 22)
    ox, oy, thick = 14 + r.gauss(0, 1.2), 14 + r.gauss(0, 1.2), r.uniform(0.9, 1.7)
    c, s = math.cos(turn), math.sin(turn)

    def place(p):
        x, y = (p[0] - 0.5 + r.gauss(0, 0.012)) * sx, (p[1] - 0.5 + r.gauss(0, 0.012)) * sy
        x -= shear * y
        return ox + c * x - s * y, oy + s * x + c * y

    ink = [0.0] * 784
    for stroke in STROKES[label]:
        points = [place(p) for p in stroke]
        for (ax, ay), (bx, by) in zip(points, points[1:]):
            dx, dy = bx - ax, by - ay
            length = dx * dx + dy * dy + 1e-9
            for y in range(max(0, int(min(ay, by) - 3)), min(28, int(max(ay, by) + 4))):
                for x in range(max(0, int(min(ax, bx) - 3)), min(28, int(max(ax, bx) + 4))):
                    t = min(1, max(0, ((x - ax) * dx + (y - ay) * dy) / length))
                    d = math.hypot(x - ax - t * dx, y - ay - t * dy)
                    ink[y * 28 + x] = max(ink[y * 28 + x], min(1, max(0, thick + 0.5 - d)))
    return [min(255, max(0, int(255 * v * r.uniform(0.85, 1) + r.gauss(0, 12)))) for v in ink]


def tone(r, label):
    frames, bands = 32, 16
    x = [r.gauss(0, 0.35) for _ in range(frames * bands)]
    start, length, low, span, loud = r.randint(0, 8), r.randint(16, 24), r.uniform(1, 5), r.uniform(5, 9), r.uniform(0.8, 1.8)
    other, period = r.uniform(2, 4), r.randint(2, 3)
    for i in range(length):
        u = i / (length - 1)
        pitch = [low + span * u, low + span * (1 - u), low + span * (1 - abs(2 * u - 1)), low + span * abs(2 * u - 1), low + span / 2,
                 low + span / 2 + (other if i // period % 2 else 0), low + span / 2, r.uniform(1, 14)][label]
        sounds = not (label == 4 and 0.35 < u < 0.65) and not (label == 7 and i // 2 % 2)
        for b in range(bands):
            if sounds:
                x[(start + i) * bands + b] += loud * math.exp(-((b - pitch) ** 2) / 1.2)
    return x


def road(r):
    height, width = 32, 48
    horizon, vanish, bottom, half = r.randint(8, 14), r.uniform(16, 32), r.uniform(14, 34), r.uniform(12, 22)
    sky, land = [r.randint(90, 180), r.randint(130, 210), r.randint(180, 255)], [r.randint(30, 150), r.randint(80, 170), r.randint(20, 90)]
    grey, white, phase = r.randint(60, 130), r.randint(190, 255), r.uniform(0, 6)
    picture, classes = [[0] * (height * width) for _ in range(3)], [0] * (height * width)
    cars = []
    for _ in range(r.choice([0, 1, 1, 2])):
        y = r.randint(horizon + 4, height - 3)
        u = (y - horizon) / (height - horizon)
        w = max(2, 0.45 * half * u)
        x = vanish + (bottom - vanish) * u + r.choice([-1, 1]) * half * u * 0.5
        cars.append((x - w, x + w, y - 1.3 * w, y, [r.randint(0, 255) for _ in range(3)]))
    for y in range(height):
        u = (y - horizon) / (height - horizon)
        for x in range(width):
            colour, kind = (sky, 0) if y < horizon else (land, 0)
            if u > 0:
                centre, reach = vanish + (bottom - vanish) * u, half * u
                if abs(x - centre) <= reach:
                    colour, kind = [grey] * 3, 1
                    dashed = abs(x - centre) <= max(0.5, 0.06 * reach) and (6 / (u + 0.15) + phase) % 2 < 1.2
                    if dashed or reach * 0.9 <= abs(x - centre):
                        colour, kind = [white] * 3, 2
            for x0, x1, y0, y1, paint in cars:
                if x0 <= x <= x1 and y0 <= y <= y1:
                    colour, kind = paint, 3
            classes[y * width + x] = kind
            for c in range(3):
                picture[c][y * width + x] = min(255, max(0, int(colour[c] + r.gauss(0, 9))))
    return picture[0] + picture[1] + picture[2], classes


def numbers_of(text):
    text = text.lower()
    return [CHARACTERS.index(c) if c in CHARACTERS else len(CHARACTERS) - 1 for c in text]


def encode_or_decode(what, text):
    """For `systole generate`: text to numbers with commas, or any numbers back to text."""
    if what == "encode":
        print(",".join(map(str, numbers_of(text))))
    else:
        print("".join(CHARACTERS[int(n)] for n in re.findall(r"\d+", text)))


def main():
    if len(sys.argv) == 3 and sys.argv[1] in ("encode", "decode"):
        return encode_or_decode(*sys.argv[1:])
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=["digits", "tones", "roads", "letters"])
    p.add_argument("folder")
    p.add_argument("--count", type=int, default=1000)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--text", help="letters: a text file")
    p.add_argument("--part", default="0:1", help="letters: the share of the text to cut from, such as 0:0.9")
    a = p.parse_args()
    r = random.Random(a.seed)
    x, y, n = [], [], a.count
    if a.what == "letters":
        text = numbers_of(open(a.text, encoding="utf-8").read())
        first, last = (int(float(share) * len(text)) for share in a.part.split(":"))
        text = text[first:last]
        for _ in range(n):
            at = r.randrange(len(text) - 48)
            x += text[at:at + 48]
            y += text[at + 1:at + 49]
        shapes = "q", [n, 48], [n, 48]
    elif a.what == "roads":
        for _ in range(n):
            picture, classes = road(r)
            x += picture
            y += classes
        shapes = "B", [n, 3, 32, 48], [n, 32, 48]
    else:
        for _ in range(n):
            y.append(r.randrange(10 if a.what == "digits" else 8))
            x += digit(r, y[-1]) if a.what == "digits" else tone(r, y[-1])
        shapes = ("B", [n, 1, 28, 28], [n]) if a.what == "digits" else ("f", [n, 32, 16], [n])
    os.makedirs(a.folder, exist_ok=True)
    save(os.path.join(a.folder, a.what + ".x.npy"), array.array(shapes[0], x), shapes[1])
    save(os.path.join(a.folder, a.what + ".y.npy"), array.array("q" if a.what == "letters" else "B", y), shapes[2])


if __name__ == "__main__":
    main()
