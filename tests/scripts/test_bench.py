"""`onelife bench`: its commands, and the FLOPs that it counts."""

import json
import sys

import jax
import jax.numpy as jnp
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from configs.tree import ConfigError
from scripts.bench import command, compile, intake, meta, output, rates, ratios
from scripts.bench.chart import draw_bars, draw_panel
from scripts.bench.flops import count_flops
from scripts.bench.process import run_to_end
from scripts.cli import main
from tests.limits import limited_files


@pytest.mark.parametrize(
    "words, said",
    [
        ("bench mta", "did you mean meta?"),
        ("bench rates --rounds 0", "it must be 1 or more"),
        ("bench env --updates 0", "it must be 1 or more"),
        ("bench --only acting", "is no case"),
        ("bench meta --network mlp", "--network"),
        ("bench foo", "onelife: bench: 'foo' is unknown; choose from env"),
        ("bench meta --rounds -1", "--rounds: -1 is not allowed; it must be 0 or more"),
        ("bench meta --rounds x", "onelife: --rounds: 'x' is not an integer"),
        ("bench meta --round 3", "--round: unknown option of onelife bench meta; did you mean --rounds?"),
        ("bench bandit --rounds 1", "--rounds: 1 is not allowed; it must be 2 or more"),
        ("bench bandit --lives 3", "--lives: 3 is not allowed; it must be 50 or more"),
        ("bench memory --windows 2 0", "--windows: 0 is not allowed; it must be 1 or more"),
        ("bench --simulate-actors 0", "--simulate-actors: 0 is not allowed; it must be in [1, 1024]"),
        ("bench --simulate-actors=0", "--simulate-actors: 0 is not allowed"),
        ("bench peers --streams 5", "it must be an even number"),
        ("bench peers --rounds 0", "it must be 1 or more"),
        ("bench peers --environments /proc/peers", "--environments: '/proc/peers' cannot be written"),
        ("bench env --only IMPALA", "choose from EnvPool alone"),
        ("bench rates --case IMPLA", "--case: 'IMPLA' is no case"),
        ("bench meta --out figures.png", "must end in .json"),
        ("bench memory --out nowhere/figures.json", "cannot be written"),
        ("bench compile --presets smok", "did you mean smoke?"),
        ("bench --simulate-actors 8 --streams 12", "12 do not divide over 1, 2, 4, 8 actors; nearest: 8 or 16"),
        ("bench intake --simulate-actors 3 --streams 9", "9 do not divide over 1, 2, 3 actors; nearest: 6 or 12"),
    ],
)
def test_bad_input_gets_one_line(capsys, words, said):
    assert main(words.split()) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "program, said",
    [
        ("import os; os.kill(os.getpid(), 9)", "no reason was given, exit status -9"),
        ("raise OSError('first\\nlast')", "failed: last"),
        ("import time; time.sleep(60)", "took more than 3 s"),
    ],
)
def test_a_process_that_fails_says_why_in_one_line(program, said):
    with pytest.raises(ConfigError, match=said) as failure:
        run_to_end("a measurement", [sys.executable, "-c", program], 3)
    assert "\n" not in str(failure.value)


def test_products_are_counted_in_loops_and_not_where_nothing_needs_them():
    a, b = jnp.ones((3, 4)), jnp.ones((4, 5))

    def looped(a, b):
        unused = a @ b  # noqa: F841
        return jax.lax.scan(lambda c, _: (c + jnp.sum(a @ b), None), 0.0, length=7)[0]

    assert count_flops(looped, a, b) == 7 * 2 * 3 * 4 * 5
    image, kernel = jnp.ones((2, 8, 8, 3)), jnp.ones((4, 4, 3, 6))

    def convolved(x, w):
        return jax.lax.conv_general_dilated(x, w, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    forward = 2 * (2 * 3 * 3 * 6) * (4 * 4 * 3)
    assert count_flops(convolved, image, kernel) == forward
    assert count_flops(jax.grad(lambda w: jnp.sum(convolved(image, w) ** 2)), kernel) == 2 * forward


def test_meta_gradients_cost_no_more_than_their_arithmetic():
    """In plain updates. The bounds are docs/performance.md's, but the trace's, which is what is reached."""
    bounds = {
        "K=1, same batch, kept": 2.62,
        "K=1, next batch, kept": 2.30,
        "K=5, next batch, kept": 2.62,
        "K=5, next batch, rebuilt": 3.10,
        "K=5, all batches, λ>0, rebuilt": 3.10,
        "K=20, next batch, kept": 2.62,
        "K=20, next batch, rebuilt": 3.10,
        "trace, six scalars": 11.4,
    }
    counts = {name: meta.Window(meta.CASES[name], "impala_shallow", 32).flops() for name in (meta.PLAIN, *bounds)}
    for name, bound in bounds.items():
        assert 2 < counts[name] / counts[meta.PLAIN] < bound, name


def test_the_table_and_its_figures(tmp_path, capsys, monkeypatch):
    chosen = {name: meta.CASES[name] for name in (meta.PLAIN, "K=1, next batch, kept")}
    monkeypatch.setattr(meta, "CASES", chosen)
    out = tmp_path / "figures.json"
    assert main(["bench", "meta", "--streams", "2", "--rounds", "1", "--out", str(out)]) == 0
    assert out.with_suffix(".png").stat().st_size > 5_000
    figures = json.loads(out.read_text())
    assert set(figures["flops"]) == set(chosen) and all(len(times) == 1 for times in figures["seconds"].values())
    assert "K=1, next batch, kept" in capsys.readouterr().out


def test_a_windows_temporaries_do_not_grow_with_it(tmp_path, capsys):
    out = tmp_path / "figures.json"
    words = ["bench", "memory", "--network", "nature", "--streams", "2", "--windows", "2", "4", "--out", str(out)]
    assert main(words) == 0
    plain, two, four = (json.loads(out.read_text())["memory"][window] for window in ("0", "2", "4"))
    assert 0 < plain["temporaries"] < two["temporaries"] == four["temporaries"]
    # θ, RMSProp's one moment and the gradient, and the batch's 21 frames of either stream with the three before.
    assert two["tape"] == four["tape"] > 3 * plain["state"] / 2 + 2 * 24 * 84 * 84
    assert plain["tape"] == 0
    assert "K=4" in capsys.readouterr().out


def test_a_rate_is_held_to_what_its_parts_can_reach_together():
    """Two parts of 4000 steps a second, one after the other, make 2000."""
    console = Console(width=200, record=True)
    console.print(rates._table({"EnvPool alone": [3000, 4000, 5000], "inference alone": [4000], "acting only": [1800]}))
    acting = next(line for line in console.export_text().splitlines() if "acting only" in line)
    assert "0.45" in acting and "0.90" in acting


def test_bars_are_medians_between_minimum_and_maximum(tmp_path):
    axis = Figure().subplots()
    draw_panel(axis, "steps/s", {"ours": [100.0, 300.0, 200.0], "theirs": [2.0]})
    assert [bar.get_width() for bar in axis.patches] == [200.0, 2.0]
    assert [text.get_text() for text in axis.texts] == ["ours: 200", "theirs: 2"]
    (line,) = axis.lines  # one figure has no spread
    assert list(line.get_xdata()) == [100.0, 300.0] and axis.get_xscale() == "log"
    assert draw_bars(tmp_path / "out.json", {"s": {"a": [1.0], "none": []}, "nothing": {"a": []}}).exists()


def test_ratios_are_of_the_same_turn():
    console = Console(width=120, record=True)
    rates_ = {"ours": [10.0, 20.0], "theirs": [5.0, 40.0]}
    console.print(ratios.table("system", "steps/s", rates_, "ours / theirs", lambda theirs, ours: ours / theirs))
    theirs = next(line for line in console.export_text().splitlines() if line.startswith("theirs"))
    assert theirs.split()[1:] == ["5", "22.5", "40", "0.5", "1.25", "2"]


def test_a_batch_on_its_way_is_held_to_the_making_of_it():
    """Two actors make half a batch each in a second, while five batches a second come in and three are learned from."""
    console = Console(width=120, record=True)
    one = intake.Intake(actors=2, batch_bytes=2_000_000, received=5.0, learned=3.0, lag=1.0, acted=1.0)
    console.print(intake._table([one]))
    assert console.export_text().splitlines()[-1].split() == ["2", "5.0", "10", "3.00", "1.0", "0.100", "6.0"]


@pytest.mark.slow
def test_the_emulator_alone_is_a_benchmark_of_its_own(tmp_path, capsys):
    out = tmp_path / "figures.json"
    assert main(["bench", "env", "--rounds", "2", "--updates", "2", "--streams", "2", "--out", str(out)]) == 0
    (rates_,) = json.loads(out.read_text())["rates"].values()
    assert len(rates_) == 2 and min(rates_) > 0
    assert "EnvPool alone" in capsys.readouterr().out and out.with_suffix(".png").exists()


def test_every_part_holds_what_its_cases_are_held_to(capsys):
    assert rates.PARTS.keys() <= set(command.BENCHMARKS)
    assert main(["bench", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in command.BENCHMARKS)
    for part, cases in rates.PARTS.items():
        assert set(cases) <= set(rates.CASES)
        assert set(rates.LIMITS.get(cases[-1], ())) <= set(cases), part


def test_the_number_of_actors_that_is_asked_for_is_measured():
    assert [intake.actor_counts(most) for most in (1, 3, 8)] == [[1], [1, 2, 3], [1, 2, 4, 8]]


@pytest.mark.ray
def test_replaying_actors_feed_the_learner(tmp_path, capsys):
    out = tmp_path / "figures.json"
    words = "bench --simulate-actors 2 --batches 3 --streams 4 --preset smoke --game catch --out"
    assert main([*words.split(), str(out)]) == 0
    one, two = json.loads(out.read_text())["intake"]
    assert (one["actors"], two["actors"]) == (1, 2)
    assert one["batch_bytes"] == two["batch_bytes"] > 4 * 21 * 50 * 4  # streams, observations, cells, float32
    for figures in (one, two):
        assert figures["received"] > 0 and figures["learned"] > 0 and figures["acted"] > 0 and figures["lag"] >= 0
    assert "to feed it" in capsys.readouterr().out


def test_a_start_that_fails_says_why(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "bogus")
    assert main(["bench", "compile", "--presets", "smoke", "--out", str(tmp_path / "figures.json")]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("onelife: bench compile: smoke ended before its first step of η: onelife: JAX: Unable to")


def test_figures_that_do_not_fit_on_the_disk_are_one_line(tmp_path):
    out = tmp_path / "figures.json"
    with limited_files(100), pytest.raises(ConfigError, match=r"^--out: .*json. cannot be written \(File too"):
        output.write(str(out), {})
    with limited_files(100), pytest.raises(ConfigError, match=r"^--out: .*png. cannot be written \(File too"):
        draw_bars(out, {"s": {"a": [1.0]}})


@pytest.mark.slow
def test_a_second_start_finds_what_the_first_compiled(tmp_path, capsys, monkeypatch):
    out, start, kept = tmp_path / "figures.json", compile.start, []

    def looked_at(name, cache, place):
        found = start(name, cache, place)
        kept.append({path.name.removesuffix("-atime"): path.read_bytes() for path in cache.rglob("*-atime")})
        return found

    monkeypatch.setattr(compile, "start", looked_at)
    assert main(["bench", "compile", "--presets", "smoke", "--out", str(out)]) == 0
    first, second = json.loads(out.read_text())["starts"]["smoke"]
    assert 0 < first["update"] <= first["meta"] and 0 < second["update"] <= second["meta"]
    # A program kept by the first start has the time of its last reading beside it. One that compiles in about a tenth
    # of a second may be kept by the second start alone, so what must not be is a program left unread and made anew.
    unread = {key.rpartition("-")[0] for key, last in kept[0].items() if kept[1][key] == last}
    anew = {key.rpartition("-")[0] for key in kept[1].keys() - kept[0].keys()}
    assert len(kept[0]) > 5 and len(unread) <= 1 and not unread & anew
    assert "smoke" in capsys.readouterr().out
