"""The stages of a job, as traces show them. Pure."""

from __future__ import annotations

from workers.engine import Stage
from workers.llama.job import Job


def stages_of(job: Job, now_s: float) -> list[Stage]:
    """Queue, prefill and decode of a job as far as it came; now_s: where one that goes on is cut off.

    A batch is one step of the decode loop: of those that a job had a part in their number is
    told, and how many jobs were in them on average.
    """
    ended_s = now_s if job.ended_s is None else job.ended_s
    if job.started_s is None:
        return [Stage("queue", job.arrived_s, ended_s)]
    stages = [Stage("queue", job.arrived_s, job.started_s)]
    first_s = ended_s if job.first_token_s is None else job.first_token_s
    prompt = {"mesh.prompt_tokens": job.prompt_length, "mesh.cached_tokens": job.cached}
    stages.append(Stage("prefill", job.started_s, first_s, prompt))
    if job.first_token_s is not None:
        batches: dict[str, int | float] = {"mesh.completion_tokens": job.made, "mesh.batches": job.steps}
        if job.steps:
            batches["mesh.batch.mean_rows"] = round(job.step_rows / job.steps, 3)
        stages.append(Stage("decode", first_s, ended_s, batches))
    return stages
