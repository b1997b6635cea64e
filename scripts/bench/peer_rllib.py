"""RLlib's IMPALA on Atari Pong: learned agent steps a second. `peers.py` runs it by its environment's Python.

    python peer_rllib.py STREAMS UNROLL UPDATES WARM_UP

RLlib's own preprocessing of Atari, its own vectorisation, `impala_shallow`'s sizes; two processes act, one learns.
"""

import json
import sys
import time


def main(streams: int, unroll: int, updates: int, warm_up: int) -> None:
    import ale_py
    import gymnasium
    import ray
    from ray.rllib.algorithms.impala import IMPALAConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
    from ray.rllib.env.wrappers.atari_wrappers import wrap_atari_for_new_api_stack
    from ray.tune.registry import register_env

    def make(settings):
        gymnasium.register_envs(ale_py)
        game = gymnasium.make("ALE/Pong-v5", frameskip=1, repeat_action_probability=0.25, full_action_space=True)
        return wrap_atari_for_new_api_stack(game, dim=84, frameskip=4, framestack=4)

    register_env("pong", make)
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)  # its bookkeeping; the cores are the machine's
    network = DefaultModelConfig(
        conv_filters=[[16, 8, 4], [32, 4, 2]],
        conv_activation="relu",
        head_fcnet_hiddens=[256],
        head_fcnet_activation="relu",
        vf_share_layers=True,
    )
    config = (
        IMPALAConfig()
        .environment("pong", clip_rewards=True)
        .env_runners(num_env_runners=2, num_envs_per_env_runner=streams // 2, rollout_fragment_length=unroll)
        .learners(num_learners=0)
        .training(train_batch_size_per_learner=streams * unroll, lr=6e-4, entropy_coeff=0.01)
        .rl_module(model_config=network)
    )
    algorithm = config.build_algo()
    start, first, batch = None, 0, streams * unroll
    while True:
        learned = _learned(algorithm.train(), unroll)
        if start is None and learned >= warm_up * batch:
            start, first = time.perf_counter(), learned
        elif start is not None and learned >= first + updates * batch:
            break
    seconds = time.perf_counter() - start
    algorithm.stop()
    print(json.dumps({"rate": (learned - first) / seconds, "version": ray.__version__}))


def _learned(result: dict, unroll: int) -> float:
    """Steps that have been learned from; before the first update nothing is said of them.

    Of each fragment of `unroll` steps RLlib counts one more, a masked one that its V-trace appends.
    """
    counted = result.get("learners", {}).get("default_policy", {}).get("num_module_steps_trained_lifetime", 0)
    return float(counted) * unroll / (unroll + 1)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
