"""The rooms: which package may import which, and who alone may import a third-party library."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = {
    "agents": set(),
    "actors": {"agents"},
    "learner": {"agents"},
    "configs": {"agents", "actors", "learner"},
    "scripts": {"agents", "actors", "learner", "configs"},
}
DOORS = {
    "haiku": ("agents/networks",),
    "rlax": ("agents/returns.py", "agents/losses.py"),
    "envpool": ("actors/environments/atari.py", "scripts/doctor.py", "scripts/bench/peer_sample_factory.py"),
    "ray": ("actors/ray_pool.py", "scripts/doctor.py", "scripts/bench/peer_rllib.py"),
    "orbax": ("learner/checkpoint.py",),
}
FILES = [path for room in ALLOWED for path in sorted((ROOT / room).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    """Top-level names of everything that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_rooms(path):
    name = str(path.relative_to(ROOT))
    room = name.partition("/")[0]
    others = imported(path) & ALLOWED.keys() - {room}
    assert others <= ALLOWED[room], f"{name} imports {others - ALLOWED[room]}"
    for library, doors in DOORS.items():
        assert library not in imported(path) or name.startswith(doors), f"{name} imports {library}"


def test_files_are_rooms_not_halls():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in FILES}
    assert {name: lines for name, lines in lengths.items() if lines > 400} == {}
    assert sum(lines > 300 for lines in lengths.values()) <= len(lengths) // 10
