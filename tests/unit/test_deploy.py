from pathlib import Path

from permutive_worker.config import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_every_example_configuration_loads():
    examples = list(DEPLOY.glob("*.toml"))
    assert examples
    for path in examples:
        settings = Settings.load(path, environ={})
        assert settings != Settings()
