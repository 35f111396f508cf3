"""Data sets of a user's function: checked item by item, known by their pixels, augmented still."""

import textwrap

import pytest
import torch

from bitladder.data import load
from bitladder.data.splits import DatasetSplit, TensorSplit
from bitladder.errors import DataError
from bitladder.options import DatasetOptions, LoaderOptions

HEAD = """
import random
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, random_split

class Made(Dataset):
    def __init__(self, make, images=24):
        self.make, self.images = make, images
    def __len__(self):
        return self.images
    def __getitem__(self, index):
        if index >= self.images:
            raise IndexError(index)
        return self.make(index)

class Stream(IterableDataset):
    def __iter__(self):
        return iter([(image(0), 0)])

def image(index):
    return torch.full((3, 8, 8), index / 100)
"""


@pytest.fixture
def define(tmp_path, monkeypatch):
    """Write a module that defines ``f``, and load the data set that it gives."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BITLADDER_CACHE", str(tmp_path / "cache"))
    count = 0

    def make(body, *, workers=0, gib=2, seed=1, **options):
        nonlocal count
        count += 1
        name = f"made_{tmp_path.name}_{count}"
        (tmp_path / f"{name}.py").write_text(HEAD + textwrap.dedent(body))
        monkeypatch.syspath_prepend(str(tmp_path))
        loader = LoaderOptions(workers=workers, decoded_gib=gib)
        return load(DatasetOptions(name=f"{name}:f", **options), loader, seed=seed)

    return make


FIXED = """
def f():
    return Made(lambda i: (image(i), i % 3))
"""
PIXEL = """
def f():
    return Made(lambda i: (image(i) + (i == 23) * 1e-6, i % 3))
"""
LABEL = """
def f():
    return Made(lambda i: (image(i), 1 if i == 23 else i % 3))
"""
NOISE = """
def f():
    return Made(lambda i: (image(i) + torch.rand(3, 8, 8), i % 3))
"""


def _all(split, **given):
    images, labels = zip(*split.batches(5, **given), strict=True)
    return torch.cat(images), torch.cat(labels)


def test_every_pixel_and_label_is_in_the_fingerprint(define):
    first, again, pixel, label = (define(body) for body in (FIXED, FIXED, PIXEL, LABEL))
    assert first.fingerprint == again.fingerprint
    assert len({first.fingerprint, pixel.fingerprint, label.fingerprint}) == 3


def test_what_is_fixed_is_kept_and_read_no_more(define, tmp_path):
    body = """
    reads = []
    def one(i):
        with open("reads.txt", "a") as file:
            file.write("x")
        return image(i), i % 3
    def f():
        return Made(one), Made(one, 6)
    """
    data = define(body)
    reads = (tmp_path / "reads.txt").stat().st_size
    assert reads == 2 * (24 + 6)  # that it is fixed is seen by reading twice
    assert isinstance(data.train, TensorSplit)
    images, labels = _all(data.train)
    values = (images[:, 0, 0, 0] * 100).round().int()
    assert sorted(values.tolist()) == list(range(24))
    assert torch.equal(values % 3, labels.int())
    images, _ = _all(data.validation)
    assert (images[:, 0, 0, 0] * 100).round().int().tolist() == list(range(6))
    assert (tmp_path / "reads.txt").stat().st_size == reads
    define(body)
    assert (tmp_path / "reads.txt").stat().st_size == reads + 30


def test_kept_images_are_those_of_the_function_to_the_bit(define):
    body = """
    def f():
        g = torch.Generator().manual_seed(0)
        x = torch.randn(24, 3, 8, 8, generator=g)
        return TensorDataset(x, torch.arange(24) % 3), TensorDataset(x * 2, torch.arange(24) % 3)
    """
    kept, streamed = define(body), define(body, gib=0)
    expected = torch.randn(24, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert isinstance(streamed.train, DatasetSplit)
    assert kept.fingerprint == streamed.fingerprint
    for data in (kept, streamed):
        assert torch.equal(_all(data.validation)[0], expected * 2)
    assert torch.equal(_all(kept.train)[0], _all(streamed.train)[0])


AUGMENTED = {
    "torch": "image(i) + torch.rand(1)",
    "numpy": "image(i) + np.random.rand()",
    "python": "image(i) + random.random()",
    "seldom": "image(i).flip(2) if torch.rand(1) < 0.001 else image(i)",
    "own": "image(i) + np.random.default_rng().random()",
}


@pytest.mark.parametrize("how", AUGMENTED)
@pytest.mark.parametrize("gib", [0, 2])
def test_augmented_images_are_not_frozen(define, how, gib):
    body = f"""
    def one(i):
        return ({AUGMENTED[how]}).float(), i % 3
    def f():
        return Made(one), Made(lambda i: (image(i), i % 3))
    """
    data = define(body, gib=gib)
    assert isinstance(data.train, DatasetSplit)
    assert isinstance(data.validation, TensorSplit) == (gib > 0)
    batches = data.train.batches(24, shuffle_seed=1)
    passes = []
    for epoch in range(2):
        batches.sampler.set_epoch(epoch)
        passes.append(torch.cat([images for images, _ in batches]).flatten().sort().values)
    if how != "seldom":
        assert not torch.equal(*passes)
    said = [note for note in data.notes if "its source is taken" in note]
    assert bool(said) == (how == "own")
    assert (data.fingerprint == define(body, gib=gib).fingerprint) or how == "own"


def test_a_change_under_an_augmentation_is_seen(define):
    first, again = define(NOISE), define(NOISE)
    other = define(NOISE.replace("image(i) +", "image(i) * 1.5 +"))
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_what_augments_follows_from_seed_epoch_and_item_alone(define):
    one, two = define(NOISE), define(NOISE, workers=2)
    torch.manual_seed(5)
    for epoch in (0, 1, 0):
        found = []
        for data in (one, two):
            batches = data.train.batches(5, shuffle_seed=4)
            batches.sampler.set_epoch(epoch)
            found.append(list(batches))
        for (a, b), (c, d) in zip(*found, strict=True):
            assert torch.equal(a, c)
            assert torch.equal(b, d)
    assert torch.equal(_all(two.validation)[0], _all(two.validation)[0])


def test_processes_that_read_are_kept(define):
    body = """
    import os
    def one(i):
        return torch.full((1, 8, 8), float(os.getpid())) + 0 * torch.rand(1), i % 3
    def f():
        return Made(one)
    """
    data = define(body, workers=2)
    readers = {_all(data.train)[0].unique().tolist().__repr__() for _ in range(3)}
    assert len(readers) == 1
    passing = iter(data.train.batches(2))
    next(passing)
    assert _all(data.train)[0].shape == (22, 1, 8, 8)
    next(passing)


def test_reading_leaves_the_caller_s_random_numbers(define):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    data = define(NOISE)
    _all(data.train)
    assert torch.equal(torch.rand(4), expected)


def test_a_function_that_splits_at_random_gives_every_process_the_same(define):
    body = """
    def f():
        whole = TensorDataset(torch.rand(40, 3, 8, 8), torch.randint(0, 3, (40,)))
        return random_split(whole, [30, 10])
    """
    torch.manual_seed(1)
    first = define(body)
    torch.manual_seed(2)
    assert define(body).fingerprint == first.fingerprint


def test_a_mapping_names_its_splits(define):
    body = """
    def f():
        return {"val": Made(lambda i: (image(i), i % 3), 6), "train": Made(lambda i: (image(i), 0))}
    """
    data = define(body)
    assert (data.train.images, data.validation.images) == (24, 6)


def test_classes_are_as_many_as_the_dataset_says(define):
    body = """
    def f():
        made = Made(lambda i: (image(i), i % 3))
        made.classes = ["a", "b", "c", "d"]
        return made
    """
    data = define(body)
    assert data.classes == 4
    assert any("no images to train on of class 3" in note for note in data.notes)
    with pytest.raises(DataError, match="the label 2 is none of the 2 classes"):
        define(body.replace('["a", "b", "c", "d"]', '["a", "b"]'))


def test_more_images_than_there_are(define):
    body = (
        "def f():\n    return Made(lambda i: (image(i), i % 3)), Made(lambda i: (image(i), 0), 6)\n"
    )
    assert define(body, train=20, validation=4).validation.images == 4
    with pytest.raises(DataError, match="7 validation images asked for, there are 6"):
        define(body, validation=7)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("(image(i), torch.eye(3)[i % 3])", r"not of shape \(3,\).*argmax"),
        ("(image(i), torch.tensor([i % 3]))", r"not of shape \(1,\)"),
        ("(image(i), -1)", "the label -1 is negative"),
        ("(image(i), 1.0)", "must be an int, not 1.0"),
        ("(image(i), torch.tensor(1.0))", "must be an int, not 1.0"),
        ("(image(i), 'cat')", "must be an int, not the string 'cat'"),
        ("(image(i), np.str_('cat'))", "must be an int, not the string 'cat'"),
        ("(image(i), np.array(['cat']))", "must be an int, not a ndarray"),
        ("(image(i), np.datetime64('2026-01-01'))", "must be an int"),
        ("(image(i), None)", "must be an int, not None"),
        ("(image(i), 10**9 + i)", "number the classes from 0"),
        ("(image(i), 0)", "a classifier needs two classes"),
        ("('a.png', i % 3)", r"must be a float tensor \(C, H, W\), not the string 'a.png'"),
        ("(Image.new('RGB', (8, 8)), i % 3)", "ToTensor"),
        ("(image(i).mul(255).byte(), i % 3)", r"not uint8; give image.float\(\) / 255"),
        ("(image(i).long(), i % 3)", "not int64"),
        ("(torch.rand(8 + i, 8 + i)[None], i % 3)", "item 1: an image of 1x9x9 where the first"),
        ("(torch.rand(1 + i % 2, 8, 8), i % 3)", "item 1: an image of 2x8x8 where the first"),
        ("(torch.rand(16, 16, 3), i % 3)", "channels last"),
        ("(np.zeros((3, 8, 8), np.longdouble), i % 3)", "not a ndarray"),
        ("(np.array([None]), i % 3)", "not a ndarray"),
        ("(torch.rand(3, 8, 8).to_sparse(), i % 3)", "not a Tensor"),
        ("(torch.rand(3, 8, 8) * 1j, i % 3)", "not complex64"),
        ("(torch.rand(3, 0, 8), i % 3)", "no pixels"),
        ("(torch.tensor(0.5), i % 3)", "not a number"),
        ("(image(i) / (i != 5), i % 3)", "item 5: pixels that are NaN or infinite"),
        ("(image(i) * float('nan'), i % 3)", "item 0: pixels that are NaN"),
        ("(image(i), i % 3, 'path')", r"must be \(image, target\), not 3 values"),
        ("image(i)", r"must be \(image, target\), not a Tensor"),
        ("{'image': image(i), 'label': 1}", "not a mapping with image, label"),
        ("None", r"must be \(image, target\), not None"),
        ("(image(i), [][i])", "item 0: IndexError"),
    ],
)
def test_an_item_that_cannot_be_used_is_one_line(define, item, message):
    with pytest.raises(DataError, match=message) as raised:
        define(f"def f():\n    return Made(lambda i: {item})\n")
    assert "\n" not in str(raised.value)


def test_items_that_mean_the_same_are_taken(define):
    data = define(
        """
        def f():
            made = np.full((3, 8, 8), 1, ">f8")[:, ::-1]
            return Made(lambda i: (made * (i / 100), np.int64(i % 3)))
        """
    )
    expected = define(FIXED)
    assert data.fingerprint == expected.fingerprint
    assert torch.equal(_all(data.train)[0], _all(expected.train)[0])


def test_tensors_will_do(define):
    arrays = """
    def f():
        x = torch.arange(24)[:, None, None, None].expand(-1, 3, 8, 8) / 100
        return x, torch.arange(24) % 3
    """
    assert define(arrays).fingerprint == define(FIXED).fingerprint
    parts = arrays.replace("return x, torch.arange(24) % 3", "y = np.arange(24) % 3; return x, y")
    assert define(parts).fingerprint == define(FIXED).fingerprint
    pair = "x, torch.arange(24) % 3"
    two = define(arrays.replace(f"return {pair}", f"return ({pair}), ({pair})"))
    assert (two.train.images, two.validation.images) == (24, 24)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("None", "not a NoneType"),
        ("5", "return one to three torch Datasets"),
        ("'train'", "not a str"),
        ("[]", "not 0 of them"),
        ("[Made(image)] * 4", "not 4 of them"),
        ("(torch.rand(4, 3, 8, 8), torch.arange(5))", r"not \(4, 3, 8, 8\) and \(5,\)"),
        ("(torch.arange(4), torch.rand(4, 3, 8, 8))", r"not \(4,\) and \(4, 3, 8, 8\)"),
        ("(torch.rand(4, 3, 8, 8), torch.eye(4))", r"item 0: .*one-hot"),
        ("(torch.rand(4, 3, 8, 8),) * 2", r"not \(4, 3, 8, 8\) and|item 0: a label"),
        ("torch.rand(4, 3, 8, 8)", "TensorDataset"),
        ("np.zeros((4, 3, 8, 8))", "TensorDataset"),
        ("DataLoader(Made(image))", "give its dataset"),
        ("Made(image, 0)", "without items"),
        ("(Made(lambda i: (image(i), i % 3)), Made(image, 0))", "without items"),
        ("(i for i in range(3))", "not a generator"),
        ("{'eval': Made(image)}", "mapping with eval; name train"),
        ("{}", "mapping with nothing"),
        ("Stream()", "a Stream without a length"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_function_that_returns_something_else_is_one_line(define, returned, message):
    with pytest.raises(DataError, match=message) as raised:
        define(f"def f():\n    return {returned}\n")
    assert "\n" not in str(raised.value)


def test_options_that_a_function_s_images_have_not_are_refused(define):
    for options in ({"size": 32}, {"normalize": "imagenet"}):
        with pytest.raises(DataError, match="size and normalize are the function's own"):
            define(FIXED, **options)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_item_that_fails_later_is_one_line(define, workers):
    body = """
    def one(i):
        import os
        noise = torch.rand(1)
        if i == 9 and os.path.exists("fail"):
            raise OSError("the disk is gone")
        return image(i) + noise, i % 3
    def f():
        return Made(one), Made(one)
    """
    data = define(body, workers=workers)
    open("fail", "w").close()  # noqa: PTH123
    with pytest.raises(DataError, match="train, item 9: OSError: the disk is gone") as raised:
        _all(data.train)
    assert "\n" not in str(raised.value)
