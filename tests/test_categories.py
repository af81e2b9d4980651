"""Integer inputs: equal to the network with one-hot vectors in their place, whose parameters they share."""

import numpy as np
import pytest
from support.categories import CELLS, RANDOM, WAYS, encoded, inputs, same, start_again

import bptt_fast as bf
from bptt_fast import _core

CATEGORIES = {"one": (0, (5,)), "beside numbers": (2, (7, 3)), "many numbers": (20, (4,))}


@pytest.fixture(autouse=True)
def _random_numbers():
    start_again()


def pair(numbers=0, sizes=(5,), **options):
    """A network with categories, and the one-hot network with its parameters."""
    options = {
        "hidden_size": 9,
        "output_size": 3,
        "dtype": "float64",
        "seed": 1,
        "readout": "every",
    } | options
    places = {numbers + i: size for i, size in enumerate(sizes)}
    net = bf.Network(input_size=numbers + len(sizes), categories=places, **options)
    one_hot = bf.Network(input_size=numbers + sum(sizes), **options)
    one_hot.load_state_dict(net.state_dict())
    return net, one_hot


@pytest.mark.parametrize("form", CATEGORIES)
@pytest.mark.parametrize("cell", CELLS)
def test_outputs_and_gradients_are_those_of_one_hot_inputs(cell, form):
    given = CATEGORIES[form]
    net, one_hot = pair(*given, **CELLS[cell])
    for n, steps in ((1, 9), (5, 7), (40, 3)):
        x = inputs(*given, n=n, steps=steps)
        y = RANDOM.integers(0, 3, size=(n, steps))
        same(net.predict(x), one_hot.predict(encoded(x, *given)))
        same(net.encoded(x), encoded(x, *given))
        loss, grads = net.loss_and_grad(x, y, loss="cross_entropy", with_inputs=True)
        wanted, wanted_grads = one_hot.loss_and_grad(
            encoded(x, *given), y, loss="cross_entropy", with_inputs=True
        )
        same(loss, wanted)
        same(grads.flat, wanted_grads.flat)
        same(grads["x"][..., : given[0]], wanted_grads["x"][..., : given[0]])
        assert not grads["x"][..., given[0] :].any()


@pytest.mark.parametrize("size", (5, (5, 3)))
def test_noise_is_for_numbers(size):
    """In the C library; Network expects no noise where some inputs are integers."""
    net = bf.Network(1, 9, 3, categories={0: size}, dtype="float64", seed=1)
    x, y = inputs(), RANDOM.normal(size=(6, 3))
    data = _core.Data(x.reshape(-1, 1), np.arange(6) * 8, np.full(6, 8), np.arange(6), targets=y)
    found = []
    for noise in (0, 2.0):
        plan, grad = _core.Plan(net.desc(), batch=6, steps=8, input_noise=noise), np.empty_like(net.params)
        found.append(plan.loss_and_grad(net.params, data, np.arange(6), grad))
        found[-1] += (grad.tobytes(),)
    assert found[0] == found[1]


@pytest.mark.parametrize("way", WAYS)
def test_every_unfolding_and_optimiser(way):
    given = CATEGORIES["beside numbers"]
    for options in ({"cell": "lstm"}, {}):
        net, one_hot = pair(*given, **options)
        x, y = inputs(*given), RANDOM.normal(size=(6, 8, 3))
        fits = {"epochs": 3, "batch_size": 3, "shuffle": False, "verbose": 0} | WAYS[way]
        if isinstance(fits.get("optimizer"), (bf.LevenbergMarquardt, bf.LBFGS, bf.HessianFree)):
            del fits["batch_size"]
        if way == "stateful":
            del fits["shuffle"]
        net.fit(x, y, **fits)
        if way == "scaled":
            s = net.scaling
            assert s.input_mean[2:] == (0, 0) and s.input_scale[2:] == (1, 1) and s.input_scale[0] != 1
            width = (0,) * 10, (1,) * 10
            fits["scaling"] = bf.Scaling(
                s.input_mean[:2] + width[0], s.input_scale[:2] + width[1], s.output_mean, s.output_scale
            )
        one_hot.fit(encoded(x, *given), y, **fits)
        # conjugate gradients amplify rounding errors
        same(net.params, one_hot.params, 1e-4 if way == "hessian free" else 1e-7)


@pytest.mark.parametrize("options", [{}, {"cell": "lstm"}, {"num_layers": 2}, {"head": (4,)}])
def test_the_online_algorithm(options):
    given = CATEGORIES["beside numbers"]
    net, one_hot = pair(*given, readout="last", **options)
    x, y = inputs(*given, n=1, steps=30)[0], RANDOM.normal(size=(30, 3))
    learner = net.learn_online(bf.SlidingBPTT(4), bf.SGD(0.1))
    losses = [learner.observe(row, target) for row, target in zip(x, y, strict=True)]
    again, _ = pair(*given, readout="last", **options)
    again.fit(x, y, bptt=bf.SlidingBPTT(4), optimizer=bf.SGD(0.1), shuffle=False, verbose=0)
    assert again.params.tobytes() == net.params.tobytes()
    one_hot.fit(
        encoded(x, *given), y, bptt=bf.SlidingBPTT(4), optimizer=bf.SGD(0.1), shuffle=False, verbose=0
    )
    same(net.params, one_hot.params)
    assert np.isnan(losses[2]) and losses[-1] > 0
    _, table = bf.restarts(
        pair(*given, readout="last", **options)[0], x, y, 3, epochs=1, bptt=bf.SlidingBPTT(4), verbose=0
    )
    assert np.isfinite(table["loss"]).all()


def test_ragged_sequences_windows_and_streams():
    net, one_hot = pair(cell="gru")
    x = [part[: 2 + i] for i, part in enumerate(inputs(n=5))]
    for a, b in zip(net.predict(x), one_hot.predict([encoded(part) for part in x]), strict=True):
        same(a, b)
    padded = inputs(n=3).astype(float)
    padded[1, 4:] = np.nan
    padded[2, 6:] = 77
    lengths = [8, 4, 6]
    safe = np.where((padded >= 0) & (padded < 5), padded, 0)
    same(net.predict(padded, lengths=lengths), one_hot.predict(encoded(safe), lengths=lengths))
    series, y = inputs(n=1, steps=60)[0], RANDOM.normal(size=(60, 3))
    fits = {"shuffle": False, "epochs": 2, "verbose": 0, "batch_size": 8}
    net.fit(bf.Sequences.windows(series, 6), y, **fits)
    one_hot.fit(bf.Sequences.windows(encoded(series), 6), y, **fits)
    same(net.params, one_hot.params, 1e-9)
    for batch in (1, 3):
        stream = net.stream(batch)
        rows = np.tile(series[:5, None], (1, batch, 1)) if batch > 1 else series[:5]
        outputs = [stream.step(row) for row in rows]
        same(np.reshape(outputs[-1], (batch, 3))[-1], net.predict(series[:5])[-1])
    ends = net.forecast(series, 4, next_input=lambda y, step: [np.argmax(y)])
    grown = series
    for row in ends:
        same(net.predict(grown, readout="last"), row)
        grown = np.vstack([grown, [[np.argmax(row)]]])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bits_do_not_depend_on_threads_or_integer_types(dtype):
    x, y = inputs(n=64, steps=40), RANDOM.integers(0, 3, size=(64, 40))
    found = set()
    for threads, kind in ((1, np.int8), (2, np.int64), (2, np.uint16), (1, np.float64), (3, bool)):
        net, _ = pair(dtype=dtype, hidden_size=40, cell="lstm")
        codes = x.astype(kind) if kind is not bool else x
        net.fit(codes, y, loss="cross_entropy", epochs=1, batch_size=32, verbose=0, threads=threads)
        found.add(net.params.tobytes())
    assert len(found) == 1


def test_tables_files_copies_and_diagnostics(tmp_path):
    pandas = pytest.importorskip("pandas")
    given = CATEGORIES["beside numbers"]
    net, one_hot = pair(*given)
    x, y = inputs(*given, n=1, steps=40)[0], RANDOM.normal(size=(40, 3))
    table = pandas.DataFrame(x, columns=["a", "b", "city", "day"]).astype({"city": "int8", "day": "int64"})
    net.fit(table, y, epochs=1, verbose=0)
    assert net.input_names == ("a", "b", "city", "day")
    same(net.predict(table[["day", "a", "city", "b"]]).to_numpy(), net.predict(x))
    net.save(tmp_path / "net.safetensors")
    again = bf.load(tmp_path / "net.safetensors")
    assert again.config() == net.config() and again.description.categories == ((2, 7), (3, 3))
    assert again.predict(x).tobytes() == net.predict(x).tobytes()
    assert "categories={2: 7, 3: 3}" in repr(net)
    one_hot.load_state_dict(net.state_dict())
    for name in ("states", "state_jacobians"):
        same(
            getattr(bf.diagnostics, name)(net, x), getattr(bf.diagnostics, name)(one_hot, encoded(x, *given))
        )
    shares = [bf.diagnostics.saturation(net, x), bf.diagnostics.saturation(one_hot, encoded(x, *given))]
    same(shares[0]["h_l0"], shares[1]["h_l0"])
    points = [
        bf.diagnostics.fixed_points(n, a[0]).points for n, a in ((net, x), (one_hot, encoded(x, *given)))
    ]
    same(points[0], points[1], 1e-6)


def test_memory_of_many_classes():
    net = bf.Network(1, 128, 100, categories={0: 100}, readout="every", seed=0)
    one_hot = bf.Network(100, 128, 100, readout="every", seed=0)
    assert net.num_parameters == one_hot.num_parameters
    assert net.estimate_memory(32, 100) < one_hot.estimate_memory(32, 100)
    x = np.zeros((32, 100, 1), np.int8)
    from bptt_fast import data

    sequences = data.sequences(x, 1, np.float32, columns=net.columns)
    assert sequences.values.nbytes == 32 * 100 * 4


@pytest.mark.parametrize(
    "value, text",
    [
        (5, "expected integers from 0 to 4 in column 1, got 5 at sequence 2, step 3"),
        (-1, "expected integers from 0 to 4 in column 1, got -1"),
        (1.5, "expected integers from 0 to 4 in column 1, got 1.5"),
        (1e300, "in column 1, got 1e+300"),
        (np.nan, "expected finite numbers"),
    ],
)
def test_values_that_are_no_categories(value, text):
    net, _ = pair(1, (5,), readout="last")
    x, y = inputs(1, (5,)), RANDOM.normal(size=(6, 3))
    x[2, 3, 1] = value
    before = net.params.tobytes()
    for call in (net.predict, lambda x: net.fit(x, y, verbose=0), lambda x: net.evaluate(x, y)):
        with pytest.raises(bf.ConfigError) as caught:
            call(x)
        assert text in str(caught.value), caught.value
    stream, learner = net.stream(), net.learn_online(bf.SlidingBPTT(2))
    state = stream.state.tobytes()
    for call in (stream.step, lambda row: learner.observe(row, y[0])):
        with pytest.raises(bf.ConfigError, match=r"expected (integers|finite)"):
            call(x[2, 3])
    assert stream.state.tobytes() == state and learner.seen == 0 and net.params.tobytes() == before
    with pytest.raises(bf.ConfigError, match=r"next_input.*expected (integers|finite)"):
        net.forecast(x[0], 3, next_input=lambda y, step: x[2, 3])


@pytest.mark.parametrize(
    "categories, text",
    [
        ({0: 5}, "the last columns of the 3"),
        ({2: 5, 1: 4, 0: 0}, "categories[0]: expected an integer of at least 1"),
        ({3: 5}, "the last columns of the 3"),
        ({2: 2**24 + 1}, "categories[2]: expected at most 16777216"),
        ({"a": 5}, "categories: expected an integer"),
        (5, "categories: expected a dict"),
        ([(2, 5), (2, 5)], "the last columns of the 3"),
    ],
)
def test_descriptions_that_are_refused(categories, text):
    with pytest.raises(bf.ConfigError) as caught:
        bf.Network(3, 4, 2, categories=categories)
    assert text in str(caught.value)


def test_what_categories_exclude(tmp_path):
    net, _ = pair(2, (3,))
    x = inputs(2, (3,))
    with pytest.raises(bf.ConfigError, match="forecast: expected inputs that are numbers"):
        net.forecast(x, 3)
    with pytest.raises(bf.ConfigError, match="teacher_forcing: expected inputs that are numbers"):
        net.fit(x, x, teacher_forcing=0.5, verbose=0)
    for scaling in (bf.Scaling([0, 0, 1], [1, 1, 1]), bf.Scaling([0, 0, 0], [1, 1, 2])):
        with pytest.raises(bf.ConfigError, match="scaling: expected mean 0 and scale 1 for column 2"):
            net.scaling = scaling
        with pytest.raises(bf.ConfigError, match="scaling: expected mean 0 and scale 1 for column 2"):
            net.fit(x, x, scaling=scaling, verbose=0)
    assert net.scaling is None


# ---- other faces


FACES = {
    "one": dict(cell="gru"),
    "beside numbers": dict(cell="lstm", bidirectional=True, readout="last"),
    "many numbers": dict(nonlinearity="relu", num_layers=2, head=(4,)),
}


@pytest.mark.parametrize("scaled", (False, True))
@pytest.mark.parametrize("form", FACES)
def test_pytorch_and_back(form, scaled):
    torch = pytest.importorskip("torch")
    given = CATEGORIES[form]
    net, _ = pair(*given, **FACES[form])
    if scaled:
        means = [[*[3.0] * given[0], *[0] * len(given[1])], [*[2.0] * given[0], *[1] * len(given[1])]]
        net.scaling = bf.Scaling(*means, [5] * 3, [4] * 3)
    model, x = net.to_torch(), inputs(*given)
    same(model(torch.tensor(x)).detach().numpy(), net.predict(x))
    packed = torch.nn.utils.rnn.pack_sequence([torch.tensor(part) for part in x])
    same(model(packed).detach().numpy(), net.predict(x))
    again = bf.from_torch(model)
    assert again.params.tobytes() == net.params.tobytes() and again.scaling == net.scaling
    assert again.description.categories == net.description.categories
    for value in (1.5, -1, 7):
        wrong = torch.tensor(x.astype(float))
        wrong[1, 2, -1] = value
        with pytest.raises(bf.ConfigError, match=rf"expected integers from 0 to .* column -1, got {value}"):
            model(wrong)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("form", FACES)
def test_onnx_and_back(form, dtype, tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    given, path = CATEGORIES[form], tmp_path / "model.onnx"
    net, _ = pair(*given, **FACES[form] | {"dtype": dtype, "readout": "every"})
    means = [[*[3.0] * given[0], *[0] * len(given[1])], [*[2.0] * given[0], *[1] * len(given[1])]]
    for scaling in (None, bf.Scaling(*means, [5] * 3, [4] * 3)):
        net.scaling = scaling
        net.to_onnx(path)
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        x = inputs(*given).astype(dtype if given[0] else np.int64)
        same(session.run(["y"], {"x": x})[0], net.predict(x), 1e-5)
        again = bf.from_onnx(path)
        assert again.params.tobytes() == net.params.tobytes() and again.columns == net.columns
        assert again.config() | {"seed": 1} == net.config()
    if dtype == "float32":
        import onnx

        graph = onnx.load(path)
        del graph.metadata_props[:]
        onnx.save(graph, path)
        again = bf.from_onnx(path)
        same(again.predict(x), net.predict(x), 1e-5)
        torch = pytest.importorskip("torch")
        torch.onnx.export(net.to_torch(), (torch.tensor(x),), path, input_names=["x"], dynamo=False)
        same(bf.from_onnx(path).predict(x), net.predict(x), 1e-5)


def test_estimators():
    pandas = pytest.importorskip("pandas")
    estimators = pytest.importorskip("bptt_fast.estimators")
    x = inputs(2, (7, 3), n=30, steps=5)[..., [2, 0, 3, 1]]  # the integers between numbers
    y = (x[:, -1, 0] < 3) * 1
    options = dict(max_iter=2, n_iter_no_change=9, random_state=0)
    model = estimators.RNNClassifier(4, categories={2: 3, 0: 7}, **options)
    with pytest.warns(Warning, match="max_iter"):
        model.fit(x, y)
    assert model.network_.description.categories == ((2, 7), (3, 3))
    same(model.predict_proba(x).sum(axis=1), np.ones(30))
    tables = [pandas.DataFrame(part, columns=["day", "a", "kind", "b"]) for part in x]
    named = estimators.RNNClassifier(4, categories={"kind": 3, "day": 7}, **options)
    with pytest.warns(Warning, match="max_iter"):
        named.fit(tables, y)
    assert named.network_.params.tobytes() == model.network_.params.tobytes()
    assert np.array_equal(named.predict(tables), model.predict(x))
    with pytest.warns(Warning, match="max_iter"):
        text = estimators.RNNRegressor(4, categories={0: 7}, **options).fit(x[:, :, 0], y)
    assert text.network_.input_size == 1 and text.predict(x[:, :, 0]).shape == (30,)
    x[3, 2, 2] = 1.5
    for wrong, message in (
        ({2: 3}, "in column 2, got 1.5 at sequence 3, step 2"),
        ({4: 3}, "index below 4"),
        ({-1: 3}, "categories: expected an integer of at least 0"),
        ({"day": 3}, "by a name of a DataFrame"),
        ([3], "categories: expected a dict"),
        ({0: "7"}, "categories.0.: expected an integer"),
    ):
        with pytest.raises(bf.ConfigError, match=message):
            estimators.RNNClassifier(4, categories=wrong).fit(x, y)
    with pytest.raises(bf.ConfigError, match="expected one of 'day', 'a', 'kind', 'b', got 'dya'"):
        named.set_params(categories={"dya": 7}).fit(tables, y)
    for kind in (object, str):
        with pytest.raises(bf.ConfigError, match="X: expected real numbers, got the text 'monday'"):
            text.fit(np.array([["monday", "friday"]] * 30, dtype=kind), y)
    tables[0]["day"] = "monday"
    with pytest.raises(bf.ConfigError, match="column 'day'"):
        named.set_params(categories={"day": 7}).fit(tables, y)


def test_the_command_line(tmp_path, capsys):
    from bptt_fast.cli import main

    path, out = tmp_path / "a.csv", str(tmp_path / "a.safetensors")
    rows = [f"{i % 7},{i % 5 - 2},{i % 3},{i % 7}" for i in range(60)]
    path.write_text("\n".join(["day,heat,kind,demand", *rows]))
    given = ["train", str(path), "--inputs", "day,heat,kind", "--targets", "demand", "--out", out]
    given += ["--epochs", "2", "--quiet", "--seed", "1"]
    assert main([*given, "--categories", "kind=3,day=7"]) == 0
    net = bf.load(out)
    assert net.input_names == ("heat", "kind", "day") and net.description.categories == ((1, 3), (2, 7))
    assert main(["predict", out, str(path)]) == 0
    config = tmp_path / "a.toml"
    config.write_text('categories = ["kind=3", "day=7"]')
    before = net.params.tobytes()
    assert main([*given, "--config", str(config)]) == 0 and bf.load(out).params.tobytes() == before
    capsys.readouterr()
    assert main([*given, "--categories", "day=5"]) == 1
    assert "from 0 to 4 in column 2 ('day'), got 5" in capsys.readouterr().err
    for wrong, message in (
        ("x=3", "got 'x'"),
        ("day", "day=7"),
        ("day=0", "at least 1"),
        ("day=2,day=3", "each once"),
    ):
        with pytest.raises(SystemExit):
            main([*given, "--categories", wrong])
        assert message in capsys.readouterr().err
    path.write_text(path.read_text().replace("\n3,", "\nwed,"))
    assert main([*given, "--categories", "day=7"]) == 1
    assert "column 'day': expected a finite number, got 'wed'" in capsys.readouterr().err
