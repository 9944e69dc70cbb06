"""nbgrader's view of this folder: ``nbgrader generate_assignment 01-rings`` run here writes ``release/01-rings``.

::

    source/ASSIGNMENT/*.ipynb       with solutions and hidden tests, executed
    release/ASSIGNMENT/*.ipynb      what students get; generated, never edited
    submitted/ autograded/ feedback/ gradebook.db       a class's own, in no repository
"""

c = get_config()  # noqa: F821  (nbgrader defines it)
c.CourseDirectory.course_id = "vilab"
c.ExecutePreprocessor.timeout = 60
