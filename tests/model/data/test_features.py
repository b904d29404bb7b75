import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.kill import Killed
from support.namespaces import on_small_disk

from model.data import rows
from model.data.features import FeatureBank
from model.errors import BadInput, BankError

DIM = 6


def rows_of(*indices):
    """Return features that say whose they are, (n, DIM)."""
    return np.repeat(np.array(indices, np.float16)[:, None], DIM, axis=1)


def create(folder, encoder="a", side=128, dim=DIM, last=4):
    return FeatureBank.create(folder, encoder, side, dim, last)


def write(bank, *indices):
    bank.write(np.array(indices), rows_of(*indices))


def test_features_return_in_the_order_asked(tmp_path):
    bank = create(tmp_path / "features")
    write(bank, 4, 0, 5, 1)
    for seen in (bank, FeatureBank.open(tmp_path / "features")):
        gathered = seen.gather(np.array([5, 0, 4, 5]))
        assert (gathered.dtype, type(gathered)) == (np.float16, np.ndarray)
        assert gathered.tolist() == rows_of(5, 0, 4, 5).tolist()
        assert (seen.encoder, seen.side, seen.dim, seen.last, len(seen)) == ("a", 128, DIM, 4, 6)


def test_features_between_those_written_are_not_known(tmp_path):
    bank = create(tmp_path)
    write(bank, 7, 2)
    assert np.flatnonzero(bank.known).tolist() == [2, 7]
    assert bank.knows(np.array([7, 3, 100, 2])).tolist() == [True, False, False, True]
    write(bank, 3)
    assert np.flatnonzero(bank.known).tolist() == [2, 3, 7]
    assert bank.gather(np.array([2, 3, 7])).tolist() == rows_of(2, 3, 7).tolist()


def test_features_can_be_written_again(tmp_path):
    bank = create(tmp_path)
    write(bank, 0, 1)
    bank.write(np.array([1]), rows_of(9))
    assert bank.gather(np.array([0, 1]))[:, 0].tolist() == [0, 9]


def test_features_come_in_chunks_of_what_is_known(tmp_path, monkeypatch):
    monkeypatch.setattr("model.data.rows.CHUNK", 2)
    bank = create(tmp_path)
    write(bank, 0, 2, 3, 6)
    assert [part.tolist() for part in bank.chunks()] == [[0, 2], [3, 6]]
    assert [part.tolist() for part in bank.chunks(6)] == [[0, 2], [3]]


def test_no_features_are_none(tmp_path):
    bank = create(tmp_path)
    bank.write(np.empty(0, np.int64), rows_of())
    assert (len(bank), bank.known.tolist(), list(bank.chunks())) == (0, [], [])
    assert bank.gather(np.empty(0, np.int64)).shape == (0, DIM)


@pytest.mark.parametrize("indices", [[6], [-1]])
def test_features_that_are_not_there_are_refused(tmp_path, indices):
    bank = create(tmp_path)
    write(bank, 5)
    with pytest.raises(BadInput, match="6 images"):
        bank.gather(np.array(indices))


@pytest.mark.parametrize("shape", [(2, DIM + 1), (1, DIM), (2,)])
def test_features_of_another_shape_are_refused(tmp_path, shape):
    bank = create(tmp_path)
    with pytest.raises(BadInput, match=r"are \(n, 6\)"):
        bank.write(np.array([0, 1]), np.zeros(shape, np.float16))
    assert len(FeatureBank.open(tmp_path)) == 0


def test_a_kill_between_rows_and_known_bytes_leaves_rows_that_do_not_count(tmp_path, monkeypatch):
    bank = create(tmp_path)
    write(bank, 0)
    write_runs = rows._write_runs

    def until_known(path, runs):
        if path.name == "known.bin":
            raise Killed
        write_runs(path, runs)

    with monkeypatch.context() as patch:
        patch.setattr("model.data.rows._write_runs", until_known)
        with pytest.raises(Killed):
            write(bank, 1, 2)
    again = FeatureBank.open(tmp_path)
    assert again.known.tolist() == [True]
    write(again, 2)
    assert again.known.tolist() == [True, False, True]
    assert again.gather(np.array([0, 2])).tolist() == rows_of(0, 2).tolist()


def test_a_full_disk_leaves_nothing_of_the_write_known(tmp_path, monkeypatch):
    bank = create(tmp_path)
    write(bank, 0, 1)

    def full(path, runs):
        with path.open("r+b") as file:  # half of it still fitted
            file.seek(runs[0][0])
            file.write(runs[0][1][: len(runs[0][1]) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("model.data.rows._write_runs", full)
        with pytest.raises(OSError, match="No space left"):
            write(bank, 2, 3, 4)
    again = FeatureBank.open(tmp_path)
    assert again.known.tolist() == [True, True]
    assert again.gather(np.array([0, 1])).tolist() == rows_of(0, 1).tolist()
    write(again, 2, 3, 4)  # once there is room
    assert again.gather(np.arange(5)).tolist() == rows_of(*range(5)).tolist()


def test_features_survive_a_kill_in_the_middle_of_writing(tmp_path):
    """Kill a writer that writes all the time; whatever counts has to be whole."""
    script = (
        "import sys, numpy as np; from pathlib import Path; from model.data.features import FeatureBank\n"
        "bank = FeatureBank.create(Path(sys.argv[1]), 'a', 128, 500, 500)\n"
        "for number in range(10**6):\n"
        "    bank.write(np.arange(20 * number, 20 * number + 20), np.full((20, 500), number % 2000, np.float16))\n"
        "    print(number, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True) as writer:
        for line in writer.stdout:
            bank = FeatureBank.open(tmp_path)  # another process reads beside the writer
            assert int(bank.known.sum()) >= 20 * (int(line) + 1)
            if int(line) == 5:
                os.kill(writer.pid, signal.SIGKILL)
                break
    bank = FeatureBank.open(tmp_path)
    known = np.flatnonzero(bank.known)
    assert len(known) >= 120
    np.testing.assert_array_equal(bank.gather(known), np.repeat((known // 20 % 2000)[:, None], 500, axis=1))


def test_features_created_twice_are_the_same(tmp_path):
    write(create(tmp_path), 0, 1)
    assert create(tmp_path).known.tolist() == [True, True]


@pytest.mark.parametrize("other", [{"encoder": "b"}, {"side": 224}, {"dim": 7}, {"last": 3}])
def test_features_of_another_encoder_are_refused_and_kept(tmp_path, other):
    write(create(tmp_path), 0)
    with pytest.raises(BankError, match="are those of 'a' at 128 pixels"):
        create(tmp_path, **other)
    assert FeatureBank.open(tmp_path).gather(np.array([0])).tolist() == rows_of(0).tolist()


def test_features_that_are_not_there_or_damaged_are_refused(tmp_path):
    with pytest.raises(BankError, match="no features"):
        FeatureBank.open(tmp_path / "nowhere")
    write(create(tmp_path), 0, 1)
    header = tmp_path / "features.json"
    good = json.loads(header.read_text())
    for content in ("{", "[]", json.dumps({**good, "dim": "many"}), json.dumps({"format": 1})):
        header.write_text(content)
        with pytest.raises(BankError, match="damaged"):
            FeatureBank.open(tmp_path)
    header.write_text(json.dumps({**good, "format": 99}))
    with pytest.raises(BankError, match="format"):
        FeatureBank.open(tmp_path)
    header.write_text(json.dumps(good))
    rows = tmp_path / "features.bin"
    rows.write_bytes(rows.read_bytes()[:-1])
    with pytest.raises(BankError, match=f"should have the rows of 2 images, found {4 * DIM - 1} bytes"):
        FeatureBank.open(tmp_path)


def test_features_load_no_torch():
    code = "import sys, model.data.features, model.learners.scaling; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=False).returncode == 0


def test_features_keep_what_fitted_on_a_disk_that_became_full(tmp_path):
    """A disk of 1 MB in the place of one that the features of a million images do not fit on."""
    code = (
        "import errno, sys; from pathlib import Path; import numpy as np\n"
        "from model.data.features import FeatureBank\n"
        "bank, rows = FeatureBank.create(Path(sys.argv[1]) / 'f', 'a', 128, 1792, 1280), np.ones((64, 1792))\n"
        "try:\n"
        "    for start in range(0, 1000000, 64): bank.write(start + np.arange(64), start // 64 * rows)\n"
        "except OSError as error: assert error.errno == errno.ENOSPC, error\n"
        "known = np.flatnonzero(FeatureBank.open(Path(sys.argv[1]) / 'f').known)\n"
        "assert (bank.gather(known)[:, 0] == known // 64).all()\n"
        "print(len(known))\n"
    )
    (tmp_path / "small").mkdir()
    command = [*on_small_disk(tmp_path / "small", "1m"), sys.executable, "-c", code, str(tmp_path / "small")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 128 <= int(done.stdout) <= 2**20 // (2 * 1792)
