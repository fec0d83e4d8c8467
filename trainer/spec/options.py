"""Where and on what a trial runs: what is recorded with every attempt and decides no number."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from trainer.spec.base import Part


def absolute_place(place: str) -> str:
    """A local folder as an absolute path, since workers run in other folders; a URL as it is."""
    return place if "://" in place else str(Path(place).expanduser().absolute())


Place = Annotated[str, AfterValidator(absolute_place)]
Compile = Literal["off", "default", "reduce-overhead"]
ImagesOnDevice = Literal["never", "auto", "always"]


class RunOptions(Part):
    """Where and on what a trial runs: recorded with every attempt, never part of its identity. Places are absolute.

    `threads` fixes torch's intra-op threads, because Ray, torchrun and plain Python set them differently.
    `checkpoint_every` and `log_every` count steps; 0 lets the length of the trial decide. A process that makes no step
    for `hang_seconds` is ended and tried again (0: never); `progress_seconds` is how often an attempt says how far it
    is. `activation_checkpointing` trades time for memory and `deterministic` time for equal bits on a GPU; neither
    changes what is computed. With `previews` every evaluation leaves a small picture of what the networks see.
    `compile` (torch.compile of student and teacher; "reduce-overhead" replays CUDA graphs), `channels_last` (the memory
    layout of convolutions) and `images_on_device` (all training images held by the device as bytes) are faster ways to
    the same step, as trainer/fast tells; like another device or number of threads, the first two move roundings.
    `gpus_per_worker` is what whoever starts the ranks gave each of them, for the account of hours alone; None where
    nobody said. `submission` names the submitted job that the ranks work for, "" where there is none.
    """

    storage: Place = "runs"
    data: Place = "data"
    cache: Place | None = None
    weights: Place | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(default=1, ge=1)
    checkpoint_every: int = Field(default=0, ge=0)
    log_every: int = Field(default=0, ge=0)
    keep: Literal["weights", "checkpoints", "nothing"] = "weights"
    accept_change: bool = False
    hang_seconds: float = Field(default=1800.0, ge=0)
    progress_seconds: float = Field(default=10.0, ge=0)
    activation_checkpointing: bool = False
    deterministic: bool = False
    previews: bool = True
    compile: Compile = "off"
    channels_last: bool = False
    images_on_device: ImagesOnDevice = "never"
    gpus_per_worker: float | None = Field(default=None, ge=0)
    submission: str = ""

    @model_validator(mode="after")
    def _compiled_activations_stay(self) -> Self:
        if self.compile != "off" and self.activation_checkpointing:
            raise ValueError(
                f"compile {self.compile!r} and activation_checkpointing do not go together: what a compiled network "
                "keeps is the compiler's to decide. Leave one of --compile and --activation-checkpointing out"
            )
        return self

    def changed(self, **fields: Any) -> "RunOptions":
        """These options with some fields changed and checked."""
        return RunOptions(**{**self.model_dump(), **fields})

    def checkpoint_interval(self, num_steps: int) -> int:
        """Steps between two checkpoints: as asked, or a twentieth of the trial within 25..1000."""
        return self.checkpoint_every or min(1000, max(25, num_steps // 20))

    def log_interval(self, num_steps: int) -> int:
        """Steps between two training records: as asked, or a fiftieth of the trial within 5..100."""
        return self.log_every or min(100, max(5, num_steps // 50))
