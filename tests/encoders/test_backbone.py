import copy
import io

import pytest
import torch
from torch import nn

from semask.encoders.backbone import Backbone, LibraryBackbone, flattened, probe, sequence
from semask.encoders.encoder import SemanticEncoder
from semask.encoders.library import library_backbone


def model() -> nn.Sequential:
    """A stem and three stages, the second one below another module."""
    layers = {
        "stem": nn.Conv2d(3, 4, 2, 2),
        "first": nn.Sequential(nn.Conv2d(4, 6, 2, 2), nn.BatchNorm2d(6)),
        "body": nn.Sequential(nn.GELU(), nn.Conv2d(6, 8, 2, 2), nn.ReLU()),
        "last": nn.Conv2d(8, 10, 3, 2, 1),
        "head": nn.Linear(1, 1),
    }
    whole = nn.Sequential()
    for name, layer in layers.items():
        whole.add_module(name, layer)
    return whole


ENDS = ["first", "body.1", "last"]


def backbone() -> LibraryBackbone:
    whole = model()
    plan = sequence(whole, flattened(whole, ENDS), ENDS, channels=(6, 8, 10), strides=(4, 8, 16))
    return LibraryBackbone(whole, plan, name="mine")


def encoder(**settings) -> SemanticEncoder:
    return SemanticEncoder(backbone(), **{"num_classes": 5, "semantic_window": (4, 4, None), **settings})


def test_modules_are_opened_as_far_as_the_ends_ask_for():
    assert flattened(model(), ENDS) == ["stem", "first", "body.0", "body.1", "body.2", "last"]
    assert flattened(model(), ["first", "body"]) == ["stem", "first", "body"]
    assert flattened(model(), ["first", "nope"])[-1] == "head"


def test_a_sequence_runs_every_module_once():
    ours, image = backbone(), torch.randn(2, 3, 32, 48)
    state, maps = ours.stem(image), []
    for index, stage in enumerate(ours.stages):
        state = stage(state)
        maps.append(ours.read(state, index))
    assert [x.shape for x in maps] == [(2, 8, 12, 6), (2, 4, 6, 8), (2, 2, 3, 10)]
    whole = ours.model
    x = whole.body[:2](whole.first(whole.stem(image)))
    assert state.equal(whole.last(whole.body[2](x)))


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        (["first", "third"], r"\['third'\] not among the model's modules stem, first, body, last, head"),
        ([], "not among the model's modules"),
        (["last", "first"], "not in the order in which the model runs them"),
    ],
)
def test_faults_of_a_sequence(ends, message):
    whole = model()
    with pytest.raises(ValueError, match=message) as caught:
        sequence(whole, flattened(whole, ends), ends, channels=(), strides=())
    assert "\n" not in str(caught.value)


def test_probe_finds_channels_and_strides_and_leaves_the_model_as_it_was():
    whole = model().train()
    mean = whole.first[1].running_mean.clone()
    plan = sequence(whole, flattened(whole, ENDS), ENDS, channels=(0,) * 3, strides=(0,) * 3)
    found = probe(whole, plan, in_channels=3)
    assert (found.channels, found.strides) == ((6, 8, 10), (4, 8, 16))
    assert whole.training
    assert whole.first[1].running_mean.equal(mean)


def test_probe_refuses_what_is_no_map():
    class Last(nn.Module):
        def forward(self, x):
            return x.permute(0, 2, 3, 1)

    whole = nn.Sequential(nn.Conv2d(3, 4, 4, 4), Last())
    plan = sequence(whole, ["0", "1"], ["1"], channels=(0,), strides=(0,))
    with pytest.raises(RuntimeError, match=r"not maps \[B, C, h, w\]"):
        probe(whole, plan, in_channels=3)


def test_a_refined_map_keeps_the_order_in_memory():
    ours, x = backbone(), torch.randn(1, 6, 4, 5)
    for state in (x, x.contiguous(memory_format=torch.channels_last)):
        written = ours.write(state, ours.read(state, 0) + 0, 0)
        assert written.equal(x)
        assert written.stride() == state.stride()


def test_copies_and_pickles_run_their_own_weights():
    image, ours = torch.randn(1, 3, 32, 32), encoder().eval()
    expected = ours(image)
    file = io.BytesIO()
    torch.save(ours, file)
    file.seek(0)
    for other in (copy.deepcopy(ours), torch.load(file, weights_only=False)):
        assert other(image).maps[-1].equal(expected.maps[-1])
        nn.init.zeros_(other.backbone.model.stem.weight)
        assert not other(image).maps[-1].equal(expected.maps[-1])
        assert ours(image).maps[-1].equal(expected.maps[-1])


def test_gradient_checkpointing_computes_the_same():
    gradients, passes = [], []
    for enabled in (False, True):
        torch.manual_seed(1)
        ours = SemanticEncoder(
            library_backbone("timm/convnext_atto", drop_path=0.5),  # with stochastic depth
            num_classes=5,
            semantic_window=(7, 7, None, None),
        ).train()
        ours.backbone.set_gradient_checkpointing(enabled)
        count = [0]
        ours.backbone.model.stages_0.register_forward_pre_hook(lambda *_, c=count: c.__setitem__(0, c[0] + 1))
        sum(x.sin().sum() for x in ours(torch.randn(2, 3, 64, 64)).maps).backward()
        gradients.append([x.grad for x in ours.backbone.parameters() if x.grad is not None])
        passes.append(count[0])
    torch.testing.assert_close(gradients[0], gradients[1])
    assert gradients[0]
    assert passes == [1, 2]


def test_a_backbone_of_your_own_without_gradient_checkpointing_says_so():
    with pytest.raises(ValueError, match=r"set training\.gradient_checkpointing false"):
        Backbone().set_gradient_checkpointing(True)


def test_faults_of_our_own_are_not_taken_for_a_matter_of_size():
    ours = encoder(semantic_depths=0)
    with pytest.raises(ValueError, match="mine does not take images of 2 x 2") as caught:
        ours(torch.randn(1, 3, 2, 2))  # nothing is left after the stem
    assert "\n" not in str(caught.value)
    ours.backbone.model.last = nn.Identity()
    ours.backbone.model.last.forward = lambda x: x.no_such_thing
    with pytest.raises(AttributeError, match="no_such_thing"):
        ours(torch.randn(1, 3, 32, 32))
