"""Compares the throughput of the Python package vaderSentiment with that of benches/vader.rs on the same 1,000 texts.

    pip install vaderSentiment==3.3.2
    python tests/reference/vader_speed.py

It runs `cargo bench --bench vader` and reads Criterion's samples. Both sides use one core, and of both the best
round counts, since other load on the machine only ever adds time.
"""

import json
import os
import subprocess
import time
from itertools import cycle, islice
from pathlib import Path

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

ROOT = Path(__file__).resolve().parents[2]
TEXTS = 1_000
PARAGRAPH = 200
ROUNDS = 20


def python_seconds(texts):
    analyzer = SentimentIntensityAnalyzer()
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for text in texts:
            analyzer.polarity_scores(text)
        best = min(best, time.perf_counter() - start)
    return best


def rust_seconds(name):
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    sample = json.loads((target / "criterion" / "vader" / name / "new" / "sample.json").read_text())
    return min(time / iterations for time, iterations in zip(sample["times"], sample["iters"])) / 1e9


def main():
    # CARGO may name a wrapper; CARGO_MANIFEST_DIR another package with the same bench.
    subprocess.run(
        [os.environ.get("CARGO", "cargo"), "bench", "--bench", "vader"],
        cwd=os.environ.get("CARGO_MANIFEST_DIR", ROOT),
        check=True,
    )
    lines = (ROOT / "tests" / "data" / "vader_expected.jsonl").read_text().splitlines()
    everything = [json.loads(line)["text"] for line in lines]
    paragraphs = [text for text in everything if len(text.encode()) >= PARAGRAPH]
    for name, texts in (("sentences", everything), ("paragraphs", paragraphs)):
        python = python_seconds(list(islice(cycle(texts), TEXTS)))
        rust = rust_seconds(name)
        print(f"{name}: Python {python * 1e3:.1f} us a text, Rust {rust * 1e3:.3f} us, {python / rust:.0f} times")


if __name__ == "__main__":
    main()
