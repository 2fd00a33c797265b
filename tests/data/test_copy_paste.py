import numpy as np
import torch
from torchvision import tv_tensors

from semask.data.copy_paste import MOST, objects, paste_objects
from semask.data.rare import RareClasses

RARE = 2


def sample(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (40, 60), channels: int = 3):
    """Image of one class with boxes (top, left, height, width) of another, whose pixels have the value 200."""
    label = torch.zeros(size, dtype=torch.uint8)
    for top, left, height, width in boxes:
        label[top : top + height, left : left + width] = RARE
    image = torch.where(label == RARE, 200, 10).to(torch.uint8).expand(channels, *size)
    return tv_tensors.Image(image.clone()), tv_tensors.Mask(label)


def rare_of(samples) -> RareClasses:
    pixels = np.array([np.bincount(label.numpy().ravel(), minlength=256)[:3] for _, label in samples])
    return RareClasses.of(pixels, temperature=0.01)


def test_connected_parts():
    mask = torch.zeros(6, 8, dtype=torch.bool)
    mask[0, :3] = mask[1, 3] = True  # corners connect
    mask[4:, 5:] = True
    parts = [sorted(map(tuple, x.tolist())) for x in objects(mask)]
    assert parts == [[(0, 0), (0, 1), (0, 2), (1, 3)], [(4, 5), (4, 6), (4, 7), (5, 5), (5, 6), (5, 7)]]
    assert objects(torch.zeros(3, 3, dtype=torch.bool)) == []


def test_an_object_comes_with_its_label_at_its_height():
    samples = [sample(), sample((30, 10, 6, 4))]
    columns = set()
    for seed in range(20):
        torch.manual_seed(seed)
        image, label = paste_objects(*samples[0], samples, rare_of(samples))
        assert type(image) is tv_tensors.Image
        assert type(label) is tv_tensors.Mask
        rows, cols = (label == RARE).nonzero(as_tuple=True)
        assert len(rows) == 24
        assert (rows.min(), rows.max()) == (30, 35)
        assert ((image == 200).all(0) == (label == RARE)).all()
        columns.add(int(cols.min()))
    assert len(columns) > 10
    assert not (samples[0][1] == RARE).any()  # what the data set gave is left alone


def test_image_of_another_size_and_many_channels():
    samples = [sample(size=(20, 30), channels=5), sample((20, 50, 10, 8), size=(80, 90), channels=5)]
    image, label = paste_objects(*samples[0], samples, rare_of(samples))
    rows, _ = (label == RARE).nonzero(as_tuple=True)
    assert len(rows) == 80
    assert rows.min() == round(20 / 70 * 10)
    assert image.shape == (5, 20, 30)


def test_an_object_larger_than_the_image_is_cut():
    samples = [sample(size=(20, 30)), sample((0, 5, 80, 50), size=(80, 90))]
    image, label = paste_objects(*samples[0], samples, rare_of([samples[0], sample((0, 0, 1, 1), size=(80, 90))]))
    assert (label == RARE).all()
    assert (image == 200).all()


def test_some_of_many_objects():
    samples = [sample(), sample(*((2, 3 * i, 2, 1) for i in range(20)))]
    counts = set()
    for seed in range(40):
        torch.manual_seed(seed)
        counts.add(int((paste_objects(*samples[0], samples, rare_of(samples))[1] == RARE).sum()))
    assert max(counts) <= 2 * MOST
    assert len(counts) > 4


def test_float_images():
    samples = [(image.float() / 255, label) for image, label in (sample(), sample((3, 4, 5, 6)))]
    image, label = paste_objects(*samples[0], samples, rare_of(samples))
    assert image.dtype == torch.float32
    assert ((image == 200 / 255).all(0) == (label == RARE)).all()
