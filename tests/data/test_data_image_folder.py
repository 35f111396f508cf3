"""Folders of images as people have them: read once, each bad image told, nothing stale."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bitladder.data import cache, decode, decoders, image_folder, load, progress_line
from bitladder.data.splits import FileSplit, TensorSplit
from bitladder.data_names import decoded_folder, sources
from bitladder.errors import DataError
from bitladder.options import DatasetOptions, LoaderOptions

KEPT = LoaderOptions(workers=0)
STREAMED = LoaderOptions(workers=0, decoded_gib=0)


@pytest.fixture(autouse=True)
def _empty_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("BITLADDER_CACHE", str(tmp_path / "cache"))


def _load(root, loader=KEPT, seed=1, size=16, **options):
    return load(DatasetOptions(name=str(root), size=size, **options), loader, seed=seed)


def _write(folder, count=6, start=0, suffix=".png"):
    """Pictures whose every value is ``start`` and their number."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        value = np.full((20, 30, 3), start + index, np.uint8)
        Image.fromarray(value).save(folder / f"{index}{suffix}")


@pytest.fixture
def photos(tmp_path):
    """Two classes: cats are 0 to 11, dogs 100 to 111."""
    for label, name in enumerate(("cat", "dog")):
        _write(tmp_path / "photos" / name, 12, 100 * label)
    return tmp_path / "photos"


def _values(split):
    """The value of each image, and its label, in order."""
    return [
        (round(float(image[0, 8, 8]) * 255), int(label))
        for images, labels in split.batches(5)
        for image, label in zip(images, labels, strict=True)
    ]


def _decodings(monkeypatch):
    """The images that are decoded from now on, in this process."""
    seen = []
    original = decode.decode

    def counted(source, size):
        seen.append(Path(source.path).name)
        return original(source, size)

    monkeypatch.setattr(decode, "decode", counted)
    return seen


def test_a_small_set_is_decoded_once(photos, monkeypatch):
    seen = _decodings(monkeypatch)
    images = _load(photos)
    assert len(seen) == 24
    first = [_values(images.train) for _ in range(3)]
    again = _load(photos, seed=2, normalize="imagenet")  # neither is of the cache's business
    assert again.train.images == 22
    assert len(seen) == 24
    assert isinstance(images.train, TensorSplit)
    assert first[0] == first[1] == first[2]
    assert {value // 100 == label for value, label in first[0]} == {True}
    assert len({value for value, _ in first[0]}) == 22


def test_a_large_set_is_checked_once_and_streamed(photos, monkeypatch):
    seen = _decodings(monkeypatch)
    images = _load(photos, STREAMED)
    assert isinstance(images.train, FileSplit)
    assert len(seen) == 24
    _load(photos, STREAMED)
    assert len(seen) == 24
    _values(images.train)
    assert len(seen) == 24 + 22


@pytest.mark.parametrize("normalize", ["none", "imagenet"])
def test_kept_and_streamed_images_are_the_same_to_the_bit(photos, normalize):
    both = [
        _load(photos, loader, normalize=normalize)
        for loader in (KEPT, STREAMED, LoaderOptions(workers=2, decoded_gib=0))
    ]
    assert len({images.fingerprint for images in both}) == 1
    for name in ("train", "validation"):
        kept, *streamed = (
            list(getattr(images, name).batches(5, shuffle_seed=3)) for images in both
        )
        for other in streamed:
            for (a, b), (c, d) in zip(kept, other, strict=True):
                assert torch.equal(a, c)
                assert torch.equal(b, d)


def test_processes_are_kept_for_all_passes(photos):
    images = _load(photos, LoaderOptions(workers=1, decoded_gib=0))
    _values(images.train)
    workers = decoders._workers(1)
    first = [process.pid for process in workers.processes]
    for _ in range(3):
        _values(images.train)
        _values(images.validation)
    assert [process.pid for process in workers.processes] == first
    assert len(first) == 1


def test_a_pass_that_is_left_half_way_disturbs_no_other(photos):
    images = _load(photos, LoaderOptions(workers=2, decoded_gib=0))
    expected = _values(images.train)
    passing = iter(images.train.batches(2))
    next(passing)
    assert _values(images.train) == expected
    next(passing)
    passing.close()
    assert _values(images.train) == expected


def test_what_takes_long_is_decoded_by_processes(photos, monkeypatch):
    expected = _values(_load(photos).train)
    shutil.rmtree(decoded_folder())
    monkeypatch.setattr(image_folder, "_PATIENCE", 0)
    monkeypatch.setattr(image_folder, "_REQUEST", 5 * 3 * 16 * 16)
    seen = _decodings(monkeypatch)
    assert _values(_load(photos, LoaderOptions(workers=2)).train) == expected
    assert len(seen) == 5


def test_a_process_that_ends_is_told_and_replaced(photos):
    images = _load(photos, LoaderOptions(workers=3, decoded_gib=0))
    expected = _values(images.train)
    for process in decoders._workers(3).processes:
        process.kill()
        process.wait()
    assert _values(images.train) == expected
    passing = iter(images.train.batches(1))
    next(passing)
    for process in decoders._workers(3).processes:
        process.send_signal(signal.SIGSTOP)
        process.kill()
    with pytest.raises(DataError, match="a process that decodes images ended") as raised:
        list(passing)
    assert "\n" not in str(raised.value)
    assert _values(images.train) == expected


def test_a_long_reading_says_how_far_it_is(photos, monkeypatch, capsys):
    monkeypatch.setattr(progress_line, "_SILENT", 0)
    monkeypatch.setattr(progress_line, "_EVERY", 0)
    _load(photos)
    assert capsys.readouterr().err == ""
    shutil.rmtree(decoded_folder())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    _load(photos)
    assert re.search(r"photos: 24 of 24 images, [\d,]+/s\r\x1b\[K$", capsys.readouterr().err)


def test_names_that_are_no_text_are_told_in_one_line(photos):
    folder = os.fsencode(photos / "cat")
    for name in (b"bad\xff.png", b"two\nlines.png"):
        with open(folder + b"/" + name, "wb") as file:  # noqa: PTH123
            file.write(b"x")
    with pytest.raises(DataError, match="2 of 26 images cannot be decoded") as raised:
        _load(photos)
    raised.value.args[0].encode("utf-8")
    assert "\n" not in str(raised.value)


def test_a_daemonic_process_streams(photos, tmp_path):
    script = tmp_path / "daemonic.py"
    script.write_text(
        "import multiprocessing, sys\n"
        "from bitladder.data import load\n"
        "from bitladder.options import DatasetOptions, LoaderOptions\n"
        "def work():\n"
        "    loader = LoaderOptions(workers=2, decoded_gib=0)\n"
        f"    data = load(DatasetOptions(name={str(photos)!r}, size=16), loader, seed=1)\n"
        "    print('images', sum(len(labels) for _, labels in data.train.batches(5)))\n"
        "    sys.stdout.flush()\n"
        "if __name__ == '__main__':\n"
        "    process = multiprocessing.get_context('spawn').Process(target=work, daemon=True)\n"
        "    process.start()\n"
        "    process.join()\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout == "images 22\n", done.stderr


def test_a_decoding_process_loads_no_torch():
    program = "import sys; import bitladder.data.decoders; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_an_image_overwritten_by_another_of_the_same_size_and_time(photos):
    path = photos / "cat" / "3.png"
    other = photos.parent / "other.png"
    before, stat = _load(photos), path.stat()
    Image.fromarray(np.full((20, 30, 3), 77, np.uint8)).save(other)
    content = bytearray(other.read_bytes())
    assert len(content) == stat.st_size
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after = _load(photos)
    assert after.fingerprint != before.fingerprint
    values = dict.fromkeys(value for value, _ in _values(after.train) + _values(after.validation))
    assert 77 in values
    assert 3 not in values


def test_a_label_changes_the_fingerprint_and_a_copy_of_the_folder_does_not(photos, tmp_path):
    before = _load(photos).fingerprint
    shutil.copytree(photos, tmp_path / "copy")
    assert _load(tmp_path / "copy").fingerprint == before
    (photos / "cat" / "3.png").rename(photos / "dog" / "99.png")
    assert _load(photos).fingerprint != before


def test_an_image_that_changes_while_it_is_streamed_is_told(photos):
    images = _load(photos, STREAMED)
    for path in photos.rglob("*.png"):
        path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(DataError, match="has changed since the data set was read"):
        _values(images.train)


@pytest.mark.parametrize("harm", ["a byte", "cut", "no facts", "half written"])
def test_a_damaged_cache_is_made_again(photos, harm, monkeypatch):
    expected = _values(_load(photos).train)
    [pixels] = decoded_folder().glob("*/pixels")
    if harm == "a byte":
        content = bytearray(pixels.read_bytes())
        content[100] ^= 1
        pixels.write_bytes(content)
    elif harm == "cut":
        pixels.write_bytes(pixels.read_bytes()[:-1])
    elif harm == "no facts":
        (pixels.parent / "about.json").write_text("{")
    else:
        (pixels.parent / "about.json").unlink()
        pixels.write_bytes(b"\0" * 10)
    seen = _decodings(monkeypatch)
    assert _values(_load(photos).train) == expected
    assert len(seen) == 24
    assert _values(_load(photos).train) == expected
    assert len(seen) == 24


def test_a_cache_that_cannot_be_written_is_done_without(photos, monkeypatch, tmp_path):
    expected = _values(_load(photos).train)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BITLADDER_CACHE", str(tmp_path / "file"))
    images = _load(photos)
    assert isinstance(images.train, FileSplit)
    assert _values(images.train) == expected


def test_a_full_disk_is_no_failure(photos, monkeypatch, small_disk):
    monkeypatch.setenv("BITLADDER_CACHE", str(small_disk))
    images = _load(photos, size=256)
    assert isinstance(images.train, FileSplit)
    assert len(_values(images.train)) == 22
    assert not list(decoded_folder().glob(".*.part"))


def test_processes_at_once_make_one_cache(photos):
    program = (
        "from bitladder.data import load\n"
        "from bitladder.options import DatasetOptions\n"
        "from bitladder.options import LoaderOptions\n"
        f"data = load(DatasetOptions(name={str(photos)!r}, size=16), LoaderOptions(), seed=1)\n"
        "print(data.fingerprint, sum(images.sum().item() for images, _ in data.train.batches(5)))\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) for _ in range(2)
    ]
    told = {process.communicate()[0] for process in running}
    assert len(told) == 1
    assert told != {b""}
    assert len(list(decoded_folder().glob("*/pixels"))) == 1


def test_what_nobody_used_for_long_is_removed(photos):
    _load(photos)
    [old] = [pixels.parent for pixels in decoded_folder().glob("*/pixels")]
    os.utime(old, (0, 0))
    _load(photos, size=8)
    assert not old.exists()


_BAD = {
    "empty.png": (b"", "the file is empty"),
    "text.jpg": (b"no picture", "not an image"),
    "half.png": (None, "truncated"),
    "huge.png": (
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\1\0\0\0\1\0\0\x08\2\0\0\0" + b"\0" * 4,
        "has 4294967296 pixels; make it smaller",
    ),
}


@pytest.mark.parametrize("loader", [KEPT, STREAMED], ids=["kept", "streamed"])
def test_all_bad_images_are_named_at_once_before_anything_else(photos, loader):
    whole = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(whole).save(photos / "whole.png")
    half = (photos / "whole.png").read_bytes()[:2000]
    (photos / "whole.png").unlink()
    for name, (content, _) in _BAD.items():
        if name == "huge.png":  # its checksum
            import struct
            import zlib

            content = content[:-4] + struct.pack(">I", zlib.crc32(content[12:29]))
            content += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
        (photos / "cat" / name).write_bytes(half if content is None else content)
    (photos / "dog" / "gone.png").symlink_to(photos / "nowhere.png")
    with pytest.raises(DataError) as raised:
        _load(photos, loader)
    message = str(raised.value)
    assert "5 of 29 images cannot be decoded" in message
    assert "\n" not in message
    for name, (_, reason) in _BAD.items():
        assert re.search(rf"cat/{name}: [^;]*{reason}", message), message
    assert "dog/gone.png: " in message


def test_of_many_bad_images_20_are_named_and_all_counted(photos):
    for number in range(25):
        (photos / "cat" / f"bad{number}.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"25 of 49 images .*; and 5 more$") as raised:
        _load(photos)
    assert str(raised.value).count("not an image") == 20


def test_a_mended_image_is_read(photos):
    good = (photos / "cat" / "3.png").read_bytes()
    (photos / "cat" / "3.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"cat/3\.png: not an image"):
        _load(photos)
    (photos / "cat" / "3.png").write_bytes(good)
    assert _load(photos).train.images == 22


def test_hidden_files_and_folders_are_left_out(photos):
    expected = _load(photos).fingerprint
    for name in (".ipynb_checkpoints", "__MACOSX", "@eaDir", ".git"):
        _write(photos / name)
        _write(photos / "cat" / name)
    for name in ("._0.png", ".DS_Store", "Thumbs.db", "desktop.ini"):
        (photos / "cat" / name).write_bytes(b"x")
        (photos / name).write_bytes(b"x")
    images = _load(photos)
    assert images.classes == 2
    assert images.fingerprint == expected
    assert images.notes == ()


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("train", "val"), "train validation"),
        (("Train", "Valid"), "train validation"),
        (("training", "validation"), "train validation"),
        (("TRAIN", "VAL", "TEST"), "train validation test"),
        (("train", "test"), "train test"),
        (("Training", "Testing"), "train test"),
        (("train",), "train"),
        (("val",), "train"),
        (("val", "test"), "train test"),
        (("test",), "train"),
    ],
)
def test_splits_by_the_names_of_folders(tmp_path, names, splits):
    for number, name in enumerate(names):
        _write(tmp_path / "set" / name / "cat", 12, 24 * number)
        _write(tmp_path / "set" / name / "dog", 12, 100 + 24 * number)
    images = _load(tmp_path / "set")
    expected = {
        split: {*range(24 * number, 24 * number + 12), *range(100 + 24 * number, 112 + 24 * number)}
        for number, split in enumerate(splits.split())
    }
    found = {
        name: {value for value, _ in _values(split)}
        for name, split in (
            ("train", images.train),
            ("validation", images.validation),
            ("test", images.test),
        )
        if split is not None
    }
    if "validation" not in expected:
        assert found["train"] | found["validation"] == expected["train"]
        assert not found["train"] & found["validation"]
        assert len(found["validation"]) == 2
    else:
        assert found["train"] == expected["train"]
        assert found["validation"] == expected["validation"]
    assert found.get("test") == expected.get("test")
    official = names[0].lower().startswith("train")
    assert official != any("not comparable" in note for note in images.notes)


def test_fewer_validation_images_are_drawn_from_all_classes(tmp_path):
    for name, start in (("train", 0), ("val", 100)):
        _write(tmp_path / "set" / name / "cat", 20, start)
        _write(tmp_path / "set" / name / "dog", 20, start + 50)
    images = _load(tmp_path / "set", validation=12)
    assert {label for _, label in _values(images.validation)} == {0, 1}
    with pytest.raises(DataError, match="41 validation images asked for, there are 40"):
        _load(tmp_path / "set", validation=41)


def _of(tmp_path, *paths):
    for path in paths:
        _write(tmp_path / "set" / path, 3)
    return tmp_path / "set"


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["train/cat", "train/dog", "val/cat", "val/cow"], "val has no dog; val alone has cow"),
        (["train/cat", "train/dog", "val/cat"], "val has no dog"),
        (["train/cat", "train/dog", "test/cat", "test/dog", "test/x"], "test alone has x"),
        (["train", "val"], "train, val hold images directly.*train/CLASS/image"),
        (["train", "val/cat", "val/dog"], "train: holds images directly"),
        (["train/cat", "train/dog", "val/cat", "val/dog", "valid/cat"], "both val and valid"),
        (["."], r"holds images directly, such as 0\.png"),
        (["cat"], "only one class, cat"),
        (["photos/cat", "photos/dog"], "if its folders are the classes, give .*photos"),
    ],
)
def test_folders_of_another_form_are_told(tmp_path, paths, message):
    with pytest.raises(DataError, match=message) as raised:
        _load(_of(tmp_path, *paths))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("suffix", "message"), [(".heic", r"\.heic: 1"), (".txt", r"\.txt: 1")])
def test_a_folder_of_other_files_names_their_suffixes(tmp_path, suffix, message):
    (tmp_path / "set" / "cat").mkdir(parents=True)
    (tmp_path / "set" / "cat" / f"a{suffix}").write_bytes(b"x")
    with pytest.raises(DataError, match=message):
        _load(tmp_path / "set")


def test_a_class_may_have_the_name_of_a_split(tmp_path):
    images = _load(_of(tmp_path, "train", "bus", "car"))
    assert images.classes == 3


def test_what_is_left_out_is_noted(photos):
    (photos / "empty").mkdir()
    (photos / "cat" / "list.txt").write_text("x")
    _write(photos, 2)
    notes = " ".join(_load(photos).notes)
    assert "classes without images are left out: empty" in notes
    assert "1 files without an image's suffix left out (.txt: 1)" in notes
    assert "2 images outside of the classes' folders left out" in notes


def test_an_empty_class_of_a_split_is_noted_or_refused(tmp_path):
    root = _of(tmp_path, "train/cat", "train/dog", "val/cat")
    (root / "val" / "dog").mkdir()
    images = _load(root)
    assert images.classes == 2
    assert any("val: classes without images: dog" in note for note in images.notes)
    assert any("no images to validate on of class dog" in note for note in images.notes)
    shutil.move(root / "val" / "cat", root / "val" / "dog" / "deeper")
    shutil.rmtree(root / "train" / "dog")
    (root / "train" / "dog").mkdir()
    (root / "val" / "cat").mkdir()
    with pytest.raises(DataError, match="train: no images of dog"):
        _load(root)


def test_deeper_folders_links_and_large_suffixes(tmp_path):
    root = tmp_path / "set"
    _write(root / "cat" / "2024" / "may", 5, suffix=".PNG")
    _write(tmp_path / "elsewhere", 5, 100)
    root.mkdir(exist_ok=True)
    (root / "dog").symlink_to(tmp_path / "elsewhere")
    (root / "cat" / "round").symlink_to(root / "cat")
    images = _load(root)
    values = sorted(_values(images.train) + _values(images.validation))
    assert values == [*((n, 0) for n in range(5)), *((100 + n, 1) for n in range(5))]
    assert sum(path.is_file() for path in sources(str(root), None)) == 10


def test_gray_among_colours_and_floats_are_noted(photos):
    Image.fromarray(np.full((20, 20), 50, np.uint8)).save(photos / "cat" / "gray.png")
    Image.fromarray(np.full((20, 20), 5000.0, np.float32)).save(photos / "dog" / "depth.tif")
    notes = " ".join(_load(photos).notes)
    assert "2 of 26 images are gray, such as cat/gray.png" in notes
    assert "1 images hold values beyond" in notes
    assert "such as dog/depth.tif" in notes


def test_validation_images_that_are_training_images_are_noted(tmp_path):
    root = _of(tmp_path, "train/cat", "train/dog", "val/cat", "val/dog")
    assert any("validation images are training images, too" in note for note in _load(root).notes)


def test_a_file_in_place_of_a_folder(tmp_path):
    (tmp_path / "photos.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match="is a file; give a folder"):
        _load(tmp_path / "photos.zip")


def test_a_home_folder_is_found(photos, monkeypatch):
    monkeypatch.setenv("HOME", str(photos.parent))
    assert _load("~/photos").train.images == 22
    assert sources("~/photos", None) == sources(str(photos), None)


def test_hashes_of_files_follow_every_change(photos):
    path = photos / "cat" / "3.png"
    for time in (0, 1):  # long ago, so that its times are trusted
        os.utime(path, (time, time))
        first = cache.digests([path])
        assert cache.digests([path]) == first
    path.write_bytes(b"other")
    assert cache.digests([path]) != first
