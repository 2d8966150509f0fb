"""The page in a real browser: it asks the network for nothing, logs nothing, lays out, and its explorer works."""

from __future__ import annotations

import itertools
import json

import pytest

from reports.write import write
from tests.reports.browser import CHROMIUM, Browser
from tests.reports.synthetic import CLAIMS, Arm, claims, results, study

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")

ARMS = (
    Arm(name="single", low=0.32, loops=1, flops=1_100_000),
    Arm(name="looped", axes={"model.loops": [2, 3, 4]}),
    Arm(name="shift", axes={"model.loops": [2, 3], "schedule.switch": [0.3, 0.6]}, flops=2_050_000),
)
EVIL = "</script><script>pwned=1</script><img src=x onerror=pwned=1>\"'`javascript:pwned=1"
KEYS = {
    "model.loops": "model.a[0]\"'].b <img src=x onerror=pwned=1>",
    "schedule.switch": "schedule.datum['x'];window.pwned=1",
}
WAIT = """new Promise((ok, no) => { let left = 5000; (function look() {
    const { drawn } = document.getElementById('explore-chart').dataset;
    if (drawn) ok(Number(drawn)); else if (left--) setTimeout(look, 20); else no(new Error('nothing drawn'));
})(); })"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("user")) as one:
        yield one


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    frames = results(ARMS, seeds=range(3), ended={("looped", 2): "diverged", ("shift", 1): "failed"})
    asked = study(claims(*CLAIMS[:1], arms=ARMS), arms=ARMS, seeds=(0, 1, 2))
    return write([(asked, frames)], store=str(folder / "store"), out=folder / "out")


def choose(browser, **values):
    """Chooses in the explorer as a person does, and waits for the picture; returns how many rows it shows."""
    for name, text in values.items():
        found = browser.run(
            f"""(() => {{ const one = document.getElementById('explore-{name}');
                const wanted = [...one.options].find((o) => o.textContent === {json.dumps(text)});
                if (!wanted) return [...one.options].map((o) => o.textContent);
                one.value = wanted.value; one.dispatchEvent(new Event('change', {{ bubbles: true }})); }})()"""
        )
        assert found is None, f"{name}: {text} is not among {found}"
    return browser.run(WAIT)


def said(browser):
    return browser.run("document.getElementById('explore-said').textContent")


def test_the_page_asks_for_nothing_logs_nothing_and_shows_every_panel(browser, page):
    browser.media()
    browser.size(1280, 900)
    browser.open(page)
    browser.run(WAIT)
    assert (browser.asked, browser.logged, browser.threw) == ([page.as_uri()], [], [])
    panels = browser.run(
        """[...document.querySelectorAll('main h2')].map((h) => [h.textContent, h.offsetHeight > 0,
            document.querySelector(`nav a[href="#${h.id}"]`) !== null])"""
    )
    names = [name for name, _, _ in panels]
    wanted = [
        "Verdicts",
        "Leaderboard",
        "Explore",
        "Learning curves",
        "Along the axes",
        "Maps of two axes",
        "Curvature",
    ]
    wanted += ["Switches", "Cost", "Failures and divergences", "Provenance", "How to cite"]
    assert [name for name in names if name in wanted] == wanted
    assert all(high and linked for _, high, linked in panels)
    figures = browser.run(
        """[...document.querySelectorAll('main svg.figure')].map((s) => [s.clientHeight > 50, s.getAttribute('role'),
            document.getElementById(s.getAttribute('aria-labelledby')).textContent])"""
    )
    assert len(figures) > 10
    assert all(high and role == "img" and any(c.isdigit() for c in alt) for high, role, alt in figures)


def test_a_page_of_two_studies_compares_them_first_and_links_each_panel_of_both(browser, tmp_path):
    arms = ARMS[:1]
    both = [
        (study(claims(*CLAIMS[2:2], arms=arms), arms=arms, name=name), results(arms, range(3), study=name))
        for name in ("first", "second")
    ]
    page = write(both, store=str(tmp_path / "store"), out=tmp_path / "out")
    browser.media()
    browser.size(390, 844, phone=True)
    browser.open(page)
    assert browser.run(WAIT) > 0
    assert (browser.asked, browser.logged, browser.threw) == ([page.as_uri()], [], [])
    heads = browser.run("[...document.querySelectorAll('main h2, main h3')].map((h) => [h.id, h.textContent])")
    assert len({id for id, _ in heads}) == len(heads)
    assert [text for _, text in heads].count("Leaderboard") == 2
    assert heads[0][1] == "Across studies"
    links = browser.run("[...document.querySelectorAll('nav a')].map((a) => a.hash.slice(1))")
    assert links == [id for id, _ in heads]
    assert browser.run("document.documentElement.scrollWidth") <= 390


def test_the_explorer_draws_what_is_chosen(browser, page):
    browser.size(1280, 900)
    browser.open(page)
    # 24 trials, of which the three diverged and the four failed have no final loss; a mean for each place and arm
    assert browser.run(WAIT) == 2 * 3 + 2 * 2 * 2 + 5
    by_arm = choose(browser, x="arm")
    assert by_arm == 17 + 3
    assert "17 trials; 7 of 24 did not end ok. Best mean: looped, 0.9" in said(browser)
    assert choose(browser, show="means alone") == 3
    assert choose(browser, show="trials alone") == 17
    assert choose(browser, show="trials and means", x="schedule.switch", colour="model.loops") == 8 + 4
    assert browser.run("document.querySelectorAll('#explore-legend > span').length") == 2
    assert choose(browser, facet="arm", x="seed", colour="arm") == 17 + 7
    assert choose(browser, facet="none", x="step (updates)", y="validation loss (nats/token)") > 17 * 31
    assert "Best mean at step 3000: looped" in said(browser)
    choose(browser, x="FLOPs alone (FLOP)", y="final accuracy (fraction)")
    boxes = "document.querySelectorAll('#explore-arms input')"
    browser.run(f"{boxes}[0].click()")
    assert browser.run(WAIT) == 14 + 7
    browser.run(f"{boxes}[1].click(); {boxes}[2].click()")
    assert browser.run(WAIT) == 0
    assert (browser.asked, browser.logged, browser.threw) == ([page.as_uri()], [], [])


def test_a_pointer_shows_the_trial_and_the_table_has_what_is_drawn(browser, page):
    browser.size(1280, 2400)
    browser.open(page)
    choose(browser, x="arm")
    x, y = browser.run(
        """(() => { const one = document.querySelector('#explore-chart .mark-symbol path').getBoundingClientRect();
            return [one.x + one.width / 2, one.y + one.height / 2]; })()"""
    )
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    shown = browser.run(
        "new Promise((ok) => setTimeout(() => ok(document.getElementById('explore-tip').innerText.split(/\\s+/)), 200))"
    )
    report = json.loads(page.with_name("report.json").read_text())["explorer"]
    assert shown[0] == "trial"
    assert shown[1] in report["trials"]["id"]
    assert {"seed", "status", "ok"} <= set(shown)
    browser.call("Input.dispatchKeyEvent", type="keyDown", key="Escape")
    assert browser.run("document.getElementById('explore-tip').hidden")
    browser.run("document.querySelector('#explore-table summary').click()")
    cells = browser.run(
        """new Promise((ok) => setTimeout(() => ok(
            [...document.querySelectorAll('#explore-rows tbody tr')].map((row) => row.innerText)), 200))"""
    )
    assert len(cells) == 3
    assert cells[0].split("\t")[:2] == ["single", "single"]


def test_a_keyboard_reaches_every_choice(browser, page):
    browser.size(1280, 900)
    browser.open(page)
    browser.run(WAIT)
    browser.run("document.getElementById('explore-y').focus()")
    reached = []
    for _ in range(8):
        reached.append(browser.run("document.activeElement.id || document.activeElement.type"))
        browser.call("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
    assert reached == [*(f"explore-{n}" for n in ("y", "x", "colour", "facet", "show", "log")), "checkbox", "checkbox"]
    unnamed = browser.run("[...document.querySelectorAll('select, input')].filter((one) => !one.labels.length).length")
    assert unnamed == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_tables_not_the_page(browser, page, scheme):
    browser.media(scheme)
    browser.size(390, 800, phone=True)
    browser.open(page)
    browser.run(WAIT)
    assert browser.run("document.documentElement.scrollWidth") == 390
    wide = browser.run("[...document.querySelectorAll('.scroll')].some((one) => one.scrollWidth > one.clientWidth)")
    assert wide
    browser.media()


def test_it_prints_in_light_colours_at_the_width_of_a_page_from_a_dark_screen(browser, page):
    def drawn():
        """Colours of marks and texts of the explorer, of a figure's texts, of an arm and of the paper."""
        return browser.run(
            """[['fill', '#explore-chart .mark-symbol path'], ['fill', '#explore-chart text'],
                ['fill', 'svg.figure text'], ['backgroundColor', '#explore-arms .swatch'], ['backgroundColor', 'body']]
                .map(([what, one]) => getComputedStyle(document.querySelector(one))[what])"""
        )

    browser.size(1280, 900)
    browser.open(page)
    browser.run(WAIT)
    light = drawn()
    browser.media("dark")
    assert all(one != other for one, other in zip(drawn(), light, strict=True))
    width = "document.querySelector('#explore-chart svg').getAttribute('width')"
    browser.run(f"addEventListener('beforeprint', () => {{ window.onPaper = {width}; }})")
    browser.media("dark", kind="")
    assert browser.pdf().startswith(b"%PDF")
    assert int(browser.run("onPaper")) == 680
    assert int(browser.run(width)) > 1000
    browser.media("dark", kind="print")
    assert drawn() == light
    shown = "[...document.querySelectorAll('%s')].some((one) => one.offsetHeight > 0)"
    assert not browser.run(shown % "nav, .controls, #explore-arms input")
    assert browser.run(shown % "#explore-arms .swatch"), "what the colours mean"
    browser.media()


@pytest.mark.parametrize(("count", "turned"), [(3, False), (12, True)])
def test_names_of_many_arms_turn_and_all_of_them_fit(browser, tmp_path, count, turned):
    arms = [Arm(name=f"arm-with-a-name-{i}", flops=1_000_000 + i) for i in range(count)]
    made = study(arms=arms, seeds=(0, 1))
    page = write([(made, results(arms, range(2), curvature=False))], store=str(tmp_path / "s"), out=tmp_path / "out")
    browser.size(1280, 900)
    browser.open(page)
    assert choose(browser, x="arm") == 3 * count
    labels = browser.run(
        """(() => { const room = document.querySelector('#explore-chart svg').getBoundingClientRect();
            const texts = [...document.querySelectorAll('#explore-chart .role-axis-label text')];
            return texts.filter((one) => one.textContent.startsWith('arm-')).map((one) => {
                const at = one.getBoundingClientRect(), fits = at.left >= room.left && at.bottom <= room.bottom;
                return [one.textContent, one.getAttribute('transform').includes('rotate'), at.left, at.right, fits];
            }); })()"""
    )
    assert [name for name, *_ in labels] == [arm.name for arm in arms]
    assert [(slanted, fits) for _, slanted, _, _, fits in labels] == [(turned, True)] * count
    if not turned:
        assert all(one[3] < other[2] for one, other in itertools.pairwise(labels))


def test_texts_that_want_to_act_are_texts(browser, tmp_path):
    """Names of arms and keys, values, questions and errors that would act as markup, script or expression."""
    name = "</script><script>pwned=1"
    arms = [Arm(name=name, axes={"model.loops": [2, 3], "schedule.switch": [0.3, 0.6]}), Arm(name="image")]
    frames = results(arms, seeds=range(2), ended={("image", 1): "failed"})
    trials = frames.trials_.rename(columns=KEYS)
    loops = trials[KEYS["model.loops"]]
    trials[KEYS["model.loops"]] = loops.map(lambda value: f"{value:g}</script><img src=x onerror=pwned=1>", "ignore")
    trials["error"] = [EVIL if error else None for error in trials["error"]]
    asked = study(arms=arms, question=EVIL, file=EVIL, seeds=(0, 1))
    frames = type(frames)(**{**vars(frames), "trials_": trials})
    page = write([(asked, frames)], store=str(tmp_path / "store"), out=tmp_path / "out")
    browser.size(1280, 900)
    browser.open(page)
    browser.run(WAIT)
    for key in KEYS.values():
        choose(browser, x=key, colour=key, facet=key)
    choose(browser, x="arm", facet="arm", colour="arm")
    assert name in browser.run("document.getElementById('explore-chart').textContent")
    assert browser.run("[typeof pwned, document.images.length, document.scripts.length]") == ["undefined", 0, 2]
    assert (browser.asked, browser.logged, browser.threw) == ([page.as_uri()], [], [])


def test_a_page_that_asks_and_logs_is_noticed(browser, tmp_path):
    page = tmp_path / "page.html"
    page.write_text('<img src="http://example.invalid/x.png"><script>console.error("boom")</script>')
    browser.open(page)
    assert "error: ['boom']" in browser.logged
    assert "http://example.invalid/x.png" in browser.asked
