"""LightningCLI with our run directory, callbacks and loggers, besides those of the user."""

import contextlib
import os
import pkgutil
import shutil
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from lightning.pytorch.callbacks import BatchSizeFinder, Checkpoint, LearningRateFinder, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from genai import data, models, runs
from genai.data.module import DataModule
from genai.errors import UserError, check_at_least
from genai.files import check_writable, locked
from genai.models.base import IMAGE_SIZES, TEXT_SIZES, Model
from genai.models.text import TextModel
from genai.runs.files import lock_of
from genai.runs.trust import Policy
from genai.training import cluster
from genai.training.arguments import Parser, model_options
from genai.training.callbacks.announcement import TrainingSummary
from genai.training.callbacks.averages import Averages, WarnIfAveragesUnchanged
from genai.training.callbacks.axis import ImagesSeenAxis
from genai.training.callbacks.checkpoints import AtomicCheckpointIO, CheckRestored, checkpoint_callbacks
from genai.training.callbacks.collapse import Collapse
from genai.training.callbacks.cost import Cost
from genai.training.callbacks.energy import Energy
from genai.training.callbacks.evaluation import EvaluateSamples
from genai.training.callbacks.gallery import Gallery
from genai.training.callbacks.options import OptimizerOptions
from genai.training.callbacks.preemption import Preemption
from genai.training.callbacks.progress import progress_bar
from genai.training.callbacks.randomness import SeedEachBatch
from genai.training.callbacks.run_directory import RunDirectory
from genai.training.callbacks.text_evaluation import EvaluateText
from genai.training.callbacks.throughput import Throughput
from genai.training.checks import (
    check_best_metric,
    check_checkpoint,
    check_experiment,
    check_kind,
    check_model,
    check_optimizers,
    check_seed,
    is_score_of_samples,
)
from genai.training.devices import (
    check_accelerator,
    check_flags_of_manual_optimisation,
    check_precision,
    global_rank,
    num_processes,
    strategy,
)
from genai.training.initialisation import initialise, load_reward
from genai.training.locks import RunLock
from genai.training.loggers import Tracker, WandbOptions, check_mode, loggers
from genai.training.record import SaveConfig, write_record
from genai.training.sharding import Sharded, ShardNetworks

SECTIONS = {"evaluation": EvaluateSamples, "gallery": Gallery, "collapse": Collapse, "averages": Averages}


class GenaiCLI(LightningCLI):
    """The suite's LightningCLI: shapes flow from the data into the model, every fit has a run directory.

    Args:
        verb: fit, validate, test or predict; it is not run here.
        arguments: what follows the verb, as `arguments.resolve` returns it.
        trust: packages that the run of `--init_from` may name.
        policy: what the arguments may name, where some are those of a run; None where all are the user's own.
        changed_data: whether a run may be continued with other training images.
        callbacks: besides those of the arguments and of the suite.
        command: for run.json; see `record.command_line`.
    """

    def __init__(
        self,
        verb: str,
        arguments: Sequence[str],
        trust: Sequence[str] = (),
        policy: Policy | None = None,
        changed_data: bool = False,
        callbacks: Sequence[L.Callback] = (),
        command: str = "",
    ) -> None:
        self.verb = verb
        self.trust = trust
        self.policy = policy
        self.changed_data = changed_data
        self.more_callbacks = callbacks
        self.command = command
        self.lock: RunLock | None = None
        self.overrides = () if verb == "fit" else tuple(model_options(arguments))
        import_classes()
        super().__init__(
            model_class=Model,
            datamodule_class=DataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=SaveConfig if verb == "fit" else None,
            save_config_kwargs={"save_to_log_dir": False, "command": command},
            seed_everything_default=0,
            parser_class=Parser,
            auto_configure_optimizers=False,
            args=[verb, *arguments],
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--experiment", type=str | None, default=None, help="folder of the run; default: from the YAML's path"
        )
        parser.add_argument("--run_dir", type=str | None, default=None, help="the run to continue; set by --resume")
        parser.add_argument(
            "--init_from", type=str | None, default=None, help="a run or zoo entry whose averaged weights a new run starts with"
        )
        parser.add_argument("--tracker", type=Tracker, default="wandb", help="where metrics go besides metrics.csv")
        parser.add_class_arguments(WandbOptions, "wandb", help="how the run is filed in Weights & Biases")
        about = "count the operations of the first steps; a resumed fit is then equal up to rounding"
        parser.add_argument("--flops", type=bool, default=False, help=about)
        parser.add_argument("--energy", type=bool, default=False, help="measure the energy of a fit, with codecarbon")
        parser.add_argument("--best_metric", type=str, default="val/fid", help="the metric that best.ckpt minimises")
        parser.add_argument(
            "--checkpoint_every_n_steps",
            type=int | None,
            default=None,
            help="batches between writes of last.ckpt, besides the end of each epoch",
        )
        for name, section in SECTIONS.items():
            parser.add_lightning_class_args(section, name)
        for name in (*IMAGE_SIZES, *TEXT_SIZES):  # those that the data have and the model takes
            parser.link_arguments(f"data.{name}", f"model.init_args.{name}", apply_on="instantiate")

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Only the verb that is run: adding the options of all four takes a third of the time to a fit's first batch."""
        return {self.verb: super().subcommands()[self.verb]}

    def _dump_config(self) -> None:
        """The options as plain values, once; they were validated when they were parsed."""
        if not hasattr(self, "config_dump"):
            settings = {"skip_unset": False, "skip_validation": True, "skip_link_targets": False}
            self.config_dump = yaml.safe_load(self._parser(self.verb).dump(self.options, **settings))

    def _parse_ckpt_path(self) -> None:
        """Explicit flags win over what a checkpoint remembers: its hyper-parameters are not read."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Do nothing: `launch.run` runs the verb, so that its errors are not reported as parsing errors."""

    @property
    def options(self) -> Any:
        """The parsed options of the verb."""
        return self.config[self.subcommand]

    def _set_seed(self) -> None:
        check_seed(self.options.seed_everything)
        super()._set_seed()

    def before_instantiate_classes(self) -> None:
        if self.policy is not None:
            for section in ("model", "data", "trainer", *SECTIONS):
                self.policy.check_parsed(self.options.get(section))
        if self.options.run_dir is None:
            check_experiment(self.options.experiment)
        if self.options.trainer.barebones:
            raise UserError("--trainer.barebones leaves out the checkpoints and metrics of a run: leave it out")
        check_accelerator(self.options.trainer)
        if self.options.checkpoint_every_n_steps is not None:
            check_at_least("checkpoint_every_n_steps", self.options.checkpoint_every_n_steps, 1)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """The Trainer with our callbacks and loggers besides the user's; all checks run before a run directory exists."""
        options, chosen = self.options, self._get(self.config_init, "trainer")
        check_precision(chosen, self.model)
        check_flags_of_manual_optimisation(chosen, self.model)
        kwargs["strategy"] = strategy(chosen, self.model)
        self.datamodule.prepare_data()  # missing data and feature networks are found before anything is written
        evaluation: EvaluateSamples = self._get(self.config_init, "evaluation")
        evaluation.load(self.datamodule, self.model, self.verb)
        evaluation.check_sizes(self.datamodule, self.model, self.verb)
        if self.subcommand == "fit":
            self.check_fit(has_callbacks=bool(chosen.callbacks))
        if self.subcommand == "fit" and options.init_from and not options.ckpt_path:
            initialise(self.model, self.datamodule, options.init_from, self.trust)
        elif self.subcommand == "fit" and not options.ckpt_path and getattr(self.model, "requires_init_from", False):
            raise UserError(f"a {type(self.model).__name__} continues the training of a run: add --init_from RUN")
        if self.subcommand in getattr(self.model, "verbs_with_reward", ()):
            load_reward(self.model, self.trust)
        is_new, run_dir = options.run_dir is None, self.choose_run_dir()
        try:
            return self.build_trainer(run_dir, chosen, **kwargs)
        except BaseException:
            if self.lock is not None:
                self.lock.release()
            if is_new and run_dir is not None and global_rank() == 0:
                shutil.rmtree(run_dir, ignore_errors=True)
                with contextlib.suppress(OSError):  # other runs of the experiment
                    run_dir.parent.rmdir()
            raise

    def build_trainer(self, run_dir: Path | None, chosen: Any, **kwargs: Any) -> L.Trainer:
        """The Trainer of the options `chosen`, which writes into `run_dir`."""
        kwargs |= cluster.launched()
        is_resumed = self.subcommand == "fit" and bool(self.options.ckpt_path)
        kwargs["plugins"] = [*as_list(chosen.plugins), AtomicCheckpointIO()]
        kwargs["callbacks"] = [*user_callbacks(chosen.callbacks, is_resumed), *self.callbacks(run_dir, kwargs["strategy"])]
        kwargs["callbacks"] += self.more_callbacks
        if not any(isinstance(callback, ProgressBar) for callback in kwargs["callbacks"]):
            kwargs["callbacks"] += [] if chosen.enable_progress_bar is False else [progress_bar()]
        kwargs["enable_model_summary"] = bool(chosen.enable_model_summary)  # TrainingSummary gives the sizes in one line
        kwargs["enable_checkpointing"] = any(isinstance(callback, Checkpoint) for callback in kwargs["callbacks"])
        kwargs["logger"] = [*self.loggers(run_dir), *user_loggers(chosen.logger, run_dir)] or False
        if run_dir is not None and chosen.default_root_dir is None:
            kwargs["default_root_dir"] = str(run_dir)
        try:
            return super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ValueError) as error:  # more devices than there are, say
            raise UserError(f"the trainer refuses its options: {error}") from None

    def check_fit(self, has_callbacks: bool) -> None:
        """Refuse what a fit would stumble on later, before anything is written."""
        options, data = self.options, self.datamodule
        if options.tracker == "wandb" and not options.trainer.fast_dev_run:
            check_mode()
        check_kind(self.model, data)
        check_model(self.model, data.num_classes, data.batch_size)
        if self._get(self.config_init, "evaluation").every_n_epochs:
            check_best_metric(options.best_metric, self.model, has_callbacks)
        optimizers = check_optimizers(self.model)
        if options.ckpt_path:
            known = None if self.changed_data else data
            check_checkpoint(Path(options.ckpt_path), self.model, optimizers, known, options.trainer.max_epochs)

    def choose_run_dir(self) -> Path | None:
        """The directory to write into, a new one for a new fit; None for a fast_dev_run or a zoo entry, which is only read."""
        options = self.options
        if self.subcommand == "fit" and options.run_dir is None and not options.trainer.fast_dev_run:
            options.run_dir = str(new_run_dir(options.experiment or "run"))
        run_dir = Path(options.run_dir) if options.run_dir else None
        if run_dir is None or runs.Run(run_dir).is_exported:
            return None
        check_writable(run_dir / "metrics.json")
        if self.subcommand == "fit":
            self.lock = RunLock(run_dir, cluster.job())
            if global_rank() == 0:
                self.lock.acquire()
        return run_dir

    def callbacks(self, run_dir: Path | None, chosen_strategy: Any) -> list[L.Callback]:
        """Our callbacks, besides those of SECTIONS."""
        options = self.options
        found: list[L.Callback] = [
            ImagesSeenAxis(),
            SeedEachBatch(int(options.seed_everything)),
            Throughput(),
            OptimizerOptions(),
            TrainingSummary(),
            WarnIfAveragesUnchanged(),
            CheckRestored(),
        ]
        if isinstance(self.model, TextModel):
            found.append(EvaluateText(options.evaluation.num_samples, options.evaluation.seed))
        if isinstance(chosen_strategy, Sharded):
            found.append(ShardNetworks())
        if run_dir is None:
            return found
        found.append(RunDirectory(run_dir, self.overrides))
        if self.subcommand == "fit":
            found += [Preemption(), Cost(options.flops)]
            found += [Energy(num_processes(options.trainer) > 1)] if options.energy else []
            if options.trainer.enable_checkpointing is not False:
                every_n_epochs = self._get(self.config_init, "evaluation").every_n_epochs
                folder, every_n_steps = run_dir / "checkpoints", options.checkpoint_every_n_steps
                monitor = options.best_metric
                found += checkpoint_callbacks(folder, monitor, every_n_epochs, every_n_steps, is_score_of_samples(monitor))
        return found

    def loggers(self, run_dir: Path | None) -> list[Logger]:
        """metrics.csv and the tracker, in the first process; run.json is written for them."""
        if run_dir is None or global_rank() != 0:
            return []
        with locked(lock_of(run_dir / "metrics.json")):  # refused now, not when the scores are there
            pass
        record = write_record(run_dir, self.datamodule, self.model, int(self.options.seed_everything), self.command)
        config, axis = self.config_dump | {"run_dir": str(run_dir)}, f"{self.model.unit}_seen"
        filed, is_fit = self._get(self.config_init, "wandb"), self.subcommand == "fit"
        return loggers(self.options.tracker, run_dir, record["tracker_id"], config, axis, filed, explain_offline=is_fit)


def import_classes() -> None:
    """Import every model and data module, so that `--model GAN --data Digits` finds them by name."""
    for package in (models, data):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            import_module(module.name)


def user_callbacks(chosen: Any, is_resumed: bool) -> list[L.Callback]:
    """The callbacks of `--trainer.callbacks`; a resumed fit does not look for another batch size or learning rate.

    Lightning would do so before it restores the epoch and the optimisers, and then not restore them.
    """
    callbacks = as_list(chosen)
    finders = [callback for callback in callbacks if is_resumed and isinstance(callback, BatchSizeFinder | LearningRateFinder)]
    for finder in finders if global_rank() == 0 else ():
        print(f"{type(finder).__name__} is left out: a resumed fit has the batch size and learning rate of its run")
    return [callback for callback in callbacks if callback not in finders]


def user_loggers(chosen: Any, run_dir: Path | None) -> list[Logger]:
    """The loggers of `--trainer.logger`; `true` is Lightning's default, TensorBoard."""
    if chosen is True:
        return (
            [] if run_dir is None or global_rank() != 0 else [TensorBoardLogger(run_dir / "logs", name="", version="lightning")]
        )
    return as_list(chosen or None)


def as_list(given: Any) -> list[Any]:
    """An option of the Trainer, one object, several or none, as a list."""
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple) else [given]


def new_run_dir(experiment: str) -> Path:
    """A new run directory, shared by the processes that Lightning launches from this one."""
    inherited = os.environ.get("GENAI_RUN_DIR")
    if inherited and int(os.environ.get("LOCAL_RANK", 0)) > 0:
        return Path(inherited)
    if global_rank() != 0:
        return runs.runs_folder() / experiment / "of-rank-0"
    path = runs.create(experiment).path
    os.environ["GENAI_RUN_DIR"] = str(path)
    return path
