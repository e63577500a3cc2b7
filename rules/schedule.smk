# Which tiles a pseudo-epoch trains on, in which order: files, made once from the seed.
# in:  results/catalog, results/tiles (memory-mapped indexes)
# out: results/schedule
#
# Schedules are frozen: a catalog that is written again does not make them again. Slides that come later enter when `schedule.version` is raised, and not before.


rule schedule_quota:
    "How many tiles each slide gives to each pseudo-epoch, so that organs are balanced."
    input:
        catalog=ancient(CATALOG),
    output:
        quota="results/schedule/quota/slides.parquet",
        balance="results/schedule/quota/balance.csv",
    log:
        "logs/schedule_quota/quota.log",
    benchmark:
        "benchmarks/schedule_quota/quota.tsv"
    conda:
        "../envs/microtome.yaml"
    params:
        settings=SCHEDULE,
        task_tables=[str(CONFIG.tasks[task].table) for task in CONFIG.schedule.exclude_tasks],
    shell:
        "python -m microtome.schedule_quota"
        " --catalog {input.catalog}"
        " --task-tables {params.task_tables}"
        " --quota {output.quota}"
        " --balance {output.balance}"
        " --settings {params.settings:q}"
        " > {log} 2>&1"


rule schedule:
    "The ordered tiles of one pseudo-epoch. It needs no other pseudo-epoch; the tile indexes stand behind the quota, through the catalog."
    input:
        quota="results/schedule/quota/slides.parquet",
    output:
        schedule="results/schedule/{pseudo_epoch}.arrow",
    log:
        "logs/schedule/{pseudo_epoch}.log",
    benchmark:
        "benchmarks/schedule/{pseudo_epoch}.tsv"
    conda:
        "../envs/microtome.yaml"
    params:
        settings=SCHEDULE,
        tiles="results/tiles",
    shell:
        "python -m microtome.schedule"
        " --quota {input.quota}"
        " --tiles {params.tiles}"
        " --pseudo-epoch {wildcards.pseudo_epoch}"
        " --schedule {output.schedule}"
        " --settings {params.settings:q}"
        " > {log} 2>&1"
