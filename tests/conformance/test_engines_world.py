"""What a payload sees of the world, before and after a restore."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.engines import Trial, variants
from helpers.waiting import wait_for, wait_for_text

SAVING = pytest.mark.parametrize("variant", variants(saving=True))
UNTIL = "until [ -e {} ]; do sleep 0.02; done; "


def through_a_save(trial: Trial, variant: str, script: str, **environment: str) -> str:
    """Run a shell function `look` before and after a restore; what it said the second time, which must be the same."""
    engine = trial.engine(variant)
    payload = trial.shell(f"{script}\nlook; echo saved; {UNTIL.format('go')} look; echo done", **environment)
    running = trial.launch(engine, payload)
    trial.wait_said("saved\n")
    running = trial.cycle(engine, running, payload)
    (trial.folder / "go").touch()
    assert trial.wait(running) == 0, trial.said()
    before, _, after = trial.said().removesuffix("done\n").partition("saved\n")
    assert before == after
    return after


@SAVING
def test_the_user_his_group_and_his_limits_stay(trial: Trial, variant: str) -> None:
    script = "look() { id -u; id -g; umask; ulimit -n; nice; pwd; echo $$; }; umask 027"
    lines = through_a_save(trial, variant, script).splitlines()
    assert lines[:3] == [str(os.getuid()), str(os.getgid()), "0027"]
    assert lines[5] == str(trial.folder)


@SAVING
def test_no_rights_are_left_over_from_the_private_world(trial: Trial, variant: str) -> None:
    if os.getuid() == 0:
        return  # root has them anyway
    script = (
        "look() { grep -E '^Cap(Prm|Eff|Inh|Amb)' /proc/self/status\n"
        "cat /etc/shadow >/dev/null 2>&1 && echo reads; chown 0 . 2>/dev/null && echo gives; true; }"
    )
    lines = through_a_save(trial, variant, script).splitlines()
    assert [line.split()[1] for line in lines] == ["0" * 16] * 4


GROUPS = """
import ctypes, os, shutil, sys
sys.path[:0] = {path!r}
from pathlib import Path
from helpers.engines import Trial
from snakemake_executor_plugin_ckpt.engines.criu import CriuEngine, locate
criu = shutil.copy(locate.locate({{}})[0], {folder!r})  # the checkout may be closed to others
os.setgroups([{group}]); os.setgid({gid}); os.setuid({uid})
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: /proc/self is the new user's again
with Trial(Path({folder!r})) as trial:
    engine = trial.engine("criu-rootless", criu=criu)
    script = "look() {{ cat shared; }}; look; echo saved; until [ -e go ]; do sleep 0.02; done; look; echo x >> shared"
    payload = trial.shell(script)
    running = trial.launch(engine, payload)
    trial.wait_said("saved")
    running = trial.cycle(engine, running, payload)
    (trial.folder / "go").touch()
    status = trial.wait(running)
sys.exit(status)
"""


@pytest.mark.root
@pytest.mark.criu
def test_files_of_a_supplementary_group_can_be_read_and_written(tmp_path: Path) -> None:
    """Only root can give somebody a group for trial."""
    uid = gid = 65534
    group = 54321
    folder = Path("/tmp", f"ckpt-groups-{os.getpid()}")
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    try:
        shared = folder / "shared"
        shared.write_text("of the group\n")
        os.chown(shared, 0, group)
        shared.chmod(0o660)
        code = GROUPS.format(path=sys.path, group=group, gid=gid, uid=uid, folder=str(folder))
        done = subprocess.run([sys.executable, "-c", code], timeout=100, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert (folder / "payload.log").read_text() == "of the group\nsaved\nof the group\n"
        assert shared.read_text() == "of the group\nx\n"
    finally:
        subprocess.run(["rm", "-rf", str(folder)], check=True)
    assert tmp_path


@pytest.mark.criu
def test_files_of_ones_own_groups_can_be_used(trial: Trial) -> None:
    others = [group for group in os.getgroups() if group != os.getgid()]
    shared = trial.folder / "shared"
    shared.write_text("of the group\n")
    if others:
        os.chown(shared, -1, others[0])
    shared.chmod(0o660)
    assert through_a_save(trial, "criu-rootless", "look() { cat shared; }") == "of the group\n"


@SAVING
def test_shared_memory_files_are_the_payloads_own_and_survive(trial: Trial, variant: str) -> None:
    ours = Path(f"/dev/shm/{trial.marker}")
    ours.write_text("of the node")
    try:
        script = (
            "mkdir -p /dev/shm/d; printf data > /dev/shm/d/f; chmod 640 /dev/shm/d/f; ln -sf d/f /dev/shm/l\n"
            "look() { ls -A /dev/shm; cat /dev/shm/l; stat -c '%a %u' /dev/shm/d/f; }"
        )
        said = through_a_save(trial, variant, script)
        assert said == f"d\nl\ndata640 {os.getuid()}\n"
    finally:
        ours.unlink()
    assert not Path("/dev/shm/d").exists()


@SAVING
def test_an_open_shared_memory_file_survives(trial: Trial, variant: str) -> None:
    engine = trial.engine(variant)
    code = (
        "import mmap, os, time\nf = open('/dev/shm/mine', 'w+b'); f.write(b'x' * 10000); f.flush()\n"
        "m = mmap.mmap(f.fileno(), 10000); m[:5] = b'hello'\nprint('up')\n"
        "while not os.path.exists('go'): time.sleep(0.02)\n"
        "m[5:10] = b'world'\nprint(open('/dev/shm/mine', 'rb').read(11), len(m))"
    )
    payload = trial.python(code)
    running = trial.launch(engine, payload)
    trial.wait_said("up")
    running = trial.cycle(engine, running, payload)
    (trial.folder / "go").touch()
    assert trial.wait(running) == 0, trial.said()
    assert trial.said() == "up\nb'helloworldx' 10000\n"


PTY = """
import os, pty, time
parent, child = pty.openpty()
pid = os.fork()
if pid == 0:
    os.setsid()
    os.close(parent)
    assert os.isatty(child)
    os.write(child, b"from the child\\n")
    while not os.path.exists("go"): time.sleep(0.02)
    os.write(child, b"again\\n")
    os._exit(5)
print(os.read(parent, 100))
print("up")
print(os.read(parent, 100), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@SAVING
def test_pseudo_terminals_work_and_survive(trial: Trial, variant: str) -> None:
    engine = trial.engine(variant)
    payload = trial.python(PTY)
    running = trial.launch(engine, payload)
    trial.wait_said("up")
    running = trial.cycle(engine, running, payload)
    (trial.folder / "go").touch()
    assert trial.wait(running) == 0, trial.said()
    assert trial.said() == "b'from the child\\r\\n'\nup\nb'again\\r\\n' 5\n"


@SAVING
def test_temporary_files_are_where_tmpdir_says(trial: Trial, variant: str) -> None:
    (trial.folder / "tmp").mkdir()
    script = 'f=$(mktemp); echo text > "$f"; look() { cat "$f"; dirname "$f"; }'
    said = through_a_save(trial, variant, script, TMPDIR=str(trial.folder / "tmp"))
    assert said == f"text\n{trial.folder}/tmp\n"


CLOCKS = """
import os, time
def clocks():
    return [time.clock_gettime(c) for c in (time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME, time.CLOCK_REALTIME)]
seen = [clocks()]
last = 0.0
while not os.path.exists("stop"):
    time.sleep(0.01)
    now = clocks()
    assert now[0] >= seen[-1][0] and now[1] >= seen[-1][1], "back"
    seen.append(now)
    if len(seen) % 10 == 0: print(len(seen))
for kind in (0, 1):
    steps = [b[kind] - a[kind] for a, b in zip(seen, seen[1:])]
    real = [b[2] - a[2] for a, b in zip(seen, seen[1:])]
    print("excess", max(s - max(r, 0.0) for s, r in zip(steps, real)), max(steps))
"""


@SAVING
def test_monotonic_clocks_go_on_and_jump_no_farther_than_the_pause(trial: Trial, variant: str) -> None:
    engine = trial.engine(variant)
    payload = trial.python(CLOCKS)
    running = trial.launch(engine, payload)
    for generation in range(3):
        size = len(trial.said())
        wait_for_text(trial.log, f"{(size // 100 + generation + 1)}")
        folder, _ = trial.save(engine, running)
        running = trial.restore(engine, folder, payload)
    (trial.folder / "stop").touch()
    assert trial.wait(running) == 0, trial.said()
    for line in trial.said().splitlines()[-2:]:
        word, excess, _ = line.split()
        assert word == "excess"
        assert float(excess) < 0.05


@pytest.mark.criu
@pytest.mark.parametrize("shift", [100_000.25, 0.75])
def test_a_sleep_ends_on_a_node_with_another_uptime(trial: Trial, shift: float) -> None:
    """Between two restores the payload's clocks differ from the node's, as on a node of another uptime."""
    engine = trial.engine("criu-rootless")
    code = "import time\nwhile True:\n t = time.monotonic()\n time.sleep(0.5)\n print(0.4 < time.monotonic() - t < 5)"
    payload = trial.python(code)
    first = trial.launch(engine, payload)
    trial.wait_said("True\n")
    folder, _ = trial.save(engine, first)
    clocks = json.loads((folder / "clocks.json").read_text())
    # The same image as a node with `shift` more uptime would have made it: a sleep that is under way ends early.
    moved = {name: value + shift for name, value in clocks.items()}
    (folder / "clocks.json").write_text(json.dumps(moved))
    running = trial.restore(engine, folder, payload)
    size = trial.log.stat().st_size
    wait_for(lambda: trial.log.stat().st_size > size + 10, "more rounds")
    inside = running.pids()[0]
    offsets = dict(line.split()[:2] for line in Path(f"/proc/{inside}/timens_offsets").read_text().splitlines())
    assert abs(int(offsets["monotonic"]) - shift) < 60
    folder, _ = trial.save(engine, running)
    again = json.loads((folder / "clocks.json").read_text())
    assert 0 < again["monotonic"] - moved["monotonic"] < 60
    running = trial.restore(engine, folder, payload)
    size = trial.log.stat().st_size
    wait_for(lambda: trial.log.stat().st_size > size + 10, "more rounds")
    trial.end(running)


@SAVING
def test_stdout_is_one_file_in_order_through_all_saves(trial: Trial, variant: str) -> None:
    engine = trial.engine(variant)
    script = "n=0; while [ ! -e stop ]; do n=$((n+1)); echo $n; sleep 0.002; done; echo end $n"
    payload = trial.shell(script)
    running = trial.launch(engine, payload)
    for count in (1, 2, 3):
        trial.wait_said(f"\n{count * 5}\n")
        running = trial.cycle(engine, running, payload)
    (trial.folder / "stop").touch()
    assert trial.wait(running) == 0
    lines = trial.said().splitlines()
    assert lines == [str(n) for n in range(1, len(lines))] + [f"end {len(lines) - 1}"]
