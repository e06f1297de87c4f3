"""The order of a grid's jobs."""

from composed import config_of

from leanvit.app.order import ordered, planned_macs


def cost(words: list[str]) -> float:
    """Of a job whose model and number of epochs are in its words; there is no model d."""
    given = dict(each.split("=") for each in words)
    assert given["loss"] == "ce" and given["seed"] in "37"  # each job has all other words
    return {"a": 3.0, "b": 1.0, "c": 2.0}[given["model"]] * float(given["max_epochs"])


def test_one_seed_of_all_before_the_next_and_cheap_jobs_before_dear_ones() -> None:
    asked = ["loss=ce,focal", "model=a,d,b,c", "optimizer.lr=1e-3", "max_epochs=9,3", "seed=3,4"]
    assert ordered(asked, cost) == [
        "seed=3,4", "model=b,c,a,d", "max_epochs=3,9", "loss=ce,focal", "optimizer.lr=1e-3",
    ]  # fmt: skip


def test_the_users_own_order_stays() -> None:
    asked = ["loss=ce", "model=b", "max_epochs=range(9,3,-3)", "seed=range(7,9)", "~mix"]
    assert ordered(asked, cost) == [asked[3], *asked[:3], "~mix"]
    again = ["model=a", "seed=3", "~mix", "mix=none", "model=c,b", "seed=3,7", "max_epochs=1"]
    assert ordered([*again, "loss=ce"], lambda words: cost([w for w in words if w != "~mix"])) == [
        "seed=3,7", "model=b,c", "~mix", "mix=none", "max_epochs=1", "loss=ce",
    ]  # fmt: skip
    equal = ["model=a,c,b", "outputs='/a b/c,d'"]  # and what it cannot be told apart by
    assert ordered(equal, lambda words: 1.0) == equal


def test_jobs_cost_their_macs_times_their_epochs() -> None:
    tiny = ["model=vit", "model.dim=24", "model.heads=2", "model.mlp_dim=48", "model.depth=2"]
    one = planned_macs(config_of(*tiny, "max_epochs=1"))
    assert planned_macs(config_of(*tiny, "max_epochs=5")) == 5 * one
    assert planned_macs(config_of(*tiny, "max_epochs=1", "model.depth=4")) > 1.5 * one
