"""SLURM and torchrun: which job this is, whether it was queued again, and queueing it again."""

import os
import signal
import subprocess

from lightning.fabric.plugins.environments import SLURMEnvironment

from genai.training.callbacks.preemption import Stopped


def job() -> str:
    """Name of the SLURM job, the same after it is queued again; empty outside of one."""
    number = os.environ.get("SLURM_JOB_ID")
    return f"slurm-{number}" if number else ""


def launched() -> dict[str, int]:
    """Devices per node and nodes, if torchrun or srun has started this process; empty otherwise."""
    env = os.environ
    if "TORCHELASTIC_RUN_ID" in env:
        local = int(env["LOCAL_WORLD_SIZE"])
        return {"devices": local, "num_nodes": int(env["WORLD_SIZE"]) // local}
    if job() and SLURMEnvironment.detect():
        nodes = int(env.get("SLURM_NNODES", 1))
        return {"devices": int(env["SLURM_NTASKS"]) // nodes, "num_nodes": nodes}
    return {}


def is_requeued() -> bool:
    """Whether SLURM has started this job before."""
    return bool(job()) and int(os.environ.get("SLURM_RESTART_COUNT", 0)) > 0


def requeue(stopped: Stopped) -> str:
    """Have SLURM queue this job again when its time is nearly over (SIGUSR1); returns a message for the user.

    SLURM itself queues a job again that it preempts (SIGTERM). Of a job array only this task is queued: the number of its last
    task is that of the whole array.
    """
    if stopped.number != signal.SIGUSR1 or not job():
        return ""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    number = f"{array}_{task}" if array and task else os.environ["SLURM_JOB_ID"]
    try:
        subprocess.run(["scontrol", "requeue", number], check=True, capture_output=True, text=True)
    except FileNotFoundError:
        return f"; job {number} was not queued again: there is no scontrol here"
    except subprocess.CalledProcessError as error:
        return f"; job {number} was not queued again: {error.stderr.strip()}"
    return f"; job {number} is queued again"
