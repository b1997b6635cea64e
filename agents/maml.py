"""MAML and E-MAML (Finn et al. 2017; Stadie et al. 2018): η is where each life begins, θ⁰.

A life is one window: K inner updates from θ⁰ = η, scored by the outer loss behind them; then the next life begins.
λ = 0 is MAML as it is mostly coded; λ = 1 adds E-MAML's score of the batches in between, exactly (its authors divide it
by the number of samples: `meta_gradient.score_reduction` mean); λ = 0 with the surrogates LVC and DiCE is ProMP's and
DiCE's. It takes many lives: see scripts/lives.py.
"""

from agents.actor_critic import actor_critic
from agents.config import AgentSettings
from agents.types import Agent, EnvironmentSpec

SELF_TUNED = ()
ALSO_TUNED = "θ⁰"


def agent(spec: EnvironmentSpec, settings: AgentSettings) -> Agent:
    """η: θ⁰; inner and outer loss are the actor-critic's."""
    made = actor_critic(spec, settings, SELF_TUNED)
    return made._replace(
        init_meta=lambda key: {"params": made.init(key)},
        meta_values=lambda meta: {},
        inner_loss=lambda meta, output, trajectory: made.inner_loss({}, output, trajectory),
        starts_from_meta=True,
    )
