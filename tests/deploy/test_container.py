"""The image: what can be said of its recipe, and, where it is asked for, the real thing built and run."""

import asyncio
import json
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
from support.program import KEY
from support.sandbox_process import sandbox_process

ROOT = Path(__file__).parents[2]
TAG = "3.13-slim"
JOBS = 600
# What a build needs of this machine to reach its package index.
OF_THE_HOST = [
    path for path in ("/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf") if Path(path).exists()
]

TOOLS = ("mmdebstrap", "buildah", "podman", "crun", "unshare")
opt_in = pytest.mark.skipif(
    "TEST_CONTAINER" not in os.environ,
    reason="set TEST_CONTAINER=1 to build and run the image: it needs root, a Debian mirror, a package index, "
    f"3 GB of disk, three minutes, and {', '.join(TOOLS)}",
)


def test_the_linter_has_nothing_to_say():
    hadolint = Path(sysconfig.get_path("scripts"), "hadolint")

    ended = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)

    assert (ended.stdout, ended.returncode) == ("", 0)


def test_what_is_copied_is_not_ignored():
    recipe = (ROOT / "Dockerfile").read_text().splitlines()
    copied = {
        word
        for line in recipe
        if line.startswith("COPY ") and "--" not in line
        for word in line.split()[1:-1]
    }
    kept = {
        line[1:].removesuffix("/*.lock")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line[:1] == "!"
    }

    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)


class Image:
    """Built of this tree, on Debian's own Python in place of the official image, in a store of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = ("--root", folder / "store", "--runroot", folder / "run", "--storage-driver", "vfs")

    def build(self) -> None:
        base = self.folder / "base.tar"
        packages = "python3,python3-venv,python3-pip,ca-certificates"
        run("mmdebstrap", "--variant=apt", f"--include={packages}", "trixie", base)
        container = self.buildah("from", "scratch").strip()
        self.buildah("add", "--quiet", container, base, "/")
        self.buildah(
            "run", "--isolation", "chroot", container, "--", "ln", "-s", "python3", "/usr/bin/python"
        )
        self.buildah("commit", "--rm", container, f"docker.io/library/python:{TAG}")
        self.buildah(
            *("bud", "--isolation", "chroot", "--format", "docker", "--pull-never", "--tag", "worker"),
            *("--build-arg", "EXTRAS=redis, sqs", "--build-arg", "VERSION=1.2.3"),
            *(word for path in OF_THE_HOST for word in ("-v", f"{path}:{path}:ro")),
            ROOT,
        )

    def buildah(self, *words: object) -> str:
        return run("buildah", *self.store, *words)

    def podman(self, *words: object, code: int = 0) -> str:
        """Call podman, with a cgroup tree that is there for it; no systemd is needed."""
        own = (*self.store, "--cgroup-manager=cgroupfs", "--events-backend=none")
        tree = 'umount -l /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; exec "$@"'
        return run("unshare", "-m", "sh", "-c", tree, "sh", "podman", *own, *words, code=code)

    def start(self, name: str, data: Path, *command: object) -> None:
        """Run the worker in the background as a careful operator does: nothing writable but /data."""
        self.podman(
            *(
                "run",
                "--detach",
                "--name",
                name,
                "--runtime",
                "crun",
                "--read-only",
                "--read-only-tmpfs=false",
            ),
            *("--cap-drop", "all", "--network", "host", "--cgroups=disabled", "--health-interval=disable"),
            *("--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096"),
            *("-v", f"{data}:/data", "-v", f"{data.with_name('key')}:/run/secrets/permutive:ro"),
            *("-e", "PERMUTIVE_API_KEY_FILE=/run/secrets/permutive", "worker"),
            *command,
        )

    async def is_healthy(self, name: str) -> None:
        """Wait for the image's own health check, run by hand: no systemd is there to do it."""
        async with asyncio.timeout(30):
            while True:
                try:
                    self.podman("healthcheck", "run", name)
                except AssertionError:  # not yet
                    await asyncio.sleep(0.2)
                else:
                    return

    def python(self, name: str, code: str) -> str:
        return self.podman("exec", name, "python", "-c", code).strip()


def run(*words: object, code: int = 0) -> str:
    ended = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    assert ended.returncode == code, f"{words[0]}: {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    assert not missing, f"install {missing}"
    folder = tmp_path_factory.mktemp("image")
    built = Image(folder)
    built.build()
    yield built
    built.podman("rm", "--all", "--force", "--time", 0)
    shutil.rmtree(folder)


@pytest.fixture
def data(tmp_path):
    """A folder and a key that user 10001 may use."""
    folder, key = tmp_path / "data", tmp_path / "key"
    folder.mkdir()
    key.write_text(KEY)
    os.chown(folder, 10001, 10001)
    os.chown(key, 10001, 10001)
    key.chmod(0o400)
    return folder


@opt_in
@pytest.mark.timeout(600)
def test_what_the_image_says_of_itself(image):
    told = json.loads(image.podman("image", "inspect", "worker"))[0]["Config"]

    assert (told["User"], told["WorkingDir"], list(told["Volumes"])) == ("10001:10001", "/data", ["/data"])
    assert told["Labels"]["org.opencontainers.image.version"] == "1.2.3"
    assert told["Entrypoint"] == ["permutive-worker"]


@opt_in
@pytest.mark.process
@pytest.mark.timeout(600)
async def test_it_runs_as_nobody_on_a_read_only_root_and_stops_cleanly(image, data):
    lines = [
        json.dumps({"type": "identify", "user_id": f"u{number}", "aliases": []}) for number in range(JOBS)
    ]
    (data / "jobs.ndjson").write_text("\n".join(["no job", *lines]) + "\n")
    async with sandbox_process("--latency=10ms") as sandbox:
        command = ("run", "--base-url", sandbox.url, "--rate", "100", "jobs.ndjson")
        image.start("first", data, *command)
        await image.is_healthy("first")
        assert image.python("first", "print(open('/proc/1/cmdline').read().split(chr(0))[1:3])") == (
            "['/opt/venv/bin/permutive-worker', 'run']"
        )
        assert "10001\\t10001\\t10001" in image.python("first", "print(repr(open('/proc/1/status').read()))")
        assert "Read-only" in image.python(
            "first", "import os\ntry: os.mkdir('/tmp/x')\nexcept OSError as e: print(e)"
        )
        assert (
            image.python("first", "import redis, aiobotocore, importlib.util as u; print(u.find_spec('pip'))")
            == "None"
        )
        image.podman("stop", "--time", 30, "first")
        assert image.podman("wait", "first").strip() == "75"

        image.start("second", data, *command)
        assert image.podman("wait", "second").strip() == "0"
        received = await sandbox.ask("ledger")

    letters = data / "dead-letters.ndjson"
    assert json.loads(letters.read_text())["raw"] == "no job"
    assert (letters.stat().st_uid, letters.stat().st_mode & 0o777) == (10001, 0o600)
    assert (received["unique"], received["duplicates"]) == (JOBS, 0)
