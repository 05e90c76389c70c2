"""fit, validate, test and predict: LightningCLI with our run directory, callbacks and error messages."""

import difflib
import logging
import os
import re
import secrets
import shlex
import shutil
import sys
import time
import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
import torchvision
import yaml
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from genai import __version__, runs
from genai.data.base import ImageDataModule
from genai.errors import UserError
from genai.images import to_uint8
from genai.models.base import Model
from genai.models.capabilities import InitialisesFromRun
from genai.runs.loading import check_trusted, first_difference, import_weights, read_checkpoint
from genai.training import cluster
from genai.training.callbacks.announcement import Announcement
from genai.training.callbacks.averages import Averages
from genai.training.callbacks.checkpoints import AtomicCheckpointIO, checkpoint_callbacks
from genai.training.callbacks.collapse import Collapse
from genai.training.callbacks.evaluation import EvaluateSamples
from genai.training.callbacks.gallery import Gallery
from genai.training.callbacks.options import OptimizerOptions
from genai.training.callbacks.preemption import Preemption, Stopped
from genai.training.callbacks.randomness import CountedRandomness
from genai.training.callbacks.run_directory import RunDirectory
from genai.training.callbacks.throughput import Throughput
from genai.training.locks import RunLock
from genai.training.loggers import MetricsCSV, Tracker, finish, loggers
from genai.training.sharding import Sharded, ShardNetworks

LABEL_EXAMPLES = 64
HALF = ("16", "16-mixed", "16-true")
GPUS = ("gpu", "cuda", "mps")
ON_CPU = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto", "precision": 32}


class Parser(LightningArgumentParser):
    """Turns a parsing error into one line that names the nearest option."""

    def error(self, message: str, ex: Exception | None = None) -> None:  # type: ignore[override]
        raise UserError(condense(message, list(self.get_defaults(skip_validation=True).keys())))


UNKNOWN = re.compile(
    r"(?:Key|Option|option) '([\w.]+)' is not (?:expected|accepted)"
    r"|does not accept option '([\w.]+)'"
    r"|[Uu]nrecognized arguments?: --([\w.]+)"
)
ABSENT = re.compile(
    r"Parser key \"([\w.]+)\": (?:- Expected a path but (\S+) either not accessible"
    r"|-? ?Problem with given class_path '([\w.]+)': (?:module .* has no attribute|No module named))"
)


def condense(message: str, keys: list[str]) -> str:
    """One line of a parser's message, with the nearest key of ours for an unknown one."""
    line = re.sub(r"\s+", " ", message).strip()
    section = re.match(r'Parser key "([\w.]+)"', line)
    unknown = UNKNOWN.search(line)
    if unknown:
        name = next(group for group in unknown.groups() if group)
        close = difflib.get_close_matches(name, keys, n=1)
        hint = f"did you mean `{close[0]}`?" if close else "`--print_config` shows those there are"
        return f"there is no option `{name}`{f' in `{section.group(1)}`' if section else ''}: {hint}"
    line = re.sub(r"Does not validate against any of the Union subtypes Subtypes: \[.*?\] Errors: - ", "", line)
    absent = ABSENT.search(line)
    if absent:
        key, *paths = absent.groups()
        return f"option `{key}`: {no_class(next(filter(None, paths)))}"
    line = re.split(r" - Expected a <class 'NoneType'>| Given value type:", line)[0]
    return line if len(line) < 300 else line[:300] + " ..."


def no_class(path: str) -> str:
    """That there is no class of that path, and the nearest one of its module."""
    module, _, name = path.rpartition(".")
    close = difflib.get_close_matches(name, dir(sys.modules.get(module)), n=1)
    return f"there is no class {path}, " + (f"did you mean `{module}.{close[0]}`?" if close else "look for a typo in its path")


class SaveConfig(SaveConfigCallback):
    """Writes config.yaml into the run directory; a resumed run with other options keeps the earlier file beside it."""

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        run_dir = Path(str(self.config.run_dir))
        config = self.config.clone()
        config.run_dir = config.ckpt_path = None
        text = self.parser.dump(config, skip_none=False)
        path = run_dir / "config.yaml"
        if path.is_file() and path.read_text() != text:
            earlier = len(list(run_dir.glob("config.*.yaml"))) + 1
            shutil.copy2(path, run_dir / f"config.{earlier}.yaml")
        temporary = path.with_name("config.yaml.tmp")
        temporary.write_text(text)
        temporary.replace(path)


class GenaiCLI(LightningCLI):
    """The suite's LightningCLI: data shapes flow into the model, every run has a directory."""

    lock: RunLock | None = None
    trust: Sequence[str] = ()  # packages that a run to start from may name
    overrides: Sequence[str] = ()  # options of the model that differ from its run's config

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--experiment", type=str | None, default=None, help="folder of the run; default: from the YAML's path"
        )
        parser.add_argument("--run_dir", type=str | None, default=None, help="the run to go on with; set by --resume")
        parser.add_argument(
            "--init_from", type=str | None, default=None, help="a run or zoo entry to begin with, its averaged weights"
        )
        parser.add_argument("--tracker", type=Tracker, default="wandb", help="where figures go besides metrics.csv")
        parser.add_argument("--monitor", type=str, default="val/fid", help="what best.ckpt minimises")
        parser.add_argument(
            "--checkpoint_every_n_steps",
            type=int | None,
            default=None,
            help="optimizer steps between writes of last.ckpt",
        )
        parser.add_lightning_class_args(EvaluateSamples, "evaluation")
        parser.add_lightning_class_args(Gallery, "gallery")
        parser.add_lightning_class_args(Collapse, "collapse")
        parser.add_lightning_class_args(Averages, "averages")
        parser.link_arguments("data.image_shape", "model.init_args.image_shape", apply_on="instantiate")
        parser.link_arguments("data.num_classes", "model.init_args.num_classes", apply_on="instantiate")
        if "verbose" in parser.get_defaults(skip_validation=True):
            parser.set_defaults({"verbose": False})

    def _parse_ckpt_path(self) -> None:
        """Explicit flags win over what a checkpoint remembers: its hyper-parameters are not read."""

    @property
    def options(self) -> Any:
        return self.config[self.subcommand]

    def before_instantiate_classes(self) -> None:
        check_accelerator(self.options.trainer)
        check_precision(self.options.trainer)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        options = self.options
        evaluation = self._get(self.config_init, "evaluation")
        self.check_early(evaluation)
        if self.subcommand == "fit" and options.init_from and not options.ckpt_path:
            begin_with(self.model, options.init_from, self.trust)
        if self.subcommand == "fit" and options.run_dir is None and not options.trainer.fast_dev_run:
            options.run_dir = str(new_run_dir(options.experiment or "run"))
        run_dir = Path(options.run_dir) if options.run_dir else None
        seed = int(options.seed_everything)
        kwargs |= cluster.launched()
        chosen = self._get(self.config_init, "trainer")
        kwargs["strategy"] = strategy(chosen, self.model)
        kwargs["plugins"] = [*(chosen.plugins or []), AtomicCheckpointIO()]
        if run_dir is not None and runs.Run(run_dir).is_exported:
            run_dir = None  # a zoo entry is read, never written
        self._get(self.config_init, "averages").run_dir = run_dir
        callbacks: list[L.Callback] = [CountedRandomness(seed), Throughput(), OptimizerOptions(), Announcement()]
        callbacks += [RunDirectory(run_dir, self.overrides)] if run_dir else []
        if run_dir is not None and self.subcommand == "fit":
            self.take_lock(run_dir)
            callbacks.append(Preemption())
            callbacks += checkpoint_callbacks(
                run_dir / "checkpoints", options.monitor, evaluation.every_n_epochs, options.checkpoint_every_n_steps
            )
        if run_dir is not None and global_rank() == 0:
            record = write_record(run_dir, self)
            kwargs["logger"] = loggers(options.tracker, run_dir, record["tracker_id"], self.plain_config())
        else:
            kwargs["logger"] = False
        kwargs["enable_checkpointing"] = run_dir is not None and self.subcommand == "fit"
        if isinstance(kwargs["strategy"], Sharded):
            callbacks.append(ShardNetworks())
        kwargs["callbacks"] = [*(chosen.callbacks or []), *callbacks]
        try:
            return super().instantiate_trainer(**kwargs)
        except MisconfigurationException as error:  # more devices than there are, say
            raise UserError(f"the trainer refuses its options: {error}") from None

    def take_lock(self, run_dir: Path) -> None:
        """Let no other fit write into `run_dir` until `run_lightning` gives the lock back."""
        self.lock = RunLock(run_dir, cluster.job())
        if global_rank() == 0:
            self.lock.acquire()

    def check_early(self, evaluation: EvaluateSamples) -> None:
        """Find missing data and feature networks before anything is written."""
        self.datamodule.prepare_data()
        evaluation.load(self.datamodule.name, self.model, self.subcommand or "")

    def plain_config(self) -> dict[str, Any]:
        """The parsed config as plain values."""
        config: dict[str, Any] = yaml.safe_load(self._parser(self.subcommand).dump(self.options, skip_none=False))
        return config


def begin_with(model: L.LightningModule, start: str, trust: Sequence[str]) -> None:
    """Give a new model the averaged weights of the run or zoo entry `start`.

    Raises:
        UserError: its network is another one.
    """
    if not isinstance(model, InitialisesFromRun):
        raise UserError(f"a {type(model).__name__} cannot start from another run: leave --init_from out")
    other = runs.load(start, trust=trust)
    try:
        model.initialise_from(other.export_state())
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(
            f"--init_from {start} has another network than the model ({reason}): give it the same init_args"
        ) from None


def has_gpu() -> bool:
    """Whether Lightning finds a GPU here."""
    return CUDAAccelerator.is_available() or MPSAccelerator.is_available()


def check_accelerator(trainer: Any) -> None:
    """A GPU that is asked for must be there."""
    if trainer.accelerator in GPUS and not has_gpu():
        raise UserError(
            "there is no GPU here: leave -c configs/trainer/gpu.yaml out, or add -c configs/trainer/cpu.yaml after it"
        )


def check_precision(trainer: Any) -> None:
    """16-mixed needs a GPU: on a CPU torch would silently compute in bfloat16."""
    on_cpu = trainer.accelerator == "cpu" or (trainer.accelerator == "auto" and not torch.cuda.is_available())
    if on_cpu and str(trainer.precision) in HALF:
        raise UserError(f"precision {trainer.precision} needs a GPU: use --trainer.precision bf16-mixed or 32 on a CPU")


def strategy(trainer: Any, model: L.LightningModule) -> Any:
    """The user's strategy; when there is none and several devices, the DDP that suits the model's optimisers."""
    several = num_processes(trainer) > 1
    if trainer.strategy not in ("auto", "ddp") or not several:
        return trainer.strategy
    optimizers = model.configure_optimizers()
    is_game = isinstance(optimizers, list | tuple) and len(optimizers) > 1  # each loss then leaves out parameters of the other
    return "ddp_find_unused_parameters_true" if is_game else "ddp"


def num_processes(trainer: Any) -> int:
    """Processes this training will have, as far as the options and the environment tell."""
    if launched := cluster.launched():
        return launched["devices"] * launched["num_nodes"]
    wants_all = trainer.devices in ("auto", -1, "-1")
    gpus = torch.cuda.device_count() if trainer.accelerator != "cpu" else 1
    if wants_all:
        local = gpus
    elif isinstance(trainer.devices, list):
        local = len(trainer.devices)
    else:
        local = len(str(trainer.devices).split(",")) if "," in str(trainer.devices) else int(trainer.devices)
    return local * trainer.num_nodes


def global_rank() -> int:
    """This process's rank, known before the trainer is."""
    return int(getattr(rank_zero_only, "rank", 0))


def new_run_dir(experiment: str) -> Path:
    """A fresh run directory, shared by the processes that Lightning launches from this one."""
    inherited = os.environ.get("GENAI_RUN_DIR")
    if inherited and int(os.environ.get("LOCAL_RANK", 0)) > 0:
        return Path(inherited)
    if global_rank() != 0:
        return runs.runs_folder() / experiment / "of-rank-0"
    path = runs.create(experiment).path
    os.environ["GENAI_RUN_DIR"] = str(path)
    return path


def write_record(run_dir: Path, cli: GenaiCLI) -> dict[str, Any]:
    """Write run.json at the first fit; a resumed one adds its command. Returns the content."""
    path = run_dir / "run.json"
    if path.is_file():
        record = runs.Run(run_dir).record()
        if cli.subcommand == "fit":
            record = label_record(cli.datamodule) | record
            record["resumed_with"] = [*record.get("resumed_with", []), command_line()]
            runs.write_json(path, record)
        return record
    data = cli.datamodule
    record = {
        "image_shape": list(data.image_shape),
        "num_classes": data.num_classes,
        "class_names": list(data.class_names),
        **label_record(data),
        "data": data.name,
        "model": type(cli.model).__name__,
        "seed": int(cli.options.seed_everything),
        "command": command_line(),
        "tracker_id": secrets.token_hex(4),
        "job": cluster.job(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": {
            "genai": __version__,
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "lightning": L.__version__,
            "numpy": np.__version__,
        },
    }
    runs.write_json(path, record)
    return record


def command_line() -> str:
    """What the user typed."""
    return shlex.join(["genai", *sys.argv[1:]])


def label_record(data: ImageDataModule) -> dict[str, Any]:
    """What run.json says of the labels, so that a model of attributes or text can be asked for what is like its data.

    label_kind: `none`, `class`, `attributes` or `text`; and for the last two
    label_examples: the vectors (0 or 1 each), or words, of 64 training images, spread evenly over the split.
    label_exclusive: pairs of attributes that no training image has both, where chance would give ten images.
    """
    if data.label_kind not in ("attributes", "text"):
        return {"label_kind": data.label_kind}
    labels = np.asarray(data.split("train").labels)  # (N, K) or (N, L)
    rows = np.linspace(0, len(labels) - 1, min(LABEL_EXAMPLES, len(labels))).astype(int)
    examples = {"label_kind": data.label_kind, "label_examples": labels[rows].astype(int).tolist()}
    if data.label_kind == "text":
        return examples
    counts = labels.sum(axis=0)
    chance = np.outer(counts, counts) / len(labels)
    never = np.triu((labels.T @ labels == 0) & (chance >= 10), k=1)
    return {**examples, "label_exclusive": [[data.class_names[i], data.class_names[j]] for i, j in np.argwhere(never)]}


def option(arguments: list[str], name: str) -> str | None:
    """Take `--name VALUE` or `--name=VALUE` out of `arguments`."""
    for i, argument in enumerate(arguments):
        if argument == f"--{name}":
            if i + 1 == len(arguments):
                raise UserError(f"--{name} wants a value")
            value = arguments[i + 1]
            del arguments[i : i + 2]
            return value
        if argument.startswith(f"--{name}="):
            del arguments[i]
            return argument.split("=", 1)[1]
    return None


def experiment_name(config: str) -> str:
    """configs/mnist/gan.yaml -> mnist-gan; any other file -> its stem."""
    path = Path(config)
    return f"{path.parent.name}-{path.stem}" if path.parent.parent.name == "configs" else path.stem


def first_config(arguments: list[str]) -> str | None:
    """The first `-c FILE` of the arguments."""
    for i, argument in enumerate(arguments[:-1]):
        if argument in ("-c", "--config"):
            return arguments[i + 1]
    return None


def check_configs(arguments: list[str]) -> None:
    """Raise UserError for a `-c` file that is not there, or is no YAML."""
    for flag, name in pairwise(arguments):
        if flag not in ("-c", "--config"):
            continue
        if not Path(name).is_file():
            raise UserError(f"there is no file {name}: `ls configs/*` shows what there is")
        try:
            yaml.safe_load(Path(name).read_text())
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{name} is not valid YAML: {error}") from None


def with_run(run: runs.Run, checkpoint: Path | None, rest: list[str], trust: list[str]) -> list[str]:
    """The arguments that reproduce a run's config, before the user's own; its trainer may be built of Lightning's parts."""
    config = run.config()
    check_trusted(config, ["lightning", *trust], run.path / "config.yaml")
    arguments = ["-c", str(run.path / "config.yaml"), "--run_dir", str(run.path)]
    if config["trainer"].get("accelerator") in GPUS and not has_gpu():
        print(f"{run.path} is of a GPU, of which there is none here: on the CPU, in one process and float32", file=sys.stderr)
        arguments += [f"--trainer.{name}={value}" for name, value in ON_CPU.items()]
    return [*arguments, *(["--ckpt_path", str(checkpoint)] if checkpoint else []), *rest]


def resolve_fit(arguments: list[str], trust: list[str]) -> list[str]:
    """Expand `--resume RUN`, and name the experiment after the first YAML."""
    resume = option(arguments, "resume")
    if resume:
        return resumed(runs.find(resume, trained=False), arguments, trust)
    if cluster.is_requeued() and (earlier := run_of_job()):
        return resumed(earlier, [], trust)
    config = first_config(arguments)
    if config and not any(argument.startswith("--experiment") for argument in arguments):
        arguments += ["--experiment", experiment_name(config)]
    return arguments


def resumed(run: runs.Run, arguments: list[str], trust: list[str]) -> list[str]:
    """The arguments that go on with `run`: from its last checkpoint or the named one, or from the start where it has none."""
    if run.is_exported:
        raise UserError(f"{run.path} is a zoo entry, which has no optimiser state: resume a run directory")
    which = option(arguments, "checkpoint")
    has_none = which is None and not (run.path / "checkpoints/last.ckpt").is_file()
    return with_run(run, None if has_none else run.checkpoint(which or "last"), arguments, trust)


def run_of_job() -> runs.Run | None:
    """The run that this command started earlier in this job of the cluster."""
    records = ((run, run.record()) for run in runs.all_runs())
    ours = (run for run, record in records if (record.get("job"), record["command"]) == (cluster.job(), command_line()))
    return next(ours, None)


def resolve_run(verb: str, arguments: list[str], trust: list[str]) -> list[str]:
    """Expand `genai test RUN` (or the newest run of `-c configs/...`) to its config and checkpoint."""
    which = option(arguments, "checkpoint") or "best"
    name = arguments.pop(0) if arguments and not arguments[0].startswith("-") else None
    if name is None and not any(argument.startswith("--ckpt_path") for argument in arguments):
        config = first_config(arguments)
        if config is None:
            raise UserError(f"genai {verb} wants a RUN: `genai runs` lists them")
        name = experiment_name(config)
    if name is None:
        return arguments
    run = runs.find(name)
    return with_run(run, None if run.is_exported else run.checkpoint(which), arguments, trust)


def quiet_libraries() -> None:
    """Hide the advice of Lightning that does not concern a user of this suite."""
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*dataloader is not resumable.*")
    warnings.filterwarnings("ignore", message=".*LightningCLI's args parameter.*")
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
    warnings.filterwarnings("ignore", message=".*callbacks used to create the checkpoint need to be provided.*")
    warnings.filterwarnings("ignore", message=".*ModelCheckpoint with manual optimization.*")
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*The number of training batches.*is smaller than the logging interval.*")
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: not re.search(r"litlogger|litmodels|💡|TPU available", record.getMessage())
    )


def run(verb: str, arguments: list[str]) -> None:
    """Run one of Lightning's verbs with `arguments` (what follows the verb)."""
    check_configs(arguments)
    trust = list(iter(lambda: option(arguments, "trust"), None))
    if arguments[0] == "--help-all":
        arguments = ["--help"]
    elif "--print_config" not in arguments or verb == "fit":
        arguments = resolve_fit(arguments, trust) if verb == "fit" else resolve_run(verb, arguments, trust)
    quiet_libraries()
    run_lightning(verb, arguments, trust)


def model_options(arguments: list[str]) -> list[str]:
    """What `arguments` say of the model beside the config of its run: `--model.key=value` each."""
    following = [*arguments[1:], ""]
    pairs = [(a, after) for a, after in zip(arguments, following, strict=True) if a.startswith("--model.")]
    return [a if "=" in a else f"{a}={after}" for a, after in pairs]


def run_lightning(verb: str, arguments: list[str], trust: list[str]) -> None:
    """Build the CLI, run the verb and say where things are."""
    cli = ready_cli(verb, arguments, trust)
    run_dir = Path(cli.options.run_dir) if cli.options.run_dir else None
    call: dict[str, Any] = {"datamodule": cli.datamodule, "weights_only": True}
    call |= {key: cli.options.get(key) for key in ("ckpt_path", "verbose") if key in cli.options}
    if run_dir and (run_dir / "weights.safetensors").is_file():
        import_weights(cli.model, run_dir / "weights.safetensors")
    if verb == "predict" and cli.trainer.world_size > 1:
        raise UserError("predict draws with one process: add --trainer.devices 1")
    checkpoint = read_checkpoint(Path(call["ckpt_path"])) if call.get("ckpt_path") else None
    if verb == "fit":
        forget_rows(cli.trainer, checkpoint["images_seen"] if checkpoint else 0)
    try:
        output = getattr(cli.trainer, verb)(cli.model, **call)
    except RuntimeError as error:
        if "loading state_dict" in str(error):
            raise UserError(f"{call['ckpt_path']} is a checkpoint of another model: {first_difference(error)}") from None
        raise
    except Stopped as stopped:
        if not cli.trainer.is_global_zero:
            sys.exit(2)
        raise UserError(f"{stopped}{cluster.requeue(stopped)}; to go on: genai fit --resume {run_dir}") from None
    finally:
        finish(cli.trainer.loggers)
        if cli.lock is not None:
            cli.lock.release()
    if not cli.trainer.is_global_zero:
        return
    if verb == "predict" and run_dir:
        write_predictions(run_dir, output)
    if verb == "fit" and run_dir:
        resume = f"genai fit --resume {run_dir} --trainer.max_epochs MORE"
        print(f"done: {run_dir}\nnext: genai test {run_dir}  |  genai sample {run_dir}  |  {resume}")


def ready_cli(verb: str, arguments: list[str], trusted: list[str]) -> GenaiCLI:
    """Parse and instantiate, without running the verb."""

    class Prepared(GenaiCLI):
        trust = trusted
        overrides = () if verb == "fit" else model_options(arguments)

        def _run_subcommand(self, subcommand: str) -> None:
            """The verb runs afterwards, where its errors are told apart from those of parsing."""

    return Prepared(
        model_class=Model,
        datamodule_class=ImageDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_callback=SaveConfig if verb == "fit" else None,
        save_config_kwargs={"save_to_log_dir": False},
        seed_everything_default=0,
        parser_class=Parser,
        auto_configure_optimizers=False,
        load_from_checkpoint_support=False,
        args=[verb, *arguments],
    )


def forget_rows(trainer: L.Trainer, images_seen: int) -> None:
    """Drop the rows of metrics.csv that lie after the checkpoint a fit resumes from."""
    for logger in trainer.loggers:
        if isinstance(logger, MetricsCSV):
            logger.forget_after(images_seen)


def write_predictions(run_dir: Path, batches: list[torch.Tensor]) -> None:
    """Save as RUN/predictions.npz what `predict` drew, images uint8 (N, C, H, W), or a classifier's probabilities (N, K)."""
    exported = runs.Run(run_dir).is_exported
    path = Path(f"{run_dir.name}-predictions.npz") if exported else run_dir / "predictions.npz"
    output = torch.cat(batches)
    arrays = {"images": to_uint8(output).numpy()} if output.ndim == 4 else {"probabilities": output.numpy()}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    print(f"wrote {path}")
