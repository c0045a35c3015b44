from __future__ import annotations

import sys

import pytest

from umbel_cli.commands.worker import _restart


def start(umbel, app, *args):
    return umbel("-A", app, "worker", "--pool", "solo", "--burst", *args)


def test_banner_tells_app_broker_pool_and_queues(umbel, tasks):
    shown = start(umbel, tasks, "-n", "here@%h", "-Q", "a,b").stdout

    assert shown.startswith("here@")
    for line in ("tasks (tasks:app)", "sqlite://", "solo, in this process", "a, b"):
        assert line in shown


def test_tasks_are_listed_at_level_info(umbel, tasks):
    assert "    tasks.add\n" in start(umbel, tasks, "-l", "info").stdout
    assert "    tasks.add\n" not in start(umbel, tasks).stdout


def test_quiet_worker_has_no_banner(umbel, tasks):
    assert start(umbel, tasks, "--quiet").stdout == ""


def test_password_of_the_broker_is_masked(umbel, write):
    write(
        "proj.py",
        "from umbel import Umbel\napp = Umbel('x', broker='memory://u:hunter2@h/', "
        "backend='memory://')\n",
    )

    ended = start(umbel, "proj")

    assert "memory://u:" in ended.stdout
    assert "hunter2" not in ended.stdout + ended.stderr


def test_several_processes_run_tasks(umbel, tasks):
    ids = [umbel("-A", tasks, "call", "tasks.add", str(x), "1").stdout.strip() for x in range(3)]

    ended = umbel("-A", tasks, "worker", "-c", "2", "--burst", "-q")

    assert ended.code == 0, ended.stderr
    assert [umbel("-A", tasks, "result", each).stdout for each in ids] == ["1\n", "2\n", "3\n"]


def test_order_of_queues_reaches_the_processes(umbel, write):
    write(
        "proj.py",
        """\
from umbel import Umbel

app = Umbel("x")


@app.task
def tell() -> str:
    return app.conf.worker_queue_order
""",
    )
    task_id = umbel("-A", "proj", "call", "proj.tell").stdout.strip()
    ended = umbel("-A", "proj", "worker", "-c", "1", "--burst", "-q", "--queue-order", "strict")

    assert ended.code == 0, ended.stderr
    assert umbel("-A", "proj", "result", task_id).stdout == "strict\n"


def test_options_reach_the_child_processes(umbel, tasks):
    url = "sqlite:///elsewhere.db"
    urls = ("-b", url, "--result-backend", url)
    task_id = umbel("-A", tasks, *urls, "call", "tasks.add", "2", "3").stdout.strip()

    ended = umbel("-A", tasks, "worker", "-c", "1", "--burst", "-q", *urls)

    assert ended.code == 0, ended.stderr
    assert umbel("-A", tasks, *urls, "result", task_id).stdout == "5\n"


def test_the_number_of_processes_may_follow_the_load(umbel, tasks):
    task_id = umbel("-A", tasks, "call", "tasks.add", "2", "3").stdout.strip()

    bounds = ("--autoscale", "3,1", "--max-memory-per-child", "4000000")
    ended = umbel("-A", tasks, "worker", "--burst", *bounds)

    assert ended.code == 0, ended.stderr
    assert "process, 1 to 3 processes" in ended.stdout
    assert umbel("-A", tasks, "result", task_id).stdout == "5\n"


def test_config_module_reaches_the_child_processes(umbel, tasks, write):
    write("conf.py", "broker_url = result_backend = 'sqlite:///elsewhere.db'\n")
    task_id = umbel("-A", tasks, "--config", "conf", "call", "tasks.add", "2", "3").stdout.strip()

    ended = umbel("-A", tasks, "--config", "conf", "worker", "-c", "1", "--burst", "-q")

    assert ended.code == 0, ended.stderr
    assert umbel("-A", tasks, "--config", "conf", "result", task_id).stdout == "5\n"


def test_modules_included_are_imported_in_the_child_processes(umbel, tasks, write):
    write("more.py", "from tasks import app\n\n@app.task\ndef three():\n    return 3\n")
    task_id = umbel("call", "more.three").stdout.strip()

    ended = umbel("-A", tasks, "worker", "-c", "1", "--burst", "-q", "-I", "more")

    assert ended.code == 0, ended.stderr
    assert umbel("-A", tasks, "result", task_id).stdout == "3\n"


@pytest.mark.parametrize("pool", ["solo", "process"])
def test_fault_in_a_module_with_tasks_is_one_line(umbel, write, pool):
    write("proj.py", "from umbel import Umbel\napp = Umbel('p', include=['proj_tasks'])\n")
    write("proj_tasks.py", "from proj import app\n\n@app.task(quue='x')\ndef f(): ...\n")

    ended = umbel("-A", "proj", "worker", "--burst", "--pool", pool)

    assert ended.code == 3
    assert ended.stderr.startswith("Error: can't load app 'proj:app': proj_tasks.py line 3: ")
    assert "did you mean 'queue'?" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_check_tells_whether_a_worker_could_start_and_starts_none(umbel, tasks):
    task_id = umbel("-A", tasks, "call", "tasks.add", "2", "3").stdout.strip()

    ended = umbel("-A", tasks, "worker", "--burst", "--purge", "--check")

    assert (ended.code, ended.stdout, ended.stderr) == (0, "", "")
    assert umbel("queues", "peek", "celery", "--json").json[0]["id"] == task_id


def test_check_says_what_is_wrong(umbel, write):
    write("proj.py", "from umbel import Umbel\napp = Umbel('p', broker='sqlite://')\n1 / 0\n")

    ended = umbel("-A", "proj", "worker", "--check")

    assert ended.code == 3
    assert "division by zero" in ended.stderr


def test_a_worker_is_started_again_as_it_was_but_purges_nothing_again(monkeypatch):
    line = ["python", "-X", "dev", "-m", "umbel", "-A", "tasks", "worker", "--purge", "--yes"]
    monkeypatch.setattr(sys, "orig_argv", line)

    restart = _restart()

    assert restart.command == [sys.executable, *line[1:-2], "--yes"]
    assert restart.check == [*restart.command, "--check"]


def test_purge_empties_the_queues_first(umbel, tasks):
    task_id = umbel("-A", tasks, "call", "tasks.add", "2", "3").stdout.strip()

    start(umbel, tasks, "--purge", "--yes")

    assert umbel("-A", tasks, "result", task_id).code == 75


def test_purge_without_a_yes_starts_nothing(umbel, tasks):
    task_id = umbel("-A", tasks, "call", "tasks.add", "2", "3").stdout.strip()

    assert start(umbel, tasks, "--purge").code == 1
    assert umbel("-A", tasks, "queues", "peek", "celery", "--json").json[0]["id"] == task_id


@pytest.mark.parametrize(
    "args, code, hint",
    [
        (("--pool", "thread"), 4, "did you mean 'threads'?"),
        (("--pool", "solo", "-c", "4"), 4, "one task at a time"),
        (("--loglevel", "loud"), 2, "loud"),
        (("-c", "0"), 2, "--concurrency"),
        (("--autoscale", "3,10"), 4, "such as 10,3"),
        (("--autoscale", "10,3", "--pool", "solo"), 4, "no processes whose number"),
        (("--max-memory-per-child", "0"), 2, "--max-memory-per-child"),
        (("-X", "celery"), 4, "no queue is left"),
        (("--broker", "sqs://"), 4, "umbel[sqs]"),
    ],
)
def test_worker_that_cannot_start_says_why_on_one_line(invoke, tasks, args, code, hint):
    result = invoke("-A", tasks, "worker", "--burst", *args)

    assert result.exit_code == code
    assert hint in result.stderr
    assert "Traceback" not in result.stderr


def test_python_m_umbel_is_the_command(umbel):
    ended = umbel("worker", "--help")

    assert ended.code == 0
    assert "Usage: umbel worker" in ended.stdout
