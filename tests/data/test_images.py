import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semask.data.images import dark_line, reach_of, read_image, read_mask, read_size


def write_png(path: Path, *, width: int, height: int, depth: int, color_type: int, rows: list[bytes]) -> Path:
    """Write what Pillow itself cannot: gray of 2 or 4 bits, RGB of 16 bits, a header that promises too much."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    return path


def one_line(error: pytest.ExceptionInfo[ValueError], path: Path) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message


def gradient(width: int = 40, height: int = 30) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 6, y * 8, x + y], -1).astype(np.uint8))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_rgb_round_trip(tmp_path, suffix):
    gradient().save(tmp_path / f"a{suffix}")
    image = read_image(tmp_path / f"a{suffix}")
    assert image.mode == "RGB"
    assert np.array_equal(image, gradient())


def test_cmyk_jpeg_keeps_its_colors(tmp_path):
    Image.new("RGB", (16, 16), (200, 40, 40)).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.abs(np.array(read_image(tmp_path / "a.jpg")).astype(int) - (200, 40, 40)).max() <= 6


def test_sixteen_bits_are_scaled_to_eight(tmp_path):
    gray = np.array([[0, 255, 256, 65535]], dtype=np.uint16)
    Image.fromarray(gray).save(tmp_path / "gray.png")
    Image.fromarray(gray).save(tmp_path / "gray.tif")
    for name in ("gray.png", "gray.tif"):
        assert np.array(read_image(tmp_path / name))[0].tolist() == [[0] * 3, [0] * 3, [1] * 3, [255] * 3]
    rgb = write_png(
        tmp_path / "rgb.png", width=1, height=1, depth=16, color_type=2, rows=[struct.pack(">3H", 65535, 32768, 256)]
    )
    assert read_image(rgb).getpixel((0, 0)) == (255, 128, 1)


@pytest.mark.parametrize(("mode", "color"), [("RGBA", (10, 20, 30, 0)), ("LA", (77, 0)), ("L", 77), ("1", 1)])
def test_alpha_is_dropped_and_gray_becomes_rgb(tmp_path, mode, color):
    Image.new(mode, (4, 3), color).save(tmp_path / "a.png")
    expected = {"RGBA": (10, 20, 30), "1": (255, 255, 255)}.get(mode, (77, 77, 77))
    image = read_image(tmp_path / "a.png")
    assert image.mode == "RGB"
    assert image.getpixel((1, 1)) == expected


def test_palette_image_is_read_as_colors(tmp_path):
    image = Image.new("P", (4, 3), 1)
    image.putpalette([0, 0, 0, 9, 8, 7])
    image.save(tmp_path / "a.png", transparency=1)
    assert read_image(tmp_path / "a.png").getpixel((0, 0)) == (9, 8, 7)


@pytest.mark.parametrize("suffix", [".png", ".gif", ".tif", ".webp"])
def test_of_an_animation_the_first_frame_is_read(tmp_path, suffix):
    first, second = Image.new("RGB", (8, 8), (250, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 250))
    first.save(tmp_path / f"a{suffix}", save_all=True, append_images=[second])
    red, _, blue = read_image(tmp_path / f"a{suffix}").getpixel((4, 4))
    assert red > 200
    assert blue < 50


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_exif_orientation_is_applied(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    stored = Image.new("RGB", (40, 20), (0, 0, 0))
    stored.paste((255, 255, 255), (0, 0, 40, 10))
    stored.save(tmp_path / f"a{suffix}", exif=exif)
    image = read_image(tmp_path / f"a{suffix}")
    assert image.size == (20, 40)
    assert image.getpixel((15, 20))[0] > 200  # the top of the stored image is now at the right
    assert image.getpixel((5, 20))[0] < 50
    assert read_size(tmp_path / f"a{suffix}") == (40, 20)
    if suffix != ".tif":
        assert read_image(tmp_path / f"a{suffix}", upright=False).size == (40, 20)
        assert read_size(tmp_path / f"a{suffix}", upright=False) == (20, 40)


def test_one_pixel(tmp_path):
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").getpixel((0, 0)) == (1, 2, 3)


def test_other_channels(tmp_path):
    gradient().save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", channels=1).mode == "L"
    assert read_image(tmp_path / "a.png", channels=4).mode == "RGBA"
    with pytest.raises(ValueError, match=r"channels=5: .* 1 \(gray\), 3 \(RGB\) or 4 \(RGBA\)"):
        read_image(tmp_path / "a.png", channels=5)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".gif"])
@pytest.mark.parametrize("read", [read_image, read_mask])
def test_truncated_files(tmp_path, suffix, read):
    path = tmp_path / f"a{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="damaged") as error:
        read(path)
    one_line(error, path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "empty"), (b"no image", "not an image"), (None, "no such file"), ("dir", "is a folder")],
)
@pytest.mark.parametrize("read", [read_image, read_mask, read_size])
def test_what_is_no_image(tmp_path, content, message, read):
    path = tmp_path / "a.png"
    if content == "dir":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read(path)
    one_line(error, path)


def test_damaged_png_of_any_kind_is_one_line(tmp_path):
    gradient().save(tmp_path / "good.png")
    good = bytearray((tmp_path / "good.png").read_bytes())
    rng = np.random.default_rng(0)
    messages = []
    for _ in range(60):
        bad = bytearray(good)
        for place in rng.integers(8, len(bad), 3):
            bad[place] ^= 0xFF
        (tmp_path / "bad.png").write_bytes(bad)
        try:
            read_image(tmp_path / "bad.png")
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > 30
    assert all(message.startswith(str(tmp_path / "bad.png")) and "\n" not in message for message in messages)


def test_decompression_bomb(tmp_path):
    bomb = write_png(tmp_path / "bomb.png", width=30_000, height=30_000, depth=8, color_type=2, rows=[b"\0"])
    for read in (read_image, read_mask, read_size):
        with pytest.raises(ValueError, match=r"too large: .*900000000 pixels.*178956970.*SEMASK_MAX_PIXELS") as error:
            read(bomb)
        one_line(error, bomb)


def test_limit_of_pixels_is_a_setting(tmp_path, monkeypatch):
    gradient(40, 30).save(tmp_path / "a.png")
    monkeypatch.setenv("SEMASK_MAX_PIXELS", "1199")
    with pytest.raises(ValueError, match="40 x 30 pixels, the limit is 1199"):
        read_image(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    monkeypatch.setenv("SEMASK_MAX_PIXELS", "1200")
    assert read_image(tmp_path / "a.png").size == (40, 30)
    monkeypatch.setenv("SEMASK_MAX_PIXELS", "many")
    with pytest.raises(ValueError, match="SEMASK_MAX_PIXELS is 'many'"):
        read_image(tmp_path / "a.png")


def test_float_tiff_is_refused(tmp_path):
    Image.fromarray(np.ones((3, 4), dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="32 bits"):
        read_image(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="mode F"):
        read_mask(tmp_path / "a.tif")


def test_mask_modes_keep_the_values(tmp_path):
    values = np.array([[0, 1, 7], [19, 200, 255]], dtype=np.uint8)
    palette = Image.fromarray(values)
    palette.putpalette([5] * 768)
    for name, image in {
        "l.png": Image.fromarray(values),
        "p.png": palette,
        "p.tif": palette,
        "la.png": Image.fromarray(values).convert("LA"),
        "i16.png": Image.fromarray(values.astype(np.uint16)),
        "i.tif": Image.fromarray(values.astype(np.int32)),
    }.items():
        image.save(tmp_path / name)
        assert np.array_equal(read_mask(tmp_path / name), values), name
    big = np.array([[0, 300, 65535]], dtype=np.uint16)
    Image.fromarray(big).save(tmp_path / "big.png")
    assert np.array_equal(read_mask(tmp_path / "big.png"), big)


def test_mask_of_few_bits_is_not_stretched(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 2, 3]], dtype=np.uint8))
    image.putpalette([0] * 12)
    image.save(tmp_path / "p2.png", bits=2)
    assert read_mask(tmp_path / "p2.png").tolist() == [[0, 1, 2, 3]]
    two = write_png(tmp_path / "l2.png", width=4, height=1, depth=2, color_type=0, rows=[bytes([0b00011011])])
    assert read_mask(two).tolist() == [[0, 1, 2, 3]]
    four = write_png(tmp_path / "l4.png", width=4, height=1, depth=4, color_type=0, rows=[bytes([0x01, 0x9F])])
    assert read_mask(four).tolist() == [[0, 1, 9, 15]]
    Image.fromarray(np.array([[False, True]])).save(tmp_path / "bit.png")
    assert read_mask(tmp_path / "bit.png").tolist() == [[0, 1]]


def test_mask_of_colors(tmp_path):
    gradient().save(tmp_path / "rgb.png")
    gradient().convert("RGBA").save(tmp_path / "rgba.png")
    for name in ("rgb.png", "rgba.png"):
        assert np.array_equal(read_mask(tmp_path / name), gradient())


def test_lossy_mask_is_refused(tmp_path):
    gradient().convert("L").save(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match="JPEG does not keep label values exactly: save masks as PNG"):
        read_mask(tmp_path / "a.jpg")


@pytest.mark.parametrize("read", [read_image, read_mask, read_size])
@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_is_not_waited_for(tmp_path, read, linked):
    path = tmp_path / "a.png"
    os.mkfifo(tmp_path / "pipe")
    if linked:
        path.symlink_to(tmp_path / "pipe")
    else:
        (tmp_path / "pipe").rename(path)
    with pytest.raises(ValueError, match="is a pipe, socket or device, not a file") as error:
        read(path)
    one_line(error, path)


@pytest.mark.parametrize("read", [read_image, read_mask, read_size])
@pytest.mark.parametrize("name", ["a\0b.png", "\udcff.png", "n" * 300 + ".png", "\x1b[31m\n.png"])
def test_names_that_no_file_has(tmp_path, read, name):
    with pytest.raises(ValueError, match=r"no such file|cannot be opened") as error:
        read(tmp_path / name)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(("highest", "dark"), [(0, False), (1, True), (3000, True), (16_383, True), (20_000, False)])
def test_the_range_of_16_bits_is_known(tmp_path, suffix, highest, dark):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.array([[0, highest]], dtype=np.uint16)).save(path)
    reach = reach_of(read_image(path))
    assert reach == (highest, 16)
    assert reach.dark == dark
    assert (dark_line({path: reach}) is not None) == dark


def test_the_range_of_16_bit_colors_is_known_to_8_bits(tmp_path):
    row = struct.pack(">6H", 0, 3000, 0, 0, 0, 200)
    path = write_png(tmp_path / "a.png", width=2, height=1, depth=16, color_type=2, rows=[row])
    assert reach_of(read_image(path)) == (3071, 16)
    gradient().save(tmp_path / "b.png")
    assert reach_of(read_image(tmp_path / "b.png")) is None


def test_a_decoder_without_memory_is_no_damaged_image(tmp_path, monkeypatch):
    gradient().save(tmp_path / "a.png")

    def fails(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fails)
    with pytest.raises(ValueError, match="there is not enough memory to read it") as error:
        read_image(tmp_path / "a.png")
    one_line(error, tmp_path / "a.png")
