"""A run from elsewhere executes nothing, whatever its config says."""

import contextlib
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import genai
from genai.cli import main
from genai.errors import UserError
from genai.runs import REPOSITORY, Run
from genai.runs.data import data_of
from genai.runs.places import check_places
from genai.runs.trust import CLASSES, Policy, locate, policy_of, read_config

HERE = Path("config.yaml")
NETWORK = {"class_path": "genai.networks.mlp.MLPGenerator", "init_args": {"features": [8]}}


@pytest.fixture
def stranger(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for a run of somebody else, with a module `payload` that touches `owned` when it is imported."""
    (workspace / "payload.py").write_text(
        "import pathlib\npathlib.Path('owned').touch()\ndef opt(*a, **k): pathlib.Path('owned').touch()\n"
    )
    (workspace / "evil/suffix").mkdir(parents=True)
    (workspace / "evil/suffix/payload.py").write_text((workspace / "payload.py").read_text())
    monkeypatch.syspath_prepend(str(workspace))
    return workspace / "runs/theirs/first"


def write_run(path: Path, **changes: Any) -> Path:
    """A zoo entry's config with other `model` init_args, `data` or `trainer`."""
    config = yaml.safe_load((REPOSITORY / "zoo/mnist-gan/config.yaml").read_text())
    config["model"]["init_args"] |= changes.get("model", {})
    config["data"] = changes.get("data", config["data"])
    config["trainer"] |= changes.get("trainer", {})
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    (path / "run.json").write_text((REPOSITORY / "zoo/mnist-gan/run.json").read_text())
    (path / "checkpoints").mkdir(exist_ok=True)
    (path / "checkpoints/last.ckpt").touch()
    return path


ATTACKS = {
    "function of torch": {
        "generator": {
            "class_path": "torch.fx.graph_module.reduce_graph_module",
            "init_args": {"body": {"_code": "pass"}, "import_block": "import pathlib; pathlib.Path('owned').touch()"},
        }
    },
    "torch.hub": {
        "generator": {"class_path": "torch.hub.load", "init_args": {"repo_or_dir": ".", "source": "local", "model": "opt"}}
    },
    "open type": {
        "generator": {
            "class_path": "torch.nn.Linear",
            "init_args": {"in_features": 1, "out_features": 1, "device": {"class_path": "payload.opt", "init_args": {}}},
        }
    },
    "open type, own network": {"generator": {**NETWORK, "dict_kwargs": {"device": {"class_path": "payload.opt"}}}},
    "YAML in a string": {"generator": "{class_path: payload.opt}"},
    "YAML in lines": {"generator": "class_path: payload.opt\ninit_args: {}\n"},
    "YAML twice in a string": {
        "generator": "'{class_path: payload.opt}'" * 1,
        "discriminator": '"[{class_path: payload.opt}]"',
    },
    "JSON in a string": {"generator": json.dumps({"class_path": "payload.opt"})},
    "file ending": {"generator_optimizer": "evil.suffix.payload.opt"},
    "file ending, class_path": {"generator_optimizer": {"class_path": "evil.suffix.payload.opt"}},
    "URL": {"generator": "http://127.0.0.1:9/n.yaml"},
    "fsspec": {"generator": "local://n.yaml"},
    "sub-config": {"generator": "n.yaml"},
    "sub-config, any ending": {"generator": "picture.png"},
    "sub-config, in the run": {"generator": "runs/theirs/first/n.yaml"},
    "dotted key": {"generator.class_path": "payload.opt"},
    "private key": {"generator": {"__path__": "n.yaml", "class_path": "payload.opt"}},
    "list": {"generator": [{"class_path": "payload.opt"}]},
    "module": {"generator": "evil.suffix.payload"},
    "standard library": {"generator": {"class_path": "os.system", "init_args": {"command": "touch owned"}}},
    "through genai": {"generator": {"class_path": "genai.runs.directory.os.system", "init_args": {"command": "touch owned"}}},
    "function of genai": {"generator": {"class_path": "genai.data.olivetti.find_file", "init_args": {"root": "."}}},
    "writer of genai": {
        "generator": {"class_path": "genai.training.callbacks.record.RecordRun", "init_args": {"path": "owned"}}
    },
    "main of genai": {"generator": {"class_path": "genai.__main__.main"}},
    "jsonargparse": {"generator": {"class_path": "jsonargparse.set_parsing_settings", "init_args": {}}},
    "dict_kwargs": {"generator": {**NETWORK, "dict_kwargs": {"hook": "payload.opt"}}},
    "config key": {"generator": {"__default_config__": "n.yaml", "class_path": "payload.opt"}},
    "_class_path": {"generator": {**NETWORK, "init_args": {"_class_path": "payload.opt"}}},
    "_instantiator": {"generator": {**NETWORK, "_instantiator": "payload.opt"}},
    "instead of init_args": {"generator": {"class_path": "payload.opt", "dict_kwargs": {}}},
    "init_args of a listed class": {"generator": {**NETWORK, "init_args": {"features": "payload.opt"}}},
    "in a container": {
        "generator": {"class_path": "torch.nn.Sequential", "init_args": {"args": [{"class_path": "payload.opt"}]}}
    },
    "callable of a layer": {
        "generator": {
            "class_path": "torch.nn.TransformerEncoderLayer",
            "init_args": {"d_model": 8, "nhead": 1, "activation": "payload.opt"},
        }
    },
    "distance function of a loss": {
        "objective": {"class_path": "torch.nn.TripletMarginWithDistanceLoss", "init_args": {"distance_function": "payload.opt"}}
    },
    "class of Lightning": {"generator": {"class_path": "lightning.pytorch.callbacks.LambdaCallback", "init_args": {}}},
    "trainer": {"generator": {"class_path": "lightning.pytorch.Trainer", "init_args": {"callbacks": ["payload.opt"]}}},
    "distributed optimiser": {
        "generator_optimizer": {"class_path": "torch.distributed.optim.DistributedOptimizer", "init_args": {}}
    },
    "lambda of a schedule": {
        "lr_schedule": {"class_path": "torch.optim.lr_scheduler.LambdaLR", "init_args": {"lr_lambda": "payload.opt"}}
    },
    "function of torch.optim": {"generator_optimizer": {"class_path": "torch.optim.swa_utils.get_ema_avg_fn", "init_args": {}}},
    "function of torch.nn": {"generator": {"class_path": "torch.nn.utils.parametrize.register_parametrization"}},
    "torch.load": {"generator": {"class_path": "torch.load", "init_args": {"f": "n.yaml", "weights_only": False}}},
    "torch.jit": {"generator": {"class_path": "torch.jit.load", "init_args": {"f": "n.yaml"}}},
    "torch.package": {"generator": {"class_path": "torch.package.PackageImporter", "init_args": {"file_or_buffer": "n.yaml"}}},
    "script of a string": {"generator": {"class_path": "torch.jit.CompilationUnit", "init_args": {"lang": "x"}}},
    "C++ extension": {
        "generator": {"class_path": "torch.utils.cpp_extension.load_inline", "init_args": {"name": "x", "cpp_sources": "x"}}
    },
    "numpy": {"generator": {"class_path": "numpy.load", "init_args": {"file": "n.yaml", "allow_pickle": True}}},
    "joblib": {"generator": {"class_path": "joblib.load", "init_args": {"filename": "n.yaml"}}},
    "torchvision": {
        "generator": {"class_path": "torchvision.datasets.DatasetFolder", "init_args": {"root": ".", "loader": "x"}}
    },
    "test code": {"generator": {"class_path": "torch.testing._internal.common_utils.run_tests"}},
    "private attribute": {"generator": {"class_path": "genai.networks.mlp.nn.Module.__init_subclass__"}},
    "module through a listed module": {"generator": {"class_path": "genai.networks.mlp.torch.hub.load"}},
    "class through a listed module": {"generator": {"class_path": "genai.models.base.L.Trainer"}},
    "typing": {"generator": {"class_path": "typing.ForwardRef", "init_args": {"arg": "__import__('payload')"}}},
    "partial": {"generator": {"class_path": "functools.partial", "init_args": {"func": "payload.opt"}}},
    "tuple of YAML": {"generator": ["{class_path: payload.opt}"]},
    "nested YAML": {"generator": {**NETWORK, "init_args": {"features": "[{class_path: payload.opt}]"}}},
    "empty path": {"generator": {"class_path": ""}},
    "no text": {"generator": {"class_path": ["payload.opt"]}},
    "dots": {"generator": {"class_path": "..payload.opt"}},
    "unicode": {"generator": {"class_path": "ｐayload.opt"}},  # Python reads identifiers in NFKC: this is payload
    "average of weights": {
        "generator": {
            "class_path": "torch.optim.swa_utils.AveragedModel",
            "init_args": {"model": None, "avg_fn": "payload.opt"},
        }
    },
    "processes": {"generator": {"class_path": "torch.multiprocessing.spawn", "init_args": {"fn": "payload.opt"}}},
    "code cache": {
        "generator": {"class_path": "torch._inductor.codecache.PyCodeCache.load", "init_args": {"source_code": "x"}}
    },
    "library of operators": {"generator": {"class_path": "torch.ops.load_library", "init_args": {"path": "n.yaml"}}},
    "recomputation": {
        "generator": {"class_path": "torch.utils.checkpoint.checkpoint", "init_args": {"function": "payload.opt"}}
    },
    "loader of data": {
        "generator": {
            "class_path": "torch.utils.data.DataLoader",
            "init_args": {"dataset": [], "worker_init_fn": "payload.opt"},
        }
    },
    "schedule of genai": {
        "lr_schedule": {"class_path": "genai.models.optimization.ImagesSeenLR", "init_args": {"factor": "payload.opt"}}
    },
    "command line of genai": {"generator": {"class_path": "genai.cli.main.main", "init_args": {"arguments": ["fit"]}}},
    "name alone": {"generator": "GraphModule"},
    "name alone, class_path": {"generator": {"class_path": "GraphModule"}},
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_model_of_a_stranger_executes_nothing(
    attack: dict[str, Any], stranger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(stranger, model=attack)
    for name in ("n.yaml", "picture.png", run / "n.yaml"):
        Path(name).write_text("class_path: payload.opt\n")
    before = set(Path().rglob("*"))
    with pytest.raises(UserError) as error:
        genai.load(run, "last")
    assert "\n" not in str(error.value)
    assert not Path("owned").exists()
    assert {path for path in set(Path().rglob("*")) - before if "__pycache__" not in str(path)} == set()


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_the_checks_of_parsing_stop_each_attack_too(
    attack: dict[str, Any], stranger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the check before parsing might not see: here it sees nothing."""
    monkeypatch.setattr(Policy, "check", lambda *_: None)
    run = write_run(stranger, model=attack)
    for name in ("n.yaml", "picture.png", run / "n.yaml"):
        Path(name).write_text("class_path: payload.opt\n")
    with pytest.raises(UserError):
        genai.load(run, "last")
    assert not Path("owned").exists()


def test_the_check_before_parsing_stops_nearly_all_attacks_by_itself(stranger: Path) -> None:
    """It reads the config alone: nothing is imported or called. The two others name nothing that is there."""
    run = write_run(stranger)
    for name in ("n.yaml", "picture.png", run / "n.yaml"):
        Path(name).write_text("class_path: payload.opt\n")
    policy = Policy(run / "config.yaml")
    passed = []
    for name, attack in ATTACKS.items():
        with contextlib.suppress(UserError):
            policy.check({"init_args": attack}, "model")
            passed.append(name)
    assert passed == ["YAML twice in a string", "name alone"]
    assert not Path("owned").exists()


STRONGEST = [
    "function of torch",
    "torch.hub",
    "open type",
    "file ending, class_path",
    "sub-config",
    "callable of a layer",
    "partial",
]


@pytest.mark.parametrize("name", [*STRONGEST, *(pytest.param(name, marks=pytest.mark.slow) for name in ATTACKS)])
def test_the_settings_of_jsonargparse_execute_nothing_by_themselves(
    name: str, stranger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without both checks of ours; some attacks become a model without weights, which is refused later."""
    monkeypatch.setattr(Policy, "check", lambda *_: None)
    monkeypatch.setattr(Policy, "check_parsed", lambda *_: None)
    run = write_run(stranger, model=ATTACKS[name])
    for file in ("n.yaml", "picture.png", run / "n.yaml"):
        Path(file).write_text("class_path: payload.opt\n")
    with contextlib.suppress(UserError):
        genai.load(run, "last")
    assert not Path("owned").exists()


def test_without_the_settings_a_name_is_imported_while_it_is_parsed(stranger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check after parsing alone comes too late, so it is not enough."""
    monkeypatch.setattr(Policy, "check", lambda *_: None)
    monkeypatch.setattr(Policy, "enforced", contextlib.nullcontext)
    with pytest.raises(UserError):
        genai.load(write_run(stranger, model=ATTACKS["file ending, class_path"]), "last")
    assert Path("owned").exists()


COMMANDS = [
    ["sample", "RUN"],
    ["test", "RUN"],
    ["validate", "RUN"],
    ["predict", "RUN"],
    ["fit", "--resume", "RUN"],
    ["fit", "-c", str(REPOSITORY / "configs/digits/diffusion.yaml"), "--init_from", "RUN", "--trainer.fast_dev_run", "1"],
    ["sample", str(REPOSITORY / "zoo/digits-diffusion"), "--guidance", "2", "--autoguidance", "RUN"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: " ".join(word for word in words if "/" not in word))
@pytest.mark.parametrize("name", ["function of torch", "open type", "file ending", "sub-config"])
def test_every_verb_refuses_in_one_line(
    name: str, command: list[str], stranger: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(stranger, model=ATTACKS[name])
    Path("n.yaml").write_text("class_path: payload.opt\n")
    assert main([str(run) if word == "RUN" else word for word in command]) == 2
    error = capsys.readouterr().err.splitlines()
    assert [line for line in error if str(run) in line], error
    assert "Traceback" not in "".join(error)
    assert not Path("owned").exists()


def test_trainer_and_data_are_checked_too(stranger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for section in ({"callbacks": [{"class_path": "payload.opt"}]}, {"logger": "payload.opt"}, {"plugins": ["payload.opt"]}):
        assert main(["test", str(write_run(stranger, trainer=section))]) == 2
        assert "names payload.opt" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"names payload\.opt"):
        data_of(Run(write_run(stranger, data={"class_path": "payload.opt"})))
    assert not Path("owned").exists()


def test_data_that_would_be_unpickled_are_refused(stranger: Path) -> None:
    data = {"class_path": "genai.data.olivetti.Olivetti", "init_args": {"root": str(stranger)}}
    run = write_run(stranger, data=data)
    (run / "olivetti_py3.pkz").write_bytes(b"\x80\x04cpathlib\nPath\n.")
    with pytest.raises(UserError, match=r"reads data in .*, which its author chose: .*--data\.init_args\.root"):
        data_of(Run(run))


def test_what_is_parsed_is_what_was_checked(stranger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is read once: a config that is exchanged after the check is not seen."""
    from genai.training.arguments import parse, resolve

    run = write_run(stranger)
    checked = resolve("test", parse([str(run)]))
    write_run(stranger, model=ATTACKS["file ending"])
    assert str(run / "config.yaml") not in checked.arguments
    assert yaml.safe_load(checked.arguments[1])["model"]["class_path"] == "genai.models.gan.gan.GAN"


def test_what_jsonargparse_makes_of_a_config_is_checked_again() -> None:
    with pytest.raises(UserError, match=r"names json\.loads"):
        Policy(HERE).check_parsed({"objective": json.loads})
    with pytest.raises(UserError, match=r"subprocess\.Popen"):
        Policy(HERE).check_parsed([{"class_path": "subprocess.Popen"}])


def test_the_limits_of_jsonargparse_end_with_the_run() -> None:
    from jsonargparse._common import parsing_settings

    before = dict(parsing_settings)
    with Policy(HERE).enforced():
        assert parsing_settings["import_path_verdicts"]["*"] is False
    assert parsing_settings == before


def test_two_threads_do_not_parse_by_each_others_limits() -> None:
    from jsonargparse._common import parsing_settings

    before, inside, seen = dict(parsing_settings), threading.Event(), []

    def of_a_stranger() -> None:
        with Policy(HERE).enforced():
            inside.set()
            time.sleep(0.2)
            seen.append(parsing_settings["import_path_verdicts"].get("*"))

    thread = threading.Thread(target=of_a_stranger)
    thread.start()
    inside.wait()
    with Policy(HERE, unrestricted=True).enforced():
        seen.append(parsing_settings["import_path_verdicts"].get("*"))
    thread.join()
    assert seen == [False, None]
    assert parsing_settings == before


def test_each_listed_class_exists() -> None:
    assert [path for path in CLASSES if getattr(locate(path, ()), "__qualname__", None) != path.rpartition(".")[2]] == []


@pytest.mark.parametrize("name", ["jsonargparse", "a-b", "os.path", ""])
def test_what_is_no_package_cannot_be_trusted(name: str) -> None:
    with pytest.raises(UserError, match="is not a package that can be trusted"):
        policy_of(HERE, [name])


def test_every_zoo_entry_passes() -> None:
    entries = [path.parent for path in REPOSITORY.glob("zoo/*/config.yaml")]
    assert entries
    for entry in entries:
        config, policy = read_config(Run(entry))
        assert not policy.unrestricted
        policy.check(config)
        check_places(config, entry, policy)


LAUGHS = "a0: &a0 [lol]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}\n" for i in range(1, 12))


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS,
        MERGES,
        "model: &m {init_args: *m}\n",
        "[" * 20_000,
        "model: " + "[" * 200 + "]" * 200,
        "model: " + "x" * 2_000_000,
        "a: !!python/name:os.system",
        "{",
        "\x00",
        "",
    ],
    ids=["laughs", "merges", "itself", "deep", "nested", "long", "tag", "torn", "null", "empty"],
)
def test_a_config_that_would_fill_the_memory_is_refused_at_once(text: str, stranger: Path) -> None:
    run = write_run(stranger)
    (run / "config.yaml").write_text(text)
    started = time.monotonic()
    with pytest.raises(UserError, match=r"config\.yaml") as error:
        genai.load(run, "last")
    assert time.monotonic() - started < 5
    assert "\n" not in str(error.value)


def test_metrics_of_a_stranger_import_nothing(stranger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The feature network of the scores, with which an export measures them again."""
    entry, model = REPOSITORY / "zoo/digits-diffusion", genai.load("zoo/digits-diffusion")
    (stranger / "checkpoints").mkdir(parents=True)
    torch.save({"state_dict": model.state_dict(), "images_seen": model.images_seen}, stranger / "checkpoints/last.ckpt")
    for file in ("config.yaml", "run.json", "metrics.json"):
        (stranger / file).write_bytes((entry / file).read_bytes())
    metrics = json.loads((stranger / "metrics.json").read_text())
    metrics["test"]["protocol"]["features"] = "payload.opt"
    (stranger / "metrics.json").write_text(json.dumps(metrics))
    assert main(["export", str(stranger), "zoo/theirs"]) == 2
    assert "names payload.opt" in capsys.readouterr().err
    assert not Path("owned").exists()
