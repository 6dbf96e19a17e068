"""A criu with file capabilities, for an ordinary user: what an admin's one command gives. Root sets it up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from snakemake_executor_plugin_ckpt.engines.criu.locate import locate

pytestmark = [pytest.mark.root, pytest.mark.criu]

_NOBODY = 65534

#: Runs as the ordinary user: a Pool, which rootless CRIU cannot save, over two images.
_ROUND_TRIP = """
import os, select, sys, time
from pathlib import Path
from snakemake_executor_plugin_ckpt.engines.base import Payload, find_engine, load_engine

folder, criu = Path(sys.argv[1]), sys.argv[2]
engine = load_engine(find_engine("criu"), {"criu": criu, "criu-way": "capabilities"})
log = folder / "log"
payload = Payload([sys.executable, str(folder / "pool.py")], str(folder), str(log), dict(os.environ))
running = engine.launch(payload)
while not log.exists() or "started" not in log.read_text():
    time.sleep(0.05)
for number in range(2):
    image = folder / f"image{number}"
    image.mkdir()
    engine.save(running, image, lambda: None, stop=True, limit=60)
    running.kill()
    running = engine.restore(image, payload, 60)
    time.sleep(0.3)
while running.poll() is None:
    select.select([running.fileno()], [], [], 60)
print(running.poll(), os.getuid())
running.kill()
engine.close()
"""

_POOL = """
import multiprocessing, sys, time

def square(x):
    time.sleep(0.02)
    return x * x

if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        print("started", flush=True)
        print(sum(pool.imap(square, range(150))), flush=True)
    sys.exit(5)
"""


@pytest.fixture
def ordinary_folder(tmp_path: Path) -> tuple[Path, int]:
    """A folder of an ordinary user who can run this interpreter, and the user's number."""
    if shutil.which("setcap", path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None:
        pytest.skip("setcap is missing (apt-get install libcap2-bin)")
    user = Path(sys.prefix).stat().st_uid or _NOBODY
    for parent in tmp_path.parents:
        if parent != Path(parent.root) and parent.stat().st_uid == 0 and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o011)
    os.chown(tmp_path, user, user)
    return tmp_path, user


def test_a_pool_of_processes_is_saved_by_an_ordinary_user_with_a_capable_criu(
    ordinary_folder: tuple[Path, int],
) -> None:
    folder, user = ordinary_folder
    criu = folder / "criu"
    shutil.copyfile(locate({})[0], criu)
    criu.chmod(0o755)
    # cap_setpcap too, because a container's bounding set may lack some capability that criu then drops by itself.
    command = ["setcap", "cap_checkpoint_restore,cap_setpcap+eip", str(criu)]
    subprocess.run(command, check=True, env={"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"})
    (folder / "pool.py").write_text(_POOL)
    (folder / "trip.py").write_text(_ROUND_TRIP)
    done = subprocess.run(
        [sys.executable, str(folder / "trip.py"), str(folder), str(criu)],
        user=user,
        group=user,
        extra_groups=[],
        env={**os.environ, "HOME": str(folder), "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stdout.split(), done.stderr) == (["5", str(user)], "")
    assert (folder / "log").read_text() == f"started\n{sum(x * x for x in range(150))}\n"
