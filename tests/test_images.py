"""Any picture Pillow opens becomes upright 8-bit RGB, or a reason why not."""

import io
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from captioning.data import images
from captioning.data.images import UnreadableImage

SIZE = (24, 16)


@pytest.fixture
def picture() -> Image.Image:
    """A gradient with a bright corner, so that turns and flips show."""
    x, y = np.meshgrid(np.linspace(0, 200, SIZE[0]), np.linspace(0, 200, SIZE[1]))
    pixels = np.stack([x, y, np.full_like(x, 60)], axis=-1).astype(np.uint8)
    pixels[:4, :4] = 255
    return Image.fromarray(pixels)


def saved(image: Image.Image, path, **keywords):
    image.save(path, **keywords)
    return path


def close(result: Image.Image, expected: Image.Image, tolerance: float = 2) -> bool:
    assert result.mode == "RGB"
    assert result.size == expected.size
    difference = np.asarray(result).astype(int) - np.asarray(expected.convert("RGB"))
    return np.abs(difference).mean() <= tolerance


@pytest.mark.parametrize("extension", ["png", "bmp", "tif", "webp", "jpg", "gif", "ppm", "nothing"])
def test_formats(picture, tmp_path, extension):
    path = tmp_path / f"picture.{extension}"
    known = Image.registered_extensions().get(path.suffix, "PNG")
    picture.save(path, format=known)
    assert close(images.load_rgb(path), picture, tolerance=14 if extension == "gif" else 4)


def test_gray_and_one_bit(picture, tmp_path):
    gray = picture.convert("L")
    assert close(images.load_rgb(saved(gray, tmp_path / "gray.png")), gray)
    bits = picture.convert("1")
    assert close(images.load_rgb(saved(bits, tmp_path / "bits.png")), bits)


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_sixteen_bits_are_scaled_not_cut(picture, tmp_path, mode):
    gray = picture.convert("L")
    samples = np.asarray(gray).astype(np.uint16) * 257
    name, kind = {
        "I;16": ("a.png", np.uint16),
        "I": ("a.tif", np.int32),
        "F": ("b.tif", np.float32),
    }[mode]
    values = samples / 65535 if mode == "F" else samples
    path = saved(Image.fromarray(values.astype(kind)), tmp_path / name)
    assert close(images.load_rgb(path), gray)


def test_transparency_lies_on_white(picture, tmp_path):
    for mode in ("RGBA", "LA"):
        image = picture.convert(mode)
        image.putalpha(0)
        path = saved(image, tmp_path / f"{mode}.png")
        assert close(images.load_rgb(path), Image.new("RGB", SIZE, "white"))
    palette = picture.quantize(16)
    path = saved(palette, tmp_path / "palette.png", transparency=palette.getpixel((0, 0)))
    assert images.load_rgb(path).getpixel((0, 0)) == (255, 255, 255)


def test_cmyk(picture, tmp_path):
    path = saved(picture.convert("CMYK"), tmp_path / "cmyk.jpg", quality=95)
    assert close(images.load_rgb(path), picture, tolerance=6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(picture, tmp_path, orientation):
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = picture.transpose(undo[orientation]) if orientation > 1 else picture
    path = saved(stored, tmp_path / "turned.png", exif=exif)
    assert close(images.load_rgb(path), picture, tolerance=0)


def test_the_first_frame_of_an_animation(picture, tmp_path):
    path = tmp_path / "two.gif"
    picture.save(path, save_all=True, append_images=[Image.new("RGB", SIZE)])
    assert close(images.load_rgb(path), picture, tolerance=14)


def test_extreme_shapes(tmp_path):
    dot = saved(Image.new("RGB", (1, 1), "red"), tmp_path / "dot.png")
    assert (images.load_array(dot, 8) == [255, 0, 0]).all()
    panorama = saved(Image.new("RGB", (20000, 20), "red"), tmp_path / "panorama.png")
    assert (images.load_array(panorama, 8) == [255, 0, 0]).all()


def refused(path) -> str:
    with pytest.raises(UnreadableImage) as caught:
        images.load_rgb(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_reasons(picture, tmp_path):
    whole = saved(picture, tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    assert "truncated" in refused(tmp_path / "half.jpg").lower()
    (tmp_path / "zero.jpg").write_bytes(b"")
    assert refused(tmp_path / "zero.jpg") == "an empty file"
    (tmp_path / "text.jpg").write_text("hello")
    assert refused(tmp_path / "text.jpg") == "not an image"
    assert "No such file" in refused(tmp_path / "none.jpg")
    assert refused(tmp_path) == "a directory"
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    assert "symbolic links" in refused(tmp_path / "loop.jpg")
    assert "name too long" in refused(tmp_path / ("x" * 300)).lower()
    os.mkfifo(tmp_path / "pipe.jpg")
    assert refused(tmp_path / "pipe.jpg") == "not a regular file"


@pytest.mark.parametrize("brand", [b"heic", b"mif1", b"hevx"])
def test_heic_without_a_plug_in_says_so(tmp_path, brand):
    box = b"\x00\x00\x00\x18ftyp" + brand + b"\x00\x00\x00\x00mif1heic"
    (tmp_path / "phone.jpg").write_bytes(box + bytes(100))
    assert "HEIC" in refused(tmp_path / "phone.jpg")
    assert "convert it to JPEG" in refused(tmp_path / "phone.jpg")


def test_a_file_that_may_not_be_read(picture, tmp_path, unprivileged):
    path = saved(picture, tmp_path / "secret.png")
    path.chmod(0)
    program = "import sys; from captioning.data import images; images.load_rgb(sys.argv[1])"
    done = subprocess.run(
        [*unprivileged, sys.executable, "-c", program, path], capture_output=True, text=True
    )
    assert done.stderr.splitlines()[-1].endswith("UnreadableImage: Permission denied")


def test_the_longest_names_a_file_can_have(picture, tmp_path):
    for name in ("x" * 251 + ".png", "🐕" * 62 + ".png"):
        saved(picture, tmp_path / name)
    assert [close(images.load_rgb(path), picture) for path in images.list_files(tmp_path)] == [1, 1]


def test_a_decompression_bomb_is_refused_unread(tmp_path):
    small = io.BytesIO()
    Image.new("1", (1, 1)).save(small, "png")
    start, header, end = small.getvalue()[:12], b"IHDR", small.getvalue()[33:]
    header += struct.pack(">II", 30_000, 30_000) + small.getvalue()[24:29]
    bomb = start + header + struct.pack(">I", zlib.crc32(header)) + end
    (tmp_path / "bomb.png").write_bytes(bomb)
    assert "pixels" in refused(tmp_path / "bomb.png")


def test_resizing_is_pillows_bilinear_without_crop(photographs, tmp_path):
    image = Image.fromarray(photographs[0])
    path = saved(image, tmp_path / "photo.png")
    expected = np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(images.load_array(path, 224), expected)


def test_listing_is_sorted_and_leaves_out_hidden_files(tmp_path):
    for name in ("b.jpg", "a.weird", ".hidden.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    assert [path.name for path in images.list_files(tmp_path)] == ["a.weird", "b.jpg", "folder"]
    with pytest.raises(images.CaptioningError, match="expected a folder"):
        images.list_files(tmp_path / "none")


def test_pictures_one_folder_deeper_are_found(tmp_path, capsys):
    """As archives unpack: Images/Images/a.jpg."""
    deeper = tmp_path / "Images" / "Images"
    deeper.mkdir(parents=True)
    (deeper / "a.jpg").touch()
    assert images.list_files(tmp_path) == [deeper / "a.jpg"]
    assert f"are in {deeper}" in capsys.readouterr().err


def test_pictures_in_several_folders_are_told(tmp_path):
    for name in ("dogs/a.jpg", "dogs/b.jpg", "cats/a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(images.CaptioningError, match="2 folders, such as dogs with 2 files; move"):
        images.list_files(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such file names")
def test_names_that_are_not_utf8(picture, tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9.png"
    picture.save(io.BytesIO(), "png")
    with open(path, "wb") as file:
        picture.save(file, "png")
    (listed,) = images.list_files(tmp_path)
    assert close(images.load_rgb(listed), picture)


def test_batches_keep_the_order_and_name_the_broken(picture, tmp_path):
    paths = []
    for i in range(11):
        paths.append(tmp_path / f"{i:02d}.png")
        if i == 4:
            paths[-1].write_bytes(b"broken")
        else:
            Image.new("RGB", (9, 9), (i, i, i)).save(paths[-1])
    found = list(images.batches(paths, 8, batch_size=4))
    assert [len(batch.paths) for batch in found] == [4, 3, 3]
    assert [path for batch in found for path in batch.paths] == paths[:4] + paths[5:]
    assert [int(p[0, 0, 0]) for b in found for p in b.pixels] == [*range(4), *range(5, 11)]
    assert [batch.unreadable for batch in found] == [{}, {paths[4]: "not an image"}, {}]
    strict = images.batches(paths, 8, batch_size=4, strict=True)
    assert next(strict).paths == paths[:4]
    with pytest.raises(images.CaptioningError, match=r"04\.png: not an image; --strict"):
        next(strict)
