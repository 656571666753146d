"""The test bench: starts the parts that are not ours around mailbearer, and looks at what comes out.

Nothing in here knows a scenario; nothing in `scenarios` knows how a part is started.
"""
