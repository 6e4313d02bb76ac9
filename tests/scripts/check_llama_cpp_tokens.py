"""Makes tokenizers of real vocabularies, exports tiny models with them as GGUF, and compares how llama.cpp cuts its own test
texts into tokens with what `tokenizers` makes of them.

    cargo build --release -p llama
    python check_llama_cpp_tokens.py target/release/llama DIR

DIR is `models` of llama.cpp's sources: vocabularies (`ggml-vocab-*.gguf`), and texts beside them (`.inp`). Needs numpy,
safetensors, gguf, tokenizers and llama-cpp-python.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from llama_cpp import Llama
from safetensors.numpy import save_file
from tokenizers import Tokenizer

HIDDEN = 32
# Kinds of tokens in GGUF.
CONTROL, USER_DEFINED, UNUSED = 3, 4, 5
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def bytes_of_words(digits):
    split = {"type": "Split", "pattern": {"Regex": WORDS.replace("DIGITS", digits)}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {"type": "Sequence", "pretokenizers": [split, level]}


GPT_2 = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
SMOLLM = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, GPT_2]}
# The family, its vocabulary, its way to cut text into words, and whether texts begin with a token.
CASES = [
    ("llama", "llama-bpe", bytes_of_words(r"\p{N}{1,3}"), True),
    ("qwen2", "qwen2", bytes_of_words(r"\p{N}"), False),
    ("qwen3", "qwen2", bytes_of_words(r"\p{N}"), False),
    ("llama", "gpt-2", GPT_2, False),
    ("llama", "gpt-2", SMOLLM, False),
    ("mistral", "llama-spm", None, True),
]


def contents(reader, key):
    return reader.fields[f"tokenizer.ggml.{key}"].contents()


def tokenizer(reader, words, vocabulary):
    """`tokenizer.json` with the vocabulary."""
    tokens, kinds = contents(reader, "tokens"), contents(reader, "token_type")
    special = [id for id, kind in enumerate(kinds) if kind in (CONTROL, USER_DEFINED)]
    added = [
        {"id": id, "content": tokens[id], "special": kinds[id] == CONTROL, "single_word": False, "lstrip": False,
         "rstrip": False, "normalized": False}
        for id in special
    ]
    vocab = {token: id for id, token in enumerate(tokens) if id not in set(special) and kinds[id] != UNUSED}
    file = {"version": "1.0", "added_tokens": added, "model": {"type": "BPE", "vocab": vocab}}
    if words is None:
        # Pieces: every cut of a piece into two others is a merge, ranked by the piece's score.
        scores = contents(reader, "scores")
        pieces = []
        for token, id in vocab.items():
            cuts = [(token[:at], token[at:]) for at in range(1, len(token))]
            pieces += [(-scores[id], cut) for cut in cuts if cut[0] in vocab and cut[1] in vocab]
        merges = [cut for _, cut in sorted(pieces, key=lambda piece: piece[0])]
        file["normalizer"] = {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u2581"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        ]}
        file["model"] |= {"byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>"}
    else:
        merges = [tuple(merge.split(" ")) for merge in contents(reader, "merges")]
        file["pre_tokenizer"] = words
        file["model"]["ignore_merges"] = vocabulary == "llama-bpe"
    file["model"]["merges"] = merges
    return file


def write_model(folder, family, reader, begins):
    """A model of one tiny block, as large as its vocabulary."""
    vocab = len(contents(reader, "tokens"))
    random = np.random.default_rng(0)
    shapes = {"embed_tokens": [vocab, HIDDEN], "norm": [HIDDEN]}
    for part in ["q", "k", "v", "o"]:
        shapes[f"layers.0.self_attn.{part}_proj"] = [HIDDEN, HIDDEN]
    for part in ["gate", "up", "down"]:
        shapes[f"layers.0.mlp.{part}_proj"] = [HIDDEN, HIDDEN]
    for norm in ["input", "post_attention"]:
        shapes[f"layers.0.{norm}_layernorm"] = [HIDDEN]
    tensors = {f"model.{name}.weight": random.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    if family == "qwen2":
        for part in ["q", "k", "v"]:
            tensors[f"model.layers.0.self_attn.{part}_proj.bias"] = np.zeros(HIDDEN, np.float32)
    if family == "qwen3":
        for part in ["q", "k"]:
            tensors[f"model.layers.0.self_attn.{part}_norm.weight"] = np.ones(HIDDEN // 2, np.float32)
    save_file(tensors, folder / "model.safetensors")
    config = {
        "model_type": family, "hidden_size": HIDDEN, "intermediate_size": HIDDEN, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": HIDDEN // 2, "vocab_size": vocab,
        "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True,
        "hidden_act": "silu", "eos_token_id": int(contents(reader, "eos_token_id")), "torch_dtype": "float32",
    }
    if "tokenizer.ggml.bos_token_id" in reader.fields:
        config["bos_token_id"] = int(contents(reader, "bos_token_id"))
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"add_bos_token": begins}))


def check(program, source, folder, family, vocabulary, words, begins):
    reader = GGUFReader(source / f"ggml-vocab-{vocabulary}.gguf")
    write_model(folder, family, reader, begins)
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(tokenizer(reader, words, vocabulary)))
    file = folder / "model.gguf"
    command = [program, "export", "--model", folder, "--format", "gguf", "--output", file]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    model = Llama(str(file), vocab_only=True, verbose=False)
    ours = Tokenizer.from_file(str(path))
    begin = [model.token_bos()] if begins else []
    # The same ones lie beside every vocabulary.
    texts = (source / "ggml-vocab-llama-bpe.gguf.inp").read_text(encoding="utf-8")
    texts = [text for text in texts.split("\n__ggml_vocab_test__\n") if text]
    different = 0
    for text in texts:
        expected = begin + ours.encode(text, add_special_tokens=False).ids
        found = model.tokenize(text.encode(), add_bos=True, special=True)
        if found != expected:
            different += 1
            print(f"  {text!r}: llama.cpp makes {found}, expected {expected}")
    assert different == 0, f"{family}, {vocabulary}: {different} of {len(texts)} texts differ"
    print(f"{family}, {vocabulary}: {len(texts)} texts are cut alike")


for case in CASES:
    with tempfile.TemporaryDirectory() as folder:
        check(sys.argv[1], Path(sys.argv[2]), Path(folder), *case)
