"""Damaged files: a result or an error of the package, in little time and memory."""

import contextlib
import io
import json
import os
import tempfile
import warnings

import numpy as np

import bptt_fast as bf

from . import mutate

SECONDS = 2.0  # of CPU for a case
MEMORY = 64 << 20  # bytes of a case, in addition to twice its file
FOLDER = "/dev/shm" if os.path.isdir("/dev/shm") else None  # on a disk, to open takes longer than to read


class Target:
    """A kind of file: `seeds` are good ones, `read` reads one, `allowed` are the errors of a bad one."""

    allowed: tuple = ()
    suffix = ""
    limited = True  # in memory; a library that maps memory of its own can't be

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="attack", dir=FOLDER)
        self.path = os.path.join(self.folder.name, f"file{self.suffix}")
        self.seeds = self.make_seeds()

    def written(self, call, *arguments):
        """The bytes that a call writes to a file."""
        call(self.path, *arguments)
        with open(self.path, "rb") as file:
            return file.read()

    def damaged(self, rng):
        return mutate.damaged(rng.choice(self.seeds), rng, self.seeds)

    def run(self, rng):
        """One case; whether the file was read."""
        content = self.damaged(rng)
        with open(self.path, "wb") as file:
            file.write(content)
        self.content = content
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.read()
        except self.allowed:
            return False
        return True


def networks():
    """Networks of several kinds, with names and scalings."""
    for options in (
        dict(),
        dict(cell="gru", num_layers=2, bidirectional=True),
        dict(cell="lstm", peephole=True, proj_size=2, dtype="float64", readout="every"),
        dict(cell="mlp", f=(4,), nonlinearity=("relu", "tanh"), head=(3,), initial_state="trained"),
        dict(cell="gru", reset="before", initial_state="trained"),
    ):
        net = bf.Network(2, 3, 2, seed=0, **options)
        net.input_names, net.output_names = ["a", "b"], ["b", "c"]
        net.scaling = bf.Scaling([0.0, 1.0], [2.0, 3.0], [1.0, 1.0], [1.0, 5.0])
        net.extra = {"train": "{}", "note": "é"}
        yield net
    yield bf.Network(2, 3, 2, seed=0)


class Models(Target):
    """Model files of networks and learners."""

    allowed = (bf.CorruptFileError,)
    suffix = ".safetensors"

    def make_seeds(self):
        learner = bf.Network(2, 3, 2, seed=0).learn_online(bf.SlidingBPTT(2), bf.Adam())
        for row in np.ones((5, 2), "f"):
            learner.observe(row, row)
        return [_sorted(self.written(model.save)) for model in (*networks(), learner)]

    def damaged(self, rng):
        """Bytes, or the header, or with a right checksum what the checksum does not protect from."""
        content, kind = rng.choice(self.seeds), rng.randrange(3)
        if kind == 0:
            return mutate.damaged(content, rng, self.seeds)
        end = 8 + int.from_bytes(content[:8], "little")
        header = content[8:end].decode()
        if kind == 1:
            header = mutate.changed_json(header, rng)
        else:
            header = self._signed(json.loads(header), content[end:], rng)
        header = header.encode(errors="replace")
        return len(header).to_bytes(8, "little") + header + content[end:]

    def _signed(self, header, body, rng):
        from bptt_fast.storage import digest

        metadata = header["__metadata__"]
        key = rng.choice(sorted(set(metadata) - {"sha256", "format"}))
        change = mutate.changed_json if rng.random() < 0.8 else _damaged_text
        metadata[key] = change(metadata[key], rng)
        tensors = {
            name: np.frombuffer(
                body[slice(*entry["data_offsets"])], {"F32": "f4", "F64": "f8"}[entry["dtype"]]
            ).reshape(entry["shape"])
            for name, entry in header.items()
            if name != "__metadata__"
        }
        texts = (metadata.get(name, "") for name in ("network", "extra", "learner", "columns"))
        with contextlib.suppress(UnicodeEncodeError):
            metadata["sha256"] = digest("".join(texts), tensors)
        return json.dumps(header)

    def read(self):
        bf.load(self.path)


def _sorted(content):
    """A model file with a sorted header: safetensors writes the metadata in a random order."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[end:]


def _damaged_text(text, rng):
    return mutate.damaged(text.encode(), rng).decode(errors="replace")


class Graphs(Target):
    """ONNX graphs, with fields of the protobuf changed or bytes."""

    allowed = (bf.CorruptFileError, bf.ConfigError, bf.ShapeError)
    suffix = ".onnx"

    def make_seeds(self):
        import onnx

        seeds = [self.written(net.to_onnx) for net in networks() if net.cell != "gru" or not net.scaling]
        for n, seed in enumerate(seeds[:2]):  # of fixed sizes, and without notes
            model = onnx.load_from_string(seed)
            for axis, size in enumerate((2, 40)):
                model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size
            if n:
                del model.metadata_props[:]
            seeds.append(model.SerializeToString())
        return seeds

    def damaged(self, rng):
        import onnx

        content = rng.choice(self.seeds)
        if rng.random() < 0.3:
            return mutate.damaged(content, rng, self.seeds)
        model = onnx.load_from_string(content)
        for _ in range(rng.choice((1, 1, 2, 4))):
            self._change(model, rng)
        try:
            return model.SerializeToString()
        except UnicodeEncodeError:
            return content

    def _change(self, model, rng):
        message = model
        while True:  # down to a random field
            fields = [(f, v) for f, v in message.ListFields()]
            if not fields:
                return
            field, value = rng.choice(fields)
            repeated = hasattr(value, "append") or hasattr(value, "add")
            if field.message_type is None:
                break
            if repeated and rng.random() < 0.25:
                break
            message = rng.choice(value) if repeated else value
        if repeated and value:
            at, kind = rng.randrange(len(value)), rng.randrange(4)
            if kind == 0:
                del value[at]
            elif kind == 1:
                value.extend([value[at]] * rng.choice((1, 1, 30)))
            elif kind == 2 and len(value) > 1:
                copies = list(value)
                rng.shuffle(copies)
                copies = [
                    type(c).FromString(c.SerializeToString()) if field.message_type else c for c in copies
                ]
                del value[:]
                value.extend(copies)
            elif field.message_type is None:
                value[at] = self._scalar(value[at], rng, model)
        elif not repeated:
            with contextlib.suppress(ValueError, TypeError):
                setattr(message, field.name, self._scalar(value, rng, model))

    def _scalar(self, value, rng, model):
        if isinstance(value, str):
            names = [t for node in model.graph.node for t in (*node.input, *node.output, node.op_type)]
            moves = ("Concat", "Expand", "Reshape", "Loop", "If", "Range", "ConstantOfShape", "Tile", "")
            return rng.choice([*names, *moves])
        if isinstance(value, bytes):
            return mutate.damaged(value, rng)
        if isinstance(value, float):
            return rng.choice((0.0, -1.0, 1e38, float("nan"), float("inf"), 0.5))
        return rng.choice((0, 1, 2, 3, 5, 7, 11, -1, 2**20, 2**31 - 1, 2**40, 2**62, -(2**63)))

    def read(self):
        bf.from_onnx(self.path)


class Tables(Target):
    """CSV files."""

    suffix = ".csv"

    def make_seeds(self):
        from bptt_fast.files import InputError

        self.allowed = (InputError,)
        rows = "".join(f"{i},{i / 7},-{i}e-3\n" for i in range(60))
        return [
            f"a,b,c\n{rows}".encode(),
            f"# a comment\n#a,b,c\n{rows}".encode(),
            f'\ufeff"a", b ,"c"\r\n"1","2"," 3"\r\n{rows}\r\n,,\r\n'.encode(),
            b"a,b,c,d\n" + b"1,2,3,x\n" * 9,
        ]

    def read(self):
        from bptt_fast.files import read_table

        values = read_table(self.path, ["a", "b"]).values
        assert values.shape[1] == 2 and np.isfinite(values).all()


class Parquets(Tables):
    """Parquet files, which pyarrow reads."""

    suffix = ".parquet"
    limited = False

    def make_seeds(self):
        from bptt_fast.files import InputError, write_table

        self.allowed = (InputError,)
        numbers = [i / 7 for i in range(60)]
        tables = [numbers, list(range(60))], [[1.0, None] * 30, numbers], [["x"] * 60, numbers], [[], []]
        return [self.written(write_table, ["a", "b"], columns) for columns in tables]


class Settings(Target):
    """TOML files of the command line's options: an exit code, and for wrong usage SystemExit(2)."""

    allowed = (SystemExit,)
    suffix = ".toml"

    def make_seeds(self):
        data = os.path.join(self.folder.name, "data.csv")
        with open(data, "w") as file:
            file.write("a,b\n" + "1,2\n2,1\n" * 10)
        self.data = data
        return [
            b'inputs = ["a"]\ntargets = ["b"]\nepochs = 1\nhidden = 2\ncell = "gru"\nquiet = true\n',
            b'inputs = ["a", "b"]\ntargets = "b"\nepochs = 2\nunfold = 3\nseed = 1\nlearning-rate = 0.1\n',
            b'inputs = "a"\ntargets = "b"\nepochs = 1\nbatch-size = 2\nloss = "mae"\nquiet=true\n',
        ]

    def damaged(self, rng):
        words = (
            *mutate.WORDS,
            "1979-05-27T07:32:00Z",
            "[a]\n",
            "[[a]]\n",
            "a.b.c = 1\n",
            "'''",
            "0x_",
            "inf",
            "nan",
        )
        text = mutate.damaged(rng.choice(self.seeds), rng, self.seeds, words)
        # numbers that ask for much work are right, and are refused or done: not what is tested here
        return b"".join(line for line in text.splitlines(True) if not _asks_for_work(line))

    def read(self):
        from bptt_fast.cli import main

        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as err:
            code = main(["train", self.data, "--config", self.path, "--epochs", "1"])
        assert code in (0, 1, 2, 3) and (code == 0 or err.getvalue().startswith("bptt-fast"))


def _asks_for_work(line):
    digits = sum(chr(c).isdigit() for c in line)
    return (digits > 3 or b"e" in line.partition(b"=")[2]) and b"=" in line and digits > 0


TARGETS = {"models": Models, "graphs": Graphs, "tables": Tables, "parquet": Parquets, "settings": Settings}
