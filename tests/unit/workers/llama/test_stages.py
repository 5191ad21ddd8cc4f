"""The stages of a job as far as it came."""

from __future__ import annotations

import pytest

from inference_mesh.v1 import payload_pb2
from workers.llama.job import Job
from workers.llama.sampling import sampling_params
from workers.llama.stages import stages_of
from workers.llama.text_stream import TextStream

ARRIVED_S, STARTED_S, FIRST_S, ENDED_S, NOW_S = 10.0, 11.0, 12.0, 14.0, 20.0


def job(**fields: float) -> Job:
    made = Job(
        tokens=[1, 2, 3, 4, 5],
        prompt_length=3,
        max_tokens=9,
        sampling=sampling_params(payload_pb2.Sampling(), 8),
        text=TextStream(()),
        arrived_s=ARRIVED_S,
    )
    for name, value in fields.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("fields", "stages"),
    [
        ({}, [("queue", ARRIVED_S, NOW_S)]),
        ({"ended_s": ENDED_S}, [("queue", ARRIVED_S, ENDED_S)]),
        ({"started_s": STARTED_S}, [("queue", ARRIVED_S, STARTED_S), ("prefill", STARTED_S, NOW_S)]),
        (
            {"started_s": STARTED_S, "first_token_s": FIRST_S, "ended_s": ENDED_S},
            [
                ("queue", ARRIVED_S, STARTED_S),
                ("prefill", STARTED_S, FIRST_S),
                ("decode", FIRST_S, ENDED_S),
            ],
        ),
    ],
)
def test_a_job_shows_the_stages_that_it_reached(
    fields: dict[str, float], stages: list[tuple[str, float, float]]
) -> None:
    found = stages_of(job(**fields), NOW_S)
    assert [(stage.name, stage.started_s, stage.ended_s) for stage in found] == stages


def test_the_stages_tell_what_was_computed_and_in_what_company() -> None:
    whole = job(started_s=STARTED_S, first_token_s=FIRST_S, ended_s=ENDED_S, cached=2, steps=4, step_rows=10)
    _, prefill, decode = stages_of(whole, NOW_S)
    assert prefill.facts == {"mesh.prompt_tokens": 3, "mesh.cached_tokens": 2}
    assert decode.facts == {"mesh.completion_tokens": 2, "mesh.batches": 4, "mesh.batch.mean_rows": 2.5}
