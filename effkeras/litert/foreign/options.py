"""What a user says of a .tflite that another tool made."""

from __future__ import annotations

from dataclasses import dataclass

from effkeras.support.errors import EffkerasError

Numbers = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ForeignOptions:
    """What the file means; None where the user does not say it.

    `labels` are names of classes. `mean` and `std` are of pixels 0..255: one number, or one each for red,
    green and blue. `classes_offset` is the class of the model that the first label names: 1 where the
    background comes first. `data_labels` are the classes of a data set, for a file without labels.
    """

    labels: tuple[str, ...] | None = None
    mean: Numbers | None = None
    std: Numbers | None = None
    classes_offset: int | None = None
    data_labels: tuple[str, ...] | None = None

    @property
    def given(self) -> str:
        """The first option that a user gave; empty if none was."""
        values = {
            "--labels": self.labels,
            "--mean": self.mean,
            "--std": self.std,
            "--classes-offset": self.classes_offset,
        }
        return next((name for name, value in values.items() if value is not None), "")

    def refuse_for(self, source: str) -> None:
        """Raises EffkerasError if a user gave an option, and the source needs none."""
        if self.given:
            raise EffkerasError(
                f"{source} tells what it takes and gives; {self.given} goes with a .tflite of another tool"
            )


NOTHING = ForeignOptions()
