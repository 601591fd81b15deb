"""The report, opened in Chromium: what a person sees, points at and filters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from orchestrator.archive import front
from orchestrator.report.columns import Found
from orchestrator.report.page import Texts, report_html
from tests.orchestrator.report.conftest import MESSAGE, failed
from tests.orchestrator.report.test_columns import toy_found

TEXTS = Texts({"seeks": "high mIoU"}, "study: night\n", ("archipelago export night {candidate} --out {file}.onnx",))
LONGEST_LOAD_MS = 120_000
"""Enough for a machine that does much else."""


class Open(Protocol):
    def __call__(self, found: Found, texts: Texts = TEXTS) -> WebDriver: ...


@pytest.fixture
def open_report(chromium: WebDriver, tmp_path: Path) -> Open:
    """A function that opens a study's report and waits for its first figure."""

    def opened(found: Found, texts: Texts = TEXTS) -> WebDriver:
        page = tmp_path / "report.html"
        page.write_text(report_html(found, texts), encoding="utf-8")
        chromium.get(f"file://{page}")
        assert chromium.execute_script("return document.documentElement.dataset.readyMs")
        return chromium

    return opened


def shown_figure(page: WebDriver, name: str) -> WebElement:
    """A figure that has been scrolled to and drawn."""
    figure = page.find_element(By.ID, f"figure-{name}")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", figure)
    drawn = "js-plotly-plot"
    WebDriverWait(page, 60).until(lambda _: drawn in (figure.get_attribute("class") or ""))
    return figure


def points(figure: WebElement) -> int:
    return len(figure.find_elements(By.CSS_SELECTOR, ".scatterlayer .points path"))


def page_width(page: WebDriver) -> int:
    return int(page.execute_script("return document.documentElement.scrollWidth"))


def severe(page: WebDriver) -> list[str]:
    """What the browser has complained of since this was asked last."""
    return [entry["message"] for entry in page.get_log("browser") if entry["level"] == "SEVERE"]


def test_two_thousand_four_hundred_candidates_open_quickly(
    large_study: Found, open_report: Open, record_property: Callable[[str, object], None]
) -> None:
    page = open_report(large_study)
    ready_ms = float(page.execute_script("return document.documentElement.dataset.readyMs"))
    record_property("ready_ms", ready_ms)
    print(f"the first figure of 2,400 candidates is there after {ready_ms:.0f} ms")
    assert ready_ms < LONGEST_LOAD_MS
    assert "2,400 candidates of 3 islands" in page.find_element(By.CLASS_NAME, "lead").text
    assert points(page.find_element(By.ID, "figure-candidates")) > 2376  # the chosen one and the fronts' legend too
    assert page.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert severe(page) == []


def test_every_figure_is_drawn_without_a_complaint(small_study: Found, open_report: Open) -> None:
    page = open_report(small_study)
    for name in ("candidates", "evolution", "hypervolume", "properties", "operators", "time"):
        assert shown_figure(page, name).size["height"] > 100
    for width in (700, 1400):
        page.set_window_size(width, 900)
        WebDriverWait(page, 30).until(lambda _, width=width: page_width(page) <= width)
    assert severe(page) == []


def test_a_point_under_the_pointer_says_what_it_is(small_study: Found, open_report: Open) -> None:
    page = open_report(small_study)
    figure = shown_figure(page, "candidates")
    best = front(small_study.objectives, small_study.events["branches-3"])[0]
    wanted = f"branches-3/{best.candidate.number}"
    traces = [
        of.find_elements(By.TAG_NAME, "path") for of in figure.find_elements(By.CSS_SELECTOR, ".scatterlayer .points")
    ]
    ring, of_front = traces[-1], next(of for of in reversed(traces[:-1]) if of)
    assert len(ring) == 1
    ActionChains(page).move_to_element(min(of_front, key=lambda point: point.location["y"])).perform()
    hover = WebDriverWait(page, 30).until(lambda _: figure.find_element(By.CSS_SELECTOR, ".hoverlayer .hovertext"))
    assert wanted in hover.text
    assert f"mIoU {best.result.metrics['miou']:.4f}" in hover.text  # type: ignore[union-attr]
    assert "1/8 " in hover.text
    ActionChains(page).click().perform()
    chosen = page.find_element(By.ID, "chosen")
    WebDriverWait(page, 30).until(lambda _: wanted in chosen.text)
    assert chosen.find_elements(By.CSS_SELECTOR, "svg.arch")
    assert f"export night {wanted} --out branches-3-{best.candidate.number}.onnx" in (
        page.find_element(By.ID, "commands").text
    )


def test_filters_leave_what_they_say(small_study: Found, open_report: Open) -> None:
    page = open_report(small_study)
    figure, shown = page.find_element(By.ID, "figure-candidates"), page.find_element(By.ID, "shown")
    everything = points(figure)
    assert shown.text.startswith("357 shown")
    page.find_element(By.CSS_SELECTOR, "input[value=branches-2]").click()
    assert shown.text.startswith("238 shown")
    assert points(figure) == everything - 119
    page.find_element(By.ID, "front-only").click()
    fronts = sum(len(front(small_study.objectives, small_study.events[name])) for name in ("branches-1", "branches-3"))
    assert shown.text == f"{fronts} shown, {fronts} of them on a front"
    assert points(figure) == fronts + 1  # the ring around the chosen one
    networks = page.find_elements(By.CLASS_NAME, "of-island")
    assert [one.is_displayed() for one in networks] == [True, False, True]
    Select(page.find_element(By.ID, "colour")).select_by_value("generation")
    assert page.find_elements(By.CSS_SELECTOR, "#figure-candidates .colorbar")
    assert severe(page) == []


def test_the_slider_goes_back_to_earlier_fronts(small_study: Found, open_report: Open) -> None:
    page = open_report(small_study)
    figure = shown_figure(page, "evolution")
    now = points(figure)
    page.execute_script(
        "const slider = document.getElementById('after'); slider.value = 10; slider.dispatchEvent(new Event('input'))"
    )
    WebDriverWait(page, 30).until(lambda _: points(figure) == 30)
    assert now == 357
    assert page.find_element(By.ID, "after-words").text == "10 of 120"


def test_what_candidates_said_is_text(small_study: Found, open_report: Open) -> None:
    page = open_report(replace(small_study, study="<i>night</i>"))
    assert page.find_element(By.TAG_NAME, "h1").text == "<i>night</i>"
    assert MESSAGE in page.find_element(By.ID, "failure-list").text
    assert severe(page) == []


def test_a_space_without_drawings_leaves_their_sections_out(open_report: Open) -> None:
    page = open_report(toy_found())
    assert not page.find_element(By.ID, "networks").is_displayed()
    assert not page.find_element(By.ID, "operators").is_displayed()
    assert "depth" in page.find_element(By.ID, "chosen").text
    shown_figure(page, "hypervolume")
    assert severe(page) == []


@pytest.mark.parametrize("count", [1, 3])
def test_other_numbers_of_objectives_are_drawn(count: int, open_report: Open) -> None:
    names = ({"name": "miou"}, {"name": "macs", "reference": 1e9}, {"name": "params", "reference": 1e6})
    page = open_report(toy_found(*names[:count]))
    for name in ("candidates", "evolution", "hypervolume", "properties"):
        shown_figure(page, name)
    assert severe(page) == []


def test_the_noise_of_scores_is_shown_where_it_is_known(small_study: Found, open_report: Open) -> None:
    best = front(small_study.objectives, small_study.events["branches-3"])[0]
    name = f"branches-3/{best.candidate.number}"
    plain = open_report(small_study)
    assert not plain.find_elements(By.CSS_SELECTOR, "#figure-candidates .yerror")
    assert "±" not in plain.find_element(By.ID, "found").text
    page = open_report(small_study, replace(TEXTS, noise={"miou": 0.0014}, scratch={name: [0.4, 0.41]}))
    on_fronts = sum(len(front(small_study.objectives, events)) for events in small_study.events.values())
    assert len(page.find_elements(By.CSS_SELECTOR, "#figure-candidates .yerror")) == on_fronts
    assert "between recalibration subsets, mIoU ± 0.0014" in page.find_element(By.ID, "noise").text
    line = next(row.text for row in page.find_elements(By.CSS_SELECTOR, "#picks tr") if name in row.text)
    assert "± 0.0014" in line
    assert "0.4050 ± 0.0071" in line
    assert severe(page) == []


def test_a_study_in_which_everything_failed_has_a_page(small_study: Found, open_report: Open) -> None:
    page = open_report(failed(small_study))
    assert "0 on their islands' fronts, 3 failed" in page.find_element(By.CLASS_NAME, "lead").text
    assert MESSAGE in page.find_element(By.ID, "failure-list").text
    for name in ("candidates", "evolution", "hypervolume"):
        page.execute_script(f"document.getElementById('figure-{name}').scrollIntoView()")
    assert severe(page) == []


def test_a_study_that_has_found_nothing_yet_has_a_page(small_study: Found, open_report: Open) -> None:
    page = open_report(replace(small_study, events=dict.fromkeys(small_study.events, ())))
    assert "0 candidates of 3 islands" in page.find_element(By.CLASS_NAME, "lead").text
    assert severe(page) == []
