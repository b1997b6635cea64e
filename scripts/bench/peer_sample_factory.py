"""Sample Factory's APPO on Atari Pong: learned agent steps a second. `peers.py` runs it by its environment's Python.

    python peer_sample_factory.py STREAMS UNROLL UPDATES WARM_UP

On EnvPool, in the batched way of its own EnvPool example; `impala_shallow`'s sizes, one epoch of one minibatch as
IMPALA does; advantages are GAE's (with V-trace this release fails in its own summaries). Two processes act, one infers,
one learns.
"""

import json
import sys
import tempfile
import time
from importlib.metadata import version

import gymnasium


class Pong(gymnasium.Env):
    """EnvPool's Pong as Sample Factory's batched environments are: finished streams have begun anew."""

    is_multiagent = True
    render_mode = None

    def __init__(self, streams: int, seed: int):
        import envpool

        self._pool = envpool.make(
            "Pong-v5",
            env_type="gymnasium",
            num_envs=streams,
            num_threads=1,
            seed=seed,
            reward_clip=True,
            repeat_action_probability=0.25,
            full_action_space=True,
        )
        self.num_agents = streams
        self.observation_space, self.action_space = self._pool.observation_space, self._pool.action_space

    def reset(self, **unused):
        return self._pool.reset()

    def step(self, actions):
        observation, reward, terminated, truncated, info = self._pool.step(actions)
        done = (terminated | truncated).nonzero()[0]
        if len(done):
            observation[done], _ = self._pool.reset(done)
        return observation, reward, terminated, truncated, info

    def close(self):
        pass


def make_encoder(config, spaces):
    from sample_factory.model.encoder import Encoder
    from torch import nn

    class Shallow(Encoder):
        def __init__(self):
            super().__init__(config)
            self.layers = nn.Sequential(
                nn.Conv2d(4, 16, 8, 4),
                nn.ReLU(),
                nn.Conv2d(16, 32, 4, 2),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(32 * 9 * 9, 256),
                nn.ReLU(),
            )

        def forward(self, observation):
            return self.layers(observation["obs"])

        def get_out_size(self) -> int:
            return 256

    return Shallow()


def make_pong(name, config, environment, render_mode=None):
    return Pong(config.env_agents, environment.env_id if environment else 0)


def main(streams: int, unroll: int, updates: int, warm_up: int) -> None:
    from sample_factory.algo.runners.runner import AlgoObserver
    from sample_factory.algo.utils.context import global_model_factory
    from sample_factory.cfg.arguments import parse_full_cfg, parse_sf_args
    from sample_factory.envs.env_utils import register_env
    from sample_factory.train import make_runner

    register_env("pong", make_pong)
    global_model_factory().register_encoder_factory(make_encoder)
    place = tempfile.TemporaryDirectory()
    settings = {
        "env": "pong",
        "experiment": "peer",
        "train_dir": place.name,
        "device": "cpu",
        "num_workers": 2,
        "num_envs_per_worker": 1,
        "worker_num_splits": 1,
        "batched_sampling": True,
        "async_rl": True,
        "rollout": unroll,
        "recurrence": 1,
        "batch_size": streams * unroll,
        "num_epochs": 1,
        "num_batches_per_epoch": 1,
        "with_vtrace": False,
        "use_rnn": False,
        "normalize_input": False,
        "normalize_returns": False,
        "obs_scale": 255.0,
        "max_grad_norm": 40.0,
        "train_for_env_steps": 10**9,
        "save_every_sec": 10**6,
        "experiment_summaries_interval": 10**6,
    }
    words = [f"--{name}={value}" for name, value in settings.items()]
    parser, _ = parse_sf_args(words)
    parser.add_argument("--env_agents", type=int, default=streams // 2)
    times: list[float] = []

    class Clock(AlgoObserver):
        def on_training_step(self, runner, training_iteration_since_resume):
            times.append(time.perf_counter())
            if len(times) > warm_up + updates:
                runner.cfg.train_for_env_steps = 0

    _, runner = make_runner(parse_full_cfg(parser, words))
    runner.register_observer(Clock())
    runner.init()
    runner.run()
    seconds = times[warm_up + updates] - times[warm_up]
    print(json.dumps({"rate": updates * streams * unroll / seconds, "version": version("sample-factory")}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
