"""The long run of injected faults, by a kit that is no part of this project."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = (
    "{python} -m astropile.cli.main get {{url}} {{dest}} --sha256 {{sha256}} --size {{size}} "
    "--blocks {{blocks}} --timeout 5 --give-up 15"
)


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_every_server_fault(tmp_path):
    """Every line of the kit's faults of servers, disks and processes is passed."""
    kit = os.environ.get("ASTROPILE_FAULT_KIT", "")
    script = Path(kit) / "acceptance_http.py"
    if not kit or not script.is_file():
        pytest.skip("ASTROPILE_FAULT_KIT does not name a folder with acceptance_http.py")
    done = subprocess.run(
        [sys.executable, str(script), "--cmd", COMMAND.format(python=sys.executable)],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    assert lines[-1] == "ALL PASS 0"
    assert len([line for line in lines if re.match(r"ok   ", line)]) == len(lines) - 1 == 34
