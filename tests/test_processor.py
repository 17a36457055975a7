import subprocess
import sys

from gibbsian.processor import core_seconds

WORK = "sum(k * k for k in range(3_000_000))"


def test_own_work_and_that_of_children_counts():
    begin = core_seconds()
    exec(WORK)
    own = core_seconds()
    subprocess.run([sys.executable, "-c", WORK], check=True)
    assert own > begin
    assert core_seconds() > own + 0.05
