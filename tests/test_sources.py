"""Data that come in parts: equal to the bit to the same data in memory, or refused by name."""

import os
import signal
import threading
import time

import numpy as np
import pytest

import bptt_fast as bf
from bptt_fast.interrupts import prefetched

N, STEPS = 50, 6
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N, STEPS, 3)).astype(np.float32)
LAST, EVERY = RNG.standard_normal((N, 2)), RNG.standard_normal((N, STEPS, 2))
WEIGHT = RNG.integers(0, 3, N) / 2
CUTS = {"of batches": 16, "of parts of batches": 7, "one": N, "longer than batches": 20}


def network(**options):
    return bf.Network(3, 4, 2, **{"seed": 3, **options})


def fitted(net, x, y=None, **options):
    """The parameters and the record after a fit."""
    history = net.fit(x, y, **{"epochs": 3, "batch_size": 8, "verbose": 0, **options})
    return net.params.copy(), {name: history[name] for name in history if name != "seconds"}


def equal(a, b):
    np.testing.assert_array_equal(a[0], b[0])
    assert a[1] == b[1]


def written(folder, cut, **arrays):
    """The files of arrays in parts of `cut` sequences, by the name of the array."""
    paths = {name: [] for name in arrays}
    for number, begin in enumerate(range(0, N, cut)):
        for name, array in arrays.items():
            paths[name].append(folder / f"{name}{number:02}.npy")
            np.save(paths[name][-1], array[begin : begin + cut])
    return paths


SETTINGS = {
    "plain": {},
    "momentum and a schedule": {"optimizer": bf.SGD(bf.Cosine(0.1), momentum=0.9)},
    "noise": {"optimizer": bf.Adam(1e-2, gradient_noise=0.1), "initial_epoch": 1},
    "NAdam": {"optimizer": bf.NAdam(1e-2)},
    "iRprop": {"optimizer": bf.Rprop(backtrack=True)},
    "clipping": {"optimizer": bf.RMSprop(1e-2, clip_norm=0.1)},
    "validation": {"validation_data": (X[:9], EVERY[:9]), "patience": 1},
    "truncated": {"bptt": bf.TruncatedBPTT(2, 3)},
    "checkpointed": {"bptt": bf.CheckpointedBPTT()},
    "one state": {"x0": np.arange(4)},
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=list(CUTS))
@pytest.mark.parametrize("options", SETTINGS.values(), ids=list(SETTINGS))
def test_files_equal_arrays(options, cut, tmp_path):
    """In the order of the files, whatever their sizes: batches go across files."""
    files = bf.Files(*written(tmp_path, cut, x=X, y=EVERY).values())
    noisy = {} if "bptt" in options else {"dropout": 0.2, "recurrent_dropout": 0.1, "num_layers": 2}
    noisy = {} if "x0" in options else noisy
    expected = fitted(network(readout="every", **noisy), X, EVERY, shuffle=False, **options)
    equal(fitted(network(readout="every", **noisy), files, shuffle=False, **options), expected)


@pytest.mark.parametrize("cut", (7, 16))
def test_weights_and_classes(cut, tmp_path):
    classes = (LAST[:, 0] > 0).astype(int)
    paths = written(tmp_path, cut, x=X, y=classes, weight=WEIGHT)
    options = {"loss": bf.Loss("cross_entropy", class_weight=[1, 2]), "shuffle": False}
    expected = fitted(network(), X, classes, sample_weight=WEIGHT, **options)
    equal(fitted(network(), bf.Files(*paths.values()), **options), expected)
    zeros = np.where(np.arange(N) < 16, 0.0, WEIGHT)  # no weight in the first file
    paths = written(tmp_path, cut, x=X, y=classes, weight=zeros)
    expected = fitted(network(), X, classes, sample_weight=zeros, **options)
    equal(fitted(network(), bf.Files(*paths.values()), **options), expected)


def test_a_loss_of_the_users(tmp_path):
    def squares(outputs, targets, weights):
        return float(np.mean((outputs - targets) ** 2)), 2 * (outputs - targets) / outputs.size

    files = bf.Files(*written(tmp_path, 7, x=X, y=LAST).values())
    expected = fitted(network(), X, LAST, loss=squares, shuffle=False)
    equal(fitted(network(), files, loss=squares, shuffle=False), expected)


def test_order_by_the_seed(tmp_path):
    """One part has the order of an array; several have that of the generator [seed, epoch]."""
    paths = written(tmp_path, N, x=X, y=LAST)
    equal(fitted(network(), bf.Files(*paths.values())), fitted(network(), X, LAST))
    row = X[0].nbytes
    (tmp_path / "four").mkdir()
    for files in (
        bf.Files(*paths.values(), part_bytes=16 * row + 1),
        bf.Files(*written(tmp_path / "four", 16, x=X, y=LAST).values()),
    ):
        net, other = network(), network()
        for epoch in range(2):
            draw, parts = np.random.default_rng([3, epoch]), np.split(np.arange(N), [16, 32, 48])
            order = np.concatenate([draw.permutation(parts[i]) for i in draw.permutation(4)])
            span = {"epochs": epoch + 1, "initial_epoch": epoch}
            expected = fitted(net, X[order], LAST[order], shuffle=False, **span)
            equal(fitted(other, files, **span), expected)


LENGTHS = RNG.integers(1, STEPS + 1, N)
RAGGED = [x[:length] for x, length in zip(X, LENGTHS, strict=True)]
RAGGED_Y = [y[:length] for y, length in zip(EVERY, LENGTHS, strict=True)]


@pytest.mark.parametrize("bptt", (bf.FullBPTT(), bf.TruncatedBPTT(2), bf.CheckpointedBPTT(2)), ids=str)
def test_sequences_of_different_lengths(bptt, tmp_path):
    """As files of one sequence each, and as archives with lengths."""
    paths = written(tmp_path, 1, x=X, y=EVERY)
    for name, parts in (("x", RAGGED), ("y", RAGGED_Y)):
        for path, part in zip(paths[name], parts, strict=True):
            np.save(path, part)
    for begin in range(0, N, 15):
        part = slice(begin, begin + 15)
        np.savez(tmp_path / f"{begin:02}.npz", x=X[part], y=EVERY[part], lengths=LENGTHS[part])
    options = {"shuffle": False, "bptt": bptt}
    expected = fitted(network(readout="every"), RAGGED, RAGGED_Y, **options)
    equal(fitted(network(readout="every"), paths["x"], paths["y"], **options), expected)
    archives = sorted(tmp_path.glob("*.npz"))
    equal(fitted(network(readout="every"), archives, **options), expected)


@pytest.mark.parametrize("every", (False, True))
def test_tables(every, tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    readout, ends = "every" if every else "last", np.cumsum(LENGTHS)
    x, y = np.concatenate(RAGGED), np.concatenate(RAGGED_Y)
    rows = dict(zip(("c", "a", "b", "u", "v"), np.column_stack([x, y]).T, strict=True))
    weight = np.repeat(WEIGHT, LENGTHS)
    key = np.repeat(np.arange(N) % 10, LENGTHS)
    for number, (begin, end) in enumerate(((0, 10), (10, 20), (20, 30), (30, 40), (40, 50))):
        part = slice(ends[begin] - LENGTHS[begin], ends[end - 1])
        columns = {name: column[part] for name, column in rows.items()} | {"w": weight[part]}
        parquet.write_table(pa.table(columns | {"id": key[part]}), tmp_path / f"{number}.parquet")
    targets = RAGGED_Y if every else y[ends - 1]
    expected = fitted(network(readout=readout), RAGGED, targets, sample_weight=WEIGHT, shuffle=False)
    options = {"targets": ["u", "v"], "weight": "w", "sequence": "id"}
    net = network(readout=readout)
    found = fitted(net, bf.Files(tmp_path, inputs=["c", "a", "b"], **options), shuffle=False)
    equal(found, expected)
    assert (net.input_names, net.output_names) == (("c", "a", "b"), ("u", "v"))
    net.params[:] = network(readout=readout).params  # columns in another order are matched by name
    swapped = options | {"targets": ["v", "u"]}
    equal(fitted(net, bf.Files(tmp_path, inputs=["b", "a", "c"], **swapped), shuffle=False), expected)
    with pytest.raises(bf.ShapeError, match=r"0.parquet.*column 'b': expected one of c, a, w"):
        net.fit(bf.Files(tmp_path, inputs=["c", "a", "w"], targets=["u", "v"]))
    with pytest.raises(bf.ConfigError, match=r"0.parquet: column 'z': expected one of c, a, b"):
        bf.Files(tmp_path, inputs=["z"], targets=["u"])
    with pytest.raises(bf.ConfigError, match="comes back"):
        bf.Files(tmp_path, inputs=["a"], targets=["u"], sequence="w")
    with pytest.raises(bf.ConfigError, match="inputs: expected a list"):
        bf.Files(tmp_path)


class Batches:
    """Batches of 8, one after the other, in each pass from the first."""

    def __init__(self, y=LAST, length=None):
        self.y, self.length, self.passes = y, length, 0

    def __iter__(self):
        self.passes += 1
        for begin in range(0, N, 8):
            yield X[begin : begin + 8], self.y[begin : begin + 8]


class Counted(Batches):
    def __len__(self):
        return self.length


def test_batches_equal_arrays():
    expected = fitted(network(), X, LAST, shuffle=False)
    for batches in (Batches(), Counted(length=7), list(Batches())):
        equal(fitted(network(), batches, batch_size=None), expected)
    batches = Batches()
    fitted(network(), batches, batch_size=None)
    assert batches.passes == 3
    one = fitted(network(), X, LAST, shuffle=False, epochs=1)
    equal(fitted(network(), iter(Batches()), batch_size=None, epochs=1), one)
    schedule = {"optimizer": bf.SGD(bf.OneCycle(0.1)), "validation_data": (X[:5], LAST[:5])}
    expected = fitted(network(), X, LAST, shuffle=False, **schedule)
    equal(fitted(network(), Counted(length=7), batch_size=None, **schedule), expected)


def test_batches_that_grow():
    """A batch may be larger than those before, and its sequences longer."""
    sizes, steps = (3, 2, 15, 30), (2, 6, 3, 5)
    ends = np.cumsum(sizes)
    parts = [(slice(end - size, end), slice(0, t)) for end, size, t in zip(ends, sizes, steps, strict=True)]
    net, other = network(readout="every"), network(readout="every")
    fitted(net, [(X[part], EVERY[part]) for part in parts], batch_size=None, epochs=1, optimizer="sgd")
    for part in parts:
        fitted(other, X[part], EVERY[part], batch_size=30, epochs=1, optimizer="sgd")
    np.testing.assert_allclose(net.params, other.params, rtol=1e-5)
    batches = [(X[begin : begin + 10, :t], EVERY[begin : begin + 10, :t]) for begin, t in ((0, 2), (10, 6))]
    lists = ([part for batch in batches for part in batch[i]] for i in range(2))
    expected = fitted(
        network(readout="every", dropout=0.3, num_layers=2), *lists, batch_size=10, shuffle=False
    )
    equal(fitted(network(readout="every", dropout=0.3, num_layers=2), batches, batch_size=None), expected)


def test_a_data_loader():
    torch = pytest.importorskip("torch")
    from torch.utils.data import DataLoader, TensorDataset

    loader = DataLoader(TensorDataset(torch.tensor(X), torch.tensor(LAST)), batch_size=8)
    expected = fitted(network(), X, LAST, shuffle=False)
    equal(fitted(network(), loader, batch_size=None, validation_data=None), expected)


def test_windows_in_batches():
    series = RNG.standard_normal((100, 3)).astype(np.float32)
    windows = bf.Sequences.windows(series, 5)
    net = network()
    found = fitted(net, [(windows, series[:, :2])], batch_size=None)
    equal(found, fitted(network(), windows, series[:, :2], batch_size=len(windows), shuffle=False))
    assert net.lead == 1


def test_memory_maps_are_not_copied(tmp_path):
    """What is one array already needs no files: windows and sequences read the map itself."""
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert np.shares_memory(bf.data.sequences(mapped, 3, np.float32).values, mapped)
    windows = bf.Sequences.windows(mapped[:, 0], 5)
    assert not windows.values.flags.owndata
    equal(fitted(network(), mapped, LAST), fitted(network(), X, LAST))


def copies(folder, **options):
    """Files of X and LAST in parts of 16."""
    return bf.Files(*written(folder, 16, x=X, y=LAST).values(), **options)


def test_scaling_in_one_pass(tmp_path):
    """Means and deviations of all parts: to rounding those of an array, to the bit with a single part."""
    x, y = X * [1, 1e-3, 1e3] + [0, 5, -1e4], LAST * 7 + 3
    x[..., 0] = 4  # a constant
    for cut, tolerance in ((N, 0), (7, 1e-12)):
        (tmp_path / str(cut)).mkdir()
        files = bf.Files(*written(tmp_path / str(cut), cut, x=x, y=y).values())
        net, other = network(), network()
        fitted(net, x, y, scaling="standard", shuffle=False)
        fitted(other, files, scaling="standard", shuffle=False)
        for name in ("input_mean", "input_scale", "output_mean", "output_scale"):
            a, b = getattr(net.scaling, name), getattr(other.scaling, name)
            np.testing.assert_allclose(a, b, rtol=tolerance)
    assert other.scaling.input_scale[0] == 1
    batches = [(x[:20], y[:20]), (x[20:], y[20:])]
    fitted(net, batches, scaling="standard", batch_size=None)
    np.testing.assert_allclose(net.scaling.output_scale, other.scaling.output_scale)
    with pytest.raises(bf.ConfigError, match=r'x: expected an iterable.*scaling="standard", got a gen'):
        net.fit((batch for batch in batches), scaling="standard")


def batches_of(size, weight):
    return [(X[i : i + size], LAST[i : i + size], weight[i : i + size]) for i in range(0, N, size)]


def test_validation_in_parts(tmp_path):
    """The mean over the rows of all parts, for data in memory and in parts."""
    weight = np.where(np.arange(N) < 16, 0.0, WEIGHT)
    held_out = bf.Files(*written(tmp_path, 16, x=X, y=LAST, weight=weight).values())
    expected = fitted(network(), X, LAST, validation_data=(X, LAST, weight))
    batches = batches_of(9, weight)
    paths = (tuple(file.paths[name] for file in held_out.files) for name in ("x", "y", "sample_weight"))
    for given in (held_out, batches, batches_of(25, weight), tuple(paths)):
        found = fitted(network(), X, LAST, validation_data=given)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_allclose(found[1]["val_loss"], expected[1]["val_loss"], rtol=1e-6)
    found = fitted(network(), list(Batches()), validation_data=batches, batch_size=None)
    assert len(found[1]["val_loss"]) == 3


def test_validation_without_weight():
    with pytest.raises(bf.ConfigError, match="validation_data: expected a weight above 0, got only zeros"):
        fitted(network(), X, LAST, validation_data=batches_of(9, np.zeros(N)))


class Stop(Exception):
    pass


class Stops(bf.callbacks.BackupAndRestore):
    """A backup that ends the fit after the second epoch."""

    def save(self, epoch, state):
        super().save(epoch, state)
        if epoch == 2:
            raise Stop


def test_a_stopped_fit_continues(tmp_path):
    files = copies(tmp_path)
    options = {"epochs": 4, "optimizer": bf.Adam(bf.Step(1e-2, every=1)), "validation_data": files}
    expected = fitted(network(), files, **options)
    with pytest.raises(Stop):
        fitted(network(), files, callbacks=Stops(tmp_path / "backup"), **options)
    backup = bf.callbacks.BackupAndRestore(tmp_path / "backup")
    other = bf.Files(files.files[0].paths["x"], files.files[0].paths["y"])
    with pytest.raises(bf.ConfigError, match="x and y"):
        fitted(network(), other, callbacks=backup, **options)
    equal(fitted(network(), files, callbacks=backup, **options), expected)
    with pytest.raises(bf.ConfigError, match="x: expected arrays or Files for a fit with a backup"):
        network().fit(Batches(), callbacks=bf.callbacks.BackupAndRestore(tmp_path / "none"))


REFUSED = {
    "validation_split": ({"validation_split": 0.2}, "validation_split: .*Pass other files or batches"),
    "stateful": ({"stateful": True}, "stateful: "),
    "lengths": ({"lengths": [1] * N}, "lengths: "),
    "states": ({"x0": np.zeros((N, 4))}, "x0: .*one state"),
    "y": ({"y": LAST}, "y: expected None, as x has the targets"),
    "sample_weight": ({"sample_weight": WEIGHT}, "sample_weight: expected None"),
    "SlidingBPTT": ({"bptt": bf.SlidingBPTT(3)}, r"x: expected arrays with SlidingBPTT\(k=3"),
    "LBFGS": ({"optimizer": bf.LBFGS()}, "x: expected arrays with LBFGS"),
}
REFUSED_BATCHES = {
    "batch_size": ({"batch_size": 8}, "batch_size: "),
    "shuffle": ({"shuffle": True}, "shuffle: .*Shuffle the batches"),
    "schedule": ({"optimizer": bf.Adam(bf.Cosine(0.1))}, "optimizer: .*iterable with a length"),
    "noise": ({"optimizer": bf.Adam(0.1, gradient_noise=1)}, "optimizer: "),
}


@pytest.mark.parametrize("name", REFUSED)
def test_options_that_need_all_data(name, tmp_path):
    options, match = REFUSED[name]
    net = network()
    before = net.params.copy()
    with pytest.raises(bf.ConfigError, match=match):
        net.fit(copies(tmp_path), **options)
    np.testing.assert_array_equal(net.params, before)


@pytest.mark.parametrize("name", REFUSED_BATCHES)
def test_options_that_batches_decide(name):
    options, match = REFUSED_BATCHES[name]
    with pytest.raises(bf.ConfigError, match=match):
        network().fit(Batches(), **options)


def test_faulty_batches():
    """Named by their number; the network keeps the weights of the last finished update."""
    good = [(X[:8], LAST[:8]), (X[8:16], LAST[8:16])]
    expected = fitted(network(), good, batch_size=None, epochs=1)[0]
    for third, match in (
        ((X[:8, :, :2], LAST[:8]), r"x, batch 3: x: expected 3 features"),
        ((X[:8], LAST[:7]), r"x, batch 3: y: expected"),
        ((X[:8] * np.nan, LAST[:8]), r"x, batch 3: x: expected finite"),
        (X[:8], r"x, batch 3: expected \(x, y\) or \(x, y, sample_weight\), got ndarray"),
    ):
        net = network()
        with pytest.raises(ValueError, match=match):
            net.fit((batch for batch in [*good, third]), verbose=0)
        np.testing.assert_array_equal(net.params, expected)

    def failing():
        yield from good
        raise Stop

    net = network()
    with pytest.raises(Stop):
        net.fit(failing(), verbose=0)
    np.testing.assert_array_equal(net.params, expected)
    for batches, match in (
        (iter(good), "x: expected an iterable that can be read again, for 2 epochs, got a list_iterator"),
        (iter(()), "x: expected at least one batch"),
        (Counted(length=6), "x: expected 6 batches, its length, got more"),
        (Counted(length=9), "x: expected 9 batches, its length, got 7"),
        ([(X, LAST, WEIGHT * 0)], "sample_weight: expected a weight above 0"),
    ):
        with pytest.raises(bf.ConfigError, match=match):
            network().fit(batches, epochs=2, verbose=0)
    with pytest.raises(bf.ConfigError, match="validation_data: expected an iterable that can be read again"):
        network().fit(X, LAST, validation_data=iter(good), epochs=2)
    with pytest.raises(bf.ConfigError, match="x: expected arrays, as several networks"):
        bf.restarts(network(), Batches(), None, n=2, epochs=1)
    with pytest.raises(bf.ShapeError, match="x: expected several sequences"):
        bf.cross_validate(network(), Batches(), None, epochs=1)


def test_faulty_files(tmp_path):
    """Each message names the file."""
    paths = written(tmp_path, 16, x=X, y=LAST)
    x, y = paths["x"], paths["y"]
    content = x[2].read_bytes()
    for replaced, error, match in (
        (lambda: np.save(x[2], X[32:48, :, :2]), bf.ShapeError, "x02.npy: x: expected 3 axes, the last of 3"),
        (lambda: np.save(x[2], X[32:48].astype(float)), bf.ConfigError, "x02.npy: x: expected float32"),
        (lambda: np.save(x[2], X[32:47]), bf.ShapeError, "y02.npy: y: expected an entry for each of the 15"),
        (lambda: np.save(x[2], X[:0]), bf.ShapeError, "x02.npy: x: expected .*without zeros"),
        (lambda: x[2].write_bytes(content[:-1]), bf.CorruptFileError, "x02.npy: expected .* bytes"),
        (lambda: x[2].write_bytes(b"hello"), bf.CorruptFileError, "x02.npy: expected a .npy file"),
        (lambda: x[2].write_bytes(b""), bf.CorruptFileError, "x02.npy: expected a .npy file"),
        (lambda: np.save(x[2], np.array([None] * 16)), bf.CorruptFileError, "x02.npy: .*Python objects"),
        (lambda: x[2].unlink(), bf.ConfigError, "x02.npy: .*No such file"),
    ):
        replaced()
        with pytest.raises(error, match=match):
            bf.Files(x, y)
    (tmp_path / "empty").mkdir()
    archive = tmp_path / "a.npz"
    np.savez(archive, x=X, target=LAST)
    broken = tmp_path / "b.npz"
    broken.write_bytes(archive.read_bytes()[:-30])
    np.savez(tmp_path / "c.npz", x=X, y=LAST, lengths=np.full(N, STEPS + 1))
    for arguments, error, match in (
        ((tmp_path / "empty",), bf.ConfigError, "x: expected files of one format, .*empty, got none"),
        ((tmp_path / "nowhere",), bf.ConfigError, "x: expected files of one format"),
        ((x[:2],), bf.ConfigError, "y: expected the .npy files"),
        ((x[:2], y[:1]), bf.ConfigError, "y: expected 2 files"),
        (([x[0], archive], y), bf.ConfigError, "x: expected files of one format, .*got .npy, .npz"),
        ((archive,), bf.ConfigError, "a.npz: expected the arrays x and y.*got x, target"),
        ((archive, y), bf.ConfigError, "y: expected None"),
        ((broken,), bf.CorruptFileError, "b.npz: expected a .npz file"),
        ((tmp_path / "c.npz",), bf.ConfigError, "c.npz: lengths: expected numbers from 1 to 6"),
        ((3,), bf.ConfigError, "x: expected a path or a list"),
    ):
        with pytest.raises(error, match=match):
            bf.Files(*arguments)


def test_a_file_that_vanishes_or_changes(tmp_path):
    """The fit ends with the file's name, after the last finished update."""
    for change in ("unlink", "truncate", "nan"):
        folder = tmp_path / change
        folder.mkdir()
        files, net = copies(folder), network()
        expected = fitted(network(), X[:48], LAST[:48], epochs=1, shuffle=False, optimizer="sgd")[0]
        path = folder / "x03.npy"
        if change == "unlink":
            path.unlink()
        elif change == "truncate":
            os.truncate(path, 200)
        else:
            np.save(path, X[48:] * np.nan)
        with pytest.raises(bf.ConfigError, match=r"x03.npy: expected"):
            net.fit(files, batch_size=8, shuffle=False, optimizer="sgd", verbose=0)
        np.testing.assert_array_equal(net.params, expected)


def test_at_most_one_part_ahead():
    made, used = [], []

    def items():
        for i in range(6):
            made.append(i)
            yield i

    for i in prefetched(items()):
        time.sleep(0.01)
        used.append(i)
        assert len(made) <= len(used) + 1
    assert used == list(range(6))
    threads = threading.active_count()
    abandoned = prefetched(items())
    next(abandoned)
    abandoned.close()
    assert threading.active_count() <= threads


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
def test_interrupts_between_batches():
    """Ctrl-C, in a wait for data too, time limits and the progress display."""

    class Slow(Batches):
        def __iter__(self):
            for i, batch in enumerate(super().__iter__()):
                if i == 2 and self.passes == 2:
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(0.05)
                yield batch

    net = network()
    with pytest.raises(KeyboardInterrupt) as caught:
        net.fit(Slow(), epochs=5, optimizer="sgd", verbose=0)
    assert caught.value.history["epoch"] == [1]
    net.fit(list(Batches()), verbose=0)
    endless = ((X[:8], LAST[:8]) for _ in iter(int, 1))
    history = network().fit(endless, patience=bf.Stopping(max_seconds=0.1), verbose=0)
    assert (history.stopped, history["epoch"]) == ("max_seconds", [1])


def test_the_progress_bar(tmp_path, capfd):
    network().fit(copies(tmp_path), epochs=2, verbose=1)
    assert "600/600" in capfd.readouterr().err
    network().fit(Batches(), epochs=2, verbose=1)
    assert "epoch 2/2" in capfd.readouterr().err
