"""The step `channels`: removes whole channels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from quantize.formats import Format
from quantize.specs import ChannelSpec, PtqSpec
from quantize.steps.step import STEPS, Context, RecipeStep, Stage, Word


@STEPS.register("channels")
class Channels(RecipeStep[ChannelSpec]):
    """See `quantize.channels.pruning`."""

    spec_class = ChannelSpec
    order = 20
    words = (
        Word(
            "channelsN",
            "N % of the multiply-adds go with whole channels",
            lambda percent: {"keep": 1 - int(percent) / 100},
            r"channels(\d+)",
        ),
    )

    def problems(self, format_: Format, ptq: PtqSpec) -> Iterable[str]:
        """Reports a share that removes nothing or everything."""
        if not 0 < self.spec.keep < 1:
            yield "channels must remove more than 0 and less than 100 %"

    def stages(self, context: Context) -> Iterator[Stage]:
        """One stage for each round."""
        from quantize.channels.pruning import prune_channels, round_of

        once, rounds = round_of(self.spec), self.spec.rounds
        for number in range(1, rounds + 1):
            name = self.name if rounds == 1 else f"{self.name}{number}"
            yield Stage(name, lambda model: prune_channels(model, once, context.train))
