"""Trains the two models of this example in PyTorch, and writes them as ONNX: classifier.onnx and encoder.onnx.

    pip install torch onnx onnxscript numpy
    python make.py

Their data is drawn from a seed, by the formulas of ../src/random.rs, digits.rs and lookups.rs. expected.json gets the
accuracy on unseen data and the first logits, for a test.
"""

import json
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn
from torch.nn import functional as F

HERE = Path(__file__).parent
TRAIN, UNSEEN = 1, 2  # seeds
U64 = np.uint64


class Random:
    """SplitMix64, a stream for each example of a set."""

    def __init__(self, seed, count):
        self.state = (U64(seed) << U64(32)) + np.arange(count, dtype=U64)
        self.state = self.word()

    def word(self):
        self.state = self.state + U64(0x9E3779B97F4A7C15)
        z = (self.state ^ (self.state >> U64(30))) * U64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> U64(27))) * U64(0x94D049BB133111EB)
        return z ^ (z >> U64(31))

    def below(self, limit):
        return ((self.word() >> U64(32)) * U64(limit) >> U64(32)).astype(np.int64)

    def between(self, low, high):
        return low + (high - low) * ((self.word() >> U64(40)).astype(np.float64) / 2**24)


# Digits of seven segments, from top to bottom: top, upper left, upper right, middle, lower left, lower right, bottom.
SIZE, NOISE = 16, 0.25
SEGMENTS = [(0, 0, 1, 0), (0, 0, 0, 1), (1, 0, 1, 1), (0, 1, 1, 1), (0, 1, 0, 2), (1, 1, 1, 2), (0, 2, 1, 2)]
LIT = [0b1110111, 0b0100100, 0b1011101, 0b1101101, 0b0101110, 0b1101011, 0b1111011, 0b0100101, 0b1111111, 0b1101111]


def digits(seed, count):
    """Images [count, 1, SIZE, SIZE] of digits, and the digits [count]."""
    random = Random(seed, count)
    digit = random.below(10)
    side = random.between(3.6, 5.4)
    left, top = random.between(2.5, 7.0), random.between(1.5, 4.0)
    slant, width = random.between(-0.25, 0.25), random.between(0.14, 0.26)
    ground, ink = random.between(0.0, 0.3), random.between(0.45, 0.8)
    images = np.empty((count, SIZE * SIZE))
    for pixel in range(SIZE * SIZE):
        y = (pixel // SIZE - top) / side
        x = (pixel % SIZE - left) / side + slant * (y - 1.0)
        inside = np.zeros(count, bool)
        for index, (x0, y0, x1, y1) in enumerate(SEGMENTS):
            dx = x - np.clip(x, x0, x1)
            dy = y - np.clip(y, y0, y1)
            lit = (np.array(LIT)[digit] >> index) & 1 == 1
            inside |= lit & (dx * dx + dy * dy < width * width)
        images[:, pixel] = np.where(inside, ink, ground) + random.between(-NOISE, NOISE)
    return torch.tensor(images, dtype=torch.float32).reshape(count, 1, SIZE, SIZE), torch.tensor(digit)


# Pairs of a key and a value, then one of the keys: which value did it have?
KEYS, VALUES, PAIRS = 16, 10, 8
TOKENS = 2 * PAIRS + 1


def lookups(seed, count):
    """Tokens [count, TOKENS]: keys are 0 to KEYS, values come after them. The answers [count] are from 0 to VALUES."""
    random = Random(seed, count)
    rows = np.arange(count)
    keys = np.tile(np.arange(KEYS), (count, 1))
    tokens = np.empty((count, TOKENS), np.int64)
    for pair in range(PAIRS):
        chosen = pair + random.below(KEYS - pair)
        keys[rows, pair], keys[rows, chosen] = keys[rows, chosen], keys[rows, pair]
        tokens[:, 2 * pair] = keys[:, pair]
        tokens[:, 2 * pair + 1] = KEYS + random.below(VALUES)
    asked = random.below(PAIRS)
    tokens[:, -1] = tokens[rows, 2 * asked]
    return torch.tensor(tokens), torch.tensor(tokens[rows, 2 * asked + 1] - KEYS)


class Classifier(nn.Module):
    """Two convolutions and three linear layers."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        )
        self.head = nn.Sequential(
            nn.Linear(16 * (SIZE // 4) ** 2, 96), nn.ReLU(), nn.Linear(96, 64), nn.ReLU(), nn.Linear(64, 10)
        )

    def forward(self, images):
        return self.head(self.features(images))

    def loss(self, images, classes):
        return F.cross_entropy(self(images), classes)


class Layer(nn.Module):
    """Attention, then a feed-forward, each on a normalized input."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.width = heads, width
        self.norm_attention, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        # Sizes are numbers here, so that none has to be computed in the ONNX graph.
        head = self.width // self.heads
        split = lambda y: y.reshape(-1, TOKENS, self.heads, head).transpose(1, 2)
        h = self.norm_attention(x)
        query, key, value = split(self.query(h)), split(self.key(h)), split(self.value(h))
        weights = (query @ key.transpose(2, 3) * head**-0.5).softmax(-1)
        x = x + self.out((weights @ value).transpose(1, 2).reshape(-1, TOKENS, self.width))
        return x + self.down(F.relu(self.up(self.norm_feed(x))))


class Encoder(nn.Module):
    """A transformer encoder, which answers at the last position."""

    def __init__(self, width=64, layers=3, heads=4):
        super().__init__()
        self.tokens = nn.Embedding(KEYS + VALUES, width)
        self.positions = nn.Parameter(torch.randn(TOKENS, width))
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, VALUES)

    def hidden(self, tokens):
        x = self.tokens(tokens) + self.positions
        for layer in self.layers:
            x = layer(x)
        return x

    def forward(self, tokens):
        return self.head(self.norm(self.hidden(tokens)[:, -1]))

    def loss(self, tokens, answers):
        """Of every key's value, not only of the one that is asked for: else it takes very long to learn."""
        logits = self.head(self.norm(self.hidden(tokens)[:, ::2]))
        values = tokens[:, 1::2] - KEYS
        every = F.cross_entropy(logits[:, :-1].flatten(0, 1), values.flatten())
        return every + F.cross_entropy(logits[:, -1], answers)


def train(model, draw, steps, batch, rate):
    """Fresh data in every step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    chunk = 50
    for first in range(0, steps, chunk):
        # One set is drawn at once for some steps, the first of them with the seed that the Rust program begins with.
        inputs, classes = draw(TRAIN + 100 * (first // chunk), batch * chunk)
        for step in range(chunk):
            rows = slice(step * batch, (step + 1) * batch)
            loss = model.loss(inputs[rows], classes[rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        if first // chunk % 10 == 9:
            print(f"step {first + chunk}: loss {loss.item():.4f}", flush=True)
    return model.eval()


def export(name, model, draw):
    """Writes a model, and returns what a reader of it should get."""
    inputs, classes = draw(UNSEEN, 2000)
    with torch.no_grad():
        logits = model(inputs)
    path = HERE / f"{name}.onnx"
    torch.onnx.export(
        model, (inputs[:2],), path, input_names=["input"], output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},), external_data=False, verbose=False,
    )
    # Without the notes on which line of Python each node is from.
    graph = onnx.load(path)
    for part in [graph, graph.graph, *graph.graph.node, *graph.graph.value_info, *graph.graph.input, *graph.graph.output]:
        del part.metadata_props[:]
        part.doc_string = ""
    onnx.save(graph, path)
    accuracy = (logits.argmax(1) == classes).float().mean().item()
    print(f"{name}: {path.stat().st_size} bytes, accuracy {accuracy:.4f}")
    return {
        "accuracy": round(accuracy, 4),
        "classes": classes[:4].tolist(),
        "inputs": [round(value, 6) for value in inputs[:4].flatten(1).double().sum(1).tolist()],
        "logits": [[round(value, 5) for value in row] for row in logits[:4].tolist()],
    }


def main():
    torch.manual_seed(0)
    classifier = train(Classifier(), digits, 2000, 64, 4e-3)
    expected = {"classifier": export("classifier", classifier, digits)}
    torch.manual_seed(0)
    encoder = train(Encoder(), lookups, 1500, 64, 1e-3)
    expected["encoder"] = export("encoder", encoder, lookups)
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
