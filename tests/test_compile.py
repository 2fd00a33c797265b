"""A model compiled as a whole or part by part: one program for all sizes, with the same results."""

import pytest
import torch
from torch import nn

from semask import PixelLoss
from semask.builder import build
from semask.encoders.encoder import SemanticEncoder
from semask.encoders.swin import Swin, SwinSize


def test_compiled_without_a_break_and_once_for_all_sizes():
    torch.compiler.reset()
    model = build("swin_nano", num_classes=5, channels=64, semantic_window=(3, None, 2, None)).eval()
    graphs = []

    def count(graph, _):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(model, backend=count, dynamic=True, fullgraph=True)
    with torch.no_grad():
        for size in [(320, 352), (321, 415), (384, 500)]:
            image = torch.randn(1, 3, *size)
            torch.testing.assert_close(compiled(image).logits, model(image).logits, atol=1e-5, rtol=1e-4)
    assert len(graphs) == 1


@pytest.mark.parametrize("decoder", ["fpn", "maskformer"])
def test_compiled_part_by_part_once_for_all_sizes(decoder):
    torch.compiler.reset()
    model = build("swin_nano", decoder, num_classes=5, channels=64, semantic_window=(3, None, 2, None)).eval()
    images = [torch.randn(1, 3, *size) for size in [(321, 353), (322, 415), (387, 500), (512, 512)]]
    graphs = []

    def count(graph, _):
        graphs.append(graph)
        return graph.forward

    with torch.no_grad():
        expected = [model(image).prediction[:2] for image in images]
        model.compile(backend=count, fullgraph=True)
        made = []
        for image, wanted in zip(images, expected, strict=True):
            for found, right in zip(model(image).prediction[:2], wanted, strict=True):
                if torch.is_tensor(right):
                    torch.testing.assert_close(found, right, atol=1e-5, rtol=1e-4)
            made.append(len(graphs))
    assert made[0] == made[-1] == 2 * 4 + 4 + 1  # blocks with and without shift, semantic layers, decoder


def test_compiled_training_step():
    torch.compiler.reset()
    swin = Swin(SwinSize(8, depths=(2, 1), heads=(1, 2), window=7, drop_path=0.0))  # compiling nano takes a minute
    model = build(SemanticEncoder(swin, num_classes=5, semantic_window=(3, None)), num_classes=5, channels=16)
    model.decoder.dropout.p = 0.0
    for layer in model.encoder.semantic_layers:
        for attention in layer.attentions:
            attention.dropout.p = 0.0
            nn.init.ones_(attention.scale)
    compiled = torch.compile(model, backend="aot_eager", dynamic=True, fullgraph=True)
    image, label = torch.randn(2, 3, 64, 96), torch.randint(5, (2, 64, 96))
    gradients = []
    for network in (model, compiled):
        PixelLoss()(network(image), label).total.backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
        model.zero_grad()
    for eager, other in zip(*gradients, strict=True):
        torch.testing.assert_close(eager, other, atol=1e-4, rtol=1e-3)
