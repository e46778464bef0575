"""What a search writes beside its store."""

from __future__ import annotations

from support.fake_search import fake_job
from support.space_files import shipped

from effkeras.definitions import zoo
from effkeras.search.folder import Publisher, winner
from effkeras.search.genomes import all_genomes
from effkeras.search.objectives import Objective
from effkeras.search.trials.records import Result, Trial

SPACE = shipped("digits-tiny")


def trial(number, genome, accuracy, macs):
    result = Result(accuracy, accuracy, {"macs": macs})
    return Trial(number, number + 1, genome, 0, result.state, number, tell=number, result=result)


def test_a_front_has_a_definition_for_each_of_its_networks(tmp_path):
    job = fake_job(tmp_path, space=SPACE, objective=Objective("pareto"))
    genomes = list(all_genomes(SPACE))[:4]
    figures = [(0.5, 10.0), (0.4, 20.0), (0.7, 30.0), (0.6, 9.0)]
    trials = [
        trial(number, *one)
        for number, one in enumerate(zip(genomes, *zip(*figures, strict=True), strict=True))
    ]
    publisher = Publisher(job)
    publisher.publish(trials[:3])
    assert sorted(file.name for file in (tmp_path / "front").iterdir()) == ["0.toml", "2.toml"]
    publisher.publish(trials)  # the last one is cheaper and better than the first
    assert sorted(file.name for file in (tmp_path / "front").iterdir()) == ["2.toml", "3.toml"]
    assert zoo.spec(tmp_path / "front" / "3.toml") == winner(job, genomes[3])
    assert zoo.spec(tmp_path / "best.toml") == winner(job, genomes[2])


def test_a_front_that_a_kill_left_unfinished_is_made_whole(tmp_path):
    job = fake_job(tmp_path, space=SPACE, objective=Objective("pareto"))
    trials = [trial(0, next(all_genomes(SPACE)), 0.5, 10.0)]
    Publisher(job).publish(trials)
    (tmp_path / "front" / "0.toml").rename(tmp_path / "front" / "7.toml")
    Publisher(job).publish(trials)
    assert [file.name for file in (tmp_path / "front").iterdir()] == ["0.toml"]
