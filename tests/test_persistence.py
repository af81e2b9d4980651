"""save and load: equal to the bit, all or nothing, and every damaged file is an error in words."""

import json
import os
import signal
import stat
import subprocess
import sys

import numpy as np
import pytest

import bptt_fast as bf

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


@pytest.mark.parametrize("content", (b"", b"\0" * 8, b"\xff" * 64, b"a,b\n1,2\n", b"\x80\x04N."), ids=repr)
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
    import pickle

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


def test_a_link_is_followed(saved, tmp_path):
    """The file behind a symbolic link is replaced, not the link."""
    _, path = saved
    link = tmp_path / "link"
    link.symlink_to(path)
    other = network(seed=2)
    other.save(link)
    assert link.is_symlink()
    np.testing.assert_array_equal(bf.load(path).params, other.params)


def test_permissions_are_those_of_any_file(saved):
    _, path = saved
    plain = path.parent / "plain"
    subprocess.run([sys.executable, "-c", f"open({str(plain)!r}, 'w')"], check=True)
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
