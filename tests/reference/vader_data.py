"""Writes the data files of src/sentiment/vader from the package vaderSentiment 3.3.2.

    pip install vaderSentiment==3.3.2
    python tests/reference/vader_data.py

Entries that the package itself can never match are left out: it looks words up in lower case and splits
at white space (so `:-D` and `fed up` are unreachable), and it replaces emoji one code point at a time
(so sequences of several code points are unreachable).
"""

from importlib.metadata import version
from pathlib import Path

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

PINNED = "3.3.2"
OUT = Path(__file__).resolve().parents[2] / "src" / "sentiment" / "vader"


def write(name, rows):
    text = "".join(f"{key}\t{value}\n" for key, value in sorted(rows))
    (OUT / name).write_text(text, encoding="utf-8", newline="\n")
    print(name, len(rows), "entries")


def main():
    found = version("vaderSentiment")
    if found != PINNED:
        raise SystemExit(f"vaderSentiment {PINNED} is needed, not {found}")
    analyzer = SentimentIntensityAnalyzer()
    words = analyzer.lexicon.items()
    write("lexicon.tsv", [(word, mean) for word, mean in words if word == word.lower() and word.split() == [word]])
    emoji = analyzer.emojis.items()
    write("emoji.tsv", [(char, text) for char, text in emoji if len(char) == 1])


if __name__ == "__main__":
    main()
