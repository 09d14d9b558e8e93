"""The lab as people use it: a real JupyterLab in a real browser."""

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import nbformat
import psutil
import pytest
from playwright.sync_api import Locator
from support import jupyter_page
from support.jupyter_page import CHROMIUM, NotebookPage, blank_page, jupyter_lab, open_notebook
from support.kafka_lab import read_jsonl, wait_until

from houses.config.config import PROJECT_ROOT
from houses.kafka.local import server as local_kafka
from houses.kafka.local.probe import free_port

pytestmark = pytest.mark.system

MAKE = "import houses\nexp = houses.Experiment('browser', rate_hz=200)"
SHOW = "houses.panel(exp)"
BUSY = "with exp.running():\n    while exp.rate_hz('foundation') != 777:\n        pass"
SECOND = "second = houses.panel(exp)\nlooks, look = [], second._chart._look\nsecond._chart._look = lambda ms: looks.append(ms) or look(ms)\nsecond"
COUNT = "print('looks:', len(looks))"
SHORT = "[0.05, 5.44, 9.97, 99.4, 99.6, 12345.6]"
EVIL = "<img src=x onerror=document.title='hacked'>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What JupyterLab serves: a copy of the notebooks, and one of the test's own."""
    made = tmp_path_factory.mktemp("lab")
    shutil.copytree(PROJECT_ROOT / "notebooks", made / "notebooks")
    cells = [MAKE, SHOW, BUSY, SECOND, COUNT]
    notebook = nbformat.v4.new_notebook(  # type: ignore[no-untyped-call]
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells],  # type: ignore[no-untyped-call]
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}},
    )
    nbformat.write(notebook, made / "panel.ipynb")  # type: ignore[no-untyped-call]
    return made


@pytest.fixture(scope="module")
def lab(folder: Path, kafka: str) -> Iterator[str]:
    """A JupyterLab whose kernels use the run's Kafka and write below `folder`."""
    environment = {"HOUSES_KAFKA__BOOTSTRAP_SERVERS": kafka, "HOUSES_RUN_DIR": str(folder / "runs")}
    with jupyter_lab(folder, environment) as address:
        yield address


@pytest.fixture
def panel_page(lab: str) -> Iterator[NotebookPage]:
    """The test's own notebook with its panel shown."""
    with open_notebook(lab, "panel.ipynb", (1400, 1800)) as page:
        show_panel(page)
        yield page
        assert page.errors == []


def show_panel(page: NotebookPage) -> None:
    """Run the cells that make the experiment and its panel."""
    page.run_cell("houses.Experiment(")
    page.await_cells()  # so that its own error is shown, not that there is no panel
    page.run_cell("houses.panel(exp)")
    page.await_cells()
    page.await_frames(1)


def set_rate(page: NotebookPage, rate_hz: str) -> Locator:
    """Type a rate for the foundation into the first panel; returns the boxes with a number of all panels."""
    boxes = page.page.locator(".widget-text input[type=number]")
    boxes.nth(0).fill(rate_hz)
    boxes.nth(0).press("Enter")
    return boxes


def test_there_is_a_browser() -> None:
    """Debian's package chromium; the tests below would say so less clearly."""
    assert Path(CHROMIUM).exists()


def test_numbers_of_the_chart_are_as_people_write_them() -> None:
    """Two digits below ten, whole above."""
    with blank_page() as page:
        load = "source => import(URL.createObjectURL(new Blob([source], { type: 'text/javascript' })))"
        source = f"{(PROJECT_ROOT / 'houses' / 'lab' / 'widgets' / 'chart.js').read_text(encoding='utf-8')}\nexport {{ short }};"
        shown = page.evaluate(f"async source => {SHORT}.map((await ({load})(source)).short)", source)
    assert shown == ["0.050", "5.4", "10", "99", "100", "12,346"]


@pytest.mark.parametrize("ending", ["close", "hang"])
def test_a_page_that_cannot_be_looked_at_hides_no_failure(ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thing that it would show says why it is missing; what the console said is known."""
    monkeypatch.setattr(jupyter_page, "_LOOK_S", 0.5)
    with blank_page() as page:
        if ending == "close":
            page.close()
        else:
            page.evaluate("() => { setTimeout(() => { while (true); }); }")
        seen = dict(line.split(": ", 1) for line in NotebookPage(page, ["oh"]).shows().splitlines())
    assert list(seen) == ["console", "prompts", "outputs", "dialogs", "messages", "picture"]
    assert all(("closed" if ending == "close" else "exceeded") in seen[name] for name in ("prompts", "picture"))
    assert seen["console"] == "['oh']"


def test_a_server_that_does_not_answer_hides_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the kernel of a page is to be ended; neither does one that has gone."""
    monkeypatch.setattr(jupyter_page, "_END_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        jupyter_page._end_kernel(address, "a.ipynb")
    jupyter_page._end_kernel(address, "a.ipynb")


def test_the_panel_starts_follows_a_dragged_slider_cancels_and_stops(panel_page: NotebookPage, folder: Path) -> None:
    """With the mouse, in both themes."""
    page, run = panel_page, folder / "runs" / "browser"
    page.button("Start").click()
    page.await_row("experiment", "^running$")
    page.drag_slider(0, 0.1)
    page.await_row("wall", r"\(([3-6]\d\d)/s\)")
    page.page.get_by_placeholder("a recent one").fill("1000000")
    page.page.get_by_placeholder("a recent one").press("Enter")
    page.button("Storno").click()
    page.page.get_by_placeholder("a recent one").fill("")
    page.page.get_by_placeholder("a recent one").press("Enter")
    page.button("Storno").click()
    wait_until(lambda: bool(read_jsonl(run / "storno_houses.jsonl")), "the line of a storno")
    page.button("Stop").click()
    page.await_row("experiment", "^not running$")
    assert page.error() == "" and page.row("lag") == "0 messages"
    stornos = read_jsonl(run / "storno_houses.jsonl")
    assert len(stornos) == 1 and stornos[0]["storno"] == "full"
    assert json.loads((run / "summary.json").read_bytes())["counts"]["houses"] > 0


def test_the_panel_fits_a_window_of_1280_pixels_and_its_sliders_can_be_aimed_at(lab: str) -> None:
    """Beside the file browser."""
    with open_notebook(lab, "panel.ipynb", (1280, 1000)) as page:
        show_panel(page)
        for row in page.page.locator(".houses-panel, .houses-panel .widget-gridbox, .houses-panel .widget-label").all():
            assert row.evaluate("row => row.scrollWidth <= row.clientWidth"), row.inner_text()
        for slider in page.page.locator(".houses-panel .noUi-base").all():
            assert slider.evaluate("slider => slider.clientWidth") >= 180


def test_the_notebook_of_rates_runs_and_its_panel_can_be_used_in_both_themes(lab: str, folder: Path) -> None:
    """All cells, then the panel's cell again, as its text says; pictures of it are left in the folder of the run."""
    run = folder / "runs" / "02_rates"
    with open_notebook(lab, "notebooks/02_rates.ipynb", (1400, 1300)) as page:
        page.run_all()
        page.await_cells(600)
        page.await_frames(1)  # as whoever reads the text: the panel is there, and says that it is closed
        page.run_cell("houses.panel(exp)")
        page.await_cells()
        page.live().scroll_into_view_if_needed()
        page.await_row("experiment", "^not running$")
        page.button("Start").click()
        page.await_row("experiment", "^running$")
        page.await_row("houses", r"\d,\d{3}")
        page.drag_slider(2, 0.1)
        page.await_row("wall", r"\(([3-6]\d\d)/s\)")
        page.button("Storno").click()
        wait_until(lambda: bool(read_jsonl(run / "storno_houses.jsonl")), "the line of a storno")
        page.page.wait_for_timeout(
            5000
        )  # so that the pictures show something; JupyterLab's boxes would be there by then
        assert page.page.get_by_text("Would you like to get notified").count() == 0
        page.live().locator(".houses-counters").scroll_into_view_if_needed()
        for theme in ("JupyterLab Dark", "JupyterLab Light"):
            page.set_theme(theme)
            page.page.wait_for_timeout(500)
            page.screenshot(folder / f"{theme.replace(' ', '-')}.png")
            assert page.frames() > 0
        page.button("Stop").click()
        page.await_row("experiment", "^not running$")
        assert page.error() == "" and page.errors == []


def test_frames_come_beside_a_busy_cell(panel_page: NotebookPage) -> None:
    """Nothing that the cell does holds them up, or what is typed, which ends it here; the benchmark counts them a second."""
    page = panel_page
    page.run_cell("exp.running()")
    page.await_row("experiment", "^running$")
    page.await_frames(10)
    assert page.code_cell("exp.running()").locator(".jp-InputPrompt").inner_text().strip() == "[*]:"
    set_rate(page, "777")
    page.await_cells()


def test_two_panels_show_the_same_and_a_deleted_one_asks_no_more(panel_page: NotebookPage) -> None:
    """What one sets, the other shows; so do two views of one panel."""
    page = panel_page
    page.run_cell("second = ")
    page.await_cells()
    page.live(1).wait_for()
    each = set_rate(page, "777").count() // 2
    page.page.wait_for_function(
        "at => document.querySelectorAll('.widget-text input[type=number]')[at].value === '777'", arg=each
    )
    page.live().click(button="right")
    page.page.get_by_role("menuitem", name="Create New View for Cell Output").click()
    page.live(2).wait_for()
    for number in range(3):
        page.await_frames(1, number)
    page.code_cell("second = ").locator(".jp-InputPrompt").click()
    page.menu("Edit", "Clear Cell Output")
    # A question on its way may still be answered.
    wait_until(lambda: page.counted("looks") == page.counted("looks") > 0, "the second panel asks no more")


def test_what_is_typed_reaches_the_page_as_text(panel_page: NotebookPage) -> None:
    """In the error line too."""
    page = panel_page
    page.button("Start").click()
    page.await_row("experiment", "^running$")
    page.page.get_by_placeholder("a recent one").fill(EVIL)
    page.page.get_by_placeholder("a recent one").press("Enter")
    page.button("Storno").click()
    page.page.locator(".houses-error", has_text="<img src=x").wait_for()
    assert page.page.title() != "hacked" and page.live().locator("img").count() == 0
    page.button("Stop").click()
    page.await_row("experiment", "^not running$")


def test_after_a_kernel_restart_the_panel_says_so_and_the_experiment_can_be_taken_up(panel_page: NotebookPage) -> None:
    """A dead panel does not look alive."""
    page = panel_page
    page.restart_kernel()
    page.page.locator(".houses-error", has_text="again from its top").wait_for()
    assert "houses-stale" in (page.live().get_attribute("class") or "")
    for row in page.page.locator(".houses-panel .widget-gridbox, .houses-panel .widget-hbox").all():
        assert row.evaluate("row => getComputedStyle(row).pointerEvents") == "none"
    page.await_kernel()
    show_panel(page)
    page.await_row("experiment", "^not running$")


def test_a_broker_that_dies_and_comes_back_is_seen(folder: Path, tmp_path: Path) -> None:
    """The panel says so, and goes on by itself."""
    data_dir, address = tmp_path / "kafka", f"127.0.0.1:{free_port()}"
    local_kafka.start(data_dir, address)
    environment = {"HOUSES_KAFKA__BOOTSTRAP_SERVERS": address, "HOUSES_RUN_DIR": str(folder / "outage")}
    try:
        with jupyter_lab(folder, environment) as lab, open_notebook(lab, "panel.ipynb") as page:
            show_panel(page)
            page.button("Start").click()
            page.await_row("houses", "^[1-9]")
            psutil.Process(local_kafka.status(data_dir).pid).kill()
            page.await_row("Kafka", "^does not answer$")
            assert page.error() != ""
            local_kafka.start(data_dir, address)
            page.await_row("Kafka", "^answers$")
            page.button("Stop").click()
            page.await_row("experiment", "^not running$")
            assert page.error() == "" and page.row("lag") == "0 messages"
            assert page.errors == []
    finally:
        local_kafka.stop(data_dir)
