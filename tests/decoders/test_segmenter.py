import pytest
import torch
import torch.nn.functional as F
from torch import nn

from semask import load, save
from semask.builder import build
from semask.decoders.segmenter import ClassMasks, Segmenter, TransformerLayer

CHANNELS, STRIDES = (4, 6, 8, 10), (4, 8, 16, 32)


def decoder(**settings) -> Segmenter:
    return Segmenter(CHANNELS, STRIDES, **{"num_classes": 5, "channels": 16, **settings})


def maps(height: int, width: int) -> list[torch.Tensor]:
    """Feature maps of an image."""
    return [
        torch.randn(2, channels, -(-height // stride), -(-width // stride))
        for channels, stride in zip(CHANNELS, STRIDES, strict=True)
    ]


def test_in_a_model(tmp_path):
    model = build("swin_nano", "segmenter", num_classes=5, channels=32, decoder_layers=1)
    image = torch.randn(1, 3, 70, 90)
    output = model.train()(image).prediction
    assert output.logits.shape == (1, 5, 5, 6)
    assert output.auxiliary == ()
    assert len(model.decoder.layers) == 1
    loaded = load(save(tmp_path / "model.safetensors", model, {}))
    assert loaded(image).logits.equal(model.eval()(image).logits)


@pytest.mark.parametrize(
    ("strides", "level", "decoded"),
    [((4, 8, 16, 32), None, 2), ((16, 16, 16), None, 2), ((4, 8), None, 1), ((4, 8, 16, 32), 0, 0)],
)
def test_level(strides, level, decoded):
    module = Segmenter((6,) * len(strides), strides, num_classes=5, channels=16, level=level).eval()
    features = [torch.randn(1, 6, 3 + i, 4) for i in range(len(strides))]
    assert module(features).logits.shape == (1, 5, 3 + decoded, 4)


def test_gradients_reach_every_parameter():
    module = decoder().train()
    F.cross_entropy(module(maps(64, 96)).logits, torch.randint(5, (2, 4, 6))).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in module.parameters())


def test_masks_equal_the_equation():
    """Score of class k in cell n: the scalar product of the two unit vectors, normalized over the classes."""
    masks = ClassMasks(8, 5)
    cells, classes = torch.randn(2, 6, 8), torch.randn(2, 5, 8)
    product = torch.empty(2, 6, 5)
    for b in range(2):
        for n in range(6):
            for k in range(5):
                cell, token = masks.cells.weight @ cells[b, n], masks.classes.weight @ classes[b, k]
                product[b, n, k] = (cell / cell.norm()) @ (token / token.norm())
    expected = (product - product.mean(-1, True)) / (product.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(masks(cells, classes), expected)
    torch.testing.assert_close(masks(3 * cells, 5 * classes), expected)  # lengths don't count


def test_classes_have_no_order():
    """Tokens in another order give the same scores in that order: a class is nothing but its token."""
    module, features = decoder().eval(), maps(64, 96)
    order = torch.randperm(5)
    before = module(features).logits
    module.classifier.tokens.data = module.classifier.tokens[order]
    torch.testing.assert_close(module(features).logits, before[:, order])


def test_tokens_see_the_image():
    """Class tokens pass through the transformer: another value in one cell moves the scores of all cells."""
    module, features = decoder().eval(), maps(64, 96)
    nn.init.normal_(module.layers[0].qkv.weight)
    before = module(features).logits
    features[2][..., 0, 0] += 100
    assert (module(features).logits != before).any(1).all()


def test_layer_equals_torchs():
    layer = TransformerLayer(16, heads=4, dropout=0.0)
    theirs = nn.TransformerEncoderLayer(16, 4, 64, 0.0, F.gelu, batch_first=True, norm_first=True)
    parameters = {
        "self_attn.in_proj_weight": layer.qkv.weight,
        "self_attn.in_proj_bias": layer.qkv.bias,
        **{f"self_attn.out_proj.{name}": value for name, value in layer.projection[0].state_dict().items()},
        **{f"linear1.{name}": value for name, value in layer.mlp[0].state_dict().items()},
        **{f"linear2.{name}": value for name, value in layer.mlp[3].state_dict().items()},
        **{f"norm1.{name}": value for name, value in layer.norm1.state_dict().items()},
        **{f"norm2.{name}": value for name, value in layer.norm2.state_dict().items()},
    }
    theirs.load_state_dict(parameters)
    x = torch.randn(2, 7, 16)
    torch.testing.assert_close(layer(x), theirs(x))


def test_dropout_only_in_training():
    module, features = decoder(dropout=0.5), maps(64, 96)
    assert not module.train()(features).logits.equal(module(features).logits)
    assert module.eval()(features).logits.equal(module(features).logits)


def test_learns():
    """Where the first channel of a map tells the class, a few steps find it out."""
    module = decoder(dropout=0.0, num_classes=3).train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    features = maps(128, 128)
    label = (features[2][:, 0] > 0).long()
    for _ in range(40):
        loss = F.cross_entropy(module(features).logits, label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.2


def test_bfloat16():
    with torch.autocast("cpu", torch.bfloat16):
        assert decoder()(maps(70, 90)).logits.isfinite().all()


def test_refusals():
    with pytest.raises(ValueError, match="level is 4, but there are 4 maps: give 0 to 3"):
        decoder(level=4)
    with pytest.raises(ValueError, match="channels is 200, which 3 attention heads"):
        decoder(channels=200)
