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
import tomllib
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, cast

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
    load,
    show_config,
)
from .callbacks import BackupAndRestore
from .columns import listed, moments
from .description import NONLINEARITIES
from .errors import MALFORMED, choice
from .files import InputError, check_kind, read_table, write_table
from .initialisation import CELLS
from .losses import TABLE
from .losses import get as get_loss
from .machine import configuration
from .optimizers import OPTIMIZERS, Optimizer
from .writing import csv_text, is_stream

Array = np.ndarray[Any, Any]

TRAINED = "train"  # the key in `Network.extra` under which `train` stores its options
DEPTH = 10  # steps that --unfold unfolds by default
LOSSES = tuple(name for name, row in TABLE.items() if row["targets"] in ("real", "count"))
UNFOLDINGS = ("unfold", "truncate", "checkpoint")  # one of them at a time


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


def _fail(message: str) -> int:
    print("bptt-fast: " + " ".join(message.split()), file=sys.stderr)
    return 1


# ---- the commands


def _demo(args: argparse.Namespace) -> int:
    from . import demo

    demo.run(args.folder)
    return 0


def _info(args: argparse.Namespace) -> int:
    net = None if args.model is None else _network(args.model)
    if args.json:
        model = None if net is None else {"path": args.model, **_described(net)}
        return _print_json({"command": "info", "machine": configuration(), "model": model})
    show_config()
    if net is not None:
        print(f"\n{args.model}\n{net!r}")
        if net.input_names and net.output_names:
            scaled = ", scaled" if net.scaling is not None else ""
            targets, _, _ = _targets(net)
            print(
                f"inputs {listed(net.input_names)}; targets {listed(tuple(targets))}, {net.lead} "
                f"row(s) ahead{scaled}"
            )
    return 0


def _train(args: argparse.Namespace) -> int:
    names, targets, categories = args.inputs, args.targets, args.categories
    try:
        names = [*(name for name in names if name not in categories), *_categories_among(names, categories)]
        unfold = _unfolding(args)
        optimizer = _optimizer(args, unfold.default_optimizer)
        slides = args.truncate is None and args.checkpoint is None
        net = Network(
            len(names),
            args.hidden,
            len(targets) * args.loss.outputs,
            categories=dict(enumerate(categories.values(), len(names) - len(categories))),
            cell=args.cell,
            nonlinearity=args.nonlinearity,
            f=args.f,
            head=args.head,
            skip=args.skip,
            readout="last" if slides else "every",
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
        net.output_names = [f"{name} {part}".rstrip() for part in args.loss.parts for name in targets]
    except ConfigError as error:
        args.parser.error(str(error))
    if args.backup is not None and args.seed is None:
        args.parser.error("--backup: expected --seed as well, got none.  Pass any number.")
    if args.out is not None:
        _check_out(args.out, args.file, args.config)
    table = read_table(args.file, [*names, *targets])
    steps_needed = args.unfold or DEPTH if slides else 1
    needed = steps_needed + args.lead
    if len(table) < needed:
        why = f"--unfold {steps_needed}" if slides else "one"
        raise InputError(
            f"{args.file}: expected at least {needed} rows of numbers ({why} plus --lead {args.lead}), got "
            f"{len(table)}."
        )
    rows = math.floor(len(table) * (1 - args.validation_split))
    x, y = table[:, : len(names)], table[:, len(names) :]
    notes = {"bptt": str(unfold), "loss": args.loss.plain, "targets": targets}
    if args.scaling and args.loss.targets == "real" and args.loss.outputs > 1:
        # the outputs are no targets, so that net.scaling cannot scale both
        scaling = Scaling([], [], *(a.tolist() for a in moments(y[:rows])))
        notes["scaling"] = {"mean": scaling.output_mean, "scale": scaling.output_scale}
        y = scaling.targets(y, np.float64)
    net.extra[TRAINED] = json.dumps(notes)
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
            patience=Stopping(
                patience=args.patience, target_loss=args.target_loss, max_seconds=args.max_seconds
            ),
            scaling="standard" if args.scaling else None,
            threads=args.threads,
            callbacks=[] if args.backup is None else [BackupAndRestore(args.backup)],
            verbose=0 if args.quiet or args.json else "auto",
        )
    except KeyboardInterrupt:
        if args.out is not None:
            net.lead = args.lead
            net.save(args.out)
            print(f"bptt-fast: interrupted; the model so far is in {args.out}", file=sys.stderr)
            return 130
        raise
    seconds = time.perf_counter() - begin
    net.lead = args.lead  # `_shifted` moved the targets of a whole series
    if args.out is not None:
        net.save(args.out)
    patterns = (rows - needed + 1) * len(history["epoch"])
    if args.json:
        return _print_json(
            {
                "command": "train",
                "file": args.file,
                "out": args.out,
                "rows": len(table),
                "model": _described(net),
                "history": dict(history),
                "stopped": history.stopped,
                "best_epoch": history.best_epoch,
                **_losses(history),
                "patterns": patterns,
                "seconds": seconds,
            }
        )
    if not args.quiet:
        print(_summary(history, seconds, patterns, args.out))
    return 0


def _predict(args: argparse.Namespace) -> int:
    net = _network(args.model)
    if net.input_names is None or net.output_names is None:
        raise InputError(
            f"{args.model}: expected a model written by `bptt-fast train`, got one without column names."
        )
    if args.out is not None:
        _check_out(args.out, args.model, args.file, args.config)
        check_kind(args.out)
    table = read_table(args.file, list(map(str, net.input_names)))
    if len(table) == 0:
        raise InputError(f"{args.file}: expected at least one row of numbers, got none.")
    begin = time.perf_counter()
    outputs = net.predict(table, readout="every")
    seconds = time.perf_counter() - begin
    first = 1 + net.lead
    numbers = list(range(first, first + len(table)))
    columns = {name: a.tolist() for name, a in _predictions(net, outputs, args).items()}
    if args.out is not None or not args.json:
        write_table(args.out, ["row", *columns], [numbers, *columns.values()])
    if args.json:
        return _print_json(
            {
                "command": "predict",
                "model": args.model,
                "file": args.file,
                "out": args.out,
                "rows": len(table),
                "first_row": first,
                "predictions": None if args.out else columns,
                "seconds": seconds,
            }
        )
    return 0


def _print_json(document: dict[str, Any]) -> int:
    print(json.dumps(document))
    return 0


def _predictions(net: Network, outputs: Array, args: argparse.Namespace) -> dict[str, Array]:
    """The columns of the output: predictions of each target, and their deviations and quantiles."""
    targets, loss, scaling = _targets(net)

    def in_units(y: Array) -> Array:
        return y if scaling is None else scaling.outputs(y)

    columns = {"": in_units(loss.prediction(outputs))}
    if args.std:
        deviation = loss.std(outputs)
        columns[" std"] = deviation if scaling is None else deviation * np.array(scaling.output_scale)
    if args.quantiles is not None:
        quantiles = loss.quantile(outputs, args.quantiles)
        columns |= {f" {q:g}": in_units(y) for q, y in zip(args.quantiles, quantiles, strict=True)}
    return {f"{target}{what}": y[:, i] for i, target in enumerate(targets) for what, y in columns.items()}


def _targets(net: Network) -> tuple[list[str], Loss, Scaling | None]:
    """The names of the targets, the loss, and the scaling of targets that are not in units of outputs."""
    notes, names = _notes(net), list(map(str, net.output_names or ()))
    try:
        loss = get_loss(notes.get("loss", "mse"))
        targets = list(map(str, notes.get("targets", names)))
        known = notes.get("scaling")
        scaling = None if known is None else Scaling([], [], known["mean"], known["scale"])
        widths = {len(targets), loss.columns(len(names))}
        widths |= {len(targets) if scaling is None else len(scaling.output_mean)}
        if len(widths) > 1:
            raise ConfigError(f"expected one width of the targets, got {sorted(map(str, widths))}")
    except MALFORMED as error:
        raise InputError(
            f"{TRAINED}: expected notes on the loss as `bptt-fast train` writes them, got {notes}: {error}"
        ) from None
    return targets, loss, scaling


def _notes(net: Network) -> dict[str, Any]:
    """What `train` stored in the model; empty if it was trained in Python, perhaps with other notes."""
    try:
        notes = json.loads(net.extra[TRAINED])
    except (KeyError, TypeError, ValueError):
        return {}
    return notes if isinstance(notes, dict) and "bptt" in notes else {}


def _described(net: Network) -> dict[str, Any]:
    """The description of a network as plain values."""
    known = {name: value for name, value in _notes(net).items() if name in ("bptt", "loss")}
    if net.rules:
        known["rules"] = {name: repr(rule) for name, rule in net.rules.items()}
    return {"network": net.config(), "parameters": net.num_parameters, **net.columns.plain(), **known}


def _losses(history: History) -> dict[str, float]:
    """The losses of the epoch whose weights the network has."""
    at = history.best_epoch - 1 if history.best_epoch is not None else -1
    return {name: history[name][at] for name in ("loss", "val_loss") if history.get(name)}


def _summary(history: History, seconds: float, patterns: int, out: str | None) -> str:
    """A one-line summary of a finished training."""
    epochs = len(history["epoch"])
    losses = ", ".join(f"{name} {value:.6g}" for name, value in _losses(history).items())
    saved = "" if out is None else f"; saved as {out}"
    return (
        f"{epochs} epochs ({history.stopped}), {losses}; {patterns} patterns in {seconds:.2f} s, "
        f"{patterns / seconds:,.0f} per second{saved}"
    )


def _categories_among(names: Sequence[str], categories: dict[str, int]) -> list[str]:
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


def _network(path: str) -> Network:
    """The network in a model file, or that of a learner."""
    model = load(path)
    return model if isinstance(model, Network) else cast(Network, model.network)


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


def _check_out(path: str, *read: str | None) -> None:
    """Raise before the training if --out cannot be written or is a file that is `read`."""
    for source in read:
        if source and os.path.isfile(path) and os.path.exists(source) and os.path.samefile(path, source):
            raise InputError(f"--out: expected another file than those that are read, got {path}.")
    if is_stream(path):
        target = path
    else:
        target = os.path.dirname(os.path.realpath(path))
        file = os.path.basename(path) and (os.path.isfile(path) or not os.path.exists(path))
        if not file or not os.path.isdir(target):
            raise InputError(f"--out: expected a file in a folder that exists, got {path}.")
    if not os.access(target, os.W_OK):
        raise InputError(f"--out: no permission to write into {target}.")


# ---- the arguments


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Arguments of the command line, which override those of the `--config` file, which override defaults."""
    parser = _parser()
    args = parser.parse_args(argv)
    if getattr(args, "config", None) is not None:
        defaults = _config(args.parser, args.config)
        if any(getattr(args, name, None) is not None for name in UNFOLDINGS):
            defaults = {name: value for name, value in defaults.items() if name not in UNFOLDINGS}
        args.parser.set_defaults(**defaults)
        args = parser.parse_args(argv)
    missing = [text for name, text in getattr(args, "needed", {}).items() if getattr(args, name) is None]
    if missing:
        args.parser.error(f"the following arguments are required: {', '.join(missing)}")
    return args


def _config(parser: argparse.ArgumentParser, path: str) -> dict[str, Any]:
    """Arguments in a TOML file, by their names in the namespace."""
    with open(path, "rb") as file:
        try:
            values = tomllib.load(file)
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
        metavar="A=N,B=M",
        help="input columns that are integers below N, such as day=7,hour=24",
    )
    train.add_argument("--out", metavar="MODEL", help="file of the network, e.g. model.safetensors")
    _common(train)
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
    model.add_argument("--equation", choices=("rate", "potential"), default="rate", help="of ctrnn cells")
    model.add_argument(
        "--tau", type=_reals, default=10.0, metavar="T", help="ctrnn: time constant, or T,T,... of each unit"
    )
    model.add_argument("--dt", type=_real(above=0), default=1.0, help="ctrnn: time between rows (default 1)")
    model.add_argument(
        "--recurrent-noise", type=_real(low=0), default=0.0, metavar="SIGMA", help="ctrnn: noise in training"
    )
    model.add_argument(
        "--noise", choices=("sde", "step", "scaled"), default="sde", help="convention of --recurrent-noise"
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
        help="share of the rows, at the end, used for validation",
    )
    how.add_argument(
        "--patience",
        type=_at_least(1),
        metavar="N",
        help="stop after N epochs without a lower loss, and restore the best weights",
    )
    how.add_argument("--target-loss", type=_real(), help="stop at this loss")
    how.add_argument("--max-seconds", type=_real(above=0), help="stop after this time")
    how.add_argument("--backup", metavar="FOLDER", help="go on from here after a crash; needs --seed")
    how.add_argument("--threads", type=_at_least(1))
    how.add_argument("--quiet", action="store_true", help="print nothing but errors")
    needed = {"file": "FILE", "inputs": "--inputs", "targets": "--targets"}
    train.set_defaults(command=_train, parser=train, needed=needed)

    predict = commands.add_parser(
        "predict",
        help="predict with a network that `train` wrote",
        usage="%(prog)s MODEL FILE [options]",
        description="Run the network over the rows and write a table of row numbers (from 1; "
        "the last ones may lie beyond the end of the file) and predictions.",
    )
    predict.add_argument("model", nargs="?", metavar="MODEL")
    predict.add_argument("file", nargs="?", metavar="FILE", help="CSV with a header line, or *.parquet")
    predict.add_argument("--out", metavar="FILE", help="CSV, or *.parquet; default: CSV to standard output")
    predict.add_argument(
        "--quantiles",
        type=_probabilities,
        metavar="Q,Q",
        help="also these quantiles, of a model with a distribution or quantiles as --loss",
    )
    predict.add_argument(
        "--std", action="store_true", help="also deviations, of a model with a distribution as --loss"
    )
    _common(predict)
    predict.set_defaults(command=_predict, parser=predict, needed={"model": "MODEL", "file": "FILE"})

    info = commands.add_parser(
        "info", help="versions, instruction set and threads, and the contents of a model file"
    )
    info.add_argument("model", nargs="?", metavar="MODEL")
    info.add_argument("--json", action="store_true", help="print one JSON document")
    info.set_defaults(command=_info)
    return parser


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        metavar="FILE.toml",
        help='arguments by name, such as learning-rate = 0.01 or inputs = ["a", "b"]; the command line '
        "overrides them",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


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
    return names


def _categories(text: str) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for part in _names(text):
        name, _, size = (word.strip() for word in part.rpartition("="))
        if not name or name in sizes:
            raise argparse.ArgumentTypeError(
                f"expected columns, each once, with their numbers of values, such as day=7,hour=24, got "
                f"{text!r}"
            )
        sizes[name] = _at_least(1)(size)
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
            f"expected a loss of real targets or counts ({', '.join(LOSSES)}), got {text!r}; others have "
            f"targets or outputs that a table of numbers does not show, and are available in Python"
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
