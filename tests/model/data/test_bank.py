import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from support.images import noise

from model.data.bank import ImageBank
from model.data.decoding import ImageBank as FromImages
from model.errors import BadInput, BankError


def test_bank_returns_what_was_appended(tmp_path):
    bank = ImageBank.create(tmp_path / "bank", 4)
    first, second = noise(3), noise(2, seed=1)
    assert (len(bank), bank.array.shape) == (0, (0, 4, 4, 3))
    assert bank.append(first) == 0
    assert bank.append(second) == 3
    for seen in (bank, ImageBank.open(tmp_path / "bank")):
        assert (len(seen), seen.side) == (5, 4)
        np.testing.assert_array_equal(seen.array, np.concatenate([first, second]))


def test_bank_array_is_a_read_only_map(tmp_path):
    bank = ImageBank.create(tmp_path, 4)
    bank.append(noise(2))
    assert isinstance(bank.array, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        bank.array[0] = 0


def test_bank_gathers_in_the_order_asked(tmp_path):
    bank = ImageBank.create(tmp_path, 4)
    images = noise(6)
    bank.append(images)
    gathered = bank.gather(np.array([5, 0, 5]))
    np.testing.assert_array_equal(gathered, images[[5, 0, 5]])
    assert type(gathered) is np.ndarray


@pytest.mark.parametrize("indices", [[6], [-1]])
def test_bank_refuses_indices_that_it_does_not_have(tmp_path, indices):
    bank = ImageBank.create(tmp_path, 4)
    bank.append(noise(6))
    with pytest.raises(BadInput, match="6 images"):
        bank.gather(np.array(indices))


@pytest.mark.parametrize("images", [noise(1, side=5), noise(1)[0], noise(1).astype(np.float32)])
def test_bank_refuses_other_images(tmp_path, images):
    bank = ImageBank.create(tmp_path, 4)
    with pytest.raises(BadInput):
        bank.append(images)
    assert len(ImageBank.open(tmp_path)) == 0


def test_bank_overwrites_what_a_killed_append_left(tmp_path):
    bank = ImageBank.create(tmp_path, 4)
    bank.append(noise(2))
    with (tmp_path / "images.bin").open("ab") as file:
        file.write(b"\xff" * 77)
    again = ImageBank.open(tmp_path)
    assert len(again) == 2
    again.append(noise(1, seed=1))
    np.testing.assert_array_equal(ImageBank.open(tmp_path).array, np.concatenate([noise(2), noise(1, seed=1)]))


def test_bank_survives_a_kill_in_the_middle_of_appending(tmp_path):
    """Kill a writer that appends all the time; whatever counts has to be whole."""
    script = (
        "import sys, numpy as np; from pathlib import Path; from model.data.bank import ImageBank\n"
        "bank = ImageBank.create(Path(sys.argv[1]), 32)\n"
        "for number in range(10**6):\n"
        "    bank.append(np.full((50, 32, 32, 3), number % 251, np.uint8)); print(number, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True) as writer:
        for line in writer.stdout:
            bank = ImageBank.open(tmp_path)  # a reader beside the writer
            assert len(bank) >= 50 * (int(line) + 1)
            assert (bank.array[-1] == (len(bank) // 50 - 1) % 251).all()
            if int(line) == 5:
                os.kill(writer.pid, signal.SIGKILL)
                break
    bank = ImageBank.open(tmp_path)
    assert len(bank) % 50 == 0
    expected = np.repeat(np.arange(len(bank) // 50) % 251, 50)
    np.testing.assert_array_equal(bank.array, np.broadcast_to(expected[:, None, None, None], bank.array.shape))


def test_bank_opened_twice_refuses_the_append_that_would_overwrite(tmp_path):
    first = ImageBank.create(tmp_path, 4)
    second = ImageBank.open(tmp_path)
    first.append(noise(1))
    with pytest.raises(BankError, match="open it again"):
        second.append(noise(1, seed=1))


def test_bank_is_a_snapshot(tmp_path):
    writer = ImageBank.create(tmp_path, 4)
    reader = ImageBank.open(tmp_path)
    writer.append(noise(3))
    assert (len(reader), len(ImageBank.open(tmp_path))) == (0, 3)


def test_bank_is_not_created_over_another(tmp_path):
    ImageBank.create(tmp_path, 4).append(noise(1))
    with pytest.raises(BankError, match="already"):
        ImageBank.create(tmp_path, 4)
    assert len(ImageBank.open(tmp_path)) == 1


def test_bank_that_is_not_there_or_damaged_is_refused(tmp_path):
    with pytest.raises(BankError, match="no image bank"):
        ImageBank.open(tmp_path / "nowhere")
    ImageBank.create(tmp_path, 4).append(noise(3))
    header = tmp_path / "bank.json"
    good = json.loads(header.read_text())
    header.write_text(json.dumps({**good, "count": 4}))
    with pytest.raises(BankError, match="should hold 4 images"):
        ImageBank.open(tmp_path)
    header.write_text(json.dumps({**good, "format": 99}))
    with pytest.raises(BankError, match="format"):
        ImageBank.open(tmp_path)
    header.write_text("{")
    with pytest.raises(BankError, match="damaged"):
        ImageBank.open(tmp_path)


def test_bank_is_offered_beside_the_decoding():
    assert FromImages is ImageBank


def test_bank_and_images_load_no_torch():
    code = "import sys, model.data.decoding, model.data.bank; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_bank_keeps_what_is_black_and_white_in_it(tmp_path):
    bank = ImageBank.create(tmp_path, 4, {})
    assert ImageBank.open(tmp_path).ranges == {}
    bank.note_ranges({"integer": (0, 4095), "float": (-0.5, 1.5)})
    bank.append(noise(2))
    again = ImageBank.open(tmp_path)
    assert (again.ranges, len(again)) == ({"integer": (0, 4095), "float": (-0.5, 1.5)}, 2)


def test_a_bank_of_an_earlier_release_has_no_ranges(tmp_path):
    ImageBank.create(tmp_path, 4).append(noise(1))
    assert ImageBank.open(tmp_path).ranges is None


def test_damaged_ranges_are_a_damaged_header(tmp_path):
    ImageBank.create(tmp_path, 4, {"integer": (0, 1)})
    header = tmp_path / "bank.json"
    header.write_text(header.read_text().replace("[0, 1]", "[0]"))
    with pytest.raises(BankError, match="header"):
        ImageBank.open(tmp_path)


def test_equal_images_have_equal_digests(tmp_path):
    bank = ImageBank.create(tmp_path, 4)
    images = noise(6)
    almost = images[:1].copy()
    almost[0, 3, 3, 2] ^= 1
    bank.append(images)
    bank.append(np.concatenate([images[2:3], almost]))
    digests = ImageBank.open(tmp_path).digests()
    assert len(digests) == 8
    assert digests[6] == digests[2]
    assert len(set(digests.tolist())) == 7
    assert bank.is_digested


def test_a_bank_of_an_earlier_release_gets_its_digests_from_the_images(tmp_path):
    bank = ImageBank.create(tmp_path, 4)
    bank.append(noise(6))
    before = bank.digests()
    (tmp_path / "digests.bin").unlink()
    bank.append(noise(2, seed=9))
    assert len(bank.digests()) == 0, "none are kept behind a gap"
    assert not bank.is_digested
    assert not bank.add_digests(part=3)
    np.testing.assert_array_equal(bank.digests(), before[:3])
    assert bank.add_digests()
    np.testing.assert_array_equal(bank.digests()[:6], before)


def test_digests_that_a_killed_append_left_are_overwritten(tmp_path):
    bank = ImageBank.create(tmp_path, 4)
    bank.append(noise(2))
    path = tmp_path / "digests.bin"
    path.write_bytes(path.read_bytes() + b"x" * 24)
    bank.append(noise(1, seed=5))
    again = ImageBank.create(tmp_path / "again", 4)
    again.append(np.concatenate([noise(2), noise(1, seed=5)]))
    np.testing.assert_array_equal(bank.digests(), again.digests())
