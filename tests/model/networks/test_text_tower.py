from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import torch
from tiny_data import ENCODER, TinyData, tiny_clip
from tiny_models import LENGTH, Structure, parts
from transformers import CLIPTextModel, CLIPTokenizer

from ingest.errors import Graph2ImageError
from model.networks.text_encoders import (
    TextEncoders,
    build_tokenizer,
    convert_text_tower,
)
from model.training.encoders import load_text_encoder

TEXTS = ["", "a red shoe", "Sunset over the sea, ca. 1890", "it's 3 o'clock — café", "word " * 40]


@pytest.mark.parametrize("quick_gelu", [False, True])
@pytest.mark.parametrize("custom_text", [False, True])
def test_hidden_states_equal_open_clips(quick_gelu: bool, custom_text: bool) -> None:
    _, config = tiny_clip()
    model_config = config["model_cfg"]
    torch.manual_seed(0)
    kind = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
    model = kind(**model_config, quick_gelu=quick_gelu).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    converted = convert_text_tower(model_config | {"quick_gelu": quick_gelu}, model.state_dict())

    tokens = open_clip.SimpleTokenizer(context_length=12)(TEXTS)
    seen = []
    final_norm = model.text.ln_final if custom_text else model.ln_final
    final_norm.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.no_grad():
        model.encode_text(tokens)
        hidden = converted(tokens).last_hidden_state
    torch.testing.assert_close(hidden, seen[0], atol=1e-5, rtol=1e-5)


def test_tokenizer_equals_open_clips() -> None:
    expected = open_clip.SimpleTokenizer(context_length=12)(TEXTS)
    tokenizer = build_tokenizer(12)
    ids = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=12, return_tensors="pt").input_ids
    assert ids.shape == expected.shape
    padding = expected == 0  # open_clip pads with 0, CLIP's tokenizer with the end token
    assert torch.equal(ids.masked_fill(padding, 0), expected)
    assert (ids[padding] == tokenizer.eos_token_id).all()


def test_both_survive_saving(shared_tiny: TinyData, tmp_path: Path) -> None:
    text_encoder, tokenizer = load_text_encoder(shared_tiny.root, ENCODER)
    encoded = TextEncoders(text_encoder, tokenizer).encode(TEXTS, batch_size=2)
    assert encoded.hidden.shape == (len(TEXTS), 12, 32)
    text_encoder.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = TextEncoders(CLIPTextModel.from_pretrained(tmp_path), CLIPTokenizer.from_pretrained(tmp_path)).encode(
        TEXTS
    )
    assert torch.equal(loaded.input_ids, encoded.input_ids)
    torch.testing.assert_close(loaded.hidden, encoded.hidden)


def test_another_architecture_is_refused() -> None:
    model, config = tiny_clip()
    foreign = config["model_cfg"] | {"text_cfg": config["model_cfg"]["text_cfg"] | {"no_causal_mask": True}}
    with pytest.raises(Graph2ImageError, match="no_causal_mask"):
        convert_text_tower(foreign, model.state_dict())
    incomplete = {name: value for name, value in model.state_dict().items() if "resblocks.1.mlp" not in name}
    with pytest.raises(Graph2ImageError, match=r"resblocks\.1\.mlp"):
        convert_text_tower(config["model_cfg"], incomplete)


def test_missing_encoder(shared_tiny: TinyData) -> None:
    with pytest.raises(Graph2ImageError, match="no encoder 'nope'"):
        load_text_encoder(shared_tiny.root, "nope")


@pytest.mark.parametrize("structure", ["sd15", "sdxl"])
def test_encoding_does_not_depend_on_the_batch(structure: Structure) -> None:
    found = parts(structure)
    pair_2 = (found.get("text_encoder_2"), found.get("tokenizer_2"))
    encoders = TextEncoders(found["text_encoder"], found["tokenizer"], *pair_2)
    together = encoders.encode(TEXTS)
    assert together.hidden.shape == (len(TEXTS), LENGTH, encoders.hidden_size)
    assert (together.pooled is not None) == (structure == "sdxl")
    for encoded in (encoders.encode(TEXTS, batch_size=2), encoders.encode(TEXTS[::-1])[torch.arange(4, -1, -1)]):
        assert torch.equal(encoded.input_ids, together.input_ids)
        torch.testing.assert_close(encoded.hidden, together.hidden)
        torch.testing.assert_close(encoded.summary, together.summary)
        if together.pooled is not None:
            torch.testing.assert_close(encoded.pooled, together.pooled)


def test_the_summary_is_the_state_at_the_first_end_token() -> None:
    found = parts("sd15")
    encoded = TextEncoders(found["text_encoder"], found["tokenizer"]).encode(["", "ab"])
    for row, length in enumerate((1, 3)):
        assert encoded.input_ids[row, length] == found["tokenizer"].eos_token_id
        assert torch.equal(encoded.summary[row], encoded.hidden[row, length])


def test_empty_texts_are_zero_where_the_model_wants_it() -> None:
    found = parts("sdxl")
    pairs = [found[name] for name in ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")]
    zeroed = TextEncoders(*pairs, zero_empty=True).encode(["", "a thing"])
    plain = TextEncoders(*pairs).encode(["", "a thing"])
    assert zeroed.pooled is not None
    assert plain.pooled is not None
    assert not zeroed.hidden[0].any()
    assert not zeroed.pooled[0].any()
    assert plain.hidden[0].any()
    assert torch.equal(zeroed.hidden[1], plain.hidden[1])
    assert torch.equal(zeroed.pooled[1], plain.pooled[1])


def test_a_tokenizer_that_was_saved_without_a_length() -> None:
    found = parts("sd15")
    found["tokenizer"].model_max_length = int(1e30)
    encoded = TextEncoders(found["text_encoder"], found["tokenizer"]).encode(["a thing", "word " * 40])
    assert encoded.input_ids.shape == (2, LENGTH)
    assert (encoded.input_ids[:, -1] == found["text_encoder"].config.eos_token_id).all()
