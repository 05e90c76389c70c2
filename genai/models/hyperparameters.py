"""Constructor arguments as plain values (numbers, strings, lists, dicts), as written in a checkpoint and in a YAML file."""

import dataclasses
import functools
import inspect
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
from jsonargparse import ArgumentParser

from genai.errors import UserError

INSTANTIATE = "lightning.pytorch.cli.instantiate_module"  # builds objects from class_path and init_args


def save_hyperparameters(model: L.LightningModule) -> str:
    """Keep the constructor's arguments in `model.hparams`, as plain values, for `load_from_checkpoint`.

    The command line passes them as in the YAML file. Objects of a model built in Python become their class_path and init_args;
    if an object has none (a lambda), `hparams` stays empty. Call this in the constructor of the base class.

    Returns:
        Which argument is not plain, and why; empty if all are.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is an instance of `nn.Module` and is already saved.*")
        frame = inspect.currentframe()
        model.save_hyperparameters(logger=False, frame=frame.f_back if frame else None)
    given = dict(model.hparams)
    if "_instantiator" in given:
        return ""
    model.hparams.clear()
    try:
        model.hparams.update({name: to_plain(value, name) for name, value in given.items()})
    except UserError as error:
        return str(error)
    model.hparams["_instantiator"] = INSTANTIATE
    return ""


def to_plain(value: Any, name: str = "") -> Any:
    """The plain form of an option: classes become import paths, objects `{class_path: ..., init_args: {...}}`.

    Raises:
        UserError: `value` cannot be written down: a lambda, a function or class inside another or in `__main__`, or an
            object that does not keep its constructor's arguments under their names.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): to_plain(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, type):
        return {"class_path": import_path(value, name)}
    if isinstance(value, functools.partial):
        bound = dict(zip(parameters_of(value.func), value.args, strict=False)) | value.keywords
        return with_arguments(value.func, bound, name)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return with_arguments(type(value), value._asdict(), name)
    if isinstance(value, Sequence | range):
        return [to_plain(item, f"{name}[{i}]") for i, item in enumerate(value)]
    if inspect.isroutine(value):
        return import_path(value, name)
    if dataclasses.is_dataclass(value):
        fields = [field.name for field in dataclasses.fields(value) if field.init]
        return with_arguments(type(value), {field: getattr(value, field) for field in fields}, name)
    return with_arguments(type(value), attributes_of(value, name), name)


def with_arguments(factory: Any, arguments: Mapping[str, Any], name: str) -> dict[str, Any]:
    """`{class_path: ..., init_args: {...}}` of a class and its arguments."""
    plain = {key: to_plain(item, f"{name}.{key}") for key, item in arguments.items()}
    return {"class_path": import_path(factory, name), **({"init_args": plain} if plain else {})}


def attributes_of(value: Any, name: str) -> dict[str, Any]:
    """The constructor's arguments of an object, which it keeps as attributes of the same names.

    Raises:
        UserError: it does not.
    """
    parameters = parameters_of(type(value)) if type(value).__init__ is not object.__init__ else []
    missing = [parameter for parameter in parameters if not hasattr(value, parameter)]
    if missing or hasattr(value, "__array__"):
        reason = f"it keeps no `{missing[0]}`" if missing else "it is an array"
        raise UserError(
            f"{name}: a {type(value).__name__} cannot be written into a config, since {reason}: "
            "give its class_path and init_args instead"
        )
    return {parameter: getattr(value, parameter) for parameter in parameters}


def parameters_of(factory: Any) -> list[str]:
    """The names of the parameters of a class or function; **kwargs of a class are the parameters that they give its bases."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    if inspect.isclass(factory) and any(p.kind == kinds[1] for p in inspect.signature(factory).parameters.values()):
        added = ArgumentParser().add_class_arguments(factory, fail_untyped=False)
        return list(dict.fromkeys(name.partition(".")[0] for name in added))
    return [name for name, parameter in inspect.signature(factory).parameters.items() if parameter.kind not in kinds]


def import_path(value: Any, name: str) -> str:
    """The path at which another process can import `value`.

    Raises:
        UserError: there is none.
    """
    module, qualname = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    if module in (None, "__main__") or "<" in qualname or not qualname:
        raise UserError(
            f"{name}: {qualname or type(value).__name__} cannot be written into a config, since no other process can import "
            "it: use a class of a module, functools.partial of one, or its class_path and init_args"
        )
    return f"{module}.{qualname}"
