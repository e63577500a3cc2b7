# What a person reads first: tables, and the report that holds them and the figures.
# in:  results/catalog, results/schedule, results/splits, results/gma, results/figures
# out: results/tables, results/report.html


rule overlap:
    "How many validation patients of each task pretraining has seen: stated, whatever was decided."
    input:
        catalog="results/catalog/slides.parquet",
        quota="results/schedule/quota/slides.parquet",
        splits=expand("results/splits/{task}.csv", task=JOBS.tasks),
        code=code("overlap", "tables"),
    output:
        csv=report(
            "results/tables/overlap.csv", caption="captions/overlap.rst", category="Cohort", labels={"table": "Overlap with pretraining"}
        ),
        md="results/tables/overlap.md",
    log:
        "logs/tables/overlap.log",
    benchmark:
        "benchmarks/tables/overlap.tsv"
    conda:
        "../envs/microtome.yaml"
    shell:
        "python -m microtome.overlap"
        " --catalog {input.catalog}"
        " --quota {input.quota}"
        " --splits {input.splits}"
        " --csv {output.csv}"
        " --md {output.md}"
        " > {log} 2>&1"


rule tables:
    "The cohort by organ, the tasks, and the final AUC of each encoder on each task."
    input:
        catalog="results/catalog/slides.parquet",
        splits=expand("results/splits/{task}.csv", task=JOBS.tasks),
        runs=expand("results/gma/{task}/{encoder}/runs.csv", task=JOBS.tasks, encoder=JOBS.encoders),
        code=code("tables", "runs"),
    output:
        cohort=report("results/tables/cohort.csv", caption="captions/cohort.rst", category="Cohort", labels={"table": "Cohort by organ"}),
        tasks=report("results/tables/tasks.csv", caption="captions/tasks.rst", category="Cohort", labels={"table": "Tasks"}),
        auc=report("results/tables/auc.csv", caption="captions/auc.rst", category="Results", labels={"figure": "Final AUC"}),
        md=expand("results/tables/{table}.md", table=["cohort", "tasks", "auc"]),
    log:
        "logs/tables/tables.log",
    benchmark:
        "benchmarks/tables/tables.tsv"
    conda:
        "../envs/microtome.yaml"
    params:
        settings=JOBS.tables_settings().json_text(),
        folder=lambda wildcards, output: os.path.dirname(output.cohort),
    shell:
        "python -m microtome.tables"
        " --catalog {input.catalog}"
        " --splits {input.splits}"
        " --runs {input.runs}"
        " --folder {params.folder}"
        " --settings {params.settings:q}"
        " > {log} 2>&1"


rule report:
    "One HTML file that holds the figures and tables with their captions, and how each was made."
    input:
        figures=expand("results/figures/{figure}.png", figure=FIGURES),
        tables=expand("results/tables/{table}.csv", table=TABLES),
        captions=expand(os.path.join(workflow.basedir, "rules/captions/{caption}.rst"), caption=["workflow", *FIGURES, *TABLES]),
    output:
        "results/report.html",
    log:
        "logs/report/report.log",
    benchmark:
        "benchmarks/report/report.tsv"
    conda:
        "../envs/microtome.yaml"
    shell:
        f"snakemake --snakefile {workflow.main_snakefile} {OVERLAYS} --nolock" " --report {output}" " > {log} 2>&1"
