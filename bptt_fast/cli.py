"""The command `bptt-fast`: demo, train, predict, info.

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
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import (
    CheckpointedBPTT,
    ConfigError,
    CorruptFileError,
    DivergedError,
    History,
    Network,
    ShapeError,
    SlidingBPTT,
    TruncatedBPTT,
    __version__,
    load,
    show_config,
)
from .optimizers import OPTIMIZERS, Optimizer

Array = np.ndarray[Any, Any]

COLUMNS = "columns"  # the key of what `train` adds to the model file for `predict`


class InputError(Exception):
    """A file given on the command line cannot be used."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code.  Wrong usage leaves by ``SystemExit(2)``, as argparse does.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments.  None takes those of the process.

    Examples
    --------
    >>> from bptt_fast.cli import main
    >>> main(["info"])  # doctest: +SKIP
    """
    parser, args = _parser(), None
    try:
        args = parser.parse_args(argv)
        code = args.command(args)
        sys.stdout.flush()
        return int(code)
    except KeyboardInterrupt:
        print("bptt-fast: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output left; leave no second complaint at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}")
    except (InputError, ConfigError, ShapeError, CorruptFileError, DivergedError) as error:
        return _fail(str(error))


def _fail(message: str) -> int:
    print("bptt-fast: " + " ".join(message.split()), file=sys.stderr)
    return 1


# ---- the commands


def _demo(args: argparse.Namespace) -> int:
    from . import demo

    demo.run(args.folder)
    return 0


def _info(args: argparse.Namespace) -> int:
    show_config()
    if args.model is not None:
        net = _network(args.model)
        print(f"\n{args.model}\n{net!r}")
        if COLUMNS in net.extra:
            columns = _columns(net, args.model)
            print(
                f"inputs {', '.join(columns['inputs'])}; targets {', '.join(columns['targets'])}, "
                f"{columns['lead']} row(s) ahead"
            )
    return 0


def _train(args: argparse.Namespace) -> int:
    names, targets = args.inputs, args.targets
    try:
        optimizer = _optimizer(args)
        unfold = _unfolding(args)
        slides = isinstance(unfold, SlidingBPTT)
        net = Network(
            len(names),
            args.hidden,
            len(targets),
            cell=args.cell,
            nonlinearity=args.nonlinearity,
            f=args.f,
            head=args.head,
            readout="last" if slides else "every",
            num_layers=args.layers,
            dtype=args.dtype,
            seed=args.seed,
        )
    except ConfigError as error:
        args.parser.error(str(error))
    if args.out is not None:
        _check_writable(args.out)
    table = read_csv(args.file, [*names, *targets])
    least = args.unfold if slides else 1
    needed = least + args.lead
    if len(table) < needed:
        why = f"--unfold {least}" if slides else "one"
        raise InputError(
            f"{args.file}: expected at least {needed} rows of numbers ({why} plus --lead {args.lead}), got "
            f"{len(table)}."
        )
    rows = math.floor(len(table) * (1 - args.validation_split))
    shift, scale = _standard(table[:rows], args.scale)
    table = (table - shift) / scale
    net.extra[COLUMNS] = json.dumps(
        {
            "inputs": names,
            "targets": targets,
            "unfold": args.unfold if slides else str(unfold),
            "lead": args.lead,
            "shift": shift.tolist(),
            "scale": scale.tolist(),
        }
    )
    x, y = table[:, : len(names)], table[:, len(names) :]
    validation: dict[str, Any] = {"validation_split": args.validation_split}
    if not slides:
        x, y, validation = _shifted(x, y, args.lead, rows)
    begin = time.perf_counter()
    try:
        history = net.fit(
            x,
            y,
            epochs=args.epochs,
            optimizer=optimizer,
            loss=args.loss,
            bptt=unfold,
            **validation,
            clip_norm=args.clip_norm,
            patience=args.patience,
            target_loss=args.target_loss,
            max_seconds=args.max_seconds,
            threads=args.threads,
            verbose=0 if args.quiet else "auto",
        )
    except KeyboardInterrupt:
        if args.out is not None:
            net.save(args.out)
            print(f"bptt-fast: interrupted; the model so far is in {args.out}", file=sys.stderr)
            return 130
        raise
    seconds = time.perf_counter() - begin
    if args.out is not None:
        net.save(args.out)
    if not args.quiet:
        print(_summary(history, seconds, rows - needed + 1, args.out))
    return 0


def _predict(args: argparse.Namespace) -> int:
    net = _network(args.model)
    columns = _columns(net, args.model)
    inputs, targets = columns["inputs"], columns["targets"]
    table = read_csv(args.file, inputs)
    if len(table) == 0:
        raise InputError(f"{args.file}: expected at least one row of numbers, got none.")
    shift, scale = np.array(columns["shift"]), np.array(columns["scale"])
    split = len(inputs)
    outputs = net.predict((table - shift[:split]) / scale[:split], readout="every")
    outputs = outputs * scale[split:] + shift[split:]
    numbered = enumerate(outputs.tolist(), start=1 + columns["lead"])
    if args.out is None:
        _write_predictions(sys.stdout, targets, numbered)
    else:
        with open(args.out, "w", newline="", encoding="utf-8") as file:
            _write_predictions(file, targets, numbered)
    return 0


def _write_predictions(file: Any, targets: list[str], numbered: Any) -> None:
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["row", *targets])
    table.writerows([row, *(f"{value:.9g}" for value in values)] for row, values in numbered)


def _summary(history: History, seconds: float, patterns: int, out: str | None) -> str:
    """One line on a finished training."""
    epochs = len(history["epoch"])
    patterns *= epochs
    at = history.best_epoch - 1 if history.best_epoch is not None else -1
    losses = ", ".join(
        f"{name} {history[name][at]:.6g}" for name in ("loss", "val_loss") if history.get(name)
    )
    saved = "" if out is None else f"; saved as {out}"
    return (
        f"{epochs} epochs ({history.stopped}), {losses}; {patterns} patterns in {seconds:.2f} s, "
        f"{patterns / seconds:,.0f} a second{saved}"
    )


def _unfolding(args: argparse.Namespace) -> SlidingBPTT | TruncatedBPTT | CheckpointedBPTT:
    if args.truncate is not None:
        if len(args.truncate) > 2:
            raise ConfigError(f"--truncate: expected K1 or K1,K2, got {len(args.truncate)} numbers.")
        return TruncatedBPTT(*args.truncate)
    if args.checkpoint is not None:
        return CheckpointedBPTT(args.checkpoint or None)
    return SlidingBPTT(args.unfold, lead=args.lead)


def _shifted(x: Array, y: Array, lead: int, rows: int) -> tuple[Array, Array, dict[str, Any]]:
    """Inputs and, step by step, their targets in the first `rows` rows; for validation those after them."""
    inputs, targets, kept = x[: len(x) - lead], y[lead:], max(rows - lead, 0)
    validation: dict[str, Any] = {}
    if rows < len(x):  # a run over all rows, of which the later ones count
        validation = {"validation_data": (inputs, targets, (np.arange(len(inputs)) >= kept).astype(float))}
    return inputs[:kept], targets[:kept], validation


def _network(path: str) -> Network:
    """The network in a file, a learner's too."""
    model = load(path)
    found: Network = model if isinstance(model, Network) else model.network
    return found


def _optimizer(args: argparse.Namespace) -> Optimizer:
    online = args.truncate is None and args.checkpoint is None
    chosen = args.optimizer or ("sgd" if online else "adam")
    kind = OPTIMIZERS[chosen]
    given = {
        name: getattr(args, name)
        for name in ("learning_rate", "momentum", "weight_decay")
        if getattr(args, name) is not None
    }
    for name in given:
        if name not in kind.__dataclass_fields__:
            able = [known for known, other in OPTIMIZERS.items() if name in other.__dataclass_fields__]
            raise ConfigError(
                f"--{name.replace('_', '-')}: expected with --optimizer {', '.join(able)} only, got "
                f"--optimizer {chosen}."
            )
    return kind(**given)


def _columns(net: Network, path: str) -> dict[str, Any]:
    """What `train` noted about the columns of its file."""
    if COLUMNS not in net.extra:
        raise InputError(
            f"{path}: expected a model written by `bptt-fast train`, got one without names of columns."
        )
    found: dict[str, Any] = json.loads(net.extra[COLUMNS])
    return found


def _check_writable(path: str) -> None:
    """Complain about --out before the training rather than after it."""
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path) or not os.path.isdir(folder):
        raise InputError(f"--out: expected a file in a folder that exists, got {path}.")
    if not os.access(folder, os.W_OK):
        raise InputError(f"--out: no permission to write into {folder}.")


def _standard(table: Array, scale: bool) -> tuple[Array, Array]:
    """Mean and standard deviation of each column; 1 for a constant column; 0 and 1 without scaling."""
    if not scale or len(table) == 0:
        return np.zeros(table.shape[1]), np.ones(table.shape[1])
    deviation = table.std(axis=0)
    return table.mean(axis=0), np.where(deviation > 0, deviation, 1.0)


# ---- files


def read_csv(path: str, columns: Sequence[str]) -> Array:
    """The named columns of a CSV file with a header line.

    Parameters
    ----------
    path : str
        The file, UTF-8, comma-separated.  Empty lines, and # lines before the header, are skipped.
    columns : sequence of str
        Names from the header; one may be asked for twice.

    Returns
    -------
    table : ndarray (rows, len(columns)) of float64

    Raises
    ------
    InputError
        If the file is empty or no CSV, or a column is missing, or a cell is no finite number: the text names
        the file, the line and the column.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> from bptt_fast.cli import read_csv
    >>> read_csv("measured.csv", ["a", "b"])  # doctest: +SKIP
    """
    table: list[list[float]] = []
    places: list[int] = []
    header: list[str] | None = None
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        try:
            for cells in reader:
                if not any(cell.strip() for cell in cells) or (header is None and cells[0].startswith("#")):
                    continue
                if header is None:
                    header = [cell.strip() for cell in cells]
                    places = [_place(header, name, path) for name in columns]
                else:
                    table.append(
                        [
                            _number(cells, place, header[place], f"{path}, line {reader.line_num}")
                            for place in places
                        ]
                    )
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(
                f"{path}, line {reader.line_num + 1}: expected comma-separated text in UTF-8, got something "
                f"else ({error})."
            ) from None
    if header is None:
        raise InputError(f"{path}: expected a header line and rows of numbers, got an empty file.")
    return np.array(table, dtype=np.float64).reshape(-1, len(columns))


def _place(header: list[str], name: str, path: str) -> int:
    if header.count(name) != 1:
        what = "no such column" if name not in header else f"{header.count(name)} columns of that name"
        raise InputError(f"{path}: column {name!r}: expected one of {', '.join(header)}, got {what}.")
    return header.index(name)


def _number(cells: list[str], place: int, name: str, where: str) -> float:
    if place >= len(cells):
        raise InputError(
            f"{where}, column {name!r}: expected a number, got a line of only {len(cells)} cells."
        )
    try:
        value = float(cells[place])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}, column {name!r}: expected a finite number, got {cells[place]!r}.")
    return value


# ---- the arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bptt-fast", description="Recurrent networks by backpropagation through time."
    )
    parser.add_argument("--version", action="version", version=f"bptt-fast {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo",
        help="learn the yearly sunspot numbers, in seconds",
        description="Train an Elman network on the yearly sunspot numbers, compare it with two "
        "baselines, save it, and draw a picture where matplotlib is installed.",
    )
    demo.add_argument("--folder", default=".", help="where the model and the picture go (default: here)")
    demo.set_defaults(command=_demo)

    train = commands.add_parser(
        "train",
        help="train a network on the rows of a CSV file",
        usage="%(prog)s FILE.csv --inputs A,B --targets Y [--unfold K] [--out MODEL] [options]",
        description="Train with the classical online algorithm: the rows are one series in "
        "order of time; from K rows of inputs the targets LEAD rows later are learnt.  Or run over the whole "
        "series, with --truncate or --checkpoint.",
    )
    train.add_argument("file", metavar="FILE.csv")
    train.add_argument("--inputs", required=True, type=_names, metavar="A,B", help="columns that go in")
    train.add_argument("--targets", required=True, type=_names, metavar="Y", help="columns to predict")
    train.add_argument("--out", metavar="MODEL", help="write the network there, e.g. model.safetensors")
    model = train.add_argument_group("network")
    model.add_argument("--cell", choices=("elman", "mlp", "gru", "lstm"), default="elman")
    model.add_argument(
        "--hidden", type=_at_least(1), default=16, metavar="H", help="width of the state (default 16)"
    )
    model.add_argument(
        "--layers", type=_at_least(1), default=1, metavar="N", help="recurrent layers (default 1)"
    )
    model.add_argument(
        "--nonlinearity", choices=("tanh", "relu", "sigmoid", "linear"), help="of elman and mlp cells"
    )
    model.add_argument(
        "--f", type=_widths, default=(), metavar="N,N", help="widths of the hidden layers of an mlp cell"
    )
    model.add_argument(
        "--head", type=_widths, default=(), metavar="N,N", help="widths of the readout's hidden layers"
    )
    model.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    model.add_argument("--seed", type=_at_least(0), help="makes a run repeatable")
    how = train.add_argument_group("training")
    unfold = how.add_mutually_exclusive_group()
    unfold.add_argument(
        "--unfold", type=_at_least(1), default=10, metavar="K", help="steps to unfold (default 10)"
    )
    unfold.add_argument(
        "--truncate",
        type=_widths,
        metavar="K1[,K2]",
        help="instead: an update every K1 rows, by errors that travel back K2 rows (default K1)",
    )
    unfold.add_argument(
        "--checkpoint",
        type=_at_least(1),
        nargs="?",
        const=0,
        metavar="SEGMENT",
        help="instead: an update an epoch, by the exact gradient, recomputed in segments (default: the root "
        "of the number of rows)",
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
        "--optimizer",
        choices=tuple(OPTIMIZERS),
        help="default sgd; adam with --truncate, --checkpoint",
    )
    how.add_argument(
        "--learning-rate",
        type=_real(above=0),
        metavar="RATE",
        help="default 0.01 for sgd, 0.001 for adam, for the others see their descriptions in Python",
    )
    how.add_argument("--momentum", type=_real(low=0), help="of sgd and rmsprop (default 0)")
    how.add_argument("--weight-decay", type=_real(low=0), help="default 0; 0.01 for adamw")
    how.add_argument("--clip-norm", type=_real(above=0), help="largest norm of a gradient")
    how.add_argument("--loss", choices=("mse", "mae", "huber"), default="mse")
    how.add_argument(
        "--no-scaling",
        dest="scale",
        action="store_false",
        help="take the columns as they are (default: to mean 0, deviation 1)",
    )
    how.add_argument(
        "--validation-split",
        type=_real(low=0, below=1),
        default=0.0,
        metavar="SHARE",
        help="share of the rows, the last ones, kept for validation",
    )
    how.add_argument(
        "--patience",
        type=_at_least(1),
        metavar="N",
        help="stop after N epochs without a better loss, and keep the best weights",
    )
    how.add_argument("--target-loss", type=_real(), help="stop at this loss")
    how.add_argument("--max-seconds", type=_real(above=0), help="stop after this time")
    how.add_argument("--threads", type=_at_least(1))
    how.add_argument("--quiet", action="store_true", help="print nothing but errors")
    train.set_defaults(command=_train, parser=train)

    predict = commands.add_parser(
        "predict",
        help="predict with a network that `train` wrote",
        description="Run the network over the rows and write a CSV: the number of a row (from 1; "
        "the last ones may lie behind the end of the file) and what is predicted for it.",
    )
    predict.add_argument("model", metavar="MODEL")
    predict.add_argument("file", metavar="FILE.csv")
    predict.add_argument("--out", metavar="FILE", help="default: standard output")
    predict.set_defaults(command=_predict)

    info = commands.add_parser("info", help="versions, instruction set, threads; and what is in a model file")
    info.add_argument("model", nargs="?", metavar="MODEL")
    info.set_defaults(command=_info)
    return parser


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"expected names of columns with commas between them, got {text!r}")
    return names


def _widths(text: str) -> tuple[int, ...]:
    return tuple(_at_least(1)(part) for part in text.split(","))


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
                [f"at least {low:g}"] * (low > -math.inf)
                + [f"above {above:g}"] * (above > -math.inf)
                + [f"below {below:g}"] * (below < math.inf)
            )
            raise argparse.ArgumentTypeError(
                f"expected a number {' and '.join(bounds)}, got {text!r}".replace("  ", " ")
            )
        return value

    return convert
