"""save and load: equal to the bit, all or nothing, and every damaged file is a named error."""

import copy
import errno
import json
import os
import pickle
import signal
import socket
import stat
import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest
import safetensors.numpy

import bptt_fast as bf
from bptt_fast import storage, writing
from bptt_fast.files import write_table
from bptt_fast.storage import digest

NETWORKS = {
    "elman": dict(nonlinearity="relu"),
    "mlp": dict(
        cell="mlp", f=(4, 3), nonlinearity=("tanh", "relu", "sigmoid"), head=(6,), head_nonlinearity="relu"
    ),
    "gru": dict(
        cell="gru", reset="before", num_layers=2, dropout=0.25, recurrent_dropout=0.1, readout="every"
    ),
    "lstm": dict(cell="lstm", peephole=True, proj_size=3, bidirectional=True, dtype="float64"),
}


def network(**options):
    return bf.Network(3, 5, 2, **dict(seed=1) | options)


@pytest.fixture
def saved(tmp_path):
    """A network and the file it is in."""
    net, path = network(), tmp_path / "model.safetensors"
    net.save(path)
    return net, path


@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_equal_to_the_bit(options, tmp_path):
    net = network(**options)
    net.params[:4] = [np.finfo(net.dtype).tiny / 4, -0.0, np.finfo(net.dtype).max, np.finfo(net.dtype).eps]
    net.save(tmp_path / "a")
    again = bf.load(str(tmp_path / "a"))
    assert again.params.tobytes() == net.params.tobytes() and again.params.dtype == net.params.dtype
    assert again.description == net.description and again.keys() == net.keys()
    net.params[:4] = again.params[:4] = 0.1
    x = np.random.default_rng(0).standard_normal((4, 6, 3))
    np.testing.assert_array_equal(again.predict(x), net.predict(x))
    y = np.zeros_like(net.predict(x))
    net.fit(x, y, verbose=0)
    again.fit(x, y, verbose=0)
    np.testing.assert_array_equal(again.params, net.params)


def test_others_can_read_it(saved):
    """It is a plain safetensors file with PyTorch's names."""
    from safetensors.numpy import load_file

    net, path = saved
    tensors = load_file(path)
    assert tensors.keys() == set(net.keys())
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor, net[name])


def test_non_contiguous_arrays(tmp_path):
    """safetensors stores the wrong values of those without a word: a network must never hand it one."""
    net = network()
    transposed = np.arange(25, dtype=np.float32).reshape(5, 5).T
    net["weight_hh_l0"] = transposed
    net.load_state_dict(net.state_dict() | {"weight_ih_l0": np.arange(30.0).reshape(5, 6)[:, ::2]})
    net.save(tmp_path / "a")
    np.testing.assert_array_equal(bf.load(tmp_path / "a")["weight_hh_l0"], transposed)
    np.testing.assert_array_equal(
        bf.load(tmp_path / "a")["weight_ih_l0"], np.arange(30).reshape(5, 6)[:, ::2]
    )


def refused(path):
    """The text of the CorruptFileError that the file must give."""
    with pytest.raises(bf.CorruptFileError) as caught:
        bf.load(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_every_truncation(saved):
    _, path = saved
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        refused(path)


def test_bit_flips(saved):
    """Two bits in every byte of the header, one in every byte of the numbers."""
    _, path = saved
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    places = [(at, at % 8) for at in range(len(content))] + [(at, (at + 3) % 8) for at in range(header)]
    for at, bit in places:
        damaged = bytearray(content)
        damaged[at] ^= 1 << bit
        path.write_bytes(damaged)
        try:
            again = bf.load(path)
        except bf.CorruptFileError:
            continue
        pytest.fail(f"bit {bit} of byte {at} ({content[at : at + 1]!r}) is not noticed: {again!r}")


def rewritten(path, change):
    """The file with its header as a dict changed by `change`."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    text = json.dumps(change(header) or header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])


WRONG_HEADERS = {
    "no metadata": lambda h: h.pop("__metadata__") and None,
    "other format": lambda h: h["__metadata__"].update(format="other 9"),
    "no network": lambda h: h["__metadata__"].pop("network") and None,
    "network is no json": lambda h: h["__metadata__"].update(network="{"),
    "network is a list": lambda h: h["__metadata__"].update(network="[]"),
    "unknown cell": lambda h: h["__metadata__"].update(
        network=h["__metadata__"]["network"].replace("elman", "elman2")
    ),
    "a list": lambda h: [1, 2],
    "a tensor renamed": lambda h: h.update(other=h.pop("head.0.bias")),
    "a shape": lambda h: h["weight_ih_l0"].update(shape=[3, 5]),
    "a dtype": lambda h: h["weight_ih_l0"].update(dtype="I32"),
    "null metadata": lambda h: h.update(__metadata__=None),
    "offsets beyond the end": lambda h: h["weight_ih_l0"].update(data_offsets=[0, 10**9]),
}


@pytest.mark.parametrize("change", WRONG_HEADERS.values(), ids=WRONG_HEADERS)
def test_wrong_headers(change, saved):
    _, path = saved
    rewritten(path, change)
    refused(path)


def test_a_network_of_nonsense_with_a_right_checksum(saved, monkeypatch):
    """What the checksum does not protect from: a description that this version cannot make."""
    net, path = saved
    config = net.config()
    for wrong in (
        dict(cell="elman2"),
        dict(hidden_size=6),
        dict(hidden_size=-1),
        dict(surprise=1),
        dict(input_size=2**40),
    ):
        monkeypatch.setattr(bf.Network, "config", lambda self, wrong=wrong: config | wrong)
        net.save(path)
        monkeypatch.undo()
        refused(path)


NONSENSE = ("[]", "1", "null", '"x"', "[[1, 2]]", '{"a": 1}', "[" * 10**5, "{")
NONSENSE += ('{"a":' * 400 + "1" + "}" * 400,)


@pytest.mark.parametrize("text", NONSENSE, ids=[text[:9] for text in NONSENSE])
@pytest.mark.parametrize("key", ("network", "extra", "columns", "learner"))
def test_a_text_of_nonsense_with_a_right_checksum(key, text, tmp_path):
    """What is no object in JSON, or one of other values, however deep."""
    learner = bf.Network(1, 2, 1, seed=0).learn_online(bf.SlidingBPTT(2))
    learner.save(tmp_path / "a")
    tensors, content = safetensors.numpy.load_file(tmp_path / "a"), (tmp_path / "a").read_bytes()
    metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    metadata[key] = text
    described = "".join(metadata[name] for name in ("network", "extra", "learner", "columns"))
    metadata["sha256"] = digest(described, tensors)
    safetensors.numpy.save_file(tensors, tmp_path / "a", metadata)
    refused(tmp_path / "a")


def test_the_sizes_of_a_description_are_not_allocated(tmp_path):
    net, path = network(), tmp_path / "a"
    config = json.dumps(net.saved_config() | {"hidden_size": 10000})
    tensors, metadata = net.state_dict(), storage.metadata_of(net) | {"network": config}
    metadata["sha256"] = digest(config + metadata["extra"], tensors)
    safetensors.numpy.save_file(tensors, path, metadata)
    tracemalloc.start()
    try:
        refused(path)
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


def test_memory_of_a_load(tmp_path):
    """At most two copies of the parameters at once."""
    bf.Network(1, 1500, 1, seed=0, init="identity").save(tmp_path / "a")
    size = (tmp_path / "a").stat().st_size
    tracemalloc.start()
    try:
        bf.load(tmp_path / "a")
        assert tracemalloc.get_traced_memory()[1] < 2 * size + 5e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("content", (b"", b"\0" * 8, b"\xff" * 64, b"a,b\n1,2\n", b"\x80\x04N."))
def test_other_files(content, tmp_path):
    (tmp_path / "a").write_bytes(content)
    refused(tmp_path / "a")


def test_random_bytes(tmp_path):
    rng = np.random.default_rng(0)
    for size in (1, 7, 8, 9, 100, 1000):
        for _ in range(20):
            (tmp_path / "a").write_bytes(rng.bytes(size))
            refused(tmp_path / "a")


def test_nothing_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    (tmp_path / "a").write_bytes(pickle.dumps(Trap()))
    refused(tmp_path / "a")
    assert not (tmp_path / "sprung").exists()


def test_paths(saved, tmp_path):
    net, _ = saved
    with pytest.raises(FileNotFoundError, match="missing"):
        bf.load(tmp_path / "missing")
    with pytest.raises(OSError):
        bf.load(tmp_path)
    with pytest.raises(OSError):
        net.save(tmp_path / "no such folder" / "a")
    for call in (bf.load, net.save):
        with pytest.raises(bf.ConfigError, match="path"):
            call(3.5)


# ---- all or nothing


def listing(folder):
    return sorted(os.listdir(folder))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full disk")
def test_a_full_disk_is_named(tmp_path):
    """The errors of a write have no file of their own."""
    net = bf.Network(1, 2, 1, seed=0)
    with pytest.raises(OSError, match="/dev/full") as caught:
        net.save("/dev/full")
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == "/dev/full"
    for kind in (bf.callbacks.CSVLogger, bf.callbacks.JSONLogger):
        with pytest.raises(OSError, match="/dev/full"):
            net.fit(np.ones((2, 3, 1)), np.ones((2, 1)), callbacks=kind("/dev/full"), verbose=0)


@pytest.mark.parametrize("broken", ("fsync", "replace"))
def test_a_failed_save_keeps_the_old_file(broken, saved, monkeypatch):
    """A full disk, say: the old file stays, nothing is left lying about."""
    _, path = saved
    before, files = path.read_bytes(), listing(path.parent)

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OSError, match="No space"):
        network(seed=2).save(path)
    monkeypatch.undo()
    assert path.read_bytes() == before and listing(path.parent) == files


def test_the_file_is_on_the_disk_before_it_is_renamed(saved, monkeypatch):
    _, path = saved
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, real=real: (calls.append(name), real(*a))[1])
    network(seed=2).save(path)
    assert calls[:2] == ["fsync", "replace"]


KILLED = """
import os, signal, sys
import bptt_fast as bf
real = getattr(os, sys.argv[2])
setattr(os, sys.argv[2], lambda *a: os.kill(os.getpid(), signal.SIGKILL))
bf.Network(3, 5, 2, seed=2).save(sys.argv[1])
"""


@pytest.mark.parametrize("moment", ("fsync", "replace"))
def test_a_killed_save_keeps_the_old_file(moment, saved, python):
    net, path = saved
    found = python("-c", KILLED, path, moment)
    assert found.returncode == -signal.SIGKILL, found.stderr
    np.testing.assert_array_equal(bf.load(path).params, net.params)


@pytest.mark.parametrize("moment", ("fsync", "replace"))
def test_the_next_save_removes_what_a_killed_one_left(moment, saved, python):
    """Not what another process is writing, and no file of another name."""
    _, path = saved
    keep = [".bptt_fast.12.0123456", ".bptt_fast.x.01234567", "bptt_fast.12.01234567"]
    for name in keep:
        (path.parent / name).write_text("mine")
    for _ in range(2):
        python("-c", KILLED, path, moment)
    left = set(listing(path.parent)) - {*keep, path.name}
    assert len(left) == 1 and left.pop().startswith(".bptt_fast.")  # the second one removed that of the first
    network(seed=2).save(path)
    assert listing(path.parent) == sorted([*keep, path.name])


def test_a_file_that_is_being_written_stays(saved, monkeypatch):
    """Another thread saves into the folder between the write and the rename, twice."""
    _, path = saved
    real, written = os.replace, []

    def replace(source, target):
        if len(written) < 2:
            written.append(source)
            network(seed=3).save(path.parent / f"other {len(written)}")
            assert os.path.exists(source)
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    network(seed=2).save(path)
    np.testing.assert_array_equal(bf.load(path).params, network(seed=2).params)
    assert listing(path.parent) == sorted([path.name, "other 1", "other 2"])


def test_a_save_whose_file_was_removed_takes_another(saved, monkeypatch):
    """Between the creation and the lock of a temporary file it looks like one of a killed save."""
    _, path = saved
    real, removed = writing._lock, []

    def lock(file, wait):
        if wait and not removed:
            removed.append(file.name)
            os.unlink(file.name)
        return real(file, wait)

    monkeypatch.setattr(writing, "_lock", lock)
    network(seed=2).save(path)
    np.testing.assert_array_equal(bf.load(path).params, network(seed=2).params)
    assert removed and listing(path.parent) == [path.name]


def test_saves_from_many_threads_do_not_disturb_each_other(tmp_path):
    nets = [network(seed=seed) for seed in range(4)]

    def work(net):
        for _ in range(25):
            net.save(tmp_path / f"{net.seed % 2}")
            net.save(tmp_path / f"own {net.seed}")

    team = [threading.Thread(target=work, args=(net,)) for net in nets]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()
    assert listing(tmp_path) == ["0", "1", "own 0", "own 1", "own 2", "own 3"]
    for net in nets:
        np.testing.assert_array_equal(bf.load(tmp_path / f"own {net.seed}").params, net.params)


@pytest.mark.parametrize("system", ("no flock", "no module"))
def test_without_locks_files_are_written_all_the_same(system, saved, monkeypatch):
    _, path = saved
    leftover = path.parent / ".bptt_fast.12.01234567"
    leftover.write_text("perhaps still being written")
    if system == "no module":
        monkeypatch.setitem(sys.modules, "fcntl", None)
    else:

        def refuse(*arguments):
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr("fcntl.flock", refuse)
    network(seed=2).save(path)
    np.testing.assert_array_equal(bf.load(path).params, network(seed=2).params)
    assert leftover.exists()


def test_a_link_is_followed(saved, tmp_path):
    """The file behind a symbolic link is replaced, not the link; behind a chain too, or a new one."""
    _, path = saved
    chain, link, ahead = tmp_path / "chain", tmp_path / "link", tmp_path / "ahead"
    link.symlink_to(path)
    chain.symlink_to("link")
    ahead.symlink_to("not yet")
    for seed, place, found in ((2, link, path), (3, chain, path), (4, ahead, tmp_path / "not yet")):
        other = network(seed=seed)
        other.save(place)
        assert place.is_symlink()
        np.testing.assert_array_equal(bf.load(found).params, other.params)


def test_permissions_are_those_of_any_file(saved):
    _, path = saved
    plain = path.parent / "plain"
    subprocess.run([sys.executable, "-c", f"open({str(plain)!r}, 'w')"], check=True)
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


HISTORY = bf.History("epoch", "loss")
HISTORY.add({"epoch": 1, "loss": 0.5})
TABLE = bf.restarts(network(), np.zeros((2, 3, 3)), np.zeros((2, 2)), 2, epochs=1, verbose=0)[1]
WRITERS = {
    "network": lambda path: network(seed=2).save(path),
    "learner": lambda path: network(seed=2).learn_online(bf.SlidingBPTT(2)).save(path),
    "onnx": lambda path: network(seed=2).to_onnx(path),
    "checkpoint": lambda path: network(seed=2).fit(
        np.zeros((2, 3, 3)), np.zeros((2, 2)), callbacks=bf.callbacks.ModelCheckpoint(path), verbose=0
    ),
    "history": HISTORY.to_csv,
    "restarts": TABLE.to_csv,
    "predict csv": lambda path: write_table(str(path), ["row", "é"], [[1, 2], [0.5, 1.5]]),
}
writers = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


@writers
@pytest.mark.parametrize("mode", (0o600, 0o640, 0o604, 0o666, 0o755), ids=oct)
def test_a_mode_is_kept(write, mode, tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    path.chmod(mode)
    write(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode and path.read_bytes() != b"old"
    assert listing(tmp_path) == ["a"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give files away")
def test_an_owner_is_kept(saved):
    _, path = saved
    os.chown(path, 12345, 23456)
    path.chmod(0o640)
    network(seed=2).save(path)
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (12345, 23456, 0o640)


def test_what_may_not_be_kept_is_no_error(saved, monkeypatch):
    """Files of another owner, and file systems without owners and modes."""

    def refuse(*arguments):
        raise PermissionError(1, "Operation not permitted")

    _, path = saved
    monkeypatch.setattr(os, "chown", refuse)
    monkeypatch.setattr(os, "chmod", refuse)
    other = network(seed=2)
    other.save(path)
    np.testing.assert_array_equal(bf.load(path).params, other.params)


def test_nobody_reads_a_private_file_while_it_is_written(saved, monkeypatch):
    _, path = saved
    path.chmod(0o600)
    modes = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda d: (modes.append(stat.S_IMODE(os.fstat(d).st_mode)), real(d))[1])
    network(seed=2).save(path)
    assert modes[0] == 0o600


@writers
def test_a_pipe_is_written_to(write, tmp_path):
    """What comes out at its other end is what is in a file, and the pipe is still there."""
    file, pipe, link = tmp_path / "file", tmp_path / "pipe", tmp_path / "link"
    write(file)
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link):
        found = []
        reader = threading.Thread(target=lambda found=found: found.append(pipe.read_bytes()))
        reader.start()
        write(path)
        reader.join(20)
        assert [sorted(part) for part in found] == [sorted(file.read_bytes())]  # metadata have no order
        assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert listing(tmp_path) == ["file", "link", "pipe"] and link.is_symlink()


@writers
def test_a_device_is_written_to(write, tmp_path):
    link = tmp_path / "null"
    link.symlink_to(os.devnull)
    for path in (os.devnull, link):
        write(path)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode) and listing(tmp_path) == ["null"]


@writers
def test_what_is_no_file(write, tmp_path):
    """A folder, a socket, a link to itself: an OSError, and they stay."""
    place = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(place))
        (tmp_path / "folder").mkdir()
        (tmp_path / "loop").symlink_to("loop")
        for name in ("folder", "socket", "loop"):
            with pytest.raises(OSError, match=name):
                write(tmp_path / name)
        assert listing(tmp_path) == ["folder", "loop", "socket"] and stat.S_ISSOCK(place.stat().st_mode)


STANDARD = """
import sys, bptt_fast as bf
print("before")
bf.Network(3, 5, 2, seed=2).save(sys.argv[1])
print("after")
"""


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="no /dev/stdout")
@pytest.mark.parametrize("name", ("/dev/stdout", "/dev/fd/1", "out"))
def test_standard_output_is_written_to(name, saved, python):
    """Into a file it goes in between what is printed, which is not lost."""
    _, path = saved
    with open(path.parent / "out", "wb") as file:
        file.write(b"old\n")
        file.flush()
        found = python("-c", STANDARD, name, stdout=file)
    assert found.returncode == 0, found.stderr
    content = (path.parent / "out").read_bytes()
    assert content.startswith(b"old\nbefore\n") and content.endswith(b"after\n")
    path.write_bytes(content.removeprefix(b"old\nbefore\n").removesuffix(b"after\n"))
    np.testing.assert_array_equal(bf.load(path).params, network(seed=2).params)


def test_a_long_name(tmp_path):
    """As long as file systems take it, in bytes."""
    name = "é" * 127
    network().save(tmp_path / name)
    assert listing(tmp_path) == [name]


# ---- the rows that an output is ahead


@pytest.mark.parametrize("how, lead", (
    (dict(bptt=bf.SlidingBPTT(5)), 1), (dict(bptt=bf.SlidingBPTT(5, lead=0)), 0),
    (dict(bptt=bf.SlidingBPTT(5, lead=3)), 3), (dict(), 0), (dict(bptt=bf.TruncatedBPTT(5)), 0),
    (dict(bptt=bf.CheckpointedBPTT()), 0),
))  # fmt: skip
@pytest.mark.parametrize("named", (False, True))
def test_fit_says_how_far_ahead(how, lead, named, tmp_path):
    """The last fit counts; copies, files and graphs have it."""
    pytest.importorskip("onnx")
    x, y = np.random.default_rng(0).standard_normal((2, 40, 2)).astype(np.float32)
    net = bf.Network(2, 4, 2, readout="last" if "Sliding" in str(how) else "every", seed=0)
    net.lead = 7
    if named:
        net.input_names = ("a", "b")
    net.fit(x, y, scaling="standard", verbose=0, **how)
    assert net.lead == lead
    assert copy.deepcopy(net).lead == pickle.loads(pickle.dumps(net)).lead == lead
    net.save(tmp_path / "a")
    net.to_onnx(tmp_path / "a.onnx")
    assert bf.load(tmp_path / "a").lead == bf.from_onnx(tmp_path / "a.onnx").lead == lead
    best, table = bf.restarts(net, x, y, 2, epochs=1, verbose=0, **how)
    assert [one.lead for one in (best, *table.networks)] == [lead] * 3


def test_windows_say_how_far_ahead():
    series = np.random.default_rng(0).standard_normal((40, 1))
    net = bf.Network(1, 4, 1, seed=0)
    for horizon in (1, 0, 4):
        net.fit(bf.Sequences.windows(series, 5, horizon=horizon), series, verbose=0)
        assert net.lead == horizon


def test_a_forecaster_says_how_far_ahead():
    estimators = pytest.importorskip("bptt_fast.estimators")
    found = estimators.RNNForecaster(4, window=5, max_iter=1).fit([np.sin(np.arange(40.0))])
    assert found.network_.lead == 1


@pytest.mark.parametrize("lead", (0, 1, 3))
def test_a_learner_says_how_far_ahead(lead, tmp_path):
    net = bf.Network(1, 4, 1, seed=0)
    learner = net.learn_online(bf.SlidingBPTT(3, lead))
    assert net.lead == lead
    for _ in range(10):
        learner.observe([0.5], [0.25])
    learner.save(tmp_path / "a")
    again = bf.load(tmp_path / "a")
    assert again.network.lead == lead and again.observe([0.5], [0.25]) == learner.observe([0.5], [0.25])
    net.save(tmp_path / "b")
    assert bf.load(tmp_path / "b").lead == lead


def test_a_failed_fit_leaves_the_lead():
    net = bf.Network(1, 4, 1, seed=0)
    net.lead = 2
    with pytest.raises(bf.ShapeError):
        net.fit(np.zeros((3, 1)), np.zeros((3, 1)), bptt=bf.SlidingBPTT(5), verbose=0)
    with pytest.raises(bf.ConfigError):
        net.learn_online(bf.SlidingBPTT(5), loss="mee")
    assert net.lead == 2


@pytest.mark.parametrize("wrong", (-1, 1.5, "1", None, True))
def test_wrong_leads(wrong):
    net = bf.Network(1, 4, 1, seed=0)
    with pytest.raises(bf.ConfigError, match="lead: expected an integer of at least 0"):
        net.lead = wrong
    assert net.lead == 0


def test_the_content_of_a_file_for_its_name(tmp_path):
    network().save(tmp_path / "a")
    with pytest.raises(bf.ConfigError, match="expected the name of a file") as caught:
        bf.load((tmp_path / "a").read_bytes())
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize("path", ("a\0b", b"a\0b", "\ud800"), ids=("null", "bytes", "surrogate"))
def test_a_path_that_no_file_can_have(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = bf.Network(1, 2, 1, seed=0)
    learner = net.learn_online(bf.SlidingBPTT(2))
    for call in (net.save, bf.load, net.to_onnx, bf.from_onnx, learner.save):
        with pytest.raises(bf.ConfigError, match="path: expected"):
            call(path)
    for call in (bf.callbacks.ModelCheckpoint, bf.callbacks.CSVLogger):
        with pytest.raises(bf.ConfigError, match="expected"):
            call(path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ("", "new/"))
def test_a_path_without_the_name_of_a_file(path, tmp_path, monkeypatch):
    """As for `open`: an empty path is no name for the working folder, nor a folder's for a file."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FileNotFoundError) as caught:
        bf.Network(1, 2, 1, seed=0).save(path)
    assert caught.value.filename == path and sorted(tmp_path.rglob("*")) == before
