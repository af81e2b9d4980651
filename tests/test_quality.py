"""bench.quality: its data and its measures, on little made-up input; with the real files where they are."""

import numpy as np
import pytest
from support import cases

import bptt_fast as bf

HEADER = "# a comment with : and @\n@problemName Made\n@classLabel true 1 2\n@data\n"


@pytest.fixture(scope="module")
def quality():
    return cases.bench("quality")


def made(classes, each, seed=0):
    """Utterances whose two channels tell the class, x (a list of (T_i, 2)) and y (n,)."""
    random = np.random.default_rng(seed)
    y = np.repeat(np.arange(classes), each)
    return [random.normal((3 * c, -2), size=(random.integers(3, 8), 2)) for c in y], y


def test_utterances(quality):
    x, y = quality.utterances(HEADER + "1,2,3:4,5,6:2\n-1.5,0:7e-1,8:1\n")
    assert [a.shape for a in x] == [(3, 2), (2, 2)]
    np.testing.assert_array_equal(x[0], [[1, 4], [2, 5], [3, 6]])
    np.testing.assert_allclose(x[1], [[-1.5, 0.7], [0, 8]], rtol=1e-6)
    assert y.tolist() == [1, 0]


def test_standardised_by_what_is_known(quality):
    x, _ = made(3, 20)
    known, other = quality.standardised(x[:40], x[40:])
    rows = np.concatenate(known)
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(rows.std(axis=0), 1)
    before = np.concatenate(x[:40])
    np.testing.assert_allclose(other[0], (x[40] - before.mean(axis=0)) / before.std(axis=0))


def test_blocks_are_neighbours_of_each_class(quality):
    y = np.array([0] * 10 + [1] * 5 + [0] * 10)
    block = quality.blocks(y, 5)
    assert block[y == 0].tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4
    assert block[y == 1].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("readout", ["last", "every"])
def test_recognise(quality, readout):
    x, y = made(3, 12)
    other, wanted = made(3, 5, seed=1)
    setting = {"cell": "gru", "hidden_size": 6, "readout": readout}
    logp, seconds = quality.recognise(x, y, other, 0, setting)
    assert logp.shape == (15, 3) and seconds > 0
    np.testing.assert_allclose(np.exp(logp).sum(axis=1), 1, rtol=1e-5)
    assert (logp.argmax(axis=1) == wanted).mean() > 0.8


def test_text(quality):
    codes, size = quality.encode("abcabd")
    assert codes.tolist() == [0, 1, 2, 0, 1, 3] and size == 4
    assert len(quality.help_text()) > 100_000


def test_streams_predict_the_next_character(quality):
    codes = np.arange(26)
    x, y = quality.streams(codes, 2, 5)
    assert x.shape == y.shape == (2, 10)
    np.testing.assert_array_equal(y, x + 1)
    np.testing.assert_array_equal(x.ravel(), np.arange(20))
    with pytest.raises(ValueError, match="expected more than 2 \\* 50"):
        quality.streams(codes, 2, 50)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_pytorch_takes_the_same_steps(quality, cell):
    pytest.importorskip("torch")
    random = np.random.default_rng(0)
    codes = random.integers(0, 5, 1201)
    x, y = quality.streams(codes, 3, quality.STEPS)
    net, one_hot = bf.Network(5, 7, 5, cell=cell, readout="every", seed=0), np.eye(5, dtype=np.float32)
    rate = bf.Cosine(0.05)
    epoch, bits = quality.torch_side(net, x, y, rate.rates(2, x.shape[1] // quality.STEPS))
    net.fit(
        one_hot[x],
        y,
        epochs=2,
        batch_size=3,
        shuffle=False,
        optimizer=bf.Adam(rate, clip_norm=quality.CLIP),
        loss="cross_entropy",
        bptt=bf.TruncatedBPTT(quality.STEPS),
        verbose=0,
    )
    ours = net.evaluate(one_hot[codes[:-1]], codes[1:], loss="cross_entropy") / np.log(2)
    assert abs(bits(codes) - ours) > 1e-3  # they start apart from a trained network
    epoch(), epoch()
    assert bits(codes) == pytest.approx(ours, abs=1e-4)


def test_normalised(quality):
    wanted = np.array([1.0, 2, 3, 4])
    assert quality.normalised(np.full(4, 2.5), wanted) == pytest.approx(1)
    assert quality.normalised(wanted, wanted) == 0


@pytest.mark.parametrize("name", ["LevenbergMarquardt", "LBFGS", "Adam"])
def test_learn_laser(quality, name):
    z = np.sin(np.arange(120) / 3)
    x, y = quality.windows(z, 8, 1)
    net, history, seconds = quality.learn_laser(
        x, y, 0, name, 8, cell="gru", hidden_size=3, steps=8, validation_data=(x, y)
    )
    assert net.predict(x).shape == y.shape and 1 <= len(history["val_loss"]) <= 8 and seconds >= 0
    assert history["loss"][-1] < history["loss"][0]


def test_echo(quality):
    pytest.importorskip("reservoirpy")
    z = np.sin(np.arange(quality.KNOWN + 200) / 3)
    setting = {"units": 20, "sr": 0.9, "lr": 1.0, "input_scaling": 0.3, "bias": 0.3}
    predicted, seconds = quality.echo(z, 0, 1e-8, **setting)
    assert predicted.shape == (200, 1) and seconds >= 0
    assert quality.normalised(predicted, z[quality.KNOWN :, None]) < 1e-2


def test_the_real_files(quality):
    folder = quality.bundled("aeon", "datasets/data/JapaneseVowels")
    if folder is None:
        pytest.skip("needs aeon's data")
    x, y = quality.utterances((folder / "JapaneseVowels_TRAIN.ts").read_text())
    assert len(x) == 270 and x[0].shape == (20, 12) and np.bincount(y).tolist() == [30] * 9
    _, y = quality.utterances((folder / "JapaneseVowels_TEST.ts").read_text())
    assert len(y) == 370


def test_nothing_is_found_of_what_is_not_installed(quality):
    assert quality.bundled("no_such_package", "data") is None
