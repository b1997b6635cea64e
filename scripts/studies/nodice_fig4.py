"""No DICE, Figure 4: what truncated estimators learn with SGD, whose rate is smaller for longer windows."""

from scripts.studies.nodice_truncated import truncated_study

SHORT = 8  # updates: the longest window that takes the first rate
RATES = {"smoke": (1.0, 1.0), "small": (2.5, 0.5), "paper": (0.05, 0.005)}

STUDY = truncated_study(
    4,
    "sgd",
    {scale: lambda window, rates=rates: rates[window > SHORT] for scale, rates in RATES.items()},
    paper_updates=500_000,
    more=400,
)
