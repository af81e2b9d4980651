"""The command `bptt-fast`: demo, train, predict, forecast, evaluate, plot, info.

Exit codes: 0; 1 failure, with one line on standard error; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import sys
import time
import tomllib
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout, suppress
from functools import partial
from io import BytesIO
from typing import Any, get_args

import numpy as np

from . import (
    CellError,
    CheckpointedBPTT,
    ConfigError,
    CorruptFileError,
    DivergedError,
    History,
    Loss,
    Network,
    Rule,
    Scaling,
    ShapeError,
    SlidingBPTT,
    Stopping,
    TruncatedBPTT,
    __version__,
    dale,
    plots,
    show_config,
)
from .callbacks import BackupAndRestore, Callback, LambdaCallback
from .choices import Equation, Noise
from .columns import listed, moments
from .description import NONLINEARITIES, Category
from .errors import MALFORMED, choice
from .files import (
    MARKS,
    SEPARATORS,
    Dialect,
    InputError,
    Table,
    check_kind,
    is_parquet,
    read_table,
    write_table,
)
from .initialisation import CELLS
from .losses import TABLE
from .losses import get as get_loss
from .machine import configuration
from .optimizers import OPTIMIZERS, Optimizer
from .suggestions import suggestion
from .tabular import TRAINED, Tabular, described, network
from .times import Times
from .unfolding import Unfolding
from .writing import csv_text, is_stream, replace

Array = np.ndarray[Any, Any]

DEPTH = 10  # steps that --unfold unfolds by default
LOSSES = tuple(name for name, row in TABLE.items() if row["targets"] in ("real", "count", "class"))
UNFOLDINGS = ("unfold", "truncate", "checkpoint")  # one of them at a time
PATIENCE = 20  # epochs, where there is validation
READ, WRITTEN = ("config", "model", "file", "future", "history"), ("out", "log")  # arguments that are files
STDIN, STDOUT = "/dev/stdin", "/dev/stdout"  # what "-" means
PICTURES = ("png", "svg")
LAST = 200  # rows that `plot` draws


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.  Wrong usage raises ``SystemExit(2)``, as in argparse.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; None: those of the process.

    Examples
    --------
    >>> from bptt_fast.cli import main
    >>> main(["info"])  # doctest: +SKIP
    """
    if hasattr(sys.stdout, "reconfigure"):  # print the code points of characters that its encoding lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        args = _arguments(argv)
        with warnings.catch_warnings():
            warnings.showwarning = partial(_warn, quiet=getattr(args, "quiet", False))
            code = args.command(args)
        sys.stdout.flush()
        return int(code)
    except KeyboardInterrupt:
        print("bptt-fast: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader closed the pipe; prevents a second message at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}")
    except (InputError, CellError, ConfigError, ShapeError, CorruptFileError, DivergedError) as error:
        return _fail(str(error))


def _say(message: str) -> None:
    print("bptt-fast: " + " ".join(message.split()), file=sys.stderr)


def _fail(message: str) -> int:
    _say(message)
    return 1


def _warn(message: Warning | str, *_: Any, quiet: bool) -> None:
    if not quiet:
        _say(str(message))


# ---- the commands


def _demo(args: argparse.Namespace) -> int:
    from . import demo

    demo.run(args.folder)
    return 0


def _info(args: argparse.Namespace) -> int:
    net = None if args.model is None else network(args.model)
    if args.json:
        model = None if net is None else {"path": args.model, **described(net)}
        return _print_json({"command": "info", "machine": configuration(), "model": model})
    show_config()
    if net is not None:
        print(f"\n{args.model}\n{net!r}")
        if net.input_names and net.output_names:
            scaled = ", scaled" if net.scaling is not None else ""
            inputs, targets = listed(net.input_names), listed(tuple(Tabular(net).targets))
            print(f"inputs {inputs}; targets {targets}, {net.lead} row(s) ahead{scaled}")
    return 0


def _train(args: argparse.Namespace) -> int:
    try:
        net = _new_network(args)
        unfold = _unfolding(args)
        optimizer = _optimizer(args, unfold.default_optimizer)
    except (ConfigError, ShapeError) as error:
        args.parser.error(str(error))
    if args.backup is not None and args.seed is None:
        args.parser.error("--backup: expected --seed as well, got none.  Pass any number.")
    for name in WRITTEN:
        _check_written(args, name)
    if args.out and args.log and os.path.realpath(args.out) == os.path.realpath(args.log):
        args.parser.error(f"--log: expected another file than --out, got {args.log}")
    table = _table(args, args.file, [*map(str, net.input_names or ()), *args.targets], args.time)
    needed = _rows_needed(args, table)
    rows = math.floor(len(table) * (1 - args.validation_split))
    x, y, validation = _training_data(args, net, unfold, table, rows)
    # standard output is for the data, if they go there
    messages = redirect_stdout(sys.stderr) if STDOUT in (args.out, args.log) else nullcontext()
    begun: list[int] = []  # epochs of this process
    callbacks: list[Callback] = [LambdaCallback(on_epoch_begin=lambda epoch, logs: begun.append(epoch))]
    if args.backup is not None:
        callbacks.insert(0, BackupAndRestore(args.backup))
    begin = time.perf_counter()
    with messages:
        try:
            history = net.fit(
                x,
                y,
                epochs=args.epochs,
                optimizer=optimizer,
                loss=args.loss,
                bptt=unfold,
                **validation,
                patience=_stopping(args),
                scaling="standard" if args.scaling else None,
                threads=args.threads,
                callbacks=callbacks,
                verbose=0 if args.quiet or args.json else "auto",
            )
        except KeyboardInterrupt as error:
            _write_log(args, getattr(error, "history", {}))
            if args.out is not None:
                net.lead = args.lead
                net.save(args.out)
                print(
                    f"bptt-fast: interrupted; the model so far, with its last weights, is in {args.out}",
                    file=sys.stderr,
                )
                return 130
            raise
        seconds = time.perf_counter() - begin
        net.lead = args.lead  # `_shifted` moved the targets of a whole series
        _write_log(args, history)
        if args.out is not None:
            net.save(args.out)
        patterns = (rows - needed + 1) * len(begun)
        if args.quiet and not args.json:
            return 0
        first = rows if args.validation_split else 0
        model = Tabular(net)
        n, metrics = model.metrics(table.values, first)
        if not args.json:
            print(_summary(args, history, seconds, patterns, len(begun)))
            which = f"validation rows {rows + 1} to {len(table)}" if first else "training rows"
            print(f"{_measure(model)} of {n} predictions of the {which}:\n{_aligned(metrics)}")
            if args.out is not None:
                print(f"Saved as {args.out}.")
            return 0
    return _print_json(
        {
            "command": "train",
            "file": args.file,
            "out": args.out,
            "rows": len(table),
            "model": described(net),
            "history": dict(history),
            "stopped": history.stopped,
            "best_epoch": history.best_epoch,
            **_losses(history),
            "metrics": _plain(metrics),
            "patterns": patterns,
            "seconds": seconds,
        }
    )


def _slides(args: argparse.Namespace) -> bool:
    """Whether the patterns are windows that slide along the series, not the whole series."""
    return args.truncate is None and args.checkpoint is None


def _new_network(args: argparse.Namespace) -> Network:
    """The network of the arguments, with its rules and the names of its columns."""
    names, targets, categories = args.inputs, args.targets, args.categories
    _check_time(args.time, names, targets)
    if (args.loss.targets == "class") != (args.classes is not None) or (args.classes and len(targets) > 1):
        raise ConfigError(
            f"--classes: expected with --loss cross_entropy and one target, and only then, got "
            f"{args.classes}, --loss {args.loss.name} and {len(targets)} target(s)."
        )
    names = [*(name for name in names if name not in categories), *_categories_among(names, categories)]
    net = Network(
        len(names),
        args.hidden,
        args.classes or len(targets) * args.loss.outputs,
        categories=dict(enumerate(categories.values(), len(names) - len(categories))),
        cell=args.cell,
        nonlinearity=args.nonlinearity,
        f=args.f,
        head=args.head,
        skip=args.skip,
        readout="last" if _slides(args) else "every",
        num_layers=args.layers,
        equation=args.equation,
        tau=args.tau,
        dt=args.dt,
        recurrent_noise=args.recurrent_noise,
        noise=args.noise,
        input_noise=args.input_noise,
        dtype=args.dtype,
        seed=args.seed,
    )
    net.rules = args.rules
    if args.dale is not None:
        dale(net, args.dale)
    net.input_names = names
    parts = range(args.classes) if args.classes else args.loss.parts
    net.output_names = [f"{name} {part}".rstrip() for part in parts for name in targets]
    return net


def _rows_needed(args: argparse.Namespace, table: Table) -> int:
    """The rows that a pattern spans, which the table must have."""
    steps = (args.unfold or DEPTH) if _slides(args) else 1
    needed: int = steps + args.lead
    if len(table) < needed:
        why = f"--unfold {steps}" if _slides(args) else "one"
        raise InputError(
            f"{args.file}: expected at least {needed} rows of numbers ({why} plus --lead {args.lead}), got "
            f"{len(table)}."
        )
    return needed


def _training_data(
    args: argparse.Namespace, net: Network, unfold: Unfolding, table: Table, rows: int
) -> tuple[Any, Any, dict[str, Any]]:
    """Inputs, targets and arguments of the validation, for `fit`; ``net.extra`` notes what they are."""
    x, y = np.split(table.values, [net.input_size], axis=1)
    notes = {"bptt": str(unfold), "loss": args.loss.plain, "targets": args.targets, "time": args.time}
    if args.scaling and args.loss.targets == "real" and args.loss.outputs > 1:
        # the outputs are no targets, so that net.scaling cannot scale both
        scaling = Scaling([], [], *(a.tolist() for a in moments(y[:rows])))
        notes["scaling"] = {"mean": scaling.output_mean, "scale": scaling.output_scale}
        y = scaling.targets(y, np.float64)
    if args.classes:
        y = _class_indices(args, y[:, 0])
    net.extra[TRAINED] = json.dumps(notes)
    if _slides(args):
        return x, y, {"validation_split": args.validation_split}
    return _shifted(x, y, args.lead, rows)


def _write_log(args: argparse.Namespace, history: dict[str, list[float]]) -> None:
    if args.log is not None:
        write_table(args.log, list(history), list(history.values()))


def _predict(args: argparse.Namespace) -> int:
    model, table = _model_and_table(args)
    begin = time.perf_counter()
    outputs = model.net.predict(table.values, readout="every")
    seconds = time.perf_counter() - begin
    columns = model.predictions(outputs, args.std, args.quantiles)
    return _write_predictions(args, table, model.net.lead, columns, seconds)


def _forecast(args: argparse.Namespace) -> int:
    model, table = _model_and_table(args)
    if args.seed is not None and args.quantiles is None:
        raise InputError(f"--seed: expected with --quantiles only, got {args.seed}.  Leave it out.")
    begin = time.perf_counter()
    columns = _forecasts(args, model, table, args.quantiles, args.seed or 0)
    seconds = time.perf_counter() - begin
    return _write_predictions(args, table, len(table), columns, seconds)


def _evaluate(args: argparse.Namespace) -> int:
    model, table = _model_and_table(args, with_targets=True)
    n, metrics = model.metrics(table.values)
    if args.json:
        return _print_json(
            {
                "command": "evaluate",
                "model": args.model,
                "file": args.file,
                "rows": len(table),
                "predictions": n,
                "metrics": _plain(metrics),
            }
        )
    lead = model.net.lead
    print(f"{args.file}: {_measure(model)} of {n} predictions, {lead} row(s) ahead")
    print(_aligned(metrics))
    return 0


def _plot(args: argparse.Namespace) -> int:
    _check_written(args, "out")
    kind = "png" if args.out == STDOUT else os.path.splitext(args.out)[1][1:].lower()
    if kind not in PICTURES:
        args.parser.error(f"--out: expected a file named *.{' or *.'.join(PICTURES)}, got {args.out}")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError('plot: matplotlib is not installed.  Try: pip install "bptt-fast[plots]"') from None
    if args.history is not None:
        record = _history(args.history)
        figure = Figure(figsize=(6, 4), layout="constrained")
        plots.history(record, ax=figure.subplots())
    else:
        model, table = _model_and_table(args, with_targets=True)
        figure = Figure(figsize=(9, 1 + 2.5 * len(model.targets)), layout="constrained")
        _draw_predictions(args, model, table, figure.subplots(len(model.targets), sharex=True, squeeze=False))
    content = BytesIO()
    figure.savefig(content, format=kind, dpi=150)
    replace(args.out, content.getvalue())
    return 0


def _draw_predictions(args: argparse.Namespace, model: Tabular, table: Table, axes: Array) -> None:
    """Draw the last rows of each target, the predictions of them, and the forecast after them."""
    x, y = np.split(table.values, [len(model.inputs)], axis=1)
    begin, lead = max(len(x) - (args.last or LAST), 0), model.net.lead
    predicted = model.predictions(model.net.predict(x, readout="every"))
    ahead = _forecasts(args, model, table) if args.steps else {name: np.empty(0) for name in model.targets}
    steps, times = args.steps or 0, _following(table, args.steps or 0)
    first: Any = None
    if times is None:
        label, at = "row", np.arange(begin + 1, len(x) + steps + 1)
        first = len(x) + 1
    else:
        label, at = str(args.time), table.times.values[begin:] + times.values  # type: ignore[union-attr]
        first = times.values[0] if steps else None
    for i, (name, ax) in enumerate(zip(model.targets, axes[:, 0], strict=True)):
        known = np.concatenate([np.full(min(lead, len(x)), np.nan), predicted[name][: max(len(x) - lead, 0)]])
        actual = np.concatenate([y[begin:, i], np.full(steps, np.nan)])
        spans = {"forecast": (first, at[-1])} if steps else None
        plots.prediction(at, actual, np.concatenate([known[begin:], ahead[name]]), spans=spans, ax=ax)
        ax.set(xlabel="", ylabel=name)
    axes[-1, 0].set_xlabel(label)


def _history(path: str) -> dict[str, list[float]]:
    """The losses of a training: the document of `train --json`, or the CSV of `train --log`."""
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
        text = file.read()
    wanted = "the output of `bptt-fast train --json` or the table of `bptt-fast train --log`"
    try:
        if not text.strip():
            raise ValueError("an empty file")
        if text.lstrip().startswith("{"):
            record = dict(json.loads(text)["history"])
        else:
            names, *rows = csv.reader(text.splitlines(), strict=True)
            record = dict(zip(names, zip(*rows, strict=True), strict=True))
        losses = [name for name in ("loss", "val_loss") if name == "loss" or name in record]
        curves = {name: list(map(float, record[name])) for name in ("epoch", *losses)}
        if not curves["epoch"] or len(set(map(len, curves.values()))) > 1:
            raise ValueError("the columns have no rows, or not equally many")
    except (*MALFORMED, csv.Error) as error:
        got = f"no column {error}" if isinstance(error, KeyError) else f"something else ({error})"
        raise InputError(f"{path}: expected {wanted}, got {got}.") from None
    return curves


def _forecasts(
    args: argparse.Namespace,
    model: Tabular,
    table: Table,
    quantiles: Sequence[float] | None = None,
    seed: int = 0,
) -> dict[str, Array]:
    """Forecasts of the --steps rows after the table, with the inputs of --future."""
    needed, future = model.needed(args.steps), np.empty((0, len(model.exogenous)))
    if args.future is not None and not model.exogenous:
        raise InputError("--future: expected none, as all inputs of the model are its targets, got a file.")
    if args.future is not None:
        rows = _table(args, args.future, model.exogenous, args.time, table.times)
        future, times = rows.values[:needed], _following(table, len(rows))
        if times is not None and rows.times is not None:
            pairs = zip(times.values, rows.times.values, times.written, rows.times.written, strict=True)
            for expected, got, *texts in pairs:
                if expected != got:
                    raise InputError(
                        f"{args.future}: expected rows that follow those of {args.file}, the next at "
                        f"{texts[0]}, got {texts[1]}."
                    )
    if len(future) < needed:
        got = "no --future" if args.future is None else f"{len(future)}"
        raise InputError(
            f"--future: expected {needed} rows of {listed(tuple(model.exogenous))}, which the model reads "
            f"but does not predict, got {got}.  Pass a file with these columns, or forecast fewer --steps: "
            f"{model.net.lead + len(future)} rows need no more."
        )
    return model.forecast(table.values[:, : len(model.inputs)], future, args.steps, quantiles, seed)


def _write_predictions(
    args: argparse.Namespace, table: Table, skipped: int, columns: dict[str, Array], seconds: float
) -> int:
    """Write a table of predictions, whose first row is that after the `skipped` ones of the file."""
    n = len(next(iter(columns.values())))
    following = _following(table, max(skipped + n - len(table), 0))
    where, labels, times = "row", list(range(skipped + 1, skipped + n + 1)), None
    if table.times is not None and following is not None:
        where = args.time
        labels = times = (table.times.written + following.written)[skipped:]
    plain = {name: values.tolist() for name, values in columns.items()}
    if args.out is not None or not args.json:
        write_table(args.out, [where, *plain], [labels, *plain.values()], table.dialect)
    if args.json:
        return _print_json(
            {
                "command": args.name,
                "model": args.model,
                "file": args.file,
                "out": args.out,
                "rows": len(table),
                "first_row": skipped + 1,
                "times": times,
                "predictions": None if args.out else plain,
                "seconds": seconds,
            }
        )
    return 0


def _model_and_table(args: argparse.Namespace, with_targets: bool = False) -> tuple[Tabular, Table]:
    """The model, and the table of its columns; --time becomes the column of the model unless it is given."""
    model = Tabular.load(args.model)
    if args.time is None:
        args.time = model.time
    _check_time(args.time, model.inputs, model.targets)
    if getattr(args, "out", None) is not None:
        _check_written(args, "out")
        check_kind(args.out)
    table = _table(args, args.file, [*model.inputs, *(model.targets if with_targets else ())], args.time)
    least = max(1, model.net.lead + with_targets if with_targets or hasattr(args, "steps") else 1)
    if len(table) < least:
        rows = "one row" if least == 1 else f"{least} rows"
        raise InputError(f"{args.file}: expected at least {rows} of numbers, got {len(table) or 'none'}.")
    return model, table


def _check_time(time: str | None, inputs: Sequence[str], targets: Sequence[str]) -> None:
    if time in (*inputs, *targets):
        raise ConfigError(f"--time: expected a column that is no input or target, got {time!r}.")


def _table(
    args: argparse.Namespace,
    path: str,
    columns: Sequence[str],
    time: str | None,
    before: Times | None = None,
) -> Table:
    """The columns of a file, and messages on what was detected or looks wrong."""
    given = Dialect(args.sep, args.decimal)
    if given != Dialect() and path == args.file and is_parquet(path):
        raise InputError(
            f"{path}: expected no --sep and no --decimal, which are for CSV files, got a Parquet file."
        )
    table = read_table(path, columns, time or None, given, before)
    if table.dialect != Dialect(given.sep or ",", given.decimal or "."):
        marks = "decimal points" if table.dialect.decimal == "." else "decimal commas"
        sep = SEPARATORS.get(str(table.dialect.sep), "other separators")
        print(f"bptt-fast: {path}: found cells separated by {sep}, and {marks}", file=sys.stderr)
    if table.times is not None and table.times.gaps:
        print(
            f"bptt-fast: {path}, column {time!r}: {table.times.gaps} time(s) at an unusual distance from "
            f"the one before; rows are used as if all distances were equal",
            file=sys.stderr,
        )
    return table


def _following(table: Table, n: int) -> Times | None:
    """The times of the n rows after a table, if it has times."""
    if table.times is None:
        return None
    try:
        return table.times.ahead(n)
    except ConfigError as error:
        raise InputError(f"--time: {error}  --no-time numbers the rows instead.") from None


def _print_json(document: dict[str, Any]) -> int:
    print(json.dumps(document))
    return 0


def _losses(history: History) -> dict[str, float]:
    """The losses of the epoch whose weights the network has."""
    at = history.best_epoch - 1 if history.best_epoch is not None else -1
    return {name: history[name][at] for name in ("loss", "val_loss") if history.get(name)}


def _summary(args: argparse.Namespace, history: History, seconds: float, patterns: int, begun: int) -> str:
    """Two lines on a finished training: how long, why it ended, which weights the network has; its losses."""
    what = "validation" if args.validation_split else "training"
    reason = {
        "epochs": "all of them are done",
        "patience": f"no lower {what} loss for {_stopping(args).patience} epochs",
        "target_loss": "the loss has reached --target-loss",
        "max_seconds": "--max-seconds are over",
        "converged": "the optimiser has converged",
    }
    done, best = len(history["epoch"]), history.best_epoch
    kept = "of the last epoch" if best is None else f"of epoch {best}, which has the lowest {what} loss"
    names = {"loss": "training loss", "val_loss": "validation loss"}
    losses = ", ".join(f"{names[name]} {value:.6g}" for name, value in _losses(history).items())
    scaled = " (of scaled targets)" if args.scaling and args.loss.targets == "real" else ""
    before = f", {done - begun} of them before this run," if done > begun else ""
    return (
        f"Trained {done} of {args.epochs} epochs{before} in {seconds:.2f} s: {reason[history.stopped]}.  The "
        f"weights are those {kept}.\n{losses[0].upper()}{losses[1:]}{scaled}; {patterns} patterns, "
        f"{patterns / seconds:,.0f} per second."
    )


def _measure(model: Tabular) -> str:
    return "Accuracy" if model.classes else "Errors, in the units of the data,"


def _aligned(metrics: dict[str, dict[str, float]]) -> str:
    """The metrics of each target as a table of text."""
    rows = [["target", *next(iter(metrics.values()))]]
    rows += [[target, *(f"{value:.6g}" for value in of.values())] for target, of in metrics.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    )


def _plain(metrics: dict[str, dict[str, float]]) -> dict[str, dict[str, float | None]]:
    """The metrics as JSON has them: null for what is not defined."""
    return {
        target: {name.lower(): value if math.isfinite(value) else None for name, value in of.items()}
        for target, of in metrics.items()
    }


def _stopping(args: argparse.Namespace) -> Stopping:
    """The rules of stopping: by default training with validation stops early and keeps the best weights."""
    patience = args.patience
    if args.validation_split:
        patience = PATIENCE if patience is None else patience or (args.epochs if args.best else None)
    return Stopping(
        patience=patience or None,
        restore_best=args.best,
        target_loss=args.target_loss,
        max_seconds=args.max_seconds,
    )


def _class_indices(args: argparse.Namespace, y: Array) -> Array:
    """The column of classes as integers."""
    wrong = np.flatnonzero((y % 1 != 0) | (y < 0) | (y >= args.classes))
    if len(wrong):
        raise InputError(
            f"{args.file}, row {wrong[0] + 1}, column {args.targets[0]!r}: expected a class from 0 to "
            f"{args.classes - 1}, got {y[wrong[0]]:g}."
        )
    return y.astype(np.int64)


def _categories_among(names: Sequence[str], categories: dict[str, Category]) -> list[str]:
    """The columns that are categories, which must be inputs."""
    for name in categories:
        choice(name, "--categories", names)
    return list(categories)


def _unfolding(args: argparse.Namespace) -> SlidingBPTT | TruncatedBPTT | CheckpointedBPTT:
    if args.truncate is not None:
        if len(args.truncate) > 2:
            raise ConfigError(f"--truncate: expected K1 or K1,K2, got {len(args.truncate)} numbers.")
        return TruncatedBPTT(*args.truncate)
    if args.checkpoint is not None:
        return CheckpointedBPTT(args.checkpoint or None)
    return SlidingBPTT(args.unfold or DEPTH, lead=args.lead)


def _shifted(x: Array, y: Array, lead: int, rows: int) -> tuple[Array, Array, dict[str, Any]]:
    """Inputs and targets of every step in the first `rows` rows; later rows become validation data."""
    inputs, targets, n_training = x[: len(x) - lead], y[lead:], max(rows - lead, 0)
    validation: dict[str, Any] = {}
    if rows < len(x):  # runs over all rows; only the later ones have weight
        validation = {
            "validation_data": (inputs, targets, (np.arange(len(inputs)) >= n_training).astype(float))
        }
    return inputs[:n_training], targets[:n_training], validation


def _optimizer(args: argparse.Namespace, default: str) -> Optimizer:
    chosen = args.optimizer or default
    cls = OPTIMIZERS[chosen]
    options = {
        name: getattr(args, name)
        for name in ("learning_rate", "momentum", "weight_decay", "clip_norm")
        if getattr(args, name) is not None
    }
    for name in options:
        if name not in cls.__dataclass_fields__:
            supporting = [known for known, other in OPTIMIZERS.items() if name in other.__dataclass_fields__]
            raise ConfigError(
                f"--{name.replace('_', '-')}: expected with --optimizer {', '.join(supporting)} only, got "
                f"--optimizer {chosen}."
            )
    return cls(**options)


def _check_written(args: argparse.Namespace, name: str) -> None:
    """Raise before the work if a file cannot be written or is one of those that are read."""
    path = getattr(args, name)
    if path is None:
        return
    for source in (getattr(args, other, None) for other in READ):
        if source and os.path.isfile(path) and os.path.exists(source) and os.path.samefile(path, source):
            raise InputError(f"--{name}: expected another file than those that are read, got {path}.")
    if is_stream(path):
        target = path
    else:
        target = os.path.dirname(os.path.realpath(path))
        file = os.path.basename(path) and (os.path.isfile(path) or not os.path.exists(path))
        if not file or not os.path.isdir(target):
            raise InputError(f"--{name}: expected a file in a folder that exists, got {path}.")
    if not os.access(target, os.W_OK):
        raise InputError(f"--{name}: no permission to write into {target}.")


# ---- the arguments


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Arguments of the command line, which override those of the `--config` file, which override defaults."""
    parser = _parser()
    args = _with_streams(_parsed(parser, argv))
    if getattr(args, "config", None) is not None:
        defaults = _config(args.parser, args.config)
        if any(getattr(args, name, None) is not None for name in UNFOLDINGS):
            defaults = {name: value for name, value in defaults.items() if name not in UNFOLDINGS}
        args.parser.set_defaults(**defaults)
        args = _with_streams(_parsed(parser, argv))
    needed = getattr(args, "needed", {})
    if getattr(args, "history", None) is not None:
        for name in ("model", "file", "steps", "future", "time", "sep", "decimal", "last"):
            if getattr(args, name) is not None:
                shown = name.upper() if name in ("model", "file") else f"--{name}"
                args.parser.error(f"argument --history: not allowed with {shown}")
        needed = {"out": needed["out"]}
    if getattr(args, "future", None) is not None and args.steps is None:
        needed = needed | {"steps": "--steps"}
    missing = [text for name, text in needed.items() if getattr(args, name) is None]
    if missing:
        args.parser.error(f"the following arguments are required: {', '.join(missing)}")
    return args


def _parsed(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """As `parse_args`; an unknown option is an error of its command, with the option that may be meant."""
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        command = getattr(args, "parser", parser)
        names = {
            text.lstrip("-").replace("-", "_"): text
            for action in command._actions
            for text in action.option_strings
        }
        given = next((word for word in unknown if word.startswith("-")), "")
        hint = suggestion(given.split("=")[0].lstrip("-").replace("-", "_"), names)
        meant = next((text for name, text in names.items() if hint == f" Did you mean {name!r}?"), "")
        command.error(f"unrecognized arguments: {' '.join(unknown)}{meant and f'. Did you mean {meant}?'}")
    return args


def _with_streams(args: argparse.Namespace) -> argparse.Namespace:
    """The arguments, with the names of the standard streams for "-"."""
    for names, stream in ((READ, STDIN), (WRITTEN, STDOUT)):
        used = [name for name in names if getattr(args, name, None) in ("-", stream)]
        for name in used:
            setattr(args, name, stream)
        if used and names == WRITTEN and getattr(args, "json", False):
            used.append("json")
        if len(used) > 1:
            args.parser.error(f"{stream}: expected one of {', '.join(used)}, got {len(used)} of them")
    return args


def _config(parser: argparse.ArgumentParser, path: str) -> dict[str, Any]:
    """Arguments in a TOML file, by their names in the namespace."""
    with open(path, "rb") as file:
        try:
            values = tomllib.loads(file.read().decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:  # of the syntax, of UTF-8, of what is too long or deep
            raise InputError(f"{path}: expected a TOML file, got something else ({error}).") from None
    known = {
        action.option_strings[0].lstrip("-") if action.option_strings else action.dest: action
        for action in parser._actions
        if action.dest not in ("help", "config")
    }
    parser.exit_on_error = False
    try:
        typed = [word for name, value in values.items() for word in _typed(known, name, value)]
        parsed = vars(parser.parse_args(typed))
    except (argparse.ArgumentError, ConfigError) as error:
        parser.error(f"{path}: {error}")
    finally:
        parser.exit_on_error = True
    return {
        known[name].dest: parsed[known[name].dest] if known[name].option_strings else value
        for name, value in values.items()
    }


def _typed(known: dict[str, argparse.Action], name: str, value: Any) -> list[str]:
    """An option of a TOML file as it would be typed on the command line."""
    action = known[choice(name, "key", list(known))]
    if "\0" in str(value):  # as no argument that is typed
        raise ConfigError(f"{name}: expected text without null characters, got {value!r}.")
    if not action.option_strings:
        if not isinstance(value, str):
            raise ConfigError(f"{name}: expected the name of a file, got {value!r}.")
        return []
    if isinstance(value, bool) and action.nargs in (0, "?"):
        on, *off = action.option_strings
        return [on] if value else off
    if isinstance(value, dict) and action.type in (_loss, _rules):
        try:
            return [f"--{name}={json.dumps(value)}"]
        except (TypeError, ValueError):
            raise ConfigError(f"{name}: expected numbers, text and lists, got {value!r}.") from None
    if isinstance(value, bool | dict) or action.nargs == 0:
        wanted = "true or false" if action.nargs == 0 else "a value or a list"
        raise ConfigError(f"{name}: expected {wanted}, got {value!r}.")
    text = csv_text(map(str, value), []).removesuffix("\r\n") if isinstance(value, list) else value
    return [f"--{name}={text}"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bptt-fast", description="Recurrent networks by backpropagation through time."
    )
    parser.add_argument("--version", action="version", version=f"bptt-fast {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (_add_demo, _add_train, _add_predict, _add_forecast, _add_evaluate, _add_plot, _add_info):
        add(commands)
    return parser


def _add_demo(commands: Any) -> None:
    demo = commands.add_parser(
        "demo",
        help="learn the yearly sunspot numbers, in seconds",
        description="Train an Elman network on the yearly sunspot numbers, compare it with two "
        "baselines, save it, and draw a picture where matplotlib is installed.",
    )
    demo.add_argument(
        "--folder", default=".", help="folder of the model and the picture (default: the current one)"
    )
    demo.set_defaults(command=_demo)


def _add_train(commands: Any) -> None:
    train = commands.add_parser(
        "train",
        help="train a network on the rows of a CSV or Parquet file",
        usage="%(prog)s FILE --inputs A,B --targets Y [--unfold K] [--out MODEL] [options]",
        description="Train with the classical online algorithm: the rows are one series in "
        "order of time, and K rows of inputs predict the targets LEAD rows later.  --truncate and "
        "--checkpoint train on the whole series instead.",
    )
    train.add_argument("file", nargs="?", metavar="FILE", help="CSV with a header line, or *.parquet")
    train.add_argument("--inputs", type=_names, metavar="A,B", help="input columns")
    train.add_argument("--targets", type=_names, metavar="Y", help="target columns")
    train.add_argument(
        "--categories",
        type=_categories,
        default={},
        metavar="A=N,B=M:W",
        help="input columns that are integers below N, such as day=7; with an embedding of width W, such as "
        "shop=80:4",
    )
    train.add_argument("--out", metavar="MODEL", help="file of the network, e.g. model.safetensors")
    train.add_argument("--log", metavar="FILE", help="CSV of the losses of each epoch, for `plot --history`")
    _reading(train)
    _common(train)
    _network_options(train)
    _training_options(train)
    needed = {"file": "FILE", "inputs": "--inputs", "targets": "--targets"}
    train.set_defaults(command=_train, parser=train, needed=needed)


def _network_options(train: argparse.ArgumentParser) -> None:
    model = train.add_argument_group("network")
    model.add_argument("--cell", choices=tuple(CELLS), default="elman")
    model.add_argument("--hidden", type=_at_least(1), default=16, metavar="H", help="state size (default 16)")
    model.add_argument(
        "--layers", type=_at_least(1), default=1, metavar="N", help="recurrent layers (default 1)"
    )
    model.add_argument(
        "--nonlinearity",
        choices=NONLINEARITIES,
        help="nonlinearity of elman, mlp, indrnn and ctrnn cells",
    )
    model.add_argument("--equation", choices=get_args(Equation), default="rate", help="of ctrnn cells")
    model.add_argument(
        "--tau", type=_reals, default=10.0, metavar="T", help="ctrnn: time constant, or T,T,... of each unit"
    )
    model.add_argument("--dt", type=_real(above=0), default=1.0, help="ctrnn: time between rows (default 1)")
    model.add_argument(
        "--recurrent-noise", type=_real(low=0), default=0.0, metavar="SIGMA", help="ctrnn: noise in training"
    )
    model.add_argument(
        "--noise", choices=get_args(Noise), default="sde", help="convention of --recurrent-noise"
    )
    model.add_argument(
        "--input-noise", type=_real(low=0), default=0.0, metavar="SIGMA", help="noise of inputs in training"
    )
    model.add_argument(
        "--rules",
        type=_rules,
        default={},
        metavar="JSON",
        help='rules on parameters, as in \'{"weight_hh_l0": {"l1": 0.001, "bounds": [-1, 1]}}\': trainable, '
        "mask, sign, bounds, l1, l2, group of bptt_fast.Rule; in a TOML file a table [rules.weight_hh_l0]",
    )
    model.add_argument(
        "--dale",
        type=_real(low=0),
        metavar="SHARE",
        help="Dale's law with this share of excitatory units",
    )
    model.add_argument(
        "--f", type=_widths, default=(), metavar="N,N", help="widths of the hidden layers of an mlp cell"
    )
    model.add_argument(
        "--head", type=_widths, default=(), metavar="N,N", help="widths of the readout's hidden layers"
    )
    model.add_argument(
        "--skip",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="whether the readout also reads the inputs of the row (default: no)",
    )
    model.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    model.add_argument("--seed", type=_at_least(0), help="random seed")


def _training_options(train: argparse.ArgumentParser) -> None:
    how = train.add_argument_group("training")
    unfold = how.add_mutually_exclusive_group()
    unfold.add_argument("--unfold", type=_at_least(1), metavar="K", help="steps to unfold (default 10)")
    unfold.add_argument(
        "--truncate",
        type=_widths,
        metavar="K1[,K2]",
        help="instead: truncated BPTT, an update every K1 rows with gradients over K2 rows (default K1)",
    )
    unfold.add_argument(
        "--checkpoint",
        type=_at_least(1),
        nargs="?",
        const=0,
        metavar="SEGMENT",
        help="instead: one update per epoch with the exact gradient, recomputed in segments (default length: "
        "the square root of the number of rows)",
    )
    how.add_argument(
        "--lead",
        type=_at_least(0),
        default=1,
        metavar="LEAD",
        help="rows from the last input to its target (default 1: predict the next row)",
    )
    how.add_argument(
        "--epochs", type=_at_least(1), default=100, metavar="N", help="passes over the file (default 100)"
    )
    how.add_argument(
        "--optimizer", choices=tuple(OPTIMIZERS), help="default sgd; adam with --truncate, --checkpoint"
    )
    how.add_argument(
        "--learning-rate",
        type=_real(above=0),
        metavar="RATE",
        help="default 0.01 for sgd, 0.001 for adam; those of the others are in their Python docstrings",
    )
    how.add_argument("--momentum", type=_real(low=0), help="momentum of sgd and rmsprop (default 0)")
    how.add_argument("--weight-decay", type=_real(low=0), help="default 0; 0.01 for adamw")
    how.add_argument("--clip-norm", type=_real(above=0), help="largest norm of the gradient")
    how.add_argument(
        "--loss",
        type=_loss,
        default="mse",
        metavar="LOSS",
        help=f"{', '.join(LOSSES)}, or one with parameters as JSON: "
        '\'{"name": "pinball", "quantiles": [0.1, 0.5, 0.9]}\'',
    )
    how.add_argument(
        "--classes",
        type=_at_least(2),
        metavar="N",
        help="with --loss cross_entropy: the target is a class, an integer below N",
    )
    how.add_argument(
        "--scaling",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="standardise the columns, but not counts, to mean 0 and deviation 1 (default); losses refer to "
        "scaled targets",
    )
    how.add_argument(
        "--validation-split",
        type=_real(low=0, below=1),
        default=0.0,
        metavar="SHARE",
        help="share of the rows, at the end, used for validation; training then stops early and keeps the "
        "best weights, see --patience and --best",
    )
    how.add_argument(
        "--patience",
        type=_at_least(0),
        metavar="N",
        help=f"stop after N epochs without a lower validation loss, or training loss without validation; 0: "
        f"never (default: {PATIENCE} with validation, else 0)",
    )
    how.add_argument(
        "--best",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="with validation or --patience: keep the weights of the best epoch (default), not of the last",
    )
    how.add_argument("--target-loss", type=_real(), help="stop at this loss")
    how.add_argument("--max-seconds", type=_real(above=0), help="stop after this time")
    how.add_argument("--backup", metavar="FOLDER", help="continue from here after a crash; needs --seed")
    how.add_argument("--threads", type=_at_least(1), metavar="N", help="at most N threads (see `info`)")
    how.add_argument("--quiet", action="store_true", help="print nothing but errors")


def _add_predict(commands: Any) -> None:
    predict = commands.add_parser(
        "predict",
        help="predict with a network that `train` wrote",
        usage="%(prog)s MODEL FILE [options]",
        description="Run the network over the rows and write a table of predictions, with the numbers of "
        "their rows (from 1) or their times; the last ones may lie beyond the end of the file.",
    )
    _of_model(predict)
    predict.add_argument(
        "--std", action="store_true", help="also deviations, of a model with a distribution as --loss"
    )
    _of_predictions(predict)
    predict.set_defaults(command=_predict)


def _add_forecast(commands: Any) -> None:
    forecast = commands.add_parser(
        "forecast",
        help="forecast the rows after the last one of a file",
        usage="%(prog)s MODEL FILE --steps N [options]",
        description="Write a table of the N rows after the last one of the file.  Beyond the lead of the "
        "model its own predictions are its inputs; other inputs must be known, see --future.",
    )
    _of_model(forecast)
    _of_future(forecast)
    forecast.add_argument(
        "--seed", type=_at_least(0), help="seed of the paths that --quantiles draws (default 0)"
    )
    _of_predictions(forecast)
    forecast.set_defaults(command=_forecast)
    forecast.get_default("needed")["steps"] = "--steps"


def _add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="errors of predictions, for each target in the units of the data",
        usage="%(prog)s MODEL FILE [options]",
        description="Compare the predictions with the targets in the file: mean absolute error, root of the "
        "mean squared error, and R2, the share of the variance that is explained; the accuracy of classes.",
    )
    _of_model(evaluate)
    _common(evaluate)
    evaluate.set_defaults(command=_evaluate)


def _add_plot(commands: Any) -> None:
    plot = commands.add_parser(
        "plot",
        help="a picture of predictions and forecasts, or of the losses of a training",
        usage="%(prog)s (MODEL FILE [--steps N] | --history FILE) --out PICTURE [options]",
        description="Draw the last rows of a file, their predictions, and with --steps the forecast of the "
        "rows after them; or, with --history, the losses over the epochs.  Needs matplotlib.",
    )
    _of_model(plot)
    _of_future(plot)
    plot.add_argument(
        "--history", metavar="FILE", help="what `train --log` wrote, or the output of `train --json`"
    )
    plot.add_argument("--out", metavar="PICTURE", help=f"*.{' or *.'.join(PICTURES)}")
    plot.add_argument("--last", type=_at_least(1), metavar="N", help=f"rows to draw (default {LAST})")
    _config_option(plot)
    plot.set_defaults(command=_plot)
    plot.get_default("needed")["out"] = "--out"


def _add_info(commands: Any) -> None:
    info = commands.add_parser(
        "info", help="versions, instruction set and threads, and the contents of a model file"
    )
    info.add_argument("model", nargs="?", metavar="MODEL")
    info.add_argument("--json", action="store_true", help="print one JSON document")
    info.set_defaults(command=_info, parser=info)


def _of_model(parser: argparse.ArgumentParser) -> None:
    """A model and a file that it reads."""
    parser.add_argument("model", nargs="?", metavar="MODEL")
    parser.add_argument("file", nargs="?", metavar="FILE", help="CSV with a header line, or *.parquet")
    _reading(parser)
    parser.set_defaults(parser=parser, needed={"model": "MODEL", "file": "FILE"})


def _of_future(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=_at_least(1), metavar="N", help="rows to forecast")
    parser.add_argument(
        "--future",
        metavar="FILE",
        help="the next rows of the inputs that are no targets, such as a weather forecast",
    )


def _of_predictions(parser: argparse.ArgumentParser) -> None:
    """A table that is written."""
    parser.add_argument("--out", metavar="FILE", help="CSV, or *.parquet; default: CSV to standard output")
    parser.add_argument(
        "--quantiles",
        type=_probabilities,
        metavar="Q,Q",
        help="also these quantiles, of a model with a distribution or quantiles as --loss",
    )
    _common(parser)
    parser.set_defaults(name=parser.prog.split()[-1])


def _reading(parser: argparse.ArgumentParser) -> None:
    """How a file is read."""
    parser.add_argument(
        "--time",
        type=_name,
        metavar="NAME",
        help="column of times (dates, or numbers that increase): no input, but in what is written",
    )
    if parser.prog.split()[-1] != "train":
        parser.add_argument(
            "--no-time", action="store_const", const="", dest="time", help="though the model has a --time"
        )
    parser.add_argument(
        "--sep", type=_separator, metavar="C", help="separator of cells, or tab (default: detected)"
    )
    parser.add_argument("--decimal", choices=tuple(MARKS), help="decimal mark of numbers (default: detected)")


def _common(parser: argparse.ArgumentParser) -> None:
    _config_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def _config_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        metavar="FILE.toml",
        help='arguments by name, such as learning-rate = 0.01 or inputs = ["a", "b"]; the command line '
        "overrides them",
    )


def _separator(text: str) -> str:
    sep = "\t" if text in ("tab", "\\t") else text
    if len(sep) != 1 or sep.isalnum() or sep in "\"'\r\n\0#.+-":
        raise argparse.ArgumentTypeError(f"expected one character, such as ; or |, or tab, got {text!r}")
    return sep


def _name(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError(f"expected the name of a column, got {text!r}")
    return text.strip()


def _names(text: str) -> list[str]:
    with suppress(UnicodeError):
        text = text.encode("ascii", "surrogateescape").decode()  # UTF-8, whatever the locale says
    try:
        names = [name.strip() for name in next(csv.reader([text], strict=True, skipinitialspace=True))]
    except (csv.Error, StopIteration):
        names = []
    if not names or not all(names):
        raise argparse.ArgumentTypeError(
            f"expected column names separated by commas, names that contain a comma in double quotes, "
            f"got {text!r}"
        )
    for i, name in enumerate(names):
        if name in names[:i]:
            raise argparse.ArgumentTypeError(f"expected different names, got {name!r} twice")
    return names


def _categories(text: str) -> dict[str, Category]:
    sizes: dict[str, Category] = {}
    for part in _names(text):
        name, _, size = (word.strip() for word in part.rpartition("="))
        if not name or name in sizes:
            raise argparse.ArgumentTypeError(
                f"expected columns, each once, with their numbers of values, such as day=7,hour=24, got "
                f"{text!r}"
            )
        values, colon, width = size.partition(":")
        sizes[name] = (_at_least(1)(values), _at_least(1)(width)) if colon else _at_least(1)(values)
    return sizes


def _widths(text: str) -> tuple[int, ...]:
    return tuple(_at_least(1)(part) for part in text.split(","))


def _reals(text: str) -> float | tuple[float, ...]:
    values = tuple(_real()(part) for part in text.split(","))
    return values if len(values) > 1 else values[0]


def _probabilities(text: str) -> list[float]:
    return [_real(above=0, below=1)(part) for part in text.split(",")]


def _loss(text: str) -> Loss:
    """A loss whose targets are numbers, from its name or a JSON object."""
    try:
        loss = get_loss(_json_object(text) if text.lstrip().startswith("{") else text)
    except (ConfigError, TypeError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if loss.name not in LOSSES:
        raise argparse.ArgumentTypeError(
            f"expected a loss of real targets, counts or classes ({', '.join(LOSSES)}), got {text!r}; others "
            f"have targets or outputs that a table of numbers does not show, and are available in Python"
        )
    return loss


def _rules(text: str) -> dict[str, Rule]:
    """Rules from a JSON object of the arguments of each."""
    rules = {}
    try:
        for name, rule in _json_object(text).items():
            if not isinstance(rule, dict):
                raise ConfigError(f"rules, {name}: expected an object of arguments of a rule, got {rule!r}.")
            for argument in rule:
                choice(argument, f"rules, {name}", list(Rule.__dataclass_fields__))
            rules[name] = Rule(**rule)
    except (ConfigError, ShapeError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return rules


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"expected a JSON object, got {text!r} ({error})") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"expected a JSON object, got {text!r}")
    return value


def _at_least(low: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low:
            raise argparse.ArgumentTypeError(f"expected an integer of at least {low}, got {text!r}")
        return value

    return convert


def _real(
    *, low: float = -math.inf, above: float = -math.inf, below: float = math.inf
) -> Callable[[str], float]:
    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= low and above < value < below):
            bounds = (
                [f" at least {low:g}"] * (low > -math.inf)
                + [f" above {above:g}"] * (above > -math.inf)
                + [f" below {below:g}"] * (below < math.inf)
            )
            raise argparse.ArgumentTypeError(f"expected a number{' and'.join(bounds)}, got {text!r}")
        return value

    return convert
