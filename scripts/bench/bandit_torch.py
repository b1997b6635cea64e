"""No DICE's bandit in PyTorch, as one would write it down: what `onelife bench bandit` compares with.

Needs torch, and nothing of this project: run by its path, so that neither library disturbs the other.
"""

import json
import sys
import time

import torch
from torch.nn.functional import softplus

ARMS, PULLS, NOISE, UPDATES, EARLY_UPDATES = 30, 10, 2.0, 29, 8


def meta_gradient(raw: torch.Tensor, lives: int, correction: float) -> torch.Tensor:
    """[2] of the mean reward a batch of `lives` lives, all side by side, with respect to both raw rates."""
    raw = raw.detach().requires_grad_()
    means = torch.exp(torch.rand(lives, ARMS) * 101 - 100)
    logits = torch.zeros(lives, ARMS, requires_grad=True)
    gains, scores, rewards = [], [], []
    for update in range(UPDATES + 1):
        log_policy = torch.log_softmax(logits, dim=1)
        action = torch.multinomial(log_policy.detach().exp(), PULLS, replacement=True)
        reward = means.gather(1, action) + NOISE * torch.randn(lives, PULLS)
        log_prob = log_policy.gather(1, action)
        gains.append((reward * log_prob).mean(dim=1))
        scores.append(log_prob.sum(dim=1))
        rewards.append(reward.mean(dim=1))
        if update < UPDATES:
            rate = softplus(raw[0 if update < EARLY_UPDATES else 1])
            (step,) = torch.autograd.grad(rate * gains[-1].sum(), logits, create_graph=True)
            logits = logits + step
    after = torch.stack(rewards).flip(0).cumsum(0).flip(0) - torch.stack(rewards)
    corrected = torch.stack(gains) + correction * torch.stack(scores) * after
    # The first batch is acted before η has had a say.
    (found,) = torch.autograd.grad(corrected[1:].sum() / (UPDATES + 1) / lives, raw)
    return found


def one_by_one(raw: torch.Tensor, lives: int, correction: float) -> torch.Tensor:
    """The same, one life after the other."""
    return torch.stack([meta_gradient(raw, 1, correction) for _ in range(lives)]).mean(dim=0)


def main() -> None:
    """KIND LIVES SEED CORRECTION EARLY LATE -> one line of JSON: seconds and gradient of one update, after another."""
    kind, lives, seed, correction, *raw = sys.argv[1:]
    function = {"side": meta_gradient, "one": one_by_one}[kind]
    torch.manual_seed(int(seed))
    eta = torch.tensor([float(value) for value in raw])
    function(eta, int(lives), float(correction))
    start = time.perf_counter()
    gradient = function(eta, int(lives), float(correction))
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "gradient": gradient.tolist(), "torch": torch.__version__}))


if __name__ == "__main__":
    main()
