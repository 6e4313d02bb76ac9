"""Generates greedily with llama.cpp from a GGUF file and compares with the text that `llama generate` wrote.

    llama generate --model PACKED --temperature 0 --max-new-tokens 32 --prompt "Once upon a time" --report TEXT.json
    llama export --model PACKED --format gguf --output FILE.gguf
    python check_llama_cpp.py FILE.gguf TEXT.json

Needs llama-cpp-python.
"""

import json
import sys

from llama_cpp import Llama

report = json.loads(open(sys.argv[2], encoding="utf-8").read())
model = Llama(sys.argv[1], n_ctx=0, verbose=False, seed=0)
written = model(report["prompt"], max_tokens=report["tokens"], temperature=0.0)["choices"][0]["text"]
ours = report["text"].removeprefix(report["prompt"])
print(repr(written))
assert written == ours, f"llama.cpp wrote {written!r}, expected {ours!r}"
print(f"the same {report['tokens']} tokens")
