"""`python -m models.tiny_chat`: makes and measures the tiny chat model.

Steps: train (corpus, tokenizer, network; needs requirements.txt), write (GGUF from the checkpoint),
evaluate (needs llama-cpp-python). Without a step all three run.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from inference_mesh.cache import cache_dir
from models.tiny_chat import evaluate

STEPS = ("train", "write", "evaluate")


def main() -> None:
    """Runs the steps asked for."""
    options = _parser().parse_args()
    steps = options.step or STEPS
    if "train" in steps:
        _train(options.checkpoint, options.model, options.threads)
    elif "write" in steps:
        _write(options.checkpoint, options.model)
    if "evaluate" in steps:
        _evaluate(options.model, options.failures)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.tiny_chat",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "step",
        nargs="*",
        choices=(*STEPS, []),
        metavar="step",
        help="train, write or evaluate (default: all)",
    )
    parser.add_argument("--model", type=Path, default=evaluate.DEFAULT_MODEL, help="the GGUF file")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=cache_dir() / "tiny-chat-checkpoint",
        help="folder for the float weights",
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the training")
    parser.add_argument("--failures", action="store_true", help="print every question that was not exact")
    return parser


def _train(checkpoint: Path, model: Path, threads: int) -> None:
    """Trains; every checkpoint replaces the GGUF file, so one is there early."""
    import torch  # only the makers of the model have it

    from models.tiny_chat import train
    from models.tiny_chat.network import Shape, TinyLlama
    from models.tiny_chat.write_gguf import write_gguf

    torch.set_num_threads(threads)
    plan, shape = train.Plan(), Shape()
    tokenizer = train.train_tokenizer(plan.seed, plan.tokenizer_documents, shape.vocabulary)

    def save(network: TinyLlama, step: int, cpu_s: float) -> None:
        train.save_checkpoint(checkpoint, network, tokenizer)
        write_gguf(model, network.state_dict(), tokenizer, shape)
        print(f"wrote {model} after step {step}, {cpu_s:.0f} CPU seconds", flush=True)

    train.train(tokenizer, shape, plan, save)


def _write(checkpoint: Path, model: Path) -> None:
    import torch
    from tokenizers import Tokenizer

    from models.tiny_chat.network import Shape
    from models.tiny_chat.write_gguf import write_gguf

    state = torch.load(checkpoint / "network.pt", weights_only=True)
    write_gguf(model, state, Tokenizer.from_file(str(checkpoint / "tokenizer.json")), Shape())
    print(f"wrote {model}")


def _evaluate(model: Path, show_failures: bool) -> None:
    started = time.monotonic()
    results = evaluate.evaluate(evaluate.load(model), evaluate.fresh_questions())
    if show_failures:
        print(evaluate.failures(results))
    print(evaluate.table(results))
    print(f"{len(results)} questions in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
