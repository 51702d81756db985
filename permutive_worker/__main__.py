"""`python -m permutive_worker` is `permutive-worker`."""

from permutive_worker.cli.main import program

if __name__ == "__main__":
    program()
