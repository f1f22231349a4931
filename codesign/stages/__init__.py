"""The stages of a study, one per module, each `run(setting, earlier) -> Result`; `codesign.pipeline` lists them.

A module that is a stage also says which keys of the configuration its result depends on (`KEYS`).
What stages share: `setting` (what a study is about), `choosing` (finalists and winner), `statistics`.
"""
