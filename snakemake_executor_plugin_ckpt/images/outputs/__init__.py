"""The files that a job writes, as they were at a save: kept with the image, put back before a restore.

What was written after the save must not survive a restore: the restored program would write it again. So the
image holds the content of every watched file, in packs that later images share: of a file that was kept before,
only what changed is written. Nothing in the job's own folders is touched but by a rollback.

`watched`
    What is watched: declared files and folders, patterns, what the tree has open.
`packs`
    Where contents are kept.
`table`
    What is on record of each file, in ``outputs.json`` of the image.
`snapshot`
    At a save: before the freeze, in it, and after it.
`rollback`
    Before a restore: all is looked at first, and only then changed.
"""
