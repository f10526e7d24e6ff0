"""Writes tests/data/vader_expected.jsonl: the scores that the package vaderSentiment 3.3.2 gives to the sentences
of tests/data/vader_sentences.txt.

    pip install vaderSentiment==3.3.2
    python tests/reference/vader.py
"""

import json
from importlib.metadata import version
from pathlib import Path

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

PINNED = "3.3.2"
DATA = Path(__file__).resolve().parents[1] / "data"


def sentences():
    for line in (DATA / "vader_sentences.txt").read_text(encoding="utf-8").split("\n"):
        if line.startswith("json:"):
            yield json.loads(line.removeprefix("json:"))
        elif line and not line.startswith("# "):
            yield line


def main():
    found = version("vaderSentiment")
    if found != PINNED:
        raise SystemExit(f"vaderSentiment {PINNED} is needed, not {found}")
    analyzer = SentimentIntensityAnalyzer()
    with open(DATA / "vader_expected.jsonl", "w", encoding="utf-8", newline="\n") as out:
        count = 0
        for text in sentences():
            scores = analyzer.polarity_scores(text)
            row = {"text": text, **{key: scores[key] for key in ("compound", "pos", "neu", "neg")}}
            # Escaped, so that no editor or tool mistakes a separator within a text for the end of a line.
            out.write(json.dumps(row) + "\n")
            count += 1
    print(count, "sentences")


if __name__ == "__main__":
    main()
