"""No DICE, Figure 3: what truncated estimators learn with Adam."""

from scripts.studies.nodice_truncated import truncated_study

RATE = {"smoke": 0.02, "small": 0.02, "paper": 0.001}

STUDY = truncated_study(
    3, "adam", {scale: lambda window, rate=rate: rate for scale, rate in RATE.items()}, paper_updates=200_000
)
