# Which tiles a pseudo-epoch trains on, in which order: files, made once from the seed; and how balanced they are.
# in:  results/catalog, results/tiles (memory-mapped indexes)
# out: results/schedule, results/figures
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


rule figure_balance:
    "How balanced the schedules are between organs, and how often they return to tiles."
    input:
        balance="results/schedule/quota/balance.csv",
        code=code("figure_balance", "figure_style"),
    output:
        pdf="results/figures/balance.pdf",
        png=report(
            "results/figures/balance.png",
            caption="captions/balance.rst",
            category="5 Pretraining",
            labels={"result": "2 Balance of organs"},
        ),
        csv="results/figures/balance.csv",
    log:
        "logs/figures/balance.log",
    benchmark:
        "benchmarks/figures/balance.tsv"
    conda:
        "../envs/microtome.yaml"
    shell:
        "python -m microtome.figure_balance"
        " --balance {input.balance}"
        " --pdf {output.pdf}"
        " --png {output.png}"
        " --csv {output.csv}"
        " > {log} 2>&1"
