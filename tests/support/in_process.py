"""A command of the program, called in this process: a tenth of the time of a real one."""

import os

import pytest
from support.program import KEY, Ended

from permutive_worker.cli.main import main

_OURS = ("PERMUTIVE_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


def calling(monkeypatch, capsys, folder):
    """Return what calls the program in `folder`, with `env` beside what is not ours in the environment."""

    def call(*arguments, env=None) -> Ended:
        with monkeypatch.context() as here:
            here.chdir(folder)
            for name in os.environ:
                if name.upper().startswith(_OURS):
                    here.delenv(name)
            for name, value in ({"PERMUTIVE_API_KEY": KEY} if env is None else env).items():
                here.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                main(list(map(str, arguments)))
        told = capsys.readouterr()
        return Ended(ended.value.code, told.out.encode(), told.err.encode())

    return call
