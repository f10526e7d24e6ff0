"""Writes tests/data/embedding_expected.json: what the reference pipeline says to tests/data/embedding_texts.json.

The reference is sentence-transformers itself (tokenizer, BERT encoder in torch on the CPU, mean pooling over the
mask, L2 norm, 256 tokens at most), one text a call, so that no padding is involved. To run it again:

    python3 -m venv venv && venv/bin/pip install sentence-transformers==6.2.0 transformers==5.23.0 torch==2.15.0
    scripts/model
    venv/bin/python tests/reference/embedding.py .euhub/model/all-MiniLM-L6-v2
"""

import json
import pathlib
import sys

from sentence_transformers import SentenceTransformer

data = pathlib.Path(__file__).resolve().parent.parent / "data"
model = SentenceTransformer(sys.argv[1], device="cpu")
assert model.max_seq_length == 256, model.max_seq_length

texts = json.loads((data / "embedding_texts.json").read_text(encoding="utf-8"))
rows = []
for text in texts:
    vector = model.encode([text], normalize_embeddings=True)[0]
    rows.append("[" + ",".join(f"{value:.7f}" for value in vector.tolist()) + "]")
(data / "embedding_expected.json").write_text("[\n" + ",\n".join(rows) + "\n]\n", encoding="utf-8")
print(f"{len(rows)} vectors of {len(vector)} dimensions")
