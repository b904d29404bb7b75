import csv
import gzip
import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from model.data.masks import IGNORED, unpack
from model.errors import BadInput
from model.lab.datasets import load_images


def picture(shade, size=(32, 32), kind="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", size, (shade, shade, shade)).save(buffer, kind)
    return buffer.getvalue()


def archive(path, files, mode):
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))


def table(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("PT4AL_DATA", str(tmp_path))
    return tmp_path


def test_digits_are_all_there_in_two_parts():
    digits = load_images("digits")
    assert digits.classes == tuple("0123456789")
    assert len(digits.train) + len(digits.test) == 1797
    assert digits.train.shape[1:] == (16, 16, 3)
    assert np.bincount(digits.test_labels).min() >= 40
    assert len(digits.paths) == len(set(digits.paths)) == len(digits.train)


def test_split_is_the_same_on_every_call_and_can_be_left_out():
    first, second, whole = load_images("digits"), load_images("digits"), load_images("digits", test_share=0.0)
    np.testing.assert_array_equal(first.test_labels, second.test_labels)
    assert first.paths == second.paths
    assert (len(whole.train), len(whole.test)) == (1797, 0)


def test_side_can_be_chosen():
    assert load_images("digits", side=32).train.shape[1:] == (32, 32, 3)


def test_folder_gives_a_class_a_subfolder(tmp_path):
    for name, shade in (("dark", 20), ("light", 220)):
        for number in range(4):
            path = tmp_path / name / "deeper" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(shade))
    (tmp_path / "light" / "broken.jpg").write_bytes(b"nothing")
    (tmp_path / "light" / "notes.txt").write_text("no image")
    images = load_images(str(tmp_path))
    assert images.classes == ("dark", "light")
    assert (len(images.train), len(images.test)) == (6, 2)
    assert [path for path, _ in images.broken] == ["light/broken.jpg"]
    np.testing.assert_array_equal(images.train[:, 0, 0, 0], np.where(images.train_labels == 0, 20, 220))
    assert all(
        path.startswith(images.classes[label]) for path, label in zip(images.paths, images.train_labels, strict=True)
    )


def test_folder_without_subfolders_has_no_labels(tmp_path):
    (tmp_path / "a.png").write_bytes(picture(1))
    (tmp_path / "b.png").write_bytes(picture(2))
    images = load_images(str(tmp_path), test_share=0.0)
    assert (images.classes, images.paths) == ((), ("a.png", "b.png"))
    assert images.train_labels.tolist() == [-1, -1]


def test_folder_of_nothing_usable_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no images"):
        load_images(str(tmp_path))
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(BadInput, match="none of the 1 images"):
        load_images(str(tmp_path))


def test_fashion_mnist_reads_idx_files(data):
    folder = data / "fashion-mnist"
    folder.mkdir()
    (folder / "classes.txt").write_text("T-shirt/top\nTrouser\n")
    for part, n in (("train", 3), ("t10k", 2)):
        pixels = np.repeat(np.arange(n, dtype=np.uint8) * 10, 28 * 28)
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(16) + pixels.tobytes()))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bytes(8) + bytes(i % 2 for i in range(n))))
    images = load_images("fashion-mnist")
    assert images.train.shape == (3, 32, 32, 3)
    assert images.train[:, 5, 5, 1].tolist() == [0, 10, 20]
    assert images.train_labels.tolist() == [0, 1, 0]
    assert (len(images.test), images.test_labels.tolist()) == (2, [0, 1])
    assert images.classes == ("T-shirt/top", "Trouser")


def test_cifar10_reads_its_archives(data):
    folder = data / "cifar10"
    folder.mkdir()
    (folder / "classes.txt").write_text("airplane\nfrog\n")
    for part, shades in (("train", [10, 20, 30]), ("test", [40])):
        names = [f"{part}/{number}.png" for number in range(len(shades))]
        files = dict(zip(names, map(picture, shades), strict=True))
        archive(folder / f"cifar10-{part}.tar.gz", files, "w:gz")
        table(folder / f"{part}-labels.csv", ["path", "class", "label"], [[name, "frog", "1"] for name in names])
    images = load_images("cifar10")
    assert images.train[:, 0, 0, 0].tolist() == [10, 20, 30]
    assert images.test[:, 0, 0, 0].tolist() == [40]
    assert images.train_labels.tolist() == [1, 1, 1]
    assert images.paths == ("train/0.png", "train/1.png", "train/2.png")


def test_photos_keep_their_own_split(data):
    folder = data / "photos"
    folder.mkdir()
    (folder / "classes.txt").write_text("Leopards\nairplanes\n")
    files = {f"Leopards/{number}.jpg": picture(50 * number, (300, 200), "JPEG") for number in range(3)}
    archive(folder / "photos.tar", files, "w")
    rows = [[name, "Leopards", "0", part] for name, part in zip(files, ("train", "test", "train"), strict=True)]
    table(folder / "labels.csv", ["path", "class", "label", "split"], rows)
    images = load_images("photos", test_share=0.0)
    assert images.train.shape == (2, 96, 96, 3)
    assert images.paths == ("Leopards/0.jpg", "Leopards/2.jpg")
    assert len(images.test) == 1


def test_set_that_is_not_there_says_where_it_was_sought(data):
    with pytest.raises(BadInput, match="PT4AL_DATA"):
        load_images("cifar10")
    with pytest.raises(BadInput, match="neither a folder nor one of the sets"):
        load_images("imagenet-22k")


def test_crops_of_blood_cells_have_the_kinds_whose_centre_is_in_them(data):
    folder = data / "blood-cells"
    folder.mkdir()
    (folder / "classes.txt").write_text("Platelets\nRBC\nWBC\n")
    archive(folder / "blood-cells.tar", {"a.jpg": picture(99, (320, 160)), "b.jpg": picture(99, (320, 160))}, "w")
    boxes = [("WBC", 10, 10, 50, 50), ("RBC", 20, 20, 40, 40), ("Platelets", 150, 0, 175, 20)]
    rows = [("a.jpg", 320, 160, *box, "train") for box in boxes]
    rows += [("b.jpg", 320, 160, "RBC", 300, 100, 319, 120, "test")]
    table(folder / "boxes.csv", ["path", "width", "height", "class", "x1", "y1", "x2", "y2", "split"], rows)
    kinds = load_images("blood-cells:kinds")
    assert kinds.problem == "multi_label"
    assert kinds.targets(test=False) == [["RBC", "WBC"], ["Platelets"]]
    assert kinds.targets(test=True) == [[], ["RBC"]]
    assert kinds.train.shape[0] == kinds.test.shape[0] == 2


def test_blood_cells_have_boxes_as_shares_and_views(data):
    folder = data / "blood-cells"
    folder.mkdir()
    (folder / "classes.txt").write_text("Platelets\nRBC\nWBC\n")
    archive(folder / "blood-cells.tar", {"a.jpg": picture(99, (320, 160)), "b.jpg": picture(99, (320, 160))}, "w")
    rows = [("a.jpg", 320, 160, "WBC", 32, 16, 64, 48, "train"), ("a.jpg", 320, 160, "RBC", 0, 0, 32, 16, "train")]
    rows += [("b.jpg", 320, 160, "RBC", 300, 100, 330, 120, "test")]  # beyond the image
    table(folder / "boxes.csv", ["path", "width", "height", "class", "x1", "y1", "x2", "y2", "split"], rows)
    cells = load_images("blood-cells")
    assert cells.problem == "detection"
    assert cells.targets(test=False) == [[["RBC", 0.0, 0.0, 0.1, 0.1], ["WBC", 0.1, 0.1, 0.1, 0.2]]]
    assert cells.targets(test=True) == [[["RBC", 0.9375, 0.625, 0.0625, 0.125]]]
    assert cells.train_views.sizes.tolist() == [[320, 160]]


def test_street_scenes_have_a_box_around_each_thing(data):
    folder = data / "camvid"
    folder.mkdir()
    names = ["Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car", "Pedestrian"]
    (folder / "classes.txt").write_text("\n".join([*names, "Bicyclist", "Unlabelled"]))
    ids = np.zeros((100, 200), np.uint8)
    ids[10:30, 20:60] = ids[50:70, 100:140] = 8
    ids[80:84, 10:14] = 9  # too small
    drawn = io.BytesIO()
    Image.fromarray(ids).save(drawn, "PNG")
    files = {name: picture(50, (200, 100)) for name in ("a.png", "b.png")}
    archive(folder / "camvid.tar", {**files, "m.png": drawn.getvalue()}, "w")
    table(folder / "files.csv", ["split", "image", "mask"], [("train", "a.png", "m.png"), ("val", "b.png", "m.png")])
    scenes = load_images("camvid:boxes")
    assert scenes.classes == ("Car", "Pedestrian", "SignSymbol")
    assert scenes.targets(test=True) == [[["Car", 0.1, 0.1, 0.2, 0.2], ["Car", 0.5, 0.5, 0.2, 0.2]]]


def test_patches_of_streets_are_those_that_one_class_fills(data):
    folder = data / "camvid"
    folder.mkdir()
    (folder / "classes.txt").write_text("".join(f"class {number}\n" for number in range(12)))
    mask = np.zeros((96, 96), np.uint8)
    mask[:48, 48:] = 3
    mask[48:, :24] = 7  # half of its patch: no class fills it
    mask[48:, 48:] = 11  # nobody labeled it
    drawn = io.BytesIO()
    Image.fromarray(mask).save(drawn, "PNG")
    files = {}
    for number in range(2):
        files |= {f"{number}.png": picture(50, (96, 96)), f"{number}-mask.png": drawn.getvalue()}
    archive(folder / "camvid.tar", files, "w")
    table(folder / "files.csv", ["split", "image", "mask"], [("train", f"{n}.png", f"{n}-mask.png") for n in range(2)])
    patches = load_images("camvid:patches")
    assert patches.targets(test=True) == patches.targets(test=False) == ["class 0", "class 3"]
    assert patches.size_of_files == (48, 48)


def test_street_scenes_have_masks_and_views_with_their_aspect_kept(data):
    folder = data / "camvid"
    folder.mkdir()
    (folder / "classes.txt").write_text("".join(f"class {number}\n" for number in range(12)))
    ids = np.repeat(np.array([[0, 3, 11]], np.uint8), [60, 20, 40], axis=1).repeat(90, axis=0)
    drawn = io.BytesIO()
    Image.fromarray(ids).save(drawn, "PNG")
    files = {}
    for name in ("a", "b"):
        files |= {f"{name}.png": picture(50, (120, 90)), f"{name}-mask.png": drawn.getvalue()}
    archive(folder / "camvid.tar", files, "w")
    rows = [(part, f"{name}.png", f"{name}-mask.png") for part, name in (("train", "a"), ("val", "b"))]
    table(folder / "files.csv", ["split", "image", "mask"], rows)
    scenes = load_images("camvid")
    assert (scenes.problem, len(scenes.classes)) == ("segmentation", 11)
    (target,) = scenes.targets(test=True)
    assert np.array_equal(unpack(target, scenes.classes), np.where(ids == 11, IGNORED, ids + 1))
    assert scenes.train_views.pixels.shape == (1, 320, 320, 3)
    assert (scenes.train_views.pixels[0, 240:] == 127).all()
    assert scenes.test_views.sizes.tolist() == [[120, 90]]
    assert load_images("camvid", side=32).train_views is None
    mixed = [load_images("camvid:mixed", test_share=share) for share in (0.0, 0.5)]
    assert [(len(images.train), len(images.test)) for images in mixed] == [(2, 0), (1, 1)]
