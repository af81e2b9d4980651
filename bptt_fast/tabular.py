"""Predictions, forecasts and errors of a network of named columns, as the command line trains it."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np

from . import losses, metrics
from .columns import Scaling
from .errors import MALFORMED, ConfigError
from .files import InputError
from .losses import Loss
from .network import Network
from .persistence import load

Array = np.ndarray[Any, Any]

TRAINED = "train"  # the key in `Network.extra` under which `train` stores its options
METRICS = {"MAE": metrics.mae, "RMSE": metrics.rmse, "R2": metrics.r2}  # of numbers
METRICS_OF_CLASSES = {"accuracy": metrics.accuracy}
PATHS = 1000  # sample paths of a forecast with quantiles


class Tabular:
    """A network, the names of its columns, and its loss.

    Parameters
    ----------
    net : Network
        A network with `input_names` and `output_names`.

    Attributes
    ----------
    inputs, targets : list of str
        The names of the columns.
    loss : Loss
        The loss of its training; "mse" if `bptt-fast train` did not train it.
    scaling : Scaling or None
        The scaling of targets that are not in the units of the outputs.
    time : str or None
        The column of times of its training.

    Raises
    ------
    InputError
        If the network's notes on its training are not those of `bptt-fast train`.
    """

    def __init__(self, net: Network) -> None:
        self.net = net
        self.inputs = list(map(str, net.input_names or ()))
        self.notes, names = notes(net), list(map(str, net.output_names or ()))
        try:
            self.loss: Loss = losses.get(self.notes.get("loss", "mse"))
            self.targets = list(map(str, self.notes.get("targets", names)))
            known, time = self.notes.get("scaling"), self.notes.get("time")
            self.scaling = None if known is None else Scaling([], [], known["mean"], known["scale"])
            self.time = None if time is None else str(time)
            widths = {len(self.targets), 1 if self.classes else self.loss.columns(len(names))}
            widths |= {len(self.targets) if self.scaling is None else len(self.scaling.output_mean)}
            if len(widths) > 1:
                raise ConfigError(f"expected one width of the targets, got {sorted(map(str, widths))}")
        except MALFORMED as error:
            raise InputError(
                f"{TRAINED}: expected notes on the loss as `bptt-fast train` writes them, got {self.notes}: "
                f"{error}"
            ) from None

    @property
    def classes(self) -> bool:
        """Whether the target is a class."""
        return self.loss.targets == "class"

    @classmethod
    def load(cls, path: str) -> Tabular:
        """The network in a model file, or that of a learner, which must know its columns."""
        net = network(path)
        if net.input_names is None or net.output_names is None:
            raise InputError(
                f"{path}: expected a model written by `bptt-fast train`, got one without column names."
            )
        return cls(net)

    def predictions(
        self, outputs: Array, std: bool = False, quantiles: Sequence[float] | None = None
    ) -> dict[str, Array]:
        """Predictions of each target by the names of their columns, with deviations and quantiles.

        Of a class also the probabilities of all classes.

        Parameters
        ----------
        outputs : ndarray (rows, O)
            Outputs of the network.
        std : bool, default False
            Whether to add deviations.
        quantiles : sequence of float, optional
            Probabilities.

        Returns
        -------
        columns : dict of ndarray (rows,)
        """
        columns = {"": self._prediction(outputs)}
        if self.classes:
            shares = np.exp(outputs - outputs.max(axis=1, keepdims=True))
            shares /= shares.sum(axis=1, keepdims=True)
            columns |= {f" {k}": shares[:, k : k + 1] for k in range(shares.shape[1])}
        if std:
            deviation = self.loss.std(outputs)
            scaling = self.scaling
            columns[" std"] = deviation if scaling is None else deviation * np.array(scaling.output_scale)
        if quantiles is not None:
            values = self._in_units(self.loss.quantile(outputs, quantiles))
            columns |= _by_quantile(quantiles, values)
        return self._by_target(columns)

    def metrics(self, values: Array, first: int = 0) -> tuple[int, dict[str, dict[str, float]]]:
        """Errors of the predictions of each target, in the units of the data, or the accuracy of classes.

        Parameters
        ----------
        values : ndarray (rows, I + D)
            Inputs and targets of more rows than the lead.
        first : int, default 0
            The first row whose prediction counts; earlier ones are read as inputs.

        Returns
        -------
        n : int
            The number of predictions.
        metrics : dict of dict
            The metrics by target and name.
        """
        x, y = np.split(values, [len(self.inputs)], axis=1)
        lead, first = self.net.lead, max(first, self.net.lead)
        predicted = self._prediction(self.net.predict(x, readout="every"))
        pairs = zip(self.targets, y[first:].T, predicted[first - lead : len(x) - lead].T, strict=True)
        chosen = METRICS_OF_CLASSES if self.classes else METRICS
        return len(x) - first, {
            target: {name: metric(actual, guess) for name, metric in chosen.items()}
            for target, actual, guess in pairs
        }

    @property
    def exogenous(self) -> list[str]:
        """The inputs that are not predicted, whose future must be known for forecasts beyond the lead."""
        return [name for name in self.inputs if name not in self.targets]

    def needed(self, steps: int) -> int:
        """The number of future rows of the exogenous inputs that a forecast of `steps` rows reads."""
        return max(steps - self.net.lead, 0) if self.exogenous else 0

    def forecast(
        self, x: Array, future: Array, steps: int, quantiles: Sequence[float] | None = None, seed: int = 0
    ) -> dict[str, Array]:
        """Forecasts of the rows after the last one: beyond the lead, predictions are fed back as inputs.

        Parameters
        ----------
        x : ndarray (rows, I)
            The known inputs, at least one row, and at least as many as the lead.
        future : ndarray (needed, E)
            The exogenous inputs of the next rows.
        steps : int
            The number of rows.
        quantiles : sequence of float, optional
            Probabilities: adds the quantiles of sample paths, or within the lead those of the outputs.
        seed : int, default 0
            The seed of the sample paths.

        Returns
        -------
        columns : dict of ndarray (steps,)
        """
        columns = {"": np.array([y[0] for y in self._steps(x, future, steps, 1, None)])}
        if quantiles is not None and steps <= self.net.lead:
            outputs = self.net.predict(x, readout="every")[len(x) - self.net.lead :][:steps]
            columns |= _by_quantile(quantiles, self._in_units(self.loss.quantile(outputs, quantiles)))
        elif quantiles is not None and not self.loss.has_distribution:
            raise InputError(
                f"--quantiles: expected a model with a distribution as --loss for more steps than its lead "
                f"({self.net.lead}), got {self.loss.name!r} and {steps} steps.  Train with --lead {steps}."
            )
        elif quantiles is not None:
            drawn = self._steps(x, future, steps, PATHS, np.random.default_rng(seed))
            values = np.array([np.quantile(y, quantiles, axis=0) for y in drawn])
            columns |= _by_quantile(quantiles, values.swapaxes(0, 1))
        return self._by_target(columns)

    def _steps(
        self, x: Array, future: Array, steps: int, paths: int, rng: np.random.Generator | None
    ) -> Iterator[Array]:
        """The forecast (paths, D) of each row: with `rng` draws, else the predictions."""
        net, lead = self.net, self.net.lead
        fed = [(i, self.targets.index(name)) for i, name in enumerate(self.inputs) if name in self.targets]
        others = [i for i, name in enumerate(self.inputs) if name not in self.targets]
        if fed and lead == 0:
            raise InputError(
                f"expected a model whose targets are later than its inputs, got one with the input "
                f"{self.inputs[fed[0][0]]!r} of the row that it predicts.  Train with --lead 1."
            )
        known, state = net.predict(x, readout="every", return_state=True)
        stream = net.stream(paths)
        stream.state = np.repeat(state[None], paths, axis=0)
        row = np.empty((paths, len(self.inputs)))
        waiting: deque[Array] = deque(maxlen=lead)  # rows that are predicted and not yet inputs
        for step in range(steps):
            if step < lead:
                outputs = np.repeat(known[None, len(x) - lead + step], paths, axis=0)
            else:
                for i, target in fed:
                    row[:, i] = waiting[0][:, target]
                if others:
                    row[:, others] = future[step - lead]
                outputs = stream.step(row if paths > 1 else row[0]).reshape(paths, -1)
            y = self._prediction(outputs) if rng is None else self._in_units(self.loss.sample(outputs, rng))
            waiting.append(y)
            yield y

    def _prediction(self, outputs: Array) -> Array:
        """The predictions (rows, D) of outputs (rows, O), in the units of the data."""
        if self.classes:
            return outputs.argmax(axis=1, keepdims=True)
        return self._in_units(self.loss.prediction(outputs))

    def _in_units(self, y: Array) -> Array:
        return y if self.scaling is None else self.scaling.outputs(y)

    def _by_target(self, columns: Mapping[str, Array]) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for i, target in enumerate(self.targets):
            for what, y in columns.items():
                name = f"{target}{what}"
                if name in found:
                    raise InputError(f"expected targets whose columns differ, got two columns {name!r}.")
                found[name] = y[:, i]
        return found


def network(path: str) -> Network:
    """The network in a model file, or that of a learner."""
    model = load(path)
    return model if isinstance(model, Network) else cast(Network, model.network)


def notes(net: Network) -> dict[str, Any]:
    """What `bptt-fast train` stored in the model; empty if Python trained it, perhaps with other notes."""
    try:
        found = json.loads(net.extra[TRAINED])
    except (KeyError, TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) and "bptt" in found else {}


def described(net: Network) -> dict[str, Any]:
    """The description of a network as plain values."""
    known = {name: value for name, value in notes(net).items() if name in ("bptt", "loss", "time")}
    if net.rules:
        known["rules"] = {name: repr(rule) for name, rule in net.rules.items()}
    return {"network": net.config(), "parameters": net.num_parameters, **net.columns.plain(), **known}


def _by_quantile(quantiles: Sequence[float], values: Array) -> dict[str, Array]:
    return {f" {q}": y for q, y in zip(quantiles, values, strict=True)}
