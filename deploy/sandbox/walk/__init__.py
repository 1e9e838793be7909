"""The sandbox and its walk through the main job, with Python's standard library alone.

In the order in which a run passes through them: `ground` takes the folder and makes what is missing, `children` starts
and ends processes, `estate` puts stand-in, hub and agents together, `walker` runs commands and judges what comes of
them, `pipeline` looks at northshire's real Dagster, `steps` is the story itself. `talk` says it, `reading` is for what needs the virtual environment.
Everything that a run makes lies in .state/ and is made anew by each run; .venv/ beside it is kept.
"""
