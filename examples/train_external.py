"""Trains one trial for spnas: a small network in plain Python, with nothing but the standard library.

    spnas run examples/tune.yml

starts this program once for each trial. It shows the whole protocol: the job comes as one JSON object on the first line of
standard input; each epoch goes out as one JSON line on standard output, with a checkpoint, and asks whether to go on; the
last line holds the result. Whatever is for people goes to standard error, which is the trial's log.

With an argument it learns the 1,797 handwritten digits of scikit-learn's wheel (or of its digits.csv.gz):

    spnas run examples/tune.yml 'tune.trainer.command=[python3, examples/train_external.py, .cache/digits.whl]'

without one it learns to tell three spirals apart.
"""

import csv
import gzip
import io
import json
import math
import os
import random
import sys
import zipfile


def say(**message):
    print(json.dumps(message), flush=True)


def digits(path):
    if path.endswith(".whl"):
        with zipfile.ZipFile(path) as wheel:
            packed = wheel.read("sklearn/datasets/data/digits.csv.gz")
    else:
        with open(path, "rb") as file:
            packed = file.read()
    rows = csv.reader(io.StringIO(gzip.decompress(packed).decode()))
    return [([float(cell) / 16 for cell in row[:-1]], int(float(row[-1]))) for row in rows], 10


def spirals(points=180, arms=3):
    noise = random.Random(0)
    rows = []
    for arm in range(arms):
        for point in range(points):
            radius = (point + 1) / points
            angle = 2 * math.pi * arm / arms + 4 * radius + noise.gauss(0, 0.1)
            rows.append(([radius * math.cos(angle), radius * math.sin(angle)], arm))
    return rows, arms


class Network:
    """One hidden layer and a softmax."""

    def __init__(self, inputs, hidden, classes, activation, rng):
        layer = lambda into, out: [[rng.gauss(0, into**-0.5) for _ in range(into)] + [0.0] for _ in range(out)]
        self.first, self.second = layer(inputs, hidden), layer(hidden, classes)
        self.relu = activation == "relu"

    def forward(self, x):
        hidden = [sum(w * v for w, v in zip(row, x)) + row[-1] for row in self.first]
        hidden = [max(0.0, v) for v in hidden] if self.relu else [math.tanh(v) for v in hidden]
        scores = [sum(w * v for w, v in zip(row, hidden)) + row[-1] for row in self.second]
        most = max(scores)
        powers = [math.exp(score - most) for score in scores]
        total = sum(powers)
        return hidden, [power / total for power in powers]

    def gradients(self, batch):
        first, second = ([[0.0] * len(row) for row in layer] for layer in (self.first, self.second))
        loss = 0.0
        for x, label in batch:
            hidden, shares = self.forward(x)
            loss -= math.log(max(shares[label], 1e-12))
            back = [0.0] * len(hidden)
            for k, share in enumerate(shares):
                error = (share - (k == label)) / len(batch)
                for j, value in enumerate(hidden):
                    second[k][j] += error * value
                    back[j] += error * self.second[k][j]
                second[k][-1] += error
            for j, value in enumerate(hidden):
                error = back[j] * ((value > 0) if self.relu else 1 - value * value)
                if error:
                    row = first[j]
                    for i, v in enumerate(x):
                        row[i] += error * v
                    row[-1] += error
        return [first, second], loss / len(batch)


class Optimizer:
    """Gradient descent with momentum, or Adam."""

    def __init__(self, network, candidate):
        self.network, self.candidate, self.steps = network, candidate, 0
        zeros = lambda: [[[0.0] * len(row) for row in layer] for layer in (network.first, network.second)]
        self.mean, self.square = zeros(), zeros()

    def step(self, gradients):
        self.steps += 1
        lr, adam = self.candidate["lr"], self.candidate["optimizer"] == "adam"
        momentum = 0.9 if adam else self.candidate["momentum"]
        for layer, moved, mean, square in zip((self.network.first, self.network.second), gradients, self.mean, self.square):
            for row, moves, means, squares in zip(layer, moved, mean, square):
                for i, move in enumerate(moves):
                    if adam:
                        means[i] += (1 - momentum) * (move - means[i])
                        squares[i] += 0.001 * (move * move - squares[i])
                        scale = math.sqrt(squares[i] / (1 - 0.999**self.steps)) + 1e-8
                        row[i] -= lr * means[i] / (1 - momentum**self.steps) / scale
                    else:
                        means[i] = momentum * means[i] + move
                        row[i] -= lr * means[i]


def main():
    job = json.loads(sys.stdin.readline())
    candidate, folder = job["candidate"], job["folder"]
    rows, classes = digits(sys.argv[1]) if len(sys.argv) > 1 else spirals()
    random.Random(1).shuffle(rows)
    held_out, rows = rows[: len(rows) // 4], rows[len(rows) // 4 :][:600]
    print(f"{len(rows)} rows to learn from, {candidate}", file=sys.stderr)

    network = Network(len(rows[0][0]), candidate["hidden"], classes, candidate["activation"], random.Random(job["seed"]))
    optimizer = Optimizer(network, candidate)
    if job["checkpoint"]:
        with open(job["checkpoint"]) as file:
            saved = json.load(file)
        network.first, network.second = saved["weights"]
        optimizer.steps, optimizer.mean, optimizer.square = saved["optimizer"]
    params = sum(len(row) for layer in (network.first, network.second) for row in layer)

    metrics = {}
    for epoch in range(job["epoch"] + 1, job["epochs"] + 1):
        # The order follows from the trial and the epoch alone, so that a trial that was interrupted goes on as if it had not been.
        order = rows[:]
        random.Random(job["seed"] * 1000 + epoch).shuffle(order)
        size, loss = candidate["batch"], 0.0
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            gradients, batch_loss = network.gradients(batch)
            optimizer.step(gradients)
            loss += batch_loss * len(batch) / len(order)
        right = sum(max(range(classes), key=network.forward(x)[1].__getitem__) == label for x, label in held_out)
        metrics = {"accuracy": right / len(held_out), "loss": loss, "params": params}

        # Each checkpoint is a file of its own: spnas takes it into its store, and deletes it here.
        checkpoint = os.path.join(folder, f"checkpoint_{epoch}.json")
        with open(checkpoint, "w") as file:
            state = [optimizer.steps, optimizer.mean, optimizer.square]
            json.dump({"weights": [network.first, network.second], "optimizer": state}, file)
        say(epoch=epoch, metrics=metrics, checkpoint=checkpoint, ask=True)
        if json.loads(sys.stdin.readline() or '{"verdict": "stop"}')["verdict"] != "continue":
            return

    weights = os.path.join(folder, "weights.json")
    with open(weights, "w") as file:
        json.dump([network.first, network.second], file)
    say(done=metrics, weights=weights)


if __name__ == "__main__":
    main()
