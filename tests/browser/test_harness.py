"""The harness itself: it must see what goes wrong in a page, or the tests of the lessons could not fail."""

from __future__ import annotations

import nbformat
import pytest

pytestmark = pytest.mark.browser

WIDGET = '''
import anywidget, traitlets
class Counter(anywidget.AnyWidget):
    n = traitlets.Int(0).tag(sync=True)
    _esm = """
    export default {{ render({{ model, el }}) {{
      el.innerHTML = `<section class="vl" aria-label="How many?"><div class="vl-stage"></div><div class="vl-slot"></div>
        <div role="slider" tabindex="0" aria-valuemax="3"></div><button aria-label="Step">Step</button></section>`;
      const draw = () => {{
        el.querySelector('.vl-stage').textContent = model.get('n');
        el.querySelector('[role=slider]').setAttribute('aria-valuenow', model.get('n'));
      }};
      el.querySelector('button').onclick = () => {{ {on_click} }};
      model.on('change:n', draw); draw();
    }} }}"""
Counter()
'''
COUNTS = "model.set('n', model.get('n') + 1); model.save_changes();"
COUNTS_AND_THROWS = COUNTS + "throw new Error('a view has broken');"


@pytest.fixture
def write(lab):
    def one(name: str, *sources: str) -> str:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, lab.work / name)
        return name

    return one


def test_a_step_that_draws_is_seen_and_a_quiet_page_has_no_complaint(write, open_lesson):
    lesson = open_lesson(write("counter.ipynb", WIDGET.format(on_click=COUNTS), "print('done')"))
    lesson.run_all()
    (view,) = lesson.views()
    before = view.drawing()
    view.step()
    assert (view.position, view.total) == (1, 3)
    assert view.drawing() != before
    assert not lesson.complaints


def test_an_error_in_a_view_is_a_complaint(write, open_lesson):
    lesson = open_lesson(write("thrower.ipynb", WIDGET.format(on_click=COUNTS_AND_THROWS)))
    lesson.run_all()
    lesson.views()[0].step()
    assert any("a view has broken" in complaint for complaint in lesson.complaints)


def test_a_step_that_changes_nothing_fails(write, open_lesson, monkeypatch):
    monkeypatch.setattr("tests.browser.lesson.ANSWER_SECONDS", 1)
    lesson = open_lesson(write("stuck.ipynb", WIDGET.format(on_click="")))
    lesson.run_all()
    with pytest.raises(AssertionError, match="Step in 'How many\\?' changes the view"):
        lesson.views()[0].step()


def test_an_error_in_a_cell_fails(write, open_lesson):
    lesson = open_lesson(write("broken.ipynb", "1 / 0", "print('never')"))
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        lesson.run_all()
